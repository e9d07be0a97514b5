"""Give a mesh texture coordinates: each part of the surface its own place in one square."""

import io
import subprocess
import sys
import warnings
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from ..mesh import Mesh, join_vertices
from .charts import cut_into_charts, flattened
from .packing import packed

GUTTER_PX = 8
"""Texels between charts in textures of 1024 and more: four for each side's rim, which bilinear
lookups and two mipmaps reach. Smaller textures have half of it: on two scans 8 texels leave 52 and
49% of a texture of 1024 in use, against 58% with 4, but 45 and 29% of one of 512."""
_SEARCHED_PX = 3072
"""Overlaps are looked for at three times the texture's size, up to this one for memory's sake. On
two scans of 20,000 faces the texture's own size left some of 1e-5 of the texels covered twice."""

_XATLAS = """
import io, sys, numpy, xatlas
mesh = numpy.load(io.BytesIO(sys.stdin.buffer.read()))
atlas = xatlas.Atlas()
atlas.add_mesh(mesh["vertices"], mesh["faces"])
cut, pack = xatlas.ChartOptions(), xatlas.PackOptions()
cut.max_iterations = 1
pack.resolution, pack.padding, pack.bruteForce = int(mesh["size"]), int(mesh["gutter_px"]), False
atlas.generate(cut, pack)
vertex, faces, uv = atlas[0]
out = io.BytesIO()
numpy.savez(out, vertex=vertex, faces=faces, uv=uv, count=atlas.atlas_count)
sys.stdout.buffer.write(out.getvalue())
"""


def unwrap(
    mesh: Mesh,
    *,
    texture_size: int = 1024,
    timeout_s: float = 60.0,
    method: Literal["charts", "xatlas"] = "charts",
) -> Mesh:
    """Cut a mesh into charts and lay them side by side in a texture.

    Vertices on a cut are repeated. The same mesh always gets the same coordinates.

    Args:
        mesh: A clean mesh (see `clean_mesh`); its texture and vertex colour are dropped.
        texture_size: Side of the texture that the coordinates are meant for, texels.
        timeout_s: How long xatlas may take before our own method steps in.
        method: "charts" is ours; "xatlas" is the library of that name, in a process of its own,
            since it can hang on odd meshes. Its charts are less stretched and several times as
            many, and it takes longer.

    Returns:
        The mesh with texture coordinates, no two triangles over the same texel.

    Raises:
        ValueError: If the mesh has no faces, or the texture is too small for its charts.
    """
    if not len(mesh.faces):
        raise ValueError("a mesh without faces cannot be unwrapped")
    if texture_size < 16:
        raise ValueError(f"texture_size must be at least 16, got {texture_size}")
    if method == "xatlas":
        done = _by_xatlas(mesh, texture_size, timeout_s)
        if done is not None:
            return done
    return _by_charts(mesh, texture_size)


def uv_use(mesh: Mesh, *, size: int = 512) -> tuple[float, float]:
    """Measure a texture layout on a grid of texels.

    Returns:
        The share of texels that some triangle covers, and the share of the covered ones that
        several cover.

    Raises:
        ValueError: If the mesh has no texture coordinates.
    """
    from .charts_numba import coverage_kernel  # noqa: PLC0415  numba is slow to import

    if mesh.uv is None:
        raise ValueError("the mesh has no texture coordinates; call unwrap first")
    corner = (mesh.uv * size)[mesh.faces].detach().cpu().numpy().astype(np.float32)
    count = coverage_kernel(corner, size)
    covered = int((count > 0).sum())
    return covered / size**2, int((count > 1).sum()) / max(covered, 1)


def _by_charts(mesh: Mesh, texture_size: int) -> Mesh:
    vertices = mesh.vertices.detach().cpu().numpy().astype(np.float64)
    joined = join_vertices(mesh.vertices)[mesh.faces].cpu().numpy()
    # Charts grow over sides with common vertices, so seams of an earlier unwrapping must not count.
    first = np.unique(joined, return_index=True)[1]
    place = np.zeros((int(joined.max()) + 1, 3))
    place[np.unique(joined)] = vertices[mesh.faces.cpu().numpy().reshape(-1)[first]]
    across = _texels_across(place, joined, max(texture_size, min(3 * texture_size, _SEARCHED_PX)))
    chart = cut_into_charts(place, joined, texels_across=across)
    flat = packed(
        flattened(place, joined, chart),
        chart,
        size=texture_size,
        gutter_px=_gutter_px(texture_size),
    )
    corner = np.stack([joined.reshape(-1), np.repeat(chart, 3)], axis=1)
    _, at, number = np.unique(corner, axis=0, return_index=True, return_inverse=True)
    return _unwrapped(
        mesh.vertices.new_tensor(place[joined.reshape(-1)[at]]),
        torch.from_numpy(number.reshape(-1, 3)),
        torch.from_numpy(flat.reshape(-1, 2)[at] / texture_size),
    )


def _gutter_px(texture_size: int) -> int:
    return GUTTER_PX if texture_size >= 1024 else GUTTER_PX // 2


def _texels_across(vertices: NDArray[np.float64], faces: NDArray[np.int64], size: int) -> float:
    """Estimate how many texels a length of 1 will get, when charts fill two thirds."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    return float(size * np.sqrt(0.66 / max(area, 1e-20)))


def _by_xatlas(mesh: Mesh, texture_size: int, timeout_s: float) -> Mesh | None:
    """Run xatlas in a process that can be stopped; None where it fails, with a warning."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        vertices=mesh.vertices.detach().cpu().numpy().astype(np.float32),
        faces=mesh.faces.cpu().numpy().astype(np.uint32),
        size=texture_size,
        gutter_px=_gutter_px(texture_size),
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", _XATLAS],
            input=buffer.getvalue(),
            capture_output=True,
            timeout=timeout_s,
            check=True,
        )
    except subprocess.TimeoutExpired:
        warnings.warn(
            f"xatlas was stopped after {timeout_s:g} s; using our own charts", stacklevel=3
        )
        return None
    except subprocess.CalledProcessError as error:
        warnings.warn(
            f"xatlas failed with status {error.returncode}; using our own charts", stacklevel=3
        )
        return None
    try:
        result = np.load(io.BytesIO(done.stdout))
    except (ValueError, OSError, EOFError) as error:
        warnings.warn(f"xatlas gave no layout ({error}); using our own charts", stacklevel=3)
        return None
    if int(result["count"]) != 1:
        warnings.warn("xatlas filled several textures; using our own charts", stacklevel=3)
        return None
    vertex = torch.from_numpy(result["vertex"].astype(np.int64))
    faces = torch.from_numpy(result["faces"].astype(np.int64))
    return _unwrapped(mesh.vertices[vertex], faces, torch.from_numpy(result["uv"]))


def _unwrapped(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], uv: Float[Tensor, "v 2"]
) -> Mesh:
    return Mesh(vertices.float(), faces.long(), uv.float().clamp(0, 1))
