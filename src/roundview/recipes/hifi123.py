"""HiFi-123: distil a coarse field, then draw its surface's colours from the photograph's.

Yu et al., "HiFi-123: Towards High-fidelity One Image to 3D Content Generation", 2024. Coarse stage:
a radiance field that a 2D and a 3D prior like to see, and that looks like the photograph from its
side in colour, outline, depth and normals. Refine stage: marching tetrahedra fix the shape, and
RGSD gives it colour. Differs from the paper: small models of our own stand for Stable Diffusion,
DeepFloyd IF and Zero-1-to-3, and their pictures are smaller; the 2D prior reads no text but sees
the photograph; the finished texture is baked from renderings, and from the photograph itself where
it looks squarely.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from ..camera import Cameras
from ..diffusion.depth2image import Rgnv
from ..diffusion.distill_cameras import RandomCameras, Range
from ..diffusion.guide import Ramp, TimeRange, constant
from ..diffusion.guide_loop import Rendered
from ..diffusion.guide_rgsd import FIXED_AZIMUTHS_DEG
from ..diffusion.small_depth_image import ImageGuide
from ..diffusion.view_guide import ViewGuide
from ..field.radiance import RadianceField
from ..image import Foreground, Image
from ..mesh import Asset, Mesh
from ..models import DepthModel, Elevation, Matte, PlainStages, Report, StageRunner, ViewModel
from ..surface.watertight import watertight_mesh
from ..views import Views
from .distilling import Asking, Distilling, distilled_field
from .distilling_asset import FieldMeshing, asset_of_surface
from .distilling_losses import Order, PhotoLosses
from .enhancing import Enhancer, Remembered, enhanced_views, remembered
from .framing import asked_cameras, photo_view, seen_subject
from .hifi123_refine import (
    Refining,
    RgsdGuide,
    Surface,
    enhanced_of,
    fixed_cameras,
    refine_colours,
    tetrahedral_surface,
)

TIMES_2D = TimeRange(constant(0.2), constant(0.6))
TIMES_3D = TimeRange(constant(0.2), constant(0.5))
"""Noise levels that the priors are asked about (paper, supplement 2.2)."""


@dataclass(frozen=True)
class Hifi123:
    """Settings of the recipe; what the paper leaves open is threestudio's DreamCraft3D or ours.

    Attributes:
        size_px: Side of the views that `novel_views` draws.
        photo_px: Side of the framed photograph that the texture is taken from.
        distance: Of the cameras, as the models were trained; the paper's is 3.8 at 20 degrees.
        fov_deg: Vertical field of view, as the models were trained.
        photo_elevation_deg: Elevation that the photograph was taken from; None estimates it.
        ring_views: Views that `novel_views` draws if no azimuths are given.
        draw_steps: Sampler steps of those.
        coarse_steps: Of the field (the paper's 3,000).
        coarse_px: Sides of the coarse renderings in the first and second half (the paper's 64 and
            128; it does not say when they change).
        coarse_views: Renderings a step.
        coarse_rates: Adam's rates for the field's grid and network (threestudio's). Those of
            "draft", whose steps are few, were tried on a training object left out of all trainings,
            one rendering of it as the photograph: its surface matched 15 true views round it at
            11.24 dB; threestudio's, with its smoothing of normals beside them, at 10.95. Of a
            second one whole drafts came to 17.67 dB, with threestudio's to 18.02: undecided.
        weight_2d: Of the 2D prior's SDS.
        weight_3d: Of the 3D prior's SDS.
        scale_2d: Of the 2D prior's guidance. The paper's 20 is for DeepFloyd and text.
        photo_weights: Of colour, mask, depth and normals from the photograph's side.
        bends: Weights of the smoothing of normals, between pixels and (at the start, then from two
            thirds of the steps on) in space. The paper has none; DreamCraft3D's are (1, 5, 1).
        rgnv: How `novel_views` enhances: T = 50, l = 30 (paper), or `RELEASED_CODE`.
        rgsd: The same in the refine stage: T = 20, l = 12 (paper).
        tet_cells: Cells along a side of the tetrahedral grid.
        refining: The refine stage.
        refine_px: Side of its renderings; None takes that of `refining`. A published model is
            shown its own size, 512 (the paper's 1,024 are brought to it).
        view_px: Side of the renderings that texture and Gaussians are made from.
        fit_steps: Of the Gaussians.
        smoothing: Rounds of `smooth` over the mesh.
        blur: Deviation, world units, by which the field is blurred before its surface is cut out;
            see `FieldMeshing`.
        faces: Triangles of the mesh, at most.
        texture_size: Side of the texture in pixels.
        watertight: Close the mesh into one shell around one volume.
    """

    size_px: int = 128
    photo_px: int = 512
    distance: float = 1.5
    fov_deg: float = 49.13
    photo_elevation_deg: float | None = None
    ring_views: int = 16
    draw_steps: int = 10
    coarse_steps: int = 700
    coarse_px: tuple[int, int] = (32, 64)
    coarse_views: int = 4
    coarse_rates: tuple[float, float] = (0.01, 0.001)
    weight_2d: float = 0.1
    weight_3d: float = 0.1
    scale_2d: float = 2.0
    photo_weights: tuple[float, float, float, float] = (1000.0, 100.0, 0.05, 0.05)
    bends: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rgnv: Rgnv = Rgnv()  # noqa: RUF009  a frozen value
    rgsd: Rgnv = Rgnv(steps=20, kept_steps=12)  # noqa: RUF009  a frozen value
    tet_cells: int = 96
    refining: Refining = Refining()  # noqa: RUF009  a frozen value
    refine_px: int | None = None
    view_px: int = 192
    fit_steps: int = 400
    smoothing: int = 24
    blur: float = 0.006
    faces: int = 20_000
    texture_size: int = 1024
    watertight: bool = False


STANDARD = Hifi123()
DRAFT = replace(
    STANDARD,
    coarse_steps=240,
    coarse_views=2,
    coarse_rates=(0.02, 0.005),
    tet_cells=64,
    refining=Refining(steps=60),
    rgnv=Rgnv(steps=20, kept_steps=12),
    view_px=128,
    fit_steps=200,
)
HIGH = replace(
    STANDARD,
    coarse_steps=3000,
    coarse_px=(64, 128),
    tet_cells=128,
    refining=Refining(steps=1000),
    view_px=256,
)
QUALITIES = {"draft": DRAFT, "standard": STANDARD, "high": HIGH}


@dataclass(frozen=True)
class Hifi123Models:
    """The networks that the recipe asks for.

    Attributes:
        matte: Cuts out the subject.
        elevation: Estimates where the photograph was taken from.
        views: Draws views one by one: Zero-1-to-3's kind.
        prior: The 3D prior: tells the same model of the photograph, as one view over white.
        enhancer: The image model that knows depth: RGNV, RGSD, and without depth the 2D prior.
        depth: Estimates the photograph's depth and normals.
        steps: Sampler steps that the view model is best in; None takes those of the settings.
        image_prior: The 2D prior, if it is another model, told in words what is wanted.
    """

    matte: Matte
    elevation: Elevation
    views: ViewModel
    prior: Callable[[Views], ViewGuide]
    enhancer: Enhancer
    depth: DepthModel
    steps: int | None = None
    image_prior: ViewGuide | None = None


def hifi123(
    photo: Image,
    models: Hifi123Models,
    rng: Generator,
    settings: Hifi123 = STANDARD,
    stage: StageRunner | None = None,
) -> Asset:
    """Make an asset of the subject of one photograph.

    Raises:
        ValueError: If the photograph shows no subject, or nothing solid comes of it.
    """
    stage = stage or PlainStages()
    subject, elevation_deg = seen_subject(
        photo,
        models.matte,
        models.elevation,
        photo_px=settings.photo_px,
        known_deg=settings.photo_elevation_deg,
        stage=stage,
    )
    front = photo_view(
        subject,
        elevation_deg=elevation_deg,
        distance=settings.distance,
        fov_deg=settings.fov_deg,
    )
    told = stage("depth", lambda _: with_estimates(front, models.depth))
    prompts = models.enhancer.prompts(subject)
    image_prior = models.image_prior or ImageGuide(
        models.enhancer.models, prompts, scale=settings.scale_2d
    )
    guides = [
        (models.prior(front), Asking(settings.weight_3d, times=TIMES_3D)),
        (image_prior, Asking(settings.weight_2d, times=TIMES_2D)),
    ]
    coarse = distilled_field(told, guides, rng, coarse_stage(settings), stage=stage, name="coarse")
    mesh = stage("tetrahedra", lambda _: _solid(coarse, settings))
    surface = Surface(coarse, mesh)
    fine = rgsd_colours(surface, front, subject, models.enhancer, rng, settings, stage=stage)
    refined = Surface(fine, mesh)
    sizes = FieldMeshing(
        view_px=settings.view_px,
        fit_steps=settings.fit_steps,
        faces=settings.faces,
        texture_size=settings.texture_size,
    )
    return asset_of_surface(
        mesh,
        lambda cameras: _drawn(refined, cameras),
        front.cameras,
        rng,
        sizes,
        photo=front,
        stage=stage,
    )


def novel_views(
    photo: Image,
    models: Hifi123Models,
    rng: Generator,
    settings: Hifi123,
    stage: StageRunner,
    *,
    azimuth_deg: Sequence[float] | None = None,
    elevation_deg: float | None = None,
) -> Views:
    """Draw views of the subject of a photograph and enhance them by RGNV, and no more.

    Args:
        photo: The photograph.
        models: The networks.
        rng: Seeds the drawing.
        settings: `size_px`, `distance`, `fov_deg`, `draw_steps` and `rgnv` matter here.
        stage: Runs the stages.
        azimuth_deg: Of each view; evenly round the subject by default.
        elevation_deg: Of all views; the photograph's by default.
    """
    subject, photo_deg = seen_subject(
        photo,
        models.matte,
        models.elevation,
        photo_px=settings.photo_px,
        known_deg=settings.photo_elevation_deg,
        stage=stage,
    )
    front = photo_view(
        subject, elevation_deg=photo_deg, distance=settings.distance, fov_deg=settings.fov_deg
    )
    cameras = asked_cameras(
        azimuth_deg,
        photo_deg if elevation_deg is None else elevation_deg,
        ring_views=settings.ring_views,
        distance=settings.distance,
        fov_deg=settings.fov_deg,
        size_px=settings.size_px,
    )
    coarse = stage(
        "draw",
        lambda report: models.views.draw(
            front, cameras, rng, steps=models.steps or settings.draw_steps, report=report
        ),
    )
    return enhanced_views(subject, coarse, models.enhancer, settings=settings.rgnv, stage=stage)


def coarse_stage(settings: Hifi123) -> Distilling:
    """Give the settings of the coarse stage, as `distilled_field` has them."""
    rgb, mask, depth, normal = settings.photo_weights
    on_pixels, early_in_space, late_in_space = settings.bends
    first, second = settings.coarse_px
    half, late = settings.coarse_steps // 2, 2 * settings.coarse_steps // 3
    cameras = RandomCameras(
        first,
        distance=Range(settings.distance, settings.distance),
        fov_deg=Range(settings.fov_deg, settings.fov_deg),
    )
    rising = Ramp(0.1, 10.0, late + 1, late)
    return Distilling(
        cameras,
        steps=settings.coarse_steps,
        grid_rate=settings.coarse_rates[0],
        network_rate=settings.coarse_rates[1],
        sizes=((0, first, settings.coarse_views), (half, second, settings.coarse_views)),
        photo=PhotoLosses(rgb, mask, depth, normal, size_px=second),
        order=Order(
            orientation=Ramp(1.0, 10.0, late + 1, late),
            sparsity=rising,
            opaque=rising,
            normal_map=constant(on_pixels),
            normal_field=Ramp(early_in_space, late_in_space, late + 1, late),
        ),
    )


def with_estimates(photo: Views, depth: DepthModel) -> Views:
    """Give the photograph's view estimated depth (up to scale and shift) and world normals."""
    inverse, normal = depth(photo.rgb)
    rotation = photo.cameras.world_from_camera[:, :3, :3]
    world = torch.einsum("nij,nhwj->nhwi", rotation, normal.to(rotation))
    inside = (photo.alpha > 0.5)[..., None]
    # Near is small in a view; where none was found the subject is as far as it ever is.
    away = 1 / inverse.to(rotation).clamp(min=0.25)
    return replace(photo, depth=away * inside[..., 0], normal=world * inside)


def rgsd_colours(
    surface: Surface,
    photo: Views,
    subject: Foreground,
    enhancer: Enhancer,
    rng: Generator,
    settings: Hifi123,
    *,
    stage: StageRunner,
) -> RadianceField:
    """Refine a surface's colours by RGSD, two fixed views and random ones by turns.

    Args:
        surface: In the coarse field's colours.
        photo: The photograph as one view over white.
        subject: The same as it was framed.
        enhancer: The image model.
        rng: CPU generator.
        settings: `refining` and `rgsd` count.
        stage: Runs the stages; what the model remembers of the photograph is too large to be kept
            and is made in the first of them that runs.
    """
    refining = settings.refining
    if settings.refine_px is not None:
        refining = replace(refining, size_px=settings.refine_px)
    elevation_deg = float(photo.cameras.elevation_deg[0])
    fixed = fixed_cameras(FIXED_AZIMUTHS_DEG, refining, elevation_deg)

    @functools.cache
    def known() -> Remembered:
        return remembered(subject, enhancer, settings.rgsd)

    def enhanced(report: Report) -> Tensor:
        drawn, told = [], known()
        for k in range(len(fixed)):
            with torch.no_grad():
                views = surface.views(fixed[k], supersample=refining.supersample)
            state = enhanced_of(enhancer.models, told.reference, told.prompts, views, level=0)
            drawn.append(state.state)
            report((k + 1) / len(fixed))
        return torch.cat(drawn)

    targets = stage("fixed views", enhanced).split(1)

    @functools.cache
    def guide() -> RgsdGuide:
        told, weight = known(), refining.guide_weight
        return RgsdGuide(enhancer.models, told.reference, told.prompts, targets, weight=weight)

    def guided(rendered: Rendered, step: int, rng: Generator) -> Tensor:
        return guide()(rendered, step, rng)

    return refine_colours(surface, photo, guided, fixed, rng, refining, stage=stage)


def _solid(field: RadianceField, settings: Hifi123) -> Mesh:
    mesh = tetrahedral_surface(
        field,
        resolution=settings.tet_cells,
        faces=settings.faces,
        smoothing=settings.smoothing,
        blur=settings.blur,
    )
    return watertight_mesh(mesh, resolution=settings.tet_cells) if settings.watertight else mesh


def _drawn(surface: Surface, cameras: Cameras) -> Views:
    with torch.no_grad():
        views = surface.views(cameras)
    return replace(views, rgb=views.rgb.clamp(0, 1))
