"""From fitted Gaussians to the finished asset: mesh, texture, place in the world."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from ..camera import Cameras, concatenate_cameras, project
from ..gaussians import Gaussians
from ..mesh import Asset, Mesh, centred
from ..models import PlainStages, StageRunner
from ..splat.median_depth import render_median_depth
from ..splat.render import render_gaussians
from ..surface.clean import Cleaning, clean_mesh
from ..surface.front import views_to_fuse
from ..surface.isosurface import field_from_depth, mesh_from_density
from ..surface.outline import Outline, filled_outline
from ..surface.photo_hull import bounded
from ..surface.refine import Refining, refine_mesh
from ..surface.surfels import gaussians_on_mesh
from ..surface.texture import Baking, bake_texture, unwrap
from ..surface.watertight import watertight_mesh
from ..views import Views, concatenate_views

# Chosen by us on drawn views: what the fit's bumps hide from a view by a little is coloured by it.
_BAKING = Baking(tolerance=0.02)
HALF_WIDTH = 0.55
"""Half the side of the cube that subjects of longest side 1 are meshed in."""
_FUSED_PX = 256
"""Shorter side of the pictures that sharp meshes are fused from. By us, see `views_to_fuse`."""
_OUTLINE_PX = 2
"""How far a view's outline may lie from the cloud's, pixels. By us: fits are about one too wide."""


@dataclass(frozen=True)
class Fusion:
    """How forgiving the fusion of depth is; see `mesh_from_depth` for the fields.

    The defaults suit pictures that agree, such as photographs or renders.
    """

    truncation_steps: float = 3.0
    hidden_weight: float = 0.05
    fading: float = 0.0
    blur: float = 0.0


DRAWN = Fusion(truncation_steps=6.0, hidden_weight=0.15, blur=0.012)
"""For drawn views, which disagree. Chosen by us on 4 training objects left out of the training:
against the defaults the outline's overlap with the truth rose from 0.69 to 0.74 (of which blur gave
0.01 back) and the cosine between normals from 0.709 to 0.717; blur takes the lumps away.
"""


@dataclass(frozen=True)
class Meshing:
    """How a cloud becomes a mesh.

    Attributes:
        resolution: Cells along a side of the grid that depth is fused in.
        sharp: Fuse the cloud's front (see `views_to_fuse`) inside the outlines of the views, for
            views that agree; else its mean depth, which is smoother.
        within_deg: Fuse the cloud only as seen from sides no farther than this from a view's, since
            it was never made to look right from others; None takes all sides. With 25, hollows that
            views look into could be left open (`hidden_weight` 0.01) without carving a shoe out
            through its sole, which no view had seen: tried on four training scans.
        smoothing: Rounds of `smooth` over the fused mesh.
        fusion: How forgiving the mesh is towards views that disagree.
        outline: How the mesh gets what the photograph's outline shows and the cloud lacks; None
            does without.
        faces: Triangles; a closed mesh has an even number, so one less if this is odd.
        texture_size: Side of the texture in pixels.
        baking: How views colour texels.
        refining: How vertices then move to agree with the views; None leaves them.
        refine_steps: Steps of that.
        watertight: Close the mesh into one shell around one volume.
        splats: Gaussians laid on the finished mesh, in place of the cloud; None keeps the cloud.
    """

    resolution: int = 128
    sharp: bool = False
    within_deg: float | None = None
    smoothing: int = 24
    fusion: Fusion = Fusion()
    outline: Outline | None = Outline()  # noqa: RUF009  a frozen value
    faces: int = 20_000
    texture_size: int = 1024
    baking: Baking = _BAKING
    refining: Refining | None = None
    refine_steps: int = 200
    watertight: bool = False
    splats: int | None = None


def asset_from_gaussians(
    gaussians: Gaussians,
    views: Views,
    photo: Views | None = None,
    *,
    meshing: Meshing,
    rng: Generator,
    stage: StageRunner | None = None,
    hull: Bool[Tensor, "r r r"] | None = None,
) -> tuple[Asset, float, Float[Tensor, " 3"]]:
    """Make the mesh of a cloud and texture it; centre all of it and scale it to longest side 1.

    Args:
        gaussians: The fitted cloud.
        views: What it was fitted to, over white; they colour the texture.
        photo: Sharper views, if there are some: the mesh keeps to their outlines (the first one's
            is filled, too), and where they look at its surface squarely they colour it nearly
            alone.
        meshing: Settings.
        rng: Draws the order of the views that vertices are moved by.
        stage: Runs the stages.
        hull: What the mesh must stay in, on a grid of the cube that it is fused in, if known.

    Returns:
        The asset, and how it was moved: p_asset = scale * p_fitted + shift.

    Raises:
        ValueError: If the cloud is empty or nothing in it is solid.
    """
    stage = stage or PlainStages()
    mesh = stage("mesh", lambda _: _mesh(gaussians, views, photo, meshing, hull))
    return finished_asset(mesh, gaussians, views, photo, meshing=meshing, rng=rng, stage=stage)


def finished_asset(
    plain: Mesh,
    gaussians: Gaussians,
    views: Views,
    photo: Views | None = None,
    *,
    meshing: Meshing,
    rng: Generator,
    stage: StageRunner,
) -> tuple[Asset, float, Float[Tensor, " 3"]]:
    """Unwrap, refine and texture a clean mesh; the rest as for `asset_from_gaussians`."""
    mesh = stage("unwrap", lambda _: unwrap(plain, texture_size=meshing.texture_size))

    def textured(mesh: Mesh) -> Mesh:
        return _textured(mesh, gaussians, views, photo, meshing)

    if meshing.refining is not None:
        settings, steps, before = meshing.refining, meshing.refine_steps, mesh
        mesh = stage(
            "refine",
            lambda report: refine_mesh(
                textured(before), views, steps=steps, rng=rng, settings=settings, report=report
            ),
        )
    finished = stage("texture", lambda _: textured(mesh))
    centred_mesh, scale, shift = centred(finished)
    gaussians = moved_gaussians(gaussians, scale, shift)
    if meshing.splats is not None:
        count = meshing.splats
        gaussians = stage("splats", lambda _: gaussians_on_mesh(centred_mesh, count, rng))
    return Asset(centred_mesh, gaussians, moved_views(views, scale, shift)), scale, shift


def _textured(
    mesh: Mesh, gaussians: Gaussians, views: Views, photo: Views | None, meshing: Meshing
) -> Mesh:
    """Colour an unwrapped mesh from the views, and from the photograph where it looks squarely."""
    sources = [views] if photo is None else [views, photo]
    count = sum(len(part) for part in sources)
    return bake_texture(
        mesh,
        sources,
        texture_size=meshing.texture_size,
        view_weights=torch.ones(count),
        # Drawn views meet the photograph in colour where it ends, and do not mix with it before.
        trusted=None if photo is None else torch.arange(count) >= len(views),
        fallback_rgb=lambda points: nearest_rgb(gaussians, points),
        settings=meshing.baking,
    )


def normalised_views(views: Views) -> tuple[Views, float, Float[Tensor, " 3"]]:
    """Bring the subject of views to the origin and to longest side 1, as far as they tell.

    The middle is the point next to all lines of sight through the middles of the silhouettes, in
    the least-squares sense; the size is that of the largest silhouette at the middle's depth, which
    is somewhat more than that of the subject's box.

    Returns:
        The views in the new world, and p_new = scale * p_old + shift.

    Raises:
        ValueError: If fewer than two views show a subject, or they do not surround it.
    """
    boxes = [_silhouette_box(alpha) for alpha in views.alpha]
    shown = [at for at, box in enumerate(boxes) if box is not None]
    if len(shown) < 2:
        raise ValueError(f"{len(shown)} views show a subject (alpha above 0.5); give 2 or more")
    box = torch.stack([box for box in boxes if box is not None])
    cameras = views.cameras[shown]
    centre = _nearest_to_rays(cameras, box.reshape(-1, 2, 2).mean(dim=1))
    depth = project(centre[None], cameras)[1][:, 0]
    if not bool((depth > 0).all()):
        raise ValueError("the views do not look at one subject: its middle is behind a camera")
    extent = (box[:, 2:] - box[:, :2]).amax(dim=-1) * depth / cameras.focal_px
    scale = 1.0 / float(extent.max())
    shift = -centre * scale
    return moved_views(views, scale, shift), scale, shift


def moved_gaussians(gaussians: Gaussians, scale: float, shift: Float[Tensor, " 3"]) -> Gaussians:
    """Scale a cloud about the origin, then shift it."""
    return replace(
        gaussians,
        centre=gaussians.centre * scale + shift.to(gaussians.centre),
        log_scale=gaussians.log_scale + torch.tensor(scale).to(gaussians.log_scale).log(),
    )


def moved_views(views: Views, scale: float, shift: Float[Tensor, " 3"]) -> Views:
    """Move cameras with the world that they see, so that their pictures stay true."""
    pose = views.cameras.world_from_camera.clone()
    pose[:, :3, 3] = pose[:, :3, 3] * scale + shift.to(pose)
    return replace(
        views,
        cameras=replace(views.cameras, world_from_camera=pose),
        depth=None if views.depth is None else views.depth * scale,
    )


def nearest_rgb(gaussians: Gaussians, points: Float[Tensor, "p 3"]) -> Float[Tensor, "p 3"]:
    """Colour points like the solid Gaussians next to them, the nearer the more."""
    from scipy.spatial import KDTree  # noqa: PLC0415  slow to import

    solid = gaussians.opacity >= gaussians.opacity.median()
    tree = KDTree(gaussians.centre[solid].detach().numpy())
    count = min(4, int(solid.sum()))
    distance, index = tree.query(points.numpy(), k=[*range(1, count + 1)])  # pyright: ignore[reportArgumentType]  scipy stubs lack lists
    weight = 1.0 / torch.from_numpy(distance).float().clamp(min=1e-4)
    rgb = gaussians.base_rgb.detach().clamp(0, 1)[solid][torch.from_numpy(index)]
    return (rgb * weight[..., None]).sum(dim=1) / weight.sum(dim=1, keepdim=True)


def _silhouette_box(alpha: Float[Tensor, "h w"]) -> Float[Tensor, " 4"] | None:
    """Give (left, top, right, bottom) of what is covered, in pixels."""
    v, u = torch.nonzero(alpha > 0.5, as_tuple=True)
    if not len(u):
        return None
    return torch.stack([u.min(), v.min(), u.max() + 1, v.max() + 1]).float()


def _nearest_to_rays(cameras: Cameras, pixel: Float[Tensor, "n 2"]) -> Float[Tensor, " 3"]:
    """Give the point with the least sum of squared distances to one ray of each camera."""
    h, w = cameras.size_hw
    slope = (pixel - torch.tensor([w / 2, h / 2])) / cameras.focal_px[:, None]
    in_camera = torch.cat([slope, torch.ones_like(slope[:, :1])], dim=-1)
    ray = torch.einsum("nij,nj->ni", cameras.world_from_camera[:, :3, :3], in_camera)
    ray = torch.nn.functional.normalize(ray, dim=-1).double()
    across = torch.eye(3, dtype=torch.float64) - ray[:, :, None] * ray[:, None, :]
    matrix = across.sum(dim=0)
    if float(torch.linalg.cond(matrix)) > 1e6:
        raise ValueError("the views all look along one line; give views from several sides")
    target = torch.einsum("nij,nj->i", across, cameras.origin.double())
    return torch.linalg.solve(matrix, target).float()


def _mesh(
    gaussians: Gaussians,
    views: Views,
    photo: Views | None,
    meshing: Meshing,
    hull: Bool[Tensor, "r r r"] | None,
) -> Mesh:
    """Fuse what the cloud looks like from all round, inside the outline that the photo shows."""
    if meshing.sharp:
        seen = sharp_views(gaussians, views, within_deg=meshing.within_deg)
    else:
        size_px = max(128, meshing.resolution)
        sides = _near(all_round(size_px), views.cameras, meshing.within_deg)
        seen = render_gaussians(gaussians, sides)
    if photo is not None:
        small = photo.resized(seen.cameras.size_hw)
        facing = render_gaussians(gaussians, small.cameras)
        seen = concatenate_views([seen, replace(facing, alpha=small.alpha)])
    fused = fused_mesh(
        seen, photo, meshing, meshing.fusion, resolution=meshing.resolution, hull=hull
    )
    if meshing.watertight:
        fused = watertight_mesh(fused, resolution=meshing.resolution)
    cleaning = Cleaning(faces=meshing.faces, exact=True, smoothing=meshing.smoothing)
    return clean_mesh(fused, cleaning)


def front_views(gaussians: Gaussians, cameras: Cameras) -> Views:
    """Render the front of a cloud of solid Gaussians, see `views_to_fuse`."""
    return views_to_fuse(
        gaussians, cameras, render=render_gaussians, render_depth=render_median_depth
    )


def sharp_views(
    gaussians: Gaussians,
    views: Views,
    *,
    within_deg: float | None = None,
    draw: Callable[[Gaussians, Cameras], Views] = front_views,
) -> Views:
    """Render a cloud with depth, from all round and as the views saw it, in their outlines.

    A fit's outlines are a little too wide: on a fit of an action figure (24 views of 256 px) the
    views' own raised the overlap of the fused depth with the truth (IoU at 64) from 0.890 to 0.916.

    Args:
        gaussians: The cloud, of size 1 round the origin.
        views: What it was fitted to, with alpha; they agree.
        within_deg: See `Meshing`.
        draw: Renders the cloud, with depth; sizes are even.

    Returns:
        Views with depth, those from all round first, whose shorter side is 256 pixels, or less if
        the longer one would be over 512. Of the given outlines only what lies within two pixels of
        the cloud's is taken: one mask that has a hole or lacks a limb must not cut it off, for the
        hull forgives none.
    """
    h, w = views.cameras.size_hw
    # Panoramas would take too much memory.
    shrink = min(_FUSED_PX / min(h, w), 2 * _FUSED_PX / max(h, w))
    size_hw = (max(2, 2 * round(0.5 * shrink * h)), max(2, 2 * round(0.5 * shrink * w)))
    sides, own = _near(all_round(_FUSED_PX), views.cameras, within_deg), views.resized(size_hw)
    # Wider or taller, as the views are, round the same square.
    focal_px = sides.focal_px * (min(size_hw) / _FUSED_PX)
    sides = Cameras(sides.world_from_camera, focal_px, size_hw)
    seen = draw(gaussians, concatenate_cameras([sides, own.cameras]))
    outlines = _outlined(own.alpha, seen.alpha[len(sides) :])
    return replace(seen, alpha=torch.cat([seen.alpha[: len(sides)], outlines]))


def _outlined(
    given: Float[Tensor, "n h w"], drawn: Float[Tensor, "n h w"]
) -> Float[Tensor, "n h w"]:
    """Take outlines as given where they are near the drawn ones, else the nearest to them."""
    side = 2 * _OUTLINE_PX + 1

    def widened(alpha: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        pooled = torch.nn.functional.max_pool2d(alpha[:, None], side, 1, padding=_OUTLINE_PX)
        return pooled[:, 0]

    return torch.minimum(torch.maximum(given, 1 - widened(1 - drawn)), widened(drawn))


def fused_mesh(
    views: Views,
    photo: Views | None,
    meshing: Meshing,
    fusion: Fusion,
    *,
    resolution: int,
    hull: Bool[Tensor, "r r r"] | None = None,
) -> Mesh:
    """Fuse depth, stay within a hull, and fill the outline of the photograph, where there are such.

    Raises:
        ValueError: If the views have no depth, or nothing is left of the subject.
    """
    field = field_from_depth(views, resolution=resolution, half_width=HALF_WIDTH, **asdict(fusion))
    unit = fusion.truncation_steps * 2 * HALF_WIDTH / (resolution - 1)
    if hull is not None:
        field = bounded(field, hull, half_width=HALF_WIDTH, unit=unit)
    if photo is not None and meshing.outline is not None:
        field = filled_outline(
            field, photo, half_width=HALF_WIDTH, unit=unit, settings=meshing.outline
        )
    return mesh_from_density(field, level=0.0, half_width=HALF_WIDTH)


def _near(sides: Cameras, cameras: Cameras, within_deg: float | None) -> Cameras:
    """Keep the sides that lie within an angle of a camera, as seen from the origin."""
    if within_deg is None:
        return sides
    towards, known = (torch.nn.functional.normalize(at.origin, dim=-1) for at in (sides, cameras))
    near = (towards @ known.T).amax(dim=1) >= math.cos(math.radians(within_deg))
    # A few views do not surround the subject: then its other sides must be guessed, too.
    return sides[near.nonzero()[:, 0].tolist()] if int(near.sum()) >= 8 else sides


def all_round(size_px: int, *, count: int = 40) -> Cameras:
    """Spread cameras evenly over the sphere, so that every side of the subject is seen.

    Gonzalez, "Measurement of Areas on a Sphere Using Fibonacci and Latitude-Longitude Lattices",
    2010: equal steps of height, azimuth in steps of the golden angle.
    """
    height = [1 - (2 * k + 1) / count for k in range(count)]
    return Cameras.orbit(
        [math.degrees(math.pi * (3 - math.sqrt(5))) * k % 360 for k in range(count)],
        elevation_deg=[math.degrees(math.asin(y)) for y in height],
        radius=1.5,
        fov_deg=49.13,
        size_hw=(size_px, size_px),
    )
