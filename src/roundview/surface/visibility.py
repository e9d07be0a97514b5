"""Which points of a surface a camera sees: exactly, by rays, or quickly, by a depth map."""

import importlib.util
import warnings

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..camera import Cameras, project
from ..mesh import Mesh

FACING = 0.05
"""Cosine between normal and ray under which a surface counts as turned away: 87 degrees."""
_SKIN = 1e-5
"""What single-precision rays may err by, world units; chosen by us, 10 times what was seen."""


def visible_points(
    mesh: Mesh,
    points: Float[Tensor, "p 3"],
    normals: Float[Tensor, "p 3"],
    cameras: Cameras,
    *,
    tolerance: float = 0.0,
) -> Bool[Tensor, "n p"]:
    """Tell which points on a mesh each camera sees: inside the picture, facing it, not hidden.

    By rays where the package embreex is installed, else, with a warning, by depth maps of the
    cameras' size, which err next to depth edges.

    Args:
        mesh: What may hide the points.
        points: Points on or near its surface.
        normals: Their unit normals.
        cameras: The n cameras.
        tolerance: How far behind the surface a point still counts as seen, along the optical axis,
            world units.
    """
    seen = framed_and_facing(points, normals, cameras)[0]
    if has_rays():
        return seen & visible_by_rays(mesh, points, cameras, among=seen, tolerance=tolerance)
    from .raster import mesh_depth  # noqa: PLC0415  imports numba

    warnings.warn("embreex is not installed: depth maps tell what is visible", stacklevel=2)
    depth = mesh_depth(mesh, cameras)
    return seen & visible_by_depth(points, normals, cameras, depth, tolerance=tolerance)


def has_rays() -> bool:
    """Tell whether rays can be cast: embreex is not to be had on every platform."""
    return importlib.util.find_spec("embreex") is not None


def framed_and_facing(
    points: Float[Tensor, "p 3"], normals: Float[Tensor, "p 3"], cameras: Cameras
) -> tuple[Bool[Tensor, "n p"], Float[Tensor, "n p"]]:
    """Tell which points are in each picture and face it, and give their cosines to the rays."""
    h, w = cameras.size_hw
    pixel, away = project(points, cameras)
    towards = torch.nn.functional.normalize(cameras.origin[:, None] - points, dim=-1)
    cosine = (towards * normals).sum(-1)
    framed = (pixel >= 0).all(-1) & (pixel < torch.tensor([w, h])).all(-1)
    return framed & (away >= 1e-6) & (cosine > FACING), cosine


def visible_by_depth(
    points: Float[Tensor, "p 3"],
    normals: Float[Tensor, "p 3"],
    cameras: Cameras,
    depth: Float[Tensor, "n H W"],
    *,
    tolerance: float,
) -> Bool[Tensor, "n p"]:
    """Tell which points no surface in a depth map hides; ask only about those in the picture.

    A point may lie behind the depth at its pixel's centre by what its surface rises within a pixel.

    Args:
        points: World points.
        normals: Their unit normals.
        cameras: The n cameras.
        depth: The mesh seen by them, at any multiple of their size, 0 where nothing is.
        tolerance: How far behind that a point still counts as seen, world units.
    """
    h, w = cameras.size_hw
    rows, columns = depth.shape[1:]
    pixel, away = project(points, cameras)
    framed, cosine = framed_and_facing(points, normals, cameras)
    fine = torch.where(framed[..., None], pixel * torch.tensor([columns / w, rows / h]), 0.0)
    row, column = (
        fine[..., 1].long().clamp(max=rows - 1),
        fine[..., 0].long().clamp(max=columns - 1),
    )
    cosine = cosine.clamp(FACING, 1)
    slope = (1 - cosine**2).sqrt() / cosine
    fine_px = away / cameras.focal_px[:, None] * h / rows
    behind = away - depth[torch.arange(len(cameras))[:, None], row, column]
    return framed & (behind <= tolerance + fine_px * slope)


def visible_by_rays(
    mesh: Mesh,
    points: Float[Tensor, "p 3"],
    cameras: Cameras,
    *,
    among: Bool[Tensor, "n p"] | None = None,
    tolerance: float = 0.0,
) -> Bool[Tensor, "n p"]:
    """Tell which points the first triangle along the ray from each camera does not hide.

    Rays are cast by Embree (Wald et al., "Embree: A Kernel Framework for Efficient CPU Ray
    Tracing", 2014), in single precision.

    Args:
        mesh: What may hide the points, from both its sides.
        points: World points.
        cameras: The n cameras.
        among: Points to ask about for each camera; the others count as not visible.
        tolerance: How far behind the surface, along the optical axis, a point still counts as
            seen, world units.

    Raises:
        ModuleNotFoundError: If embreex is not installed.
    """
    from embreex.mesh_construction import TriangleMesh  # noqa: PLC0415  optional
    from embreex.rtcore_scene import EmbreeScene  # noqa: PLC0415

    scene = EmbreeScene()
    corner = mesh.vertices.detach().cpu().numpy().astype(np.float32)
    TriangleMesh(scene, corner, mesh.faces.cpu().numpy().astype(np.int32))
    place = points.detach().cpu().numpy().astype(np.float32)
    away = project(points.detach(), cameras)[1].cpu().numpy()
    out = np.zeros(away.shape, np.bool_)
    for view, origin in enumerate(cameras.origin.cpu().numpy().astype(np.float32)):
        asked = np.arange(len(place)) if among is None else np.flatnonzero(among[view].numpy())
        if not len(asked):
            continue
        ray = place[asked] - origin
        length = np.maximum(np.linalg.norm(ray, axis=1, keepdims=True), np.float32(1e-12))
        start = np.broadcast_to(origin, ray.shape).copy()
        hit = scene.run(start, ray / length, query="DISTANCE")
        # Along the ray, what is `tolerance` along the axis.
        slack = (tolerance + _SKIN) * length[:, 0] / np.maximum(away[view, asked], 1e-12)
        out[view, asked] = length[:, 0] - hit <= slack
    return torch.from_numpy(out)
