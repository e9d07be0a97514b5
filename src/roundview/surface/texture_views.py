"""Look texels up in pictures: which ones see them, how far to trust each, what colour they show."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..camera import Cameras, project
from ..mesh import Mesh
from ..views import Views
from .texels import Texels
from .visibility import FACING, framed_and_facing, visible_by_depth

_DEPTH_SIDE = 384
"""Smallest side of the depth maps that decide what is visible; small pictures get finer ones."""
_STEEPEST = 5.67
"""Tangent of 80 degrees: a surface steeper to the ray counts as a depth edge."""


@dataclass(frozen=True)
class Baking:
    """Settings of `bake_texture`; the defaults were chosen by us on renders of scanned objects.

    Attributes:
        sharpness: How much the view that faces a point best outweighs the rest: weight grows with
            cos(angle)^(2 sharpness). Low blurs, high shows seams between views.
        edge_px: Width, in pixels of each picture, of the strip along outlines and depth edges that
            is trusted less: there pictures mix with what lies behind.
        grazing: Cosine between ray and surface under which trust fades.
        tolerance: How far behind the surface a point still counts as seen, world units.
        gutter_px: How far colours spread beyond the charts, texels.
        redraws: How often the textured mesh is drawn from the cameras and what is missing against
            the pictures is added. On scans seen from 24 sides at 256 px one redraw raised held-out
            views by 6 dB on their own surface and by 0.1 dB inside the outlines of a fitted one;
            more of them raised the former only.
        rim: Width of the strip inside the trusted pictures' outlines and depth edges over which
            they give way to the others, world units.
        fade: How far beyond the rim the others keep the shift of colour that makes them meet the
            trusted ones there, world units.
        visibility: "depth" looks into depth maps of the mesh; "rays" casts a ray to each texel,
            which is exact, takes the package embreex and three times as long. On scans it was worth
            0.03 dB, as texels next to depth edges hardly count anyway.
    """

    sharpness: float = 3.0
    edge_px: float = 2.0
    grazing: float = 0.4
    tolerance: float = 0.006
    gutter_px: int = 8
    redraws: int = 1
    rim: float = 0.015
    fade: float = 0.25
    visibility: Literal["depth", "rays"] = "depth"


class Sources(NamedTuple):
    """Pictures made ready to be looked up: premultiplied, with the mesh's own depth in each.

    If `visible` is given, it decides what is hidden, for each view and texel; else depth does.
    """

    views: Views
    rgba: Float[Tensor, "n h w 4"]
    depth: Float[Tensor, "n H W"]
    margin_px: Float[Tensor, "n H W"]
    visible: Bool[Tensor, "n p"] | None = None


def prepared_sources(mesh: Mesh, views: Views) -> Sources:
    """Make pictures ready: take the white off, find what hides what and where not to trust."""
    from .raster import mesh_depth  # noqa: PLC0415  imports numba

    h, w = views.cameras.size_hw
    finer = max(1, -(-_DEPTH_SIDE // min(h, w)))
    depth = mesh_depth(mesh, views.cameras.resized((h * finer, w * finer)))
    # White paper behind the subject is taken off: over white, rgb = premultiplied + 1 - alpha.
    alpha = views.alpha[..., None]
    rgba = torch.cat([(views.rgb - (1 - alpha)).clamp(min=0).minimum(alpha), alpha], dim=-1)
    return Sources(views, rgba, depth, _margin(views.alpha, depth, views.cameras.focal_px))


def no_finer_than_texels(mesh: Mesh, views: Views, texture_size: int) -> tuple[Views, float]:
    """Shrink pictures whose pixels are finer than the texels, so that texels skip none of them.

    Returns:
        The views, and how many times finer they were: 1 if they were not.
    """
    if mesh.uv is None or not len(views):
        return views, 1.0
    spread = (mesh.uv * texture_size)[mesh.faces].detach()
    first, second = (spread[:, 1] - spread[:, 0]), (spread[:, 2] - spread[:, 0])
    texels = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).abs().sum()
    corner = mesh.vertices[mesh.faces].detach()
    cross = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    texel = (cross.norm(dim=-1).sum() / texels.clamp(min=1e-12)).sqrt()
    h, w = views.cameras.size_hw
    finer = float(texel) * pixels_per_unit(mesh, views.cameras)
    # Up to a quarter finer, bilinear lookups still reach every pixel.
    if finer <= 1.25 or min(h, w) / finer < 16:
        return views, 1.0
    small = views.resized((round(h / finer), round(w / finer)))
    return small, h / small.cameras.size_hw[0]


def pixels_per_unit(mesh: Mesh, cameras: Cameras) -> float:
    """Say how many pixels a world unit fills at the middle of the mesh, in the median picture."""
    away = project(mesh.vertices.detach().mean(dim=0, keepdim=True), cameras)[1][:, 0]
    return float((cameras.focal_px / away.clamp(min=1e-6)).median())


def _margin(
    alpha: Float[Tensor, "n h w"], depth: Float[Tensor, "n H W"], focal_px: Float[Tensor, " n"]
) -> Float[Tensor, "n H W"]:
    """Distance of each pixel of the depth maps to the next outline or depth edge.

    In pixels of the pictures. An edge is where neighbouring depths differ by more than a surface
    at 80 degrees to the ray explains, or where the picture is not opaque.
    """
    from scipy.ndimage import distance_transform_edt  # noqa: PLC0415  slow to import

    finer = depth.shape[1] // alpha.shape[1]
    outside = (alpha < 0.9).repeat_interleave(finer, 1).repeat_interleave(finer, 2)
    steepest = _STEEPEST * depth / (focal_px[:, None, None] * finer)
    edge = outside | (depth == 0)
    for axis in (1, 2):
        jump = depth.diff(dim=axis).abs() > steepest.narrow(axis, 0, depth.shape[axis] - 1)
        edge.narrow(axis, 0, depth.shape[axis] - 1).logical_or_(jump)
        edge.narrow(axis, 1, depth.shape[axis] - 1).logical_or_(jump)
    # A picture without any edge is all inside; the transform of nothing would be arbitrary.
    away = [
        np.asarray(distance_transform_edt(~e.numpy())) if bool(e.any()) else np.full(e.shape, 1e3)
        for e in edge
    ]
    return torch.from_numpy(np.stack(away).astype(np.float32)) / finer


def blended(
    texels: Texels,
    sources: Sources,
    view_weight: Float[Tensor, " n"],
    settings: Baking,
    total: np.ndarray,
) -> None:
    """Add pictures to `total` by the CPU kernel, as `blend_reference` says."""
    from ..kernels import launching  # noqa: PLC0415  numba is slow to import
    from .texture_numba import blend_kernel  # noqa: PLC0415

    cameras = sources.views.cameras
    arrays = [
        np.ascontiguousarray(t.detach().numpy(), dtype=np.float32)
        for t in (
            *(texels.position, texels.normal, sources.rgba, sources.depth, sources.margin_px),
            *(cameras.camera_from_world, cameras.origin, cameras.focal_px, view_weight),
        )
    ]
    visible = sources.visible
    known = np.zeros((0, 0), np.bool_) if visible is None else visible.numpy()
    rule = (settings.tolerance, settings.sharpness, settings.edge_px, settings.grazing)
    with launching():
        blend_kernel(*arrays, known, rule, total)


def blend_reference(
    texels: Texels, sources: Sources, view_weight: Float[Tensor, " n"], settings: Baking
) -> Float[Tensor, "p 5"]:
    """Say what the kernel must add: weighted colour, weight, and the best confidence.

    A view's weight is its factor * confidence * (pixels per world unit / 256)^4 *
    cos^(2 sharpness). Confidence falls from 1 towards 0 near edges, where the picture is
    transparent, and where the surface is seen at a grazing angle. 256 only sets the scale.
    """
    cameras = sources.views.cameras
    h, w = cameras.size_hw
    rows, columns = sources.depth.shape[1:]
    pixel, away = project(texels.position, cameras)
    seen, cosine = framed_and_facing(texels.position, texels.normal, cameras)
    if sources.visible is None:
        seen = seen & visible_by_depth(
            texels.position, texels.normal, cameras, sources.depth, tolerance=settings.tolerance
        )
    else:
        seen = seen & sources.visible
    n = torch.arange(len(cameras))[:, None]
    fine = torch.where(seen[..., None], pixel * torch.tensor([columns / w, rows / h]), 0.0).long()
    row, column = fine[..., 1].clamp(max=rows - 1), fine[..., 0].clamp(max=columns - 1)
    cosine = cosine.clamp(FACING, 1)
    rgba = _looked_up(sources.rgba, torch.where(seen[..., None], pixel, 0.0))
    alpha = rgba[..., 3]
    seen = seen & (alpha > 0.5)
    sure = smoothstep(0.0, settings.edge_px, sources.margin_px[n, row, column])
    sure = sure * smoothstep(0.5, 1.0, alpha) * smoothstep(0.0, settings.grazing, cosine)
    sure = sure.clamp(min=1e-4) * seen
    weight = view_weight[:, None] * sure * cosine ** (2 * settings.sharpness)
    weight = weight * (cameras.focal_px[:, None] / away.clamp(min=1e-6) / 256) ** 4
    straight = rgba[..., :3] / alpha[..., None].clamp(min=0.5)
    colour = (weight[..., None] * straight).sum(0)
    return torch.cat([colour, weight.sum(0)[:, None], sure.amax(0)[:, None]], dim=1)


def smoothstep(low: float, high: float, value: Tensor) -> Tensor:
    """Rise from 0 at `low` to 1 at `high`, level at both ends."""
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _looked_up(
    picture: Float[Tensor, "n h w c"], pixel: Float[Tensor, "n p 2"]
) -> Float[Tensor, "n p c"]:
    """Sample pictures bilinearly; beyond the outermost pixel centres they go on unchanged."""
    h, w = picture.shape[1:3]
    grid = 2 * pixel / torch.tensor([w, h]) - 1
    out = torch.nn.functional.grid_sample(
        picture.permute(0, 3, 1, 2), grid[:, None], padding_mode="border", align_corners=False
    )
    return out[:, :, 0].permute(0, 2, 1)
