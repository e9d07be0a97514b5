"""From posed views to an asset: fit Gaussians, mesh them, texture the mesh.

What every method ends with, on its own: for photographs or renders whose cameras are known.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from ..gaussians import Gaussians
from ..mesh import Asset
from ..models import PlainStages, StageRunner
from ..splat.fit import FitSettings, fit_gaussians
from ..splat.start import cloud_on_cells
from ..surface.photo_hull import Carving, photo_hull
from ..surface.refine import Refining
from ..views import Views
from .fields import Surface, mesh_of_field
from .surfacing import (
    HALF_WIDTH,
    Fusion,
    Meshing,
    asset_from_gaussians,
    finished_asset,
    normalised_views,
)


@dataclass(frozen=True)
class Reconstruct:
    """Settings of the reconstruction; chosen by us on renders of scanned training objects.

    Attributes:
        fit_px: Larger pictures are fitted at this size (the shorter side), coloured at their own.
        fit_steps: Views rendered in all.
        carving: Of the photo hull that the fit begins on and the mesh stays in; None does without.
        fit: Of the fit.
        surface: What the mesh comes from; the Gaussians are fitted in any case.
        field_px: Side of the pictures that a field is fitted to.
        field_steps: Steps of that.
        meshing: Of the mesh and its texture.
    """

    fit_px: int = 256
    fit_steps: int = 1200
    carving: Carving | None = Carving()  # noqa: RUF009  a frozen value
    # Posed views agree, so colours are compared by pixel: deep features would cost 0.3 dB.
    fit: FitSettings = FitSettings(  # noqa: RUF009  a frozen value
        points=20_000,
        max_gaussians=20_000,
        perceptual_weight=0.0,
        # Slower than for drawn views: the start on the hull is close. Gains 0.4 dB.
        centre_rate=(1.5e-3, 1e-4),
    )
    surface: Surface = "splat"
    field_px: int = 128
    field_steps: int = 1000
    meshing: Meshing = Meshing(  # noqa: RUF009  a frozen value
        resolution=192,
        smoothing=12,
        sharp=True,
        within_deg=25.0,
        fusion=Fusion(hidden_weight=0.01, fading=2.0),
        refining=Refining(),
    )


STANDARD = Reconstruct()
DRAFT = replace(
    STANDARD,
    fit_steps=400,
    field_steps=400,
    fit=replace(STANDARD.fit, points=10_000, max_gaussians=10_000),
    meshing=replace(STANDARD.meshing, resolution=128, refine_steps=100),
)
HIGH = replace(
    STANDARD,
    fit_px=512,
    fit_steps=3000,
    field_px=256,
    field_steps=4000,
    fit=replace(STANDARD.fit, points=40_000, max_gaussians=60_000),
    meshing=replace(STANDARD.meshing, resolution=256, refine_steps=400),
)
RECONSTRUCTIONS = {"draft": DRAFT, "standard": STANDARD, "high": HIGH}


def reconstruct(
    views: Views, rng: Generator, settings: Reconstruct = STANDARD, stage: StageRunner | None = None
) -> Asset:
    """Turn posed views into an asset; the axes of their world are kept.

    The subject is first brought to the middle and to size 1, as far as the views tell where it is.
    The note `world_from_views` holds the scale and the shift of the result:
    p_asset = scale * p_views + shift.

    Args:
        views: Over white, with alpha.
        rng: Draws the first points and the order of the views.
        settings: Time for detail.
        stage: Runs the stages.

    Raises:
        ValueError: If there are too few views, or they show no subject.
    """
    stage = stage or PlainStages()
    placed, scale, shift = normalised_views(views)
    h, w = views.cameras.size_hw
    shrink = min(1.0, settings.fit_px / min(h, w))
    seen = placed.resized((round(h * shrink), round(w * shrink)))
    hull = None
    if settings.carving is not None:
        carving = settings.carving
        hull = stage("carve", lambda _: _carved(seen, carving))
    gaussians = stage(
        "fit",
        lambda report: fit_gaussians(
            seen,
            steps=settings.fit_steps,
            rng=rng,
            start=None if hull is None else _cloud_on(hull, seen, settings.fit, rng),
            settings=settings.fit,
            report=report,
        ),
    )
    if settings.surface == "splat":
        asset, again, moved = asset_from_gaussians(
            gaussians, placed, meshing=settings.meshing, rng=rng, stage=stage, hull=hull
        )
    else:
        shrink = min(1.0, settings.field_px / min(h, w))
        small = placed.resized((round(h * shrink), round(w * shrink)))
        mesh = stage.long(
            "field",
            lambda report, kept: mesh_of_field(
                small,
                rng,
                surface=settings.surface,
                steps=settings.field_steps,
                meshing=settings.meshing,
                report=report,
                kept=kept,
            ),
        )
        asset, again, moved = finished_asset(
            mesh, gaussians, placed, meshing=settings.meshing, rng=rng, stage=stage
        )
    total = {"scale": scale * again, "shift": (again * shift + moved).tolist()}
    stage.note("world_from_views", total)
    return asset


def _carved(views: Views, carving: Carving) -> Bool[Tensor, "r r r"] | None:
    """Find the photo hull, if outlines and cameras allow; the fit says what is wrong if not."""
    try:
        return photo_hull(views, half_width=HALF_WIDTH, settings=carving)
    except ValueError:
        return None


def _cloud_on(
    hull: Bool[Tensor, "r r r"], views: Views, settings: FitSettings, rng: Generator
) -> Gaussians:
    """Cover a hull whose nodes stand for cells round them."""
    return cloud_on_cells(
        hull,
        views,
        focus=torch.zeros(3),
        half_width=HALF_WIDTH * len(hull) / (len(hull) - 1),
        points=settings.points,
        sh_degree=settings.sh_degree,
        rng=rng,
        inside_share=settings.inside_share,
    )
