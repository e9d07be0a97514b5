"""Colour an unwrapped mesh from pictures of the subject."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..camera import project
from ..mesh import Mesh, Texture, join_vertices
from ..views import Views
from .texels import Texels, filled, texels_of
from .unwrap import unwrap

__all__ = ["Baking", "bake_texture", "unwrap"]

Colours = Callable[[Float[Tensor, "p 3"]], Float[Tensor, "p 3"]]

_DEPTH_SIDE = 384
"""Smallest side of the depth maps that decide what is visible; small pictures get finer ones."""
_FALLBACK_BELOW = 0.05
"""Confidence under which the colour from the pictures gives way to the fallback."""
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
    """

    sharpness: float = 3.0
    edge_px: float = 2.0
    grazing: float = 0.4
    tolerance: float = 0.006
    gutter_px: int = 8


def bake_texture(
    mesh: Mesh,
    views: Views | Sequence[Views],
    *,
    texture_size: int = 1024,
    view_weights: Float[Tensor, " n"] | None = None,
    fallback_rgb: Colours | None = None,
    settings: Baking = Baking(),
) -> Mesh:
    """Paint the texture of an unwrapped mesh with what the views show of it.

    Every texel takes the mean of the views that see it. A view counts the more, the more of its
    pixels a patch of surface fills (so a sharp photograph beats a small picture), the more squarely
    it faces it, and the farther the place is from outlines. Colours are taken without the white
    behind the subject.

    Args:
        mesh: The mesh with texture coordinates (see `unwrap`).
        views: Pictures over white; several batches where their sizes differ.
        texture_size: Side of the texture, texels.
        view_weights: A further factor for each view, in order through all batches; 1 if not given.
        fallback_rgb: Colour of world points that no view sees; if not given, the colours around
            them spread over the surface.
        settings: How views are blended.

    Returns:
        The same mesh with its texture.

    Raises:
        ValueError: If the mesh has no texture coordinates, or the weights do not fit the views.
    """
    batches = [views] if isinstance(views, Views) else list(views)
    count = sum(len(batch) for batch in batches)
    weights = torch.ones(count) if view_weights is None else view_weights
    if len(weights) != count or not bool((weights >= 0).all()):
        raise ValueError(f"view_weights must be {count} numbers >= 0, got {weights.tolist()}")
    texels = texels_of(mesh, texture_size)
    total = np.zeros((len(texels), 5), np.float32)
    for batch, weight in zip(batches, weights.split([len(b) for b in batches]), strict=True):
        blended(texels, prepared_sources(mesh, batch), weight, settings, total)
    seen, confidence = torch.from_numpy(total[:, :4]), torch.from_numpy(total[:, 4])
    rgb = seen[:, :3] / seen[:, 3:].clamp(min=1e-30)
    rgb = _with_fallback(mesh, texels, rgb, confidence, fallback_rgb)
    picture = torch.zeros(texture_size, texture_size, 3)
    known = torch.zeros(texture_size, texture_size, dtype=torch.bool)
    picture[texels.at[:, 0], texels.at[:, 1]] = rgb.clamp(0, 1)
    known[texels.at[:, 0], texels.at[:, 1]] = True
    texture = Texture(filled(picture, known, gutter_px=settings.gutter_px))
    return replace(mesh, texture=texture, vertex_rgb=None)


class Sources(NamedTuple):
    """Pictures made ready to be looked up: premultiplied, with the mesh's own depth in each."""

    views: Views
    rgba: Float[Tensor, "n h w 4"]
    depth: Float[Tensor, "n H W"]
    margin_px: Float[Tensor, "n H W"]


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
    with launching():
        blend_kernel(*arrays, _rule(settings), total)


def _rule(settings: Baking) -> tuple[float, float, float, float]:
    return settings.tolerance, settings.sharpness, settings.edge_px, settings.grazing


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
    towards = torch.nn.functional.normalize(cameras.origin[:, None] - texels.position, dim=-1)
    cosine = (towards * texels.normal).sum(-1)
    framed = (pixel >= 0).all(-1) & (pixel < torch.tensor([w, h])).all(-1)
    seen = framed & (away >= 1e-6) & (cosine > 0.05)
    cosine = cosine.clamp(0.05, 1)
    n = torch.arange(len(cameras))[:, None]
    fine = torch.where(seen[..., None], pixel * torch.tensor([columns / w, rows / h]), 0.0).long()
    row, column = fine[..., 1].clamp(max=rows - 1), fine[..., 0].clamp(max=columns - 1)
    fine_px = away / cameras.focal_px[:, None] * h / rows
    slope = (1 - cosine**2).sqrt() / cosine
    behind = away - sources.depth[n, row, column]
    seen &= behind <= settings.tolerance + fine_px * slope
    rgba = _looked_up(sources.rgba, torch.where(framed[..., None], pixel, 0.0))
    alpha = rgba[..., 3]
    seen &= alpha > 0.5
    sure = _smoothstep(0.0, settings.edge_px, sources.margin_px[n, row, column])
    sure = sure * _smoothstep(0.5, 1.0, alpha) * _smoothstep(0.0, settings.grazing, cosine)
    sure = sure.clamp(min=1e-4) * seen
    weight = view_weight[:, None] * sure * cosine ** (2 * settings.sharpness)
    weight = weight * (cameras.focal_px[:, None] / away.clamp(min=1e-6) / 256) ** 4
    straight = rgba[..., :3] / alpha[..., None].clamp(min=0.5)
    colour = (weight[..., None] * straight).sum(0)
    return torch.cat([colour, weight.sum(0)[:, None], sure.amax(0)[:, None]], dim=1)


def _smoothstep(low: float, high: float, value: Tensor) -> Tensor:
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


def _with_fallback(
    mesh: Mesh,
    texels: Texels,
    rgb: Float[Tensor, "p 3"],
    confidence: Float[Tensor, " p"],
    fallback_rgb: Colours | None,
) -> Float[Tensor, "p 3"]:
    """Cross over to the fallback where confidence is low."""
    lost = confidence < _FALLBACK_BELOW
    if not bool(lost.any()):
        return rgb
    if fallback_rgb is not None:
        other = fallback_rgb(texels.position[lost]).to(rgb)
    else:
        vertex_rgb = _spread_over_surface(mesh, texels, rgb, confidence)
        corners = vertex_rgb[mesh.faces[texels.face[lost]]]
        other = (corners * texels.bary[lost][..., None]).sum(dim=1)
    share = _smoothstep(0.0, _FALLBACK_BELOW, confidence[lost])[:, None]
    out = rgb.clone()
    out[lost] = share * rgb[lost] + (1 - share) * other
    return out


def _spread_over_surface(
    mesh: Mesh, texels: Texels, rgb: Float[Tensor, "p 3"], confidence: Float[Tensor, " p"]
) -> Float[Tensor, "v 3"]:
    """Give each vertex the mean of the sure texels round it, and the rest the smoothest filling.

    The filling is harmonic: each unknown vertex is the mean of its neighbours.
    """
    joined = join_vertices(mesh.vertices)
    count = int(joined.max()) + 1
    corners = joined[mesh.faces[texels.face]]
    share = texels.bary.clamp(min=0) * (confidence >= _FALLBACK_BELOW)[:, None]
    weight = torch.zeros(count).index_add_(0, corners.reshape(-1), share.reshape(-1))
    colour = torch.zeros(count, 3).index_add_(
        0, corners.reshape(-1), (share[..., None] * rgb[:, None]).reshape(-1, 3)
    )
    known = weight > 1e-3
    if not bool(known.any()):
        return torch.full((len(mesh.vertices), 3), 0.5)
    colour = colour / weight.clamp(min=1e-3)[:, None]
    return _harmonic(joined[mesh.faces], colour, known)[joined]


def _harmonic(
    faces: Int[Tensor, "f 3"], values: Float[Tensor, "v c"], known: Bool[Tensor, " v"]
) -> Float[Tensor, "v c"]:
    from scipy.sparse import coo_matrix, diags  # noqa: PLC0415  scipy is slow to import
    from scipy.sparse.linalg import splu  # noqa: PLC0415

    if bool(known.all()):
        return values
    sides = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).numpy()
    both = np.unique(np.concatenate([sides, sides[:, ::-1]]), axis=0)
    size = len(values)
    linked = coo_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), (size, size)).tocsr()
    free = np.flatnonzero(~known.numpy())
    fixed = np.flatnonzero(known.numpy())
    # The pull to the mean settles parts that no known vertex touches, and nothing else.
    pull = 1e-6
    mean = values[known].mean(dim=0).double().numpy()
    degree = np.asarray(linked.sum(axis=1)).reshape(-1)[free] + pull
    system = (diags(degree) - linked[free][:, free]).tocsc()
    right = linked[free][:, fixed] @ values[known].double().numpy() + pull * mean
    out = values.clone()
    out[torch.from_numpy(free)] = torch.from_numpy(splu(system).solve(right)).to(values)
    return out
