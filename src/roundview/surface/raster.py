"""Draw textured meshes from any camera, with depth and normals."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Cameras, rays
from ..mesh import Mesh, face_normals, vertex_normals
from ..views import Views


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

    Both sides of a face are drawn. Texture first, else vertex colour, else mid-grey.

    Args:
        mesh: The mesh, world frame.
        cameras: The n cameras.
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
    from ..kernels import launching  # noqa: PLC0415  numba takes a second to import
    from .raster_numba import (  # noqa: PLC0415
        interpolate_kernel,
        rasterize_kernel,
        sample_texture_kernel,
    )

    h, w = cameras.size_hw
    fine = cameras.resized((h * supersample, w * supersample))
    faces = mesh.faces.cpu().numpy().astype(np.int64)
    with launching():
        face_at, depth, bary = rasterize_kernel(
            _array(mesh.vertices),
            faces,
            _array(fine.camera_from_world),
            _array(fine.focal_px),
            *fine.size_hw,
        )
        if mesh.texture is not None and mesh.uv is not None:
            texture = _array(mesh.texture.rgb)
            rgb = sample_texture_kernel(face_at, bary, faces, _array(mesh.uv), texture)
        else:
            grey = torch.full((len(mesh.vertices), 3), 0.5)
            colour = grey if mesh.vertex_rgb is None else mesh.vertex_rgb
            rgb = interpolate_kernel(face_at, bary, faces, _array(colour))
        if not geometry and light is None:
            normal = None
        elif smooth:
            corner_normals = _array(vertex_normals(mesh))
            normal = interpolate_kernel(face_at, bary, faces, corner_normals)
        else:
            flat = np.concatenate([_array(face_normals(mesh)), np.zeros((1, 3), np.float32)])
            normal = flat[face_at]
    covered = face_at >= 0
    if normal is not None:
        normal = _facing(normal, fine)
        rgb = rgb if light is None else _lit(rgb, normal, light)
    views = _averaged(rgb, covered, cameras, background, supersample)
    if not geometry or normal is None:
        return views
    covered_share = views.alpha[..., None].clamp(min=1e-6)
    mean_depth = _pooled(torch.from_numpy(depth)[..., None], supersample) / covered_share
    mean_normal = _pooled(torch.from_numpy(normal), supersample)
    unit = torch.nn.functional.normalize(mean_normal, dim=-1)
    return replace(views, depth=mean_depth[..., 0], normal=unit)


def mesh_depth(mesh: Mesh, cameras: Cameras) -> Float[Tensor, "n h w"]:
    """Give the depth of the nearest face at every pixel centre, 0 where there is none."""
    from ..kernels import launching  # noqa: PLC0415  numba takes a second to import
    from .raster_numba import rasterize_kernel  # noqa: PLC0415

    with launching():
        _, depth, _ = rasterize_kernel(
            _array(mesh.vertices),
            mesh.faces.cpu().numpy().astype(np.int64),
            _array(cameras.camera_from_world),
            _array(cameras.focal_px),
            *cameras.size_hw,
        )
    return torch.from_numpy(depth)


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)


def _facing(normal: np.ndarray, cameras: Cameras) -> np.ndarray:
    """Make normals unit, and turn those of back faces towards the camera."""
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    unit = normal / np.maximum(length, 1e-12)
    away = (unit * rays(cameras).numpy()).sum(-1, keepdims=True) > 0
    return np.where(away, -unit, unit).astype(np.float32)


def _lit(rgb: np.ndarray, normal: np.ndarray, light: Light) -> np.ndarray:
    direction = np.asarray(light.direction, np.float32)
    direction = direction / np.linalg.norm(direction)
    shade = light.ambient + light.diffuse * np.maximum(normal @ direction, 0)
    return np.clip(rgb * shade[..., None], 0, 1)


def _averaged(
    rgb: np.ndarray,
    covered: np.ndarray,
    cameras: Cameras,
    background: tuple[float, float, float],
    supersample: int,
) -> Views:
    mask = torch.from_numpy(covered)[..., None]
    alpha = _pooled(mask.float(), supersample)
    premultiplied = _pooled(torch.from_numpy(rgb) * mask, supersample)
    return Views(premultiplied + torch.tensor(background) * (1 - alpha), alpha[..., 0], cameras)


def _pooled(picture: Float[Tensor, "n H W c"], times: int) -> Float[Tensor, "n h w c"]:
    if times == 1:
        return picture
    n, h, w, c = picture.shape
    return picture.reshape(n, h // times, times, w // times, times, c).mean(dim=(2, 4))
