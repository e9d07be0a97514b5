"""Isotropic3D: distil a field from one embedding of the photograph, and from nothing else of it.

Liu et al., "Isotropic3D: Image-to-3D Generation Based on a Single CLIP Embedding", 2024. A
multi-view diffusion model is told an image embedding and four cameras; score distillation makes a
field that it likes to see. No rendering is ever compared with the photograph's pixels, and the
texture has none of them. Differs from the paper: a small model of our own stands for its model
unless its checkpoint is given, and is asked at the noise levels where it knows anything
(`KnownLevels`); runs are shorter, and renderings smaller. Where the paper and its
released code differ, `as_in_paper` and the defaults follow one each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator

from ..diffusion.distill_cameras import ISOTROPIC3D_CAMERAS, RandomCameras, Range
from ..diffusion.guide import Ramp, TimeRange, constant
from ..diffusion.multiview import KnownLevels, MultiviewModel
from ..diffusion.multiview_guide import MultiviewGuide
from ..field.radiance import RadianceSettings
from ..image import Image
from ..mesh import Asset
from ..models import Elevation, Matte, PlainStages, StageRunner
from ..views import Views
from .distilling import Asking, Distilling, Gradient, Shading, distilled_field
from .distilling_asset import FieldMeshing, asset_of_field, photo_first
from .distilling_losses import Order
from .framing import asked_cameras, photo_view, seen_subject

_HALF_WIDTH = RadianceSettings().half_width
SMALL_CAMERAS = RandomCameras(
    64,
    elevation_deg=Range(0.0, 30.0),
    distance=Range(1.5, 1.5),
    fov_deg=Range(49.13, 49.13),
    views=4,
)
"""Of our small model: the paper's elevations, at the distance and lens of its training."""
PUBLIC_CAMERAS = replace(
    ISOTROPIC3D_CAMERAS,
    distance=Range(0.8 * _HALF_WIDTH, 1.0 * _HALF_WIDTH),
)
"""Of the published model: distances are in units of half the field's width."""


@dataclass(frozen=True)
class Isotropic3d:
    """Settings of the recipe; the released code's, with all steps as shares of the run.

    Attributes:
        size_px: Side of the views that `novel_views` draws.
        photo_px: Side of the framed photograph.
        distance: Of the cameras that the finished field is seen from.
        fov_deg: Vertical field of view of those.
        photo_elevation_deg: Elevation that the photograph was taken from; None estimates it. It
            counts for `novel_views`, the preview and the record only: the method never asks.
        ring_views: Views that `novel_views` draws if no azimuths are given.
        draw_steps: Sampler steps of those (the demo's 50).
        steps: Of the distillation (10,000).
        px: Sides of the renderings before and after `enlarge_at` (64 and 256).
        views: Renderings a step before and after that (8 and 4).
        enlarge_at: Share of the steps (a half).
        guidance: Scale; None takes the model's own (10 for the published one).
        gradient: "reconstruction" is the code's, "sds" the paper's equation 7.
        rescale: For the first: share of the estimate at its unguided deviation.
        least_times: Smallest noise level at the start and from `times_until` on.
        most_times: Largest noise level at the start and from `times_until` on.
        times_until: Share of the steps over which noise levels sink (0.8).
        orientation: Weight of the orientation loss at the start and from half of the steps on. In
            "draft", whose steps are few, a tenth and less: tried on three training objects left
            out, all solid after 200 steps.
        opaque: Weight of `Order.opaque` at the end, rising from the middle; not in the original.
        shading_from: Share of the steps from which on lamps are lit (the code's half; the paper
            does not say that there are none before); above 1 for never.
        grid_rate: Adam's rate for the field's grid.
        network_rate: For its network: the code's 0.001, the paper's 0.01.
        field: The field's shape.
        meshing: How the field becomes an asset; its last three fields are overruled by the next.
        faces: Triangles of the mesh, at most.
        texture_size: Side of the texture in pixels.
        watertight: Close the mesh into one shell around one volume.
    """

    size_px: int = 64
    photo_px: int = 512
    distance: float = 1.5
    fov_deg: float = 49.13
    photo_elevation_deg: float | None = None
    ring_views: int = 16
    draw_steps: int = 50
    steps: int = 2500
    px: tuple[int, int] = (64, 96)
    views: tuple[int, int] = (8, 4)
    enlarge_at: float = 0.5
    guidance: float | None = None
    gradient: Gradient = "reconstruction"
    rescale: float = 0.5
    least_times: tuple[float, float] = (0.98, 0.02)
    most_times: tuple[float, float] = (0.98, 0.5)
    times_until: float = 0.8
    orientation: tuple[float, float] = (10.0, 1000.0)
    opaque: float = 0.0
    shading_from: float = 0.5
    grid_rate: float = 0.01
    network_rate: float = 0.001
    field: RadianceSettings = RadianceSettings()  # noqa: RUF009  a frozen value
    meshing: FieldMeshing = FieldMeshing()  # noqa: RUF009  a frozen value
    faces: int = 20_000
    texture_size: int = 1024
    watertight: bool = False


STANDARD = Isotropic3d()
DRAFT = replace(
    STANDARD,
    draw_steps=20,
    steps=200,
    px=(32, 64),
    views=(4, 4),
    orientation=(1.0, 10.0),
    meshing=FieldMeshing(resolution=96, view_px=96, fit_steps=200),
)
HIGH = replace(STANDARD, steps=10_000, px=(64, 256))
QUALITIES = {"draft": DRAFT, "standard": STANDARD, "high": HIGH}


def as_in_paper(settings: Isotropic3d) -> Isotropic3d:
    """Follow the paper's text where its released code does otherwise.

    Its equation 7 is noise-prediction SDS, one learning rate is stated, and lamps are not said to
    be lit late.
    """
    return replace(settings, gradient="sds", network_rate=0.01, shading_from=0.0)


@dataclass(frozen=True)
class Isotropic3dModels:
    """The networks that the recipe asks for.

    Attributes:
        matte: Cuts out the subject.
        elevation: Estimates where the photograph was taken from.
        multiview: Draws four views at once from one embedding.
        cameras: Where renderings must be seen from for it: `SMALL_CAMERAS` or `PUBLIC_CAMERAS`.
        device: Where the field is distilled.
    """

    matte: Matte
    elevation: Elevation
    multiview: MultiviewModel
    cameras: RandomCameras = SMALL_CAMERAS
    device: torch.device = torch.device("cpu")  # noqa: RUF009  a constant


def isotropic3d(
    photo: Image,
    models: Isotropic3dModels,
    rng: Generator,
    settings: Isotropic3d = STANDARD,
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
    side = photo_view(
        subject,
        elevation_deg=elevation_deg,
        distance=settings.distance,
        fov_deg=settings.fov_deg,
    ).to(models.device)
    guide = MultiviewGuide(models.multiview, subject, guidance=settings.guidance)
    field = distilled_field(
        side,  # Says where the preview looks from; no loss looks at its pixels.
        [(guide, asking(settings, guide.levels))],
        rng,
        distilling(settings, models.cameras),
        stage=stage,
    )
    asset = asset_of_field(
        field,
        side.cameras,
        rng,
        replace(
            settings.meshing,
            faces=settings.faces,
            texture_size=settings.texture_size,
            watertight=settings.watertight,
        ),
        stage=stage,
    )
    assert asset.views is not None
    # Only now, to be seen beside what was made of its embedding.
    return replace(asset, views=photo_first(asset.views, side))


def novel_views(
    photo: Image,
    models: Isotropic3dModels,
    rng: Generator,
    settings: Isotropic3d,
    stage: StageRunner,
    *,
    azimuth_deg: Sequence[float] | None = None,
    elevation_deg: float | None = None,
) -> Views:
    """Draw views of the subject of a photograph, four at a time, and no more.

    Args:
        photo: The photograph.
        models: The networks.
        rng: Seeds the drawing.
        settings: `size_px`, `distance`, `fov_deg` and `draw_steps` matter here.
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
    cameras = asked_cameras(
        azimuth_deg,
        photo_deg if elevation_deg is None else elevation_deg,
        ring_views=settings.ring_views,
        distance=settings.distance,
        fov_deg=settings.fov_deg,
        size_px=settings.size_px,
    )
    return stage(
        "draw",
        lambda report: models.multiview.draw(
            subject,
            cameras,
            rng,
            photo_elevation_deg=photo_deg,
            steps=settings.draw_steps,
            report=report,
        ),
    )


def asking(settings: Isotropic3d, levels: KnownLevels | None = None) -> Asking:
    """Give what the model is asked in the distillation: noise levels sink as it goes on.

    Args:
        settings: Of the recipe.
        levels: All that the model is asked about instead: at first of the shape, from `times_until`
            on of detail.
    """
    until = round(settings.times_until * settings.steps)
    least, most = Ramp(*settings.least_times, until), Ramp(*settings.most_times, until)
    if levels is not None:
        (shape_least, shape_most), (least_detail, most_detail) = levels.shape, levels.detail
        least = Ramp(shape_least, least_detail, until, until - 1)
        most = Ramp(shape_most, most_detail, until, until - 1)
    return Asking(
        gradient=settings.gradient,
        times=TimeRange(least, most),
        rescale=settings.rescale,
        weighting="sds",
    )


def distilling(settings: Isotropic3d, cameras: RandomCameras) -> Distilling:
    """Give the settings of the distillation, as `distilled_field` has them."""
    half = settings.steps // 2
    change = round(settings.enlarge_at * settings.steps)
    (small, large), (many, few) = settings.px, settings.views
    lit = settings.shading_from <= 1
    return Distilling(
        cameras,
        steps=settings.steps,
        sizes=((0, small, many), (change, large, few)),
        field=settings.field,
        grid_rate=settings.grid_rate,
        network_rate=settings.network_rate,
        weight_decay=0.01,  # AdamW's own, which the code leaves as it is.
        order=Order(
            orientation=Ramp(*settings.orientation, half),
            opaque=Ramp(0.0, settings.opaque, settings.steps, half)
            if settings.opaque > 0
            else constant(0.0),
        ),
        shading=Shading(round(settings.shading_from * settings.steps)) if lit else None,
    )
