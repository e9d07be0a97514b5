"""Cascade-Zero123: draw nearby views, draw every view from them, then make one thing of all views.

Chen et al., "Cascade-Zero123: One Image to Highly Consistent 3D with Self-Prompted Nearby Views",
2024. A base (Zero123: Liu et al. 2023) draws nearby views and a draft of each target from the
photograph; a refiner draws each target from the photograph, its draft and the nearby views.

Differs from the paper: any models of that kind may stand for its two; by default the asset comes
from drawn rings of views, as IM-3D's does (Melas-Kyriazi et al. 2024), because drawing is cheap and
distilling is not. `way` "sds" is the paper's: score distillation by the refiner, which sees the
photograph and the nearby views; they are drawn once, as the paper says, so there is no draft of a
target whose camera is another at each step.

Where paper and code differ: the pose told with the draft is `Zero123Options.coarse_pose`, the
sampler's first step `Zero123Options.drop_first`; steps and guidance of the refiner are stated
nowhere, and are those of Zero123's demo. The base draws in 25 DDIM steps (paper).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Generator

from ..camera import Cameras, concatenate_cameras
from ..diffusion.distill_cameras import RandomCameras, Range
from ..diffusion.guide import Ramp, TimeRange, constant
from ..diffusion.known_views import NEARBY_DEG, RefinerModel, nearby_cameras
from ..diffusion.view_guide import ViewGuide
from ..gaussians import Gaussians
from ..image import Foreground, Image
from ..mesh import Asset
from ..models import Elevation, FeatureModel, Matte, PlainStages, Report, StageRunner
from ..splat.fit import fit_gaussians
from ..views import Views, concatenate_views
from .distilling import Asking, Distilling, distilled_field
from .distilling_asset import FieldMeshing, asset_of_field
from .distilling_losses import Order, PhotoLosses
from .framing import asked_cameras, photo_view, ring_cameras, seen_subject, with_photo
from .surfacing import DRAWN, Meshing, asset_from_gaussians

Prompts: TypeAlias = Literal["nearby", "larger", "more", "random"]

PROMPTS_DEG: dict[Prompts, tuple[tuple[float, float, float], ...]] = {
    "nearby": NEARBY_DEG,
    "larger": ((0.0, 90.0, 0.0), (0.0, 180.0, 0.0), (0.0, 270.0, 0.0)),
    "more": (
        *((0.0, turn, 0.0) for turn in (-135.0, -90.0, -45.0, 45.0, 90.0, 135.0)),
        (10.0, 0.0, 0.0),
        (-30.0, 0.0, 0.0),
    ),
}
"""Ways from the photograph to the prompt views of table 3: degrees of polar angle (up is negative)
and azimuth. "random" draws as many as "nearby" has."""

ZERO123_TIMES = TimeRange(Ramp(0.4, 0.2, 200), Ramp(0.85, 0.5, 200))
"""Noise levels that the guide is asked about: threestudio's preset for Zero123, as are the weights
of `distillation`."""
_MOST_DEG = 85.0
"""Elevation up to which a prompt view may stand: an orbit's cameras have no up at the pole."""


@dataclass(frozen=True)
class CascadeZero123:
    """Settings of the recipe; the defaults are ours unless a line says otherwise.

    Attributes:
        way: What the asset comes from: rings of drawn views, or a field distilled by "sds".
        cascade: Who draws the targets: the refiner; "frozen", the base once more, told the prompts
            (table 3); or "none", the base alone, which is Zero123.
        prompts: Which views the base draws first (the paper's is "nearby").
        coarse_target: Tell the refiner a draft of the target, too (the paper's).
        base_steps: Sampler steps of the prompts; None takes `CascadeZero123Models.steps`.
        refiner_steps: Sampler steps of the targets; the same.
        ring_views: Views on the ring at the photograph's elevation.
        more_rings: Elevation and number of views of further rings, degrees; IM-3D's as in `Im3d`.
        size_px: Side of the pictures that are fitted.
        photo_px: Side of the framed photograph that the texture is taken from.
        distance: Of the cameras, as the models were trained.
        fov_deg: Vertical field of view, as the models were trained.
        photo_elevation_deg: Elevation that the photograph was taken from; None estimates it.
        photo_share: How much oftener the photograph is fitted to than each drawn view.
        fit_steps: Fitting steps.
        mesh_resolution: Cells along a side of the grid that the surface is found in.
        sds_steps: Steps of the distillation (threestudio: 600).
        sds_px: Side of its renderings before and after step 200 of 600 (threestudio: 64, 128, 256).
        sds_views: Renderings a step (threestudio: 12, 4, 2).
        sds_weight: Of the guide (threestudio).
        faces: Triangles of the mesh, at most.
        texture_size: Side of the texture in pixels.
        splats: Gaussians laid on the finished mesh; None gives out the fitted cloud, which is as
            blurred as the drawn views, and was given out before.
        watertight: Close the mesh into one shell around one volume.
    """

    way: Literal["views", "sds"] = "views"
    cascade: Literal["refiner", "frozen", "none"] = "refiner"
    prompts: Prompts = "nearby"
    coarse_target: bool = True
    base_steps: int | None = None
    refiner_steps: int | None = None
    ring_views: int = 16
    more_rings: tuple[tuple[float, int], ...] = ((60.0, 6), (-25.0, 4))
    size_px: int = 128
    photo_px: int = 512
    distance: float = 1.5
    fov_deg: float = 49.13
    photo_elevation_deg: float | None = None
    photo_share: float = 4.0
    fit_steps: int = 1200
    mesh_resolution: int = 128
    sds_steps: int = 600
    sds_px: tuple[int, int] = (32, 64)
    sds_views: int = 4
    sds_weight: float = 0.1
    faces: int = 20_000
    texture_size: int = 1024
    splats: int | None = 40_000
    watertight: bool = False


STANDARD = CascadeZero123()
DRAFT = replace(STANDARD, size_px=96, fit_steps=600, mesh_resolution=112, sds_steps=150)
HIGH = replace(STANDARD, fit_steps=3000, mesh_resolution=192, sds_px=(64, 128))
QUALITIES = {"draft": DRAFT, "standard": STANDARD, "high": HIGH}


@dataclass(frozen=True)
class CascadeZero123Models:
    """The networks that the recipe asks for.

    Attributes:
        matte: Cuts out the subject.
        elevation: Estimates where the photograph was taken from.
        base: Draws the prompts from the photograph.
        refiner: Draws the targets from all that is known.
        guide: Makes a guide of base or refiner, told of known views, for `way` "sds".
        features: For the perceptual term of the fit; without it, the fit compares colours.
        steps: Sampler steps of base and refiner at which these networks are best: the paper's 25
            and the 50 of Zero123's demo.
    """

    matte: Matte
    elevation: Elevation
    base: RefinerModel
    refiner: RefinerModel
    guide: Callable[[RefinerModel, Views], ViewGuide]
    features: FeatureModel | None = None
    steps: tuple[int, int] = (25, 50)


def cascade_zero123(
    photo: Image,
    models: CascadeZero123Models,
    rng: Generator,
    settings: CascadeZero123 = STANDARD,
    stage: StageRunner | None = None,
) -> Asset:
    """Make an asset of the subject of one photograph.

    Raises:
        ValueError: If the photograph shows no subject, or nothing solid comes of it.
    """
    stage = stage or PlainStages()
    subject, front = _seen(photo, models, settings, stage)
    if settings.way == "sds":
        known = front
        if settings.cascade != "none":
            known, _ = _prompted(front, front.cameras[:0], models, rng, settings, stage)
        drawer = models.refiner if settings.cascade == "refiner" else models.base
        asking = Asking(settings.sds_weight, times=ZERO123_TIMES)
        guides = [(models.guide(drawer, known), asking)]
        field = distilled_field(front, guides, rng, distillation(settings), stage=stage)
        meshing = FieldMeshing(
            resolution=settings.mesh_resolution,
            view_px=settings.size_px,
            faces=settings.faces,
            texture_size=settings.texture_size,
            watertight=settings.watertight,
        )
        return asset_of_field(field, front.cameras, rng, meshing, photo=front, stage=stage)
    elevation_deg = float(front.cameras.elevation_deg[0])
    views = cascade_views(
        front, orbit_cameras(settings, elevation_deg), models, rng, settings, stage
    )
    return _asset_of_views(with_photo(views, subject), front, models, rng, settings, stage)


def novel_views(
    photo: Image,
    models: CascadeZero123Models,
    rng: Generator,
    settings: CascadeZero123,
    stage: StageRunner,
    *,
    azimuth_deg: Sequence[float] | None = None,
    elevation_deg: float | None = None,
) -> Views:
    """Draw views of the subject of a photograph, and no more.

    Args:
        photo: The photograph.
        models: The networks; features are not used.
        rng: Seeds the drawing.
        settings: Sizes, steps and the cascade matter here.
        stage: Runs the stages.
        azimuth_deg: Of each view; evenly round the subject by default.
        elevation_deg: Of all views; the photograph's by default.
    """
    _, front = _seen(photo, models, settings, stage)
    cameras = asked_cameras(
        azimuth_deg,
        float(front.cameras.elevation_deg[0]) if elevation_deg is None else elevation_deg,
        ring_views=settings.ring_views,
        distance=settings.distance,
        fov_deg=settings.fov_deg,
        size_px=settings.size_px,
    )
    return cascade_views(front, cameras, models, rng, settings, stage)


def cascade_views(
    front: Views,
    cameras: Cameras,
    models: CascadeZero123Models,
    rng: Generator,
    settings: CascadeZero123,
    stage: StageRunner,
) -> Views:
    """Draw a view for each camera: prompts first, all in one batch, then the targets.

    Args:
        front: The photograph as one view over white, from azimuth 0.
        cameras: Where to look from, at the models' distance and field of view.
        models: Base and refiner.
        rng: Draws the noise, and the places of random prompts.
        settings: Which prompts, how many steps.
        stage: Runs the stages.
    """
    if settings.cascade == "none":
        steps = settings.base_steps or models.steps[0]
        return stage(
            "draw",
            lambda report: models.base.draw(front, cameras, rng, steps=steps, report=report),
        )
    refiner = models.refiner if settings.cascade == "refiner" else models.base
    targets = cameras if settings.coarse_target else cameras[:0]
    known, drafts = _prompted(front, targets, models, rng, settings, stage)
    return stage(
        "draw",
        lambda report: refiner.draw(
            known,
            cameras,
            rng,
            steps=settings.refiner_steps or models.steps[1],
            coarse=drafts if settings.coarse_target else None,
            report=report,
        ),
    )


def prompt_cameras(photo_camera: Cameras, settings: CascadeZero123, rng: Generator) -> Cameras:
    """Place the prompt views; those that would pass the pole stop before it.

    Random ones stand anywhere round the subject, between 30 degrees above and below the
    photograph's elevation (ours: the paper does not say).
    """
    if settings.prompts == "random":
        share = torch.rand(len(NEARBY_DEG), 2, generator=rng).tolist()
        ways = [(60.0 * up - 30.0, 360.0 * turn, 0.0) for up, turn in share]
    else:
        ways = list(PROMPTS_DEG[settings.prompts])
    most, least = (float(photo_camera.elevation_deg[0]) + end for end in (_MOST_DEG, -_MOST_DEG))
    # Up is negative: an elevation e allows polar ways from e - 85 to e + 85.
    inside = tuple((min(max(way[0], least), most), way[1], way[2]) for way in ways)
    return nearby_cameras(photo_camera, inside)


def orbit_cameras(settings: CascadeZero123, elevation_deg: float) -> Cameras:
    """Place the cameras of every ring; the first one stands where the photographer stood."""
    return ring_cameras(
        ((elevation_deg, settings.ring_views), *settings.more_rings),
        distance=settings.distance,
        fov_deg=settings.fov_deg,
        size_px=settings.size_px,
    )


def distillation(settings: CascadeZero123) -> Distilling:
    """Give the settings of `way` "sds": threestudio's preset for Zero123, smaller."""
    first, second = settings.sds_px
    within = RandomCameras(
        first,
        elevation_deg=Range(-10.0, 80.0),
        distance=Range(settings.distance, settings.distance),
        fov_deg=Range(settings.fov_deg, settings.fov_deg),
    )
    order = Order(
        orientation=constant(1.0),
        sparsity=constant(0.1),
        opaque=constant(0.1),
        normal_map=constant(8.0),
        normal_field=constant(8.0),
    )
    return Distilling(
        within,
        steps=settings.sds_steps,
        sizes=(
            (0, first, settings.sds_views),
            (settings.sds_steps // 3, second, settings.sds_views),
        ),
        photo=PhotoLosses(rgb=500.0, mask=50.0, size_px=second),
        order=order,
    )


def _prompted(
    front: Views,
    targets: Cameras,
    models: CascadeZero123Models,
    rng: Generator,
    settings: CascadeZero123,
    stage: StageRunner,
) -> tuple[Views, Views]:
    """Draw the prompts with the base; give the photograph with the nearby views, and the drafts."""
    side = (models.base.size_px, models.base.size_px)
    nearby = prompt_cameras(front.cameras, settings, rng).resized(side)
    every = concatenate_cameras([nearby, targets.resized(side)])
    steps = settings.base_steps or models.steps[0]
    prompts = stage(
        "prompts", lambda report: models.base.draw(front, every, rng, steps=steps, report=report)
    )
    known = concatenate_views([front.resized(side), prompts[: len(nearby)]])
    return known, prompts[len(nearby) :]


def _seen(
    photo: Image, models: CascadeZero123Models, settings: CascadeZero123, stage: StageRunner
) -> tuple[Foreground, Views]:
    """Cut the subject out and say where it was photographed from; also give it as a view."""
    subject, elevation_deg = seen_subject(
        photo,
        models.matte,
        models.elevation,
        photo_px=settings.photo_px,
        known_deg=settings.photo_elevation_deg,
        stage=stage,
    )
    return subject, photo_view(
        subject, elevation_deg=elevation_deg, distance=settings.distance, fov_deg=settings.fov_deg
    )


def _asset_of_views(
    views: Views,
    front: Views,
    models: CascadeZero123Models,
    rng: Generator,
    settings: CascadeZero123,
    stage: StageRunner,
) -> Asset:
    """Fit Gaussians to drawn views and mesh them."""
    share = torch.ones(len(views))
    share[0] = settings.photo_share

    def fit(report: Report) -> Gaussians:
        return fit_gaussians(
            views,
            steps=settings.fit_steps,
            rng=rng,
            features=models.features,
            view_weights=share,
            report=report,
        )

    asset, scale, shift = asset_from_gaussians(
        stage("fit", fit),
        views,
        front,
        meshing=Meshing(
            resolution=settings.mesh_resolution,
            fusion=DRAWN,
            faces=settings.faces,
            texture_size=settings.texture_size,
            watertight=settings.watertight,
            splats=settings.splats,
        ),
        rng=rng,
        stage=stage,
    )
    stage.note("world_from_fitted", {"scale": scale, "shift": shift.tolist()})
    return asset
