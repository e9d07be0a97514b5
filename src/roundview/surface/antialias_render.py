"""Draw textured meshes so that the pictures can be differentiated: in shape, texture and colour.

Deferred, after Laine et al., "Modular Primitives for High-Performance Differentiable Rendering",
2020: a z-buffer says which face each pixel shows; where on it the pixel lies and what colour is
there are worked out anew, with slopes; last the outlines are smoothed (`antialias.py`).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..camera import Cameras, project, rays
from ..mesh import Mesh, vertex_normals
from ..views import Views
from .antialias import (
    Crossings,
    Edges,
    antialiased,
    edges_of,
    find_crossings,
    find_crossings_reference,
)
from .raster import finer, has_kernels, nearest_faces, pooled, vertex_rgb

LEAST_AREA = 1e-9
"""Faces whose sides span less than this on screen (square pixels) give a pixel the mean of their
corners, and no slope. The z-buffer, which rounds otherwise, may show such a face; chosen by us."""


class Shown(NamedTuple):
    """Which face each pixel shows, and where the vertices appear.

    Attributes:
        face_at: -1 for none.
        faces: The corners of the faces.
        pixel: Pixel coordinates (u, v) of the vertices; may carry a gradient.
        away: Depth of the vertices; may carry a gradient.
    """

    face_at: Int[Tensor, "n h w"]
    faces: Int[Tensor, "f 3"]
    pixel: Float[Tensor, "n v 2"]
    away: Float[Tensor, "n v"]


def render_mesh_antialiased(
    mesh: Mesh,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    supersample: int = 1,
    geometry: bool = False,
    edges: Edges | None = None,
) -> Views:
    """Draw a mesh as the cameras see it, differentiably.

    The picture is that of `render_mesh` without light, but for how outlines are smoothed. Slopes
    reach the vertices through what moves inside outlines and through the outlines themselves, and
    the texture, vertex colours and texture coordinates through the colours. Vertices that lie at
    one place, as at texture seams, must move as one: the outline's slope goes to one of them. On a
    GPU the z-buffer and the outlines are drawn by Triton's kernels and the rest by PyTorch, on the
    CPU all by kernels.

    Args:
        mesh: The mesh, world frame.
        cameras: The n cameras; on the mesh's device.
        background: sRGB colour that shows where nothing is.
        supersample: Samples along each pixel side, outlines smoothed among them, then averaged.
        geometry: Give depth and normals too.
        edges: Those of the mesh (`edges_of`), if it is drawn many times.

    Returns:
        Views with colour over the background, alpha, and depth and world normals if asked for.
    """
    edges = edges_of(mesh) if edges is None else edges
    fine = finer(cameras, supersample)
    parts = _GPU_KERNELS if has_kernels(mesh) else _KERNELS
    samples = _samples(mesh, fine, edges, geometry, parts)
    return _averaged(samples, cameras, background, supersample)


def render_mesh_antialiased_reference(
    mesh: Mesh,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    supersample: int = 1,
    geometry: bool = False,
) -> Views:
    """Say what `render_mesh_antialiased` must compute, in plain PyTorch; for tests and readers."""
    samples = _samples(mesh, finer(cameras, supersample), edges_of(mesh), geometry, _REFERENCES)
    return _averaged(samples, cameras, background, supersample)


def interpolated(values: Float[Tensor, "n v c"], shown: Shown) -> Float[Tensor, "n h w c"]:
    """Interpolate values of the vertices at every covered pixel, by the CPU kernels; 0 elsewhere.

    Differentiable in the values and in where the vertices appear.
    """
    return _Interpolated.apply(values, shown.pixel, shown.away, shown.faces, shown.face_at)


def interpolated_reference(
    values: Float[Tensor, "n v c"], shown: Shown
) -> Float[Tensor, "n h w c"]:
    """Say what `interpolated` must compute; any precision.

    The shares on screen s_i are turned into those on the face, s_i / z_i over their sum, as in
    `raster.py`.
    """
    view, row, column = torch.nonzero(shown.face_at >= 0, as_tuple=True)
    corner = shown.faces[shown.face_at[view, row, column].long()]
    at = torch.stack([column, row], dim=-1).to(values) + 0.5
    a, b, c = shown.pixel[view[:, None], corner].unbind(1)
    weight = torch.stack([_cross(c - b, at - b), _cross(a - c, at - c), _cross(b - a, at - a)], -1)
    area = weight.sum(-1, keepdim=True)
    tiny = area.abs() < LEAST_AREA
    share = torch.where(tiny, 1 / 3, weight / torch.where(tiny, 1.0, area))
    over_z = share / shown.away[view[:, None], corner]
    bary = over_z / over_z.sum(-1, keepdim=True)
    out = values.new_zeros(*shown.face_at.shape, values.shape[-1])
    mixed = (values[view[:, None], corner] * bary[..., None]).sum(dim=1)
    return out.index_put((view, row, column), mixed)


def looked_up(
    texture: Float[Tensor, "th tw 3"], uv: Float[Tensor, "n h w 2"], face_at: Int[Tensor, "n h w"]
) -> Float[Tensor, "n h w 3"]:
    """Look a texture up at covered pixels, by the CPU kernels; 0 elsewhere.

    Bilinear between texel centres, clamped at the rim; differentiable in texels and coordinates.
    """
    return _LookedUp.apply(texture, uv, face_at)


def looked_up_reference(
    texture: Float[Tensor, "th tw 3"], uv: Float[Tensor, "n h w 2"], face_at: Int[Tensor, "n h w"]
) -> Float[Tensor, "n h w 3"]:
    """Say what `looked_up` must compute; any precision."""
    rgb = torch.nn.functional.grid_sample(
        texture.permute(2, 0, 1)[None].expand(len(uv), -1, -1, -1),
        2 * uv - 1,
        padding_mode="border",
        align_corners=False,
    )
    return rgb.permute(0, 2, 3, 1) * (face_at >= 0)[..., None]


def _find_on_gpu(*arguments: Any) -> Crossings:  # noqa: ANN401  those of `find_crossings`
    from .antialias_triton import find_crossings_triton  # noqa: PLC0415  Triton is optional

    return find_crossings_triton(*arguments)


def _blend_on_gpu(*arguments: Any) -> Tensor:  # noqa: ANN401  those of `antialiased`
    from .antialias_triton import antialiased_triton  # noqa: PLC0415  Triton is optional

    return antialiased_triton(*arguments)


class _Parts(NamedTuple):
    find_crossings: Callable[..., Crossings]
    interpolated: Callable[..., Tensor]
    looked_up: Callable[..., Tensor]
    antialiased: Callable[..., Tensor]


_KERNELS = _Parts(find_crossings, interpolated, looked_up, antialiased)
_REFERENCES = _Parts(
    find_crossings_reference, interpolated_reference, looked_up_reference, antialiased
)
_GPU_KERNELS = _Parts(_find_on_gpu, interpolated_reference, looked_up_reference, _blend_on_gpu)


def _samples(
    mesh: Mesh, cameras: Cameras, edges: Edges, geometry: bool, parts: _Parts
) -> Float[Tensor, "n h w c"]:
    """Draw premultiplied colour and alpha, then perhaps depth and normals, outlines smoothed."""
    face_at, depth = nearest_faces(mesh, cameras)
    pixel, away = project(mesh.vertices, cameras)
    shown = Shown(face_at, mesh.faces, pixel, away)
    textured = mesh.texture is not None and mesh.uv is not None
    values = [(mesh.uv if textured else vertex_rgb(mesh)).expand(len(cameras), -1, -1)]  # pyright: ignore[reportOptionalMemberAccess]  textured says that it is there
    if geometry:
        values += [away[..., None], vertex_normals(mesh).expand(len(cameras), -1, -1)]
    drawn = parts.interpolated(torch.cat(values, dim=-1), shown)
    rgb, rest = drawn.split([values[0].shape[-1], drawn.shape[-1] - values[0].shape[-1]], dim=-1)
    if mesh.texture is not None and textured:
        rgb = parts.looked_up(mesh.texture.rgb, rgb, face_at)
    covered = (face_at >= 0).to(rgb)[..., None]
    if geometry:
        normal = torch.nn.functional.normalize(rest[..., 1:], dim=-1)
        turned = torch.where((normal * rays(cameras)).sum(-1, keepdim=True) > 0, -normal, normal)
        rest = torch.cat([rest[..., :1], turned], dim=-1)
    crossings = parts.find_crossings(face_at, depth, pixel, away, edges)
    return parts.antialiased(torch.cat([rgb, covered, rest], dim=-1), pixel, crossings)


def _averaged(
    samples: Float[Tensor, "n H W c"],
    cameras: Cameras,
    background: tuple[float, float, float],
    supersample: int,
) -> Views:
    picture = pooled(samples, supersample)
    alpha = picture[..., 3:4]
    views = Views(
        picture[..., :3] + torch.tensor(background).to(alpha) * (1 - alpha), alpha[..., 0], cameras
    )
    if picture.shape[-1] == 4:
        return views
    # Divided where something is, so that empty pixels have no slope instead of an endless one.
    depth = picture[..., 4] / torch.where(alpha > 1e-6, alpha, 1.0)[..., 0]
    return replace(
        views, depth=depth, normal=torch.nn.functional.normalize(picture[..., 5:], dim=-1)
    )


def _cross(first: Tensor, second: Tensor) -> Tensor:
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]


class _Interpolated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:  # noqa: ANN401
        from ..kernels import run_jobs  # noqa: PLC0415  numba takes a second to import
        from .antialias_render_numba import interpolate_kernel  # noqa: PLC0415

        ctx.arrays = [_array(tensor) for tensor in inputs]
        n, h, w = inputs[-1].shape
        out = np.zeros((n, h, w, inputs[0].shape[-1]), np.float32)
        run_jobs(interpolate_kernel, n * h, *ctx.arrays, out, at_least=32)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        from ..kernels import run_jobs  # noqa: PLC0415  numba takes a second to import
        from .antialias_render_numba import interpolate_backward_kernel  # noqa: PLC0415

        grads = [np.zeros_like(array) for array in ctx.arrays[:3]]
        run_jobs(
            interpolate_backward_kernel, len(grads[0]), *ctx.arrays, _array(upstream[0]), *grads
        )
        return *(torch.from_numpy(grad) for grad in grads), None, None


class _LookedUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:  # noqa: ANN401
        from ..kernels import run_jobs  # noqa: PLC0415  numba takes a second to import
        from .antialias_render_numba import look_up_kernel  # noqa: PLC0415

        ctx.arrays = [_array(tensor) for tensor in inputs]
        n, h, w = inputs[-1].shape
        out = np.zeros((n, h, w, 3), np.float32)
        run_jobs(look_up_kernel, n * h, *ctx.arrays, out, at_least=32)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        from .antialias_render_numba import look_up_backward_kernel  # noqa: PLC0415

        texture, uv, face_at = ctx.arrays
        # A texture is large and most often fixed.
        on_texture = np.zeros_like(texture if ctx.needs_input_grad[0] else texture[:0])
        on_uv = np.zeros_like(uv)
        look_up_backward_kernel(texture, uv, face_at, _array(upstream[0]), on_texture, on_uv)
        return (
            torch.from_numpy(on_texture) if len(on_texture) else None,
            torch.from_numpy(on_uv),
            None,
        )


def _array(tensor: Tensor) -> np.ndarray:
    kind = np.float32 if tensor.is_floating_point() else np.int64
    if tensor.dtype == torch.int32:
        kind = np.int32
    return np.ascontiguousarray(tensor.detach().numpy(), kind)
