"""From a distilled field to the finished asset: mesh, texture and Gaussians."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..camera import Cameras, concatenate_cameras
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

_FAINTEST = 0.3
"""Share of the surface's opacity under which a field counts as empty."""


@dataclass(frozen=True)
class FieldMeshing:
    """How a field becomes an asset.

    Attributes:
        resolution: Nodes along a side of the grid that the surface is drawn in.
        view_px: Side of the rendered views.
        fit_steps: Of the Gaussians.
        smoothing: Rounds of `smooth` over the mesh.
        blur: Deviation, world units, by which the field is blurred before its surface is drawn.
            Chosen by us with `smoothing` on a coarse field of HiFi-123's of a training object left
            out of all trainings: against 12 rounds and no blur, vertex normals turned 20% less from
            one to the next (mean 1 - cos 0.081, before 0.101), and the likeness to 15 true views
            stayed (0.01 dB, overlap of outlines 0.001 less). A blur of 0.012 cost 0.12 dB.
        faces: Triangles of the mesh.
        texture_size: Side of the texture in pixels.
        watertight: Close the mesh into one shell around one volume.
    """

    resolution: int = 128
    view_px: int = 128
    fit_steps: int = 400
    smoothing: int = 24
    blur: float = 0.006
    faces: int = 20_000
    texture_size: int = 1024
    watertight: bool = False


def asset_of_field(
    field: RadianceField,
    front: Cameras,
    rng: Generator,
    settings: FieldMeshing,
    *,
    photo: Views | None = None,
    stage: StageRunner | None = None,
) -> Asset:
    """Make an asset of a field: its surface, textured from its renderings, and Gaussians of both.

    Args:
        field: A fitted or distilled field.
        front: The photograph's camera: the first of the asset's views is seen from there, and the
            others from as far and through the same lens.
        rng: CPU generator.
        settings: Sizes.
        photo: The photograph as one view, to be the first of them and to colour what it looks at
            squarely; None leaves all to the field, as methods do that never compare with the
            photograph's pixels.
        stage: Runs the stages; the way from the field's world to the asset's is noted.

    Raises:
        ValueError: If nothing in the field is solid.
    """
    stage = stage or PlainStages()
    mesh = stage("mesh", lambda _: solid_mesh(field, settings))
    return asset_of_surface(
        mesh,
        lambda cameras: views_from_field(field, cameras),
        front,
        rng,
        settings,
        photo=photo,
        stage=stage,
    )


def asset_of_surface(
    mesh: Mesh,
    draw: Callable[[Cameras], Views],
    front: Cameras,
    rng: Generator,
    settings: FieldMeshing,
    *,
    photo: Views | None,
    stage: StageRunner,
) -> Asset:
    """Make an asset of a clean mesh and of what it looks like; the rest as for `asset_of_field`.

    Args:
        mesh: Not yet unwrapped; `settings` count from here on.
        draw: Renders what the mesh is to look like, over white, with depth.
        front: The photograph's camera.
        rng: CPU generator.
        settings: Sizes.
        photo: The photograph as one view, or None.
        stage: Runs the stages.
    """
    cameras = cameras_round(front, settings.view_px)
    drawn = stage("render", lambda _: draw(cameras))
    views = drawn if photo is None else photo_first(drawn, photo)
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
    asset, scale, shift = finished_asset(
        mesh,
        gaussians,
        views,
        photo,
        meshing=Meshing(faces=settings.faces, texture_size=settings.texture_size),
        rng=rng,
        stage=stage,
    )
    stage.note("world_from_fitted", {"scale": scale, "shift": shift.tolist()})
    return asset


def photo_first(views: Views, photo: Views) -> Views:
    """Put the photograph in the place of the first view, rendered from its side.

    The depth of that view stays that of the rendering. Where an asset's views show the photograph
    first, its preview shows what was cut out of it.
    """
    small = photo.resized(views.cameras.size_hw).to(views.rgb.device)
    return replace(
        views,
        rgb=torch.cat([small.rgb, views.rgb[1:]]),
        alpha=torch.cat([small.alpha, views.alpha[1:]]),
    )


def cameras_round(front: Cameras, size_px: int) -> Cameras:
    """Place the photograph's camera, then those of `RINGS`, as far away and with its lens."""
    size_hw = (size_px, size_px)
    focal_px = float(front.resized(size_hw).focal_px[0])
    rings = ring_cameras(
        RINGS,
        distance=float(front.origin[0].norm()),
        fov_deg=2 * math.degrees(math.atan(0.5 * size_px / focal_px)),
        size_px=size_px,
    )
    return concatenate_cameras([front.resized(size_hw).to("cpu"), rings])


def views_from_field(field: RadianceField, cameras: Cameras) -> Views:
    """Render a field over white, with depth; the views come back to the CPU."""
    with torch.no_grad():
        views = field.render(cameras.to(field.occupancy.held.device), normals=False)
    return Views(views.rgb.clamp(0, 1), views.alpha, views.cameras, views.depth).to("cpu")


def solid_mesh(field: RadianceField, settings: FieldMeshing) -> Mesh:
    """Draw a field's surface and clean it, not yet unwrapped.

    A guide that is unsure can leave a field so faint that it is nowhere as dense as its surface
    should be; then the surface is drawn where it is half as opaque as at most, with a warning.

    Raises:
        ValueError: If the field is empty.
    """

    def drawn(grid: Float[Tensor, "r r r"]) -> Mesh:
        highest, level = float(grid.max()) + field.opaque, 0.0
        if highest <= _FAINTEST * field.opaque:
            raise ValueError(
                "nothing solid came of the distillation: its model saw nothing in the field; "
                "another --seed, --quality standard or --recipe im3d may help"
            )
        if highest <= field.opaque:
            warnings.warn(
                "what was distilled is faint, so its surface is uncertain; more steps "
                "(--quality standard) or another seed may help",
                stacklevel=2,
            )
            level = 0.5 * highest - field.opaque
        return mesh_from_density(grid, level=level, half_width=field.half_width)

    mesh = mesh_from_field(
        field,
        drawn,
        resolution=settings.resolution,
        blur=settings.blur,
    )
    if settings.watertight:
        mesh = watertight_mesh(mesh, resolution=settings.resolution)
    return clean_mesh(
        mesh, Cleaning(faces=settings.faces, exact=True, smoothing=settings.smoothing)
    )
