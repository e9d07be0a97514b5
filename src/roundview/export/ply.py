"""PLY: Gaussian splats in the layout of 3DGS, and meshes or point clouds with colour.

Turk, "The PLY Polygon File Format", 1994. Splats: Kerbl et al., "3D Gaussian Splatting for
Real-Time Radiance Field Rendering", 2023; opacity is stored before the logistic function, scales as
logarithms, quaternions wxyz, and the view-dependent colour channel by channel. The file keeps our
world (+Y up); 3DGS itself has no upright world, it keeps that of COLMAP.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from ..gaussians import Gaussians
from ..mesh import Mesh
from .files import quantised, write_bytes
from .ply_read import Element, read_elements

_POSITION = ("x", "y", "z")
_NORMAL = ("nx", "ny", "nz")
_BASE = ("f_dc_0", "f_dc_1", "f_dc_2")
_SCALE = ("scale_0", "scale_1", "scale_2")
_ROTATION = ("rot_0", "rot_1", "rot_2", "rot_3")


def save_splats(gaussians: Gaussians, path: Path | str) -> None:
    """Write Gaussians as a binary PLY that 3DGS viewers open; the same values, the same bytes.

    Raises:
        ValueError: If a value is not finite.
    """
    g = gaussians.detach().to("cpu")
    count = len(g)
    # f_rest is all of red, then green, then blue: (g, k-1, 3) is turned before it is flattened.
    rest = g.sh[:, 1:].transpose(1, 2).reshape(count, 3 * (g.sh.shape[1] - 1))
    normals = torch.zeros_like(g.centre)  # part of the layout, used by nobody
    columns = [
        *(g.centre, normals, g.sh[:, 0], rest),
        *(g.opacity_logit[:, None], g.log_scale, g.quat_wxyz),
    ]
    table = torch.cat(columns, dim=1).numpy().astype("<f4")
    if not np.isfinite(table).all():
        raise ValueError("gaussians holds values that are not finite")
    names = [*_POSITION, *_NORMAL, *_BASE, *_rest_names(rest.shape[1])]
    names += ["opacity", *_SCALE, *_ROTATION]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    header += [f"property float {name}" for name in names] + ["end_header\n"]
    write_bytes(path, "\n".join(header).encode() + np.ascontiguousarray(table).tobytes())


def load_splats(path: Path | str) -> Gaussians:
    """Read a PLY of 3DGS: ASCII or binary, properties in any order.

    Raises:
        ValueError: If the file is missing, broken, or not of that layout.
    """
    vertex = _vertices(read_elements(path), path)
    rest_count = sum(name.startswith("f_rest_") for name in vertex.columns)
    if rest_count not in (0, 9, 24, 45):
        raise ValueError(f"{path} has {rest_count} f_rest properties; 0, 9, 24 or 45 make sense")
    base = _columns(vertex, _BASE, path)
    rest = _columns(vertex, _rest_names(rest_count), path)
    rest = rest.reshape(len(base), 3, rest_count // 3).transpose(1, 2)
    gaussians = Gaussians(
        _columns(vertex, _POSITION, path),
        _columns(vertex, _SCALE, path),
        _columns(vertex, _ROTATION, path),
        _columns(vertex, ("opacity",), path)[:, 0],
        torch.cat([base[:, None], rest], dim=1),
    )
    if bool((gaussians.quat_wxyz.norm(dim=-1) == 0).any()):
        raise ValueError(f"{path} has Gaussians with a rotation of 0, 0, 0, 0")
    return gaussians


def is_splats(path: Path | str) -> bool:
    """Tell whether a PLY holds splats rather than a mesh or points."""
    return "f_dc_0" in _vertices(read_elements(path), path).columns


def save_ply(mesh: Mesh, path: Path | str) -> None:
    """Write a mesh, or with no faces a point cloud, with its vertex colours; no texture."""
    vertices = mesh.vertices.detach().cpu().numpy()
    fields = [(name, "<f4") for name in _POSITION]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    header += [f"property float {name}" for name in _POSITION]
    if mesh.vertex_rgb is not None:
        fields += [(name, "u1") for name in ("red", "green", "blue")]
        header += [f"property uchar {name}" for name in ("red", "green", "blue")]
    table = np.zeros(len(vertices), fields)
    for axis, name in enumerate(_POSITION):
        table[name] = vertices[:, axis]
    if mesh.vertex_rgb is not None:
        levels = quantised(mesh.vertex_rgb, bits=8)
        for channel, name in enumerate(("red", "green", "blue")):
            table[name] = levels[:, channel]
    faces = np.zeros(len(mesh.faces), [("count", "u1"), ("corner", "<i4", (3,))])
    faces["count"], faces["corner"] = 3, mesh.faces.cpu().numpy()
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    text = "\n".join([*header, "end_header\n"]).encode()
    write_bytes(path, text + table.tobytes() + faces.tobytes())


def load_ply(path: Path | str) -> Mesh:
    """Read a mesh or point cloud with its vertex colours; polygons become triangles.

    Raises:
        ValueError: If the file is missing, broken, or has no positions.
    """
    elements = read_elements(path)
    vertex = _vertices(elements, path)
    rgb = None
    if {"red", "green", "blue"} <= set(vertex.columns):
        rgb = _columns(vertex, ("red", "green", "blue"), path)
        if vertex.columns["red"].dtype.kind in "iu":
            rgb = rgb / 255
    faces = np.zeros((0, 3), np.int64)
    if "face" in elements:
        lists = elements["face"].lists
        polygons = lists.get("vertex_indices", lists.get("vertex_index", []))
        faces = _triangles(polygons, path)
    try:
        return Mesh(_columns(vertex, _POSITION, path), torch.from_numpy(faces), None, None, rgb)
    except ValueError as error:  # Mesh refuses faces that name no vertex.
        raise ValueError(f"cannot read {path}: {error}") from error


def _triangles(polygons: "np.ndarray | list[np.ndarray]", path: Path | str) -> np.ndarray:
    """Cut polygons into fans."""
    if isinstance(polygons, np.ndarray) and polygons.ndim == 2 and polygons.shape[1] == 3:
        return polygons.astype(np.int64)
    fans = []
    for polygon in polygons:
        if len(polygon) < 3:
            raise ValueError(f"{path} has a face with {len(polygon)} corners")
        corner = np.asarray(polygon, np.int64)
        first = np.full(len(corner) - 2, corner[0])
        fans.append(np.stack([first, corner[1:-1], corner[2:]], axis=1))
    return np.concatenate(fans) if fans else np.zeros((0, 3), np.int64)


def _vertices(elements: dict[str, Element], path: Path | str) -> Element:
    if "vertex" not in elements:
        raise ValueError(f"{path} has no element named vertex")
    return elements["vertex"]


def _rest_names(count: int) -> list[str]:
    return [f"f_rest_{i}" for i in range(count)]


def _columns(
    element: Element, names: tuple[str, ...] | list[str], path: Path | str
) -> Float[torch.Tensor, "v c"]:
    missing = [name for name in names if name not in element.columns]
    if missing:
        raise ValueError(f"{path} lacks the properties {', '.join(missing)}")
    if not names:
        return torch.zeros(element.count, 0)
    table = np.stack([element.columns[name] for name in names], axis=1).astype(np.float32)
    if not np.isfinite(table).all():
        raise ValueError(f"{path} holds values that are not finite in {names[0]}..{names[-1]}")
    return torch.from_numpy(table)
