"""Draw textured meshes from any camera, with depth and normals."""

import importlib.util
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..camera import Cameras, project, rays
from ..mesh import Mesh, face_normals, vertex_normals
from ..views import Views

NEAR = 1e-3
"""Triangles with a corner closer to the focal plane than this (world units) are not drawn."""
SLACK_PX = 1e-4
"""How far beyond its sides a triangle reaches, pixels, and in barycentrics at most `SLACK`: without
it rounding leaves pinholes where triangles meet."""
SLACK = 1e-3


@dataclass(frozen=True)
class Light:
    """One distant lamp and an even sky: rgb * (ambient + diffuse * max(0, normal . direction)).

    Applied to sRGB values as they are, which is how unlit viewers would brighten a texture.

    Attributes:
        direction: From the subject to the lamp, world frame; any length.
        ambient: Brightness in full shade.
        diffuse: What the lamp adds on a face turned towards it.
    """

    direction: tuple[float, float, float]
    ambient: float = 0.6
    diffuse: float = 0.5


def render_mesh(
    mesh: Mesh,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    light: Light | None = None,
    smooth: bool = True,
    supersample: int = 2,
    geometry: bool = True,
) -> Views:
    """Draw a mesh as the cameras see it.

    Both sides of a face are drawn. Texture first, else vertex colour, else mid-grey. A mesh on a
    GPU is drawn there where Triton is installed, else on the CPU.

    Args:
        mesh: The mesh, world frame.
        cameras: The n cameras; on the mesh's device.
        background: sRGB colour that shows where nothing is.
        light: Shading; None gives the plain base colour.
        smooth: Interpolate vertex normals for shading and the normal maps; else flat faces.
        supersample: Samples along each pixel side, averaged; depth and normals likewise, over the
            covered samples.
        geometry: Give depth and normals too; without them drawing takes half the time.

    Returns:
        Views with colour over the background, alpha, and depth and world normals if asked for.
        Not differentiable.
    """
    fine = finer(cameras, supersample)
    if has_kernels(mesh):
        drawn = _coloured(mesh, *_z_buffer_triton(mesh, fine), smooth=smooth)
    else:
        drawn = _drawn(mesh, fine, smooth=smooth, normals=geometry or light is not None)
    views = _averaged(_shaded(drawn, fine, light), cameras, background, supersample)
    return views if geometry else replace(views, depth=None, normal=None)


def _drawn(mesh: Mesh, cameras: Cameras, *, smooth: bool, normals: bool) -> "_Drawn":
    """Draw by the CPU kernels, a sample a pixel."""
    from ..kernels import launching  # noqa: PLC0415  numba takes a second to import
    from . import raster_numba as kernels  # noqa: PLC0415

    faces = mesh.faces.cpu().numpy().astype(np.int64)
    face_at, depth, bary = _z_buffer(mesh, cameras)
    with launching():
        if mesh.texture is not None and mesh.uv is not None:
            texture = _array(mesh.texture.rgb)
            rgb = kernels.sample_texture_kernel(face_at, bary, faces, _array(mesh.uv), texture)
        else:
            rgb = kernels.interpolate_kernel(face_at, bary, faces, _array(vertex_rgb(mesh)))
        if not normals:
            normal = None
        elif smooth:
            corner_normals = _array(vertex_normals(mesh))
            normal = kernels.interpolate_kernel(face_at, bary, faces, corner_normals)
        else:
            flat = np.concatenate([_array(face_normals(mesh)), np.zeros((1, 3), np.float32)])
            normal = flat[face_at]
    return _Drawn(
        torch.from_numpy(rgb),
        torch.from_numpy(face_at >= 0),
        torch.from_numpy(depth),
        None if normal is None else torch.from_numpy(normal),
    )


def render_mesh_reference(
    mesh: Mesh,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    light: Light | None = None,
    smooth: bool = True,
    supersample: int = 2,
) -> Views:
    """Say what `render_mesh` must compute, in plain PyTorch; slow, for tests and readers."""
    fine = finer(cameras, supersample)
    drawn = _coloured(mesh, *_rasterized(mesh, fine), smooth=smooth)
    return _averaged(_shaded(drawn, fine, light), cameras, background, supersample)


def has_kernels(mesh: Mesh) -> bool:
    """Whether a mesh lies on a GPU that Triton's kernels can draw it on."""
    return mesh.vertices.is_cuda and importlib.util.find_spec("triton") is not None


def _coloured(
    mesh: Mesh,
    face_at: Int[Tensor, "n h w"],
    depth: Float[Tensor, "n h w"],
    bary: Float[Tensor, "n h w 3"],
    *,
    smooth: bool,
) -> "_Drawn":
    """Look up what is at every sample, in plain PyTorch."""
    covered = face_at >= 0
    corner = mesh.faces[face_at[covered].long()]
    share = bary[covered][..., None]
    rgb, normal = torch.zeros_like(bary), torch.zeros_like(bary)
    if mesh.texture is not None and mesh.uv is not None:
        rgb[covered] = _texture_at(mesh.texture.rgb, (mesh.uv[corner] * share).sum(dim=1))
    else:
        rgb[covered] = (vertex_rgb(mesh)[corner] * share).sum(dim=1)
    if smooth:
        normal[covered] = (vertex_normals(mesh)[corner] * share).sum(dim=1)
    else:
        normal[covered] = face_normals(mesh)[face_at[covered].long()]
    return _Drawn(rgb, covered, depth, normal)


def _rasterized(
    mesh: Mesh, cameras: Cameras
) -> tuple[Int[Tensor, "n h w"], Float[Tensor, "n h w"], Float[Tensor, "n h w 3"]]:
    """Find the nearest face at each pixel centre: its index (-1: none), depth and barycentrics.

    The screen-space shares s_i of a pixel in a projected triangle turn into those on the triangle
    itself by weighting each with 1 / z_i: depth = 1 / sum(s_i / z_i), b_i = depth * s_i / z_i.
    """
    h, w = cameras.size_hw
    n, count = len(cameras), len(mesh.faces)
    pixel, z = project(mesh.vertices, cameras)
    v, u = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    p = torch.stack([u, v], dim=-1)
    face_at = torch.full((n, h, w), -1)
    nearest, bary = torch.full((n, h, w), torch.inf), torch.zeros(n, h, w, 3)
    for f in range(count):
        a, b, c = pixel[:, mesh.faces[f], None, None].unbind(1)
        z_corner = z[:, None, None, mesh.faces[f]]
        area = _cross(b - a, c - a)
        share = torch.stack(
            [_cross(c - b, p - b), _cross(a - c, p - c), _cross(b - a, p - a)], dim=-1
        )
        share = share / torch.where(area.abs() < 1e-12, torch.inf, area)[..., None]
        extent = (b - a).abs().sum(-1) + (c - a).abs().sum(-1)
        slack = (SLACK_PX * extent / area.abs().clamp(min=1e-12)).clamp(max=SLACK)
        inside = (
            (share >= -slack[..., None]).all(-1) & (share.sum(-1) > 0.5) & (z_corner > NEAR).all(-1)
        )
        over_z = share / z_corner
        depth = 1 / over_z.sum(-1)
        closer = inside & (depth < nearest)
        nearest = torch.where(closer, depth, nearest)
        bary = torch.where(closer[..., None], over_z * depth[..., None], bary)
        face_at = torch.where(closer, f, face_at)
    return face_at, torch.where(face_at >= 0, nearest, 0.0), bary


def _cross(first: Tensor, second: Tensor) -> Tensor:
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]


def _texture_at(texture: Float[Tensor, "h w 3"], uv: Float[Tensor, "p 2"]) -> Float[Tensor, "p 3"]:
    """Look a texture up: bilinear between texel centres, clamped at the rim."""
    out = torch.nn.functional.grid_sample(
        texture.permute(2, 0, 1)[None],
        (2 * uv - 1)[None, None],
        padding_mode="border",
        align_corners=False,
    )
    return out[0, :, 0].T


def mesh_depth(mesh: Mesh, cameras: Cameras) -> Float[Tensor, "n h w"]:
    """Give the depth of the nearest face at every pixel centre, 0 where there is none."""
    return nearest_faces(mesh, cameras)[1]


def nearest_faces(
    mesh: Mesh, cameras: Cameras
) -> tuple[Int[Tensor, "n h w"], Float[Tensor, "n h w"]]:
    """Give the nearest face at every pixel centre, -1 where there is none, and its depth or 0."""
    if has_kernels(mesh):
        face_at, depth, _ = _z_buffer_triton(mesh, cameras)
        return face_at, depth
    found = _z_buffer(mesh, cameras)
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])


def _z_buffer_triton(
    mesh: Mesh, cameras: Cameras
) -> tuple[Int[Tensor, "n h w"], Float[Tensor, "n h w"], Float[Tensor, "n h w 3"]]:
    from .raster_triton import rasterize_triton  # noqa: PLC0415  Triton is optional

    face_at, depth, bary = rasterize_triton(mesh, cameras)
    first = torch.where(face_at >= 0, 1 - bary.sum(dim=-1), 0.0)
    return face_at, depth, torch.cat([first[..., None], bary], dim=-1)


def _z_buffer(mesh: Mesh, cameras: Cameras) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from ..kernels import launching  # noqa: PLC0415  numba takes a second to import
    from .raster_numba import rasterize_kernel  # noqa: PLC0415

    with launching():
        return rasterize_kernel(
            _array(mesh.vertices),
            mesh.faces.cpu().numpy().astype(np.int64),
            _array(cameras.camera_from_world),
            _array(cameras.focal_px),
            *cameras.size_hw,
        )


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)


def finer(cameras: Cameras, times: int) -> Cameras:
    """The same cameras with this many times the pixels along each side."""
    if times < 1:
        raise ValueError(f"supersample must be at least 1, got {times}")
    h, w = cameras.size_hw
    return cameras.resized((h * times, w * times))


def surface_rgb(
    mesh: Mesh, points: Float[Tensor, "p 3"], face: Int[Tensor, " p"]
) -> Float[Tensor, "p 3"]:
    """Look up the colours of points on a mesh's surface, as `render_mesh` would draw them unlit.

    Args:
        mesh: Texture first, else vertex colour, else mid-grey.
        points: World points.
        face: The face that each lies on.
    """
    corner = mesh.faces[face]
    a, b, c = mesh.vertices[corner].unbind(1)
    opposite = [
        torch.linalg.cross(y - x, points - x).norm(dim=-1) for x, y in ((b, c), (c, a), (a, b))
    ]
    share = torch.stack(opposite, dim=-1)[..., None]
    share = share / share.sum(dim=1, keepdim=True).clamp(min=1e-20)
    if mesh.texture is not None and mesh.uv is not None:
        return _texture_at(mesh.texture.rgb, (mesh.uv[corner] * share).sum(dim=1))
    return (vertex_rgb(mesh)[corner] * share).sum(dim=1)


def vertex_rgb(mesh: Mesh) -> Float[Tensor, "v 3"]:
    """The colours of the vertices; mid-grey if the mesh has none."""
    grey = torch.full_like(mesh.vertices, 0.5)
    return grey if mesh.vertex_rgb is None else mesh.vertex_rgb


class _Drawn(NamedTuple):
    """One value a sample: colour, whether anything is there, depth, and normal if needed."""

    rgb: Tensor
    covered: Tensor
    depth: Tensor
    normal: Tensor | None


def _shaded(drawn: _Drawn, cameras: Cameras, light: Light | None) -> _Drawn:
    """Make normals unit, turn those of back faces towards the camera, and light the colours."""
    if drawn.normal is None:
        return drawn
    unit = torch.nn.functional.normalize(drawn.normal, dim=-1)
    away = (unit * rays(cameras)).sum(dim=-1, keepdim=True) > 0
    normal = torch.where(away, -unit, unit)
    if light is None:
        return drawn._replace(normal=normal)
    direction = torch.tensor(light.direction).to(normal)
    direction = direction / direction.norm()
    shade = light.ambient + light.diffuse * (normal @ direction).clamp(min=0)
    return drawn._replace(rgb=(drawn.rgb * shade[..., None]).clamp(0, 1), normal=normal)


def _averaged(
    drawn: _Drawn, cameras: Cameras, background: tuple[float, float, float], supersample: int
) -> Views:
    covered = drawn.covered.to(drawn.rgb)[..., None]
    alpha = pooled(covered, supersample)
    premultiplied = pooled(drawn.rgb * covered, supersample)
    rgb = premultiplied + torch.tensor(background).to(alpha) * (1 - alpha)
    views = Views(rgb, alpha[..., 0], cameras)
    if drawn.normal is None:
        return views
    depth = pooled(drawn.depth[..., None], supersample)
    unit = torch.nn.functional.normalize(pooled(drawn.normal, supersample), dim=-1)
    return replace(views, depth=(depth / alpha.clamp(min=1e-6))[..., 0], normal=unit)


def pooled(picture: Float[Tensor, "n H W c"], times: int) -> Float[Tensor, "n h w c"]:
    """Average blocks of pixels."""
    if times == 1:
        return picture
    n, h, w, c = picture.shape
    return picture.reshape(n, h // times, times, w // times, times, c).mean(dim=(2, 4))
