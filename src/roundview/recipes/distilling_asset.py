"""From a distilled field to the finished asset: mesh, texture and Gaussians."""

from dataclasses import dataclass

import torch
from torch import Generator

from ..field.fit import mesh_from_field
from ..field.radiance import RadianceField
from ..mesh import Asset, Mesh
from ..models import PlainStages, StageRunner
from ..splat.fit import FitSettings, fit_gaussians
from ..surface.clean import Cleaning, clean_mesh
from ..surface.isosurface import mesh_from_density
from ..surface.watertight import watertight_mesh
from ..views import Views
from .framing import ring_cameras
from .surfacing import Meshing, finished_asset

RINGS = ((0.0, 12), (45.0, 8), (-30.0, 6), (85.0, 2), (-80.0, 2))
"""Elevations in degrees and numbers of the views that texture and Gaussians are made from; chosen
by us so that each side is seen squarely by some view."""


@dataclass(frozen=True)
class FieldMeshing:
    """How a field becomes an asset.

    Attributes:
        resolution: Nodes along a side of the grid that the surface is drawn in.
        view_px: Side of the rendered views.
        fit_steps: Of the Gaussians.
        smoothing: Rounds of `smooth` over the mesh.
        faces: Triangles of the mesh.
        texture_size: Side of the texture in pixels.
        watertight: Close the mesh into one shell around one volume.
    """

    resolution: int = 128
    view_px: int = 128
    fit_steps: int = 400
    smoothing: int = 12
    faces: int = 20_000
    texture_size: int = 1024
    watertight: bool = False


def asset_of_field(
    field: RadianceField,
    photo: Views | None,
    rng: Generator,
    settings: FieldMeshing,
    *,
    stage: StageRunner | None = None,
    distance: float = 1.5,
    fov_deg: float = 49.13,
) -> Asset:
    """Make an asset of a field: its surface, textured from its renderings, and Gaussians of both.

    Args:
        field: A fitted or distilled field.
        photo: The photograph as one view, to colour what it looks at squarely; None leaves all to
            the field, as methods do that never compare with the photograph's pixels.
        rng: CPU generator.
        settings: Sizes.
        stage: Runs the stages; the way from the field's world to the asset's is noted.
        distance: Of the cameras that render the field.
        fov_deg: Theirs.

    Raises:
        ValueError: If nothing in the field is solid.
    """
    stage = stage or PlainStages()
    views = stage(
        "render", lambda _: views_from_field(field, settings.view_px, distance, fov_deg).to("cpu")
    )
    gaussians = stage(
        "fit",
        lambda report: fit_gaussians(
            views,
            steps=settings.fit_steps,
            rng=rng,
            settings=FitSettings(perceptual_weight=0.0),
            report=report,
        ),
    )
    plain = stage("mesh", lambda _: solid_mesh(field, settings))
    asset, scale, shift = finished_asset(
        plain,
        gaussians,
        views,
        photo,
        meshing=Meshing(faces=settings.faces, texture_size=settings.texture_size),
        rng=rng,
        stage=stage,
    )
    stage.note("world_from_fitted", {"scale": scale, "shift": shift.tolist()})
    return asset


def views_from_field(
    field: RadianceField, size_px: int, distance: float = 1.5, fov_deg: float = 49.13
) -> Views:
    """Render a field from all round, over white."""
    cameras = ring_cameras(RINGS, distance=distance, fov_deg=fov_deg, size_px=size_px)
    with torch.no_grad():
        views = field.render(cameras.to(field.occupancy.held.device), normals=False)
    return Views(views.rgb.clamp(0, 1), views.alpha, views.cameras, views.depth)


def solid_mesh(field: RadianceField, settings: FieldMeshing) -> Mesh:
    """Draw a field's surface and clean it, not yet unwrapped.

    Raises:
        ValueError: If nothing in the field is solid.
    """
    mesh = mesh_from_field(
        field,
        lambda grid: mesh_from_density(grid, level=0.0, half_width=field.half_width),
        resolution=settings.resolution,
    )
    if settings.watertight:
        mesh = watertight_mesh(mesh, resolution=settings.resolution)
    return clean_mesh(
        mesh, Cleaning(faces=settings.faces, exact=True, smoothing=settings.smoothing)
    )
