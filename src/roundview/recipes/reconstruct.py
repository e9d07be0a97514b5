"""From posed views to an asset: fit Gaussians, mesh them, texture the mesh.

What every method ends with, on its own: for photographs or renders whose cameras are known.
"""

from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..field.fit import RADIANCE_FIT, SDF_FIT, fit_field, mesh_from_field
from ..mesh import Asset, Mesh
from ..models import PlainStages, Report, StageRunner
from ..splat.fit import FitSettings, fit_gaussians
from ..surface.clean import Cleaning, clean_mesh
from ..surface.isosurface import mesh_from_density, mesh_from_depth
from ..surface.refine import Refining
from ..surface.watertight import watertight_mesh
from ..views import Views
from .surfacing import (
    Fusion,
    Meshing,
    all_round,
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
        fit: Of the fit.
        surface: What the mesh comes from: "splat" fuses the cloud's depth; "sdf" fits a signed
            distance field, whose surface is smoother and slower to come by, "radiance" a radiance
            field, for comparison. The Gaussians are fitted in any case.
        field_px: Side of the pictures that a field is fitted to.
        field_steps: Steps of that.
        meshing: Of the mesh and its texture.
    """

    fit_px: int = 256
    fit_steps: int = 1200
    # Posed views agree, so colours are compared by pixel: deep features would cost 0.3 dB.
    fit: FitSettings = FitSettings(  # noqa: RUF009  a frozen value
        points=20_000,
        max_gaussians=20_000,
        perceptual_weight=0.0,
        # Slower than for drawn views: the start on the hull is close. Gains 0.4 dB.
        centre_rate=(1.5e-3, 1e-4),
    )
    surface: Literal["splat", "sdf", "radiance"] = "splat"
    field_px: int = 128
    field_steps: int = 1000
    meshing: Meshing = Meshing(  # noqa: RUF009  a frozen value
        resolution=192,
        smoothing=12,
        sharp=True,
        within_deg=25.0,
        fusion=Fusion(hidden_weight=0.01),
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
    gaussians = stage(
        "fit",
        lambda report: fit_gaussians(
            seen, steps=settings.fit_steps, rng=rng, settings=settings.fit, report=report
        ),
    )
    if settings.surface == "splat":
        asset, again, moved = asset_from_gaussians(
            gaussians, placed, meshing=settings.meshing, rng=rng, stage=stage
        )
    else:
        mesh = stage("field", lambda report: _mesh_of_field(placed, rng, settings, report))
        asset, again, moved = finished_asset(
            mesh, gaussians, placed, meshing=settings.meshing, rng=rng, stage=stage
        )
    total = {"scale": scale * again, "shift": (again * shift + moved).tolist()}
    stage.note("world_from_views", total)
    return asset


def _mesh_of_field(views: Views, rng: Generator, settings: Reconstruct, report: Report) -> Mesh:
    """Fit a field to the views and take its surface."""
    meshing = settings.meshing
    h, w = views.cameras.size_hw
    shrink = min(1.0, settings.field_px / min(h, w))
    seen = views.resized((round(h * shrink), round(w * shrink)))
    signed = settings.surface == "sdf"
    field = fit_field(
        seen,
        steps=settings.field_steps,
        rng=rng,
        settings=SDF_FIT if signed else RADIANCE_FIT,
        report=report,
    )

    def surface(grid: Float[Tensor, "r r r"]) -> Mesh:
        return mesh_from_density(grid, level=0.0, half_width=field.half_width)

    if signed:
        raw = mesh_from_field(field, surface, resolution=meshing.resolution)
    else:
        with torch.no_grad():
            sides = field.render(all_round(128), normals=False)
        raw = mesh_from_depth(sides, resolution=128, **asdict(Fusion()))
    if meshing.watertight:
        raw = watertight_mesh(raw, resolution=meshing.resolution)
    return clean_mesh(raw, Cleaning(faces=meshing.faces, exact=True, smoothing=meshing.smoothing))
