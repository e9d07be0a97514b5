"""STL for printing: bare triangles in millimetres, +Z up.

3D Systems, "StereoLithography Interface Specification", 1989: binary, an 80-byte header, then 50
bytes a triangle: its normal, its corners, two bytes of nothing. It knows neither unit nor up;
slicers take millimetres and +Z, so (x, y, z) of our world is written as (x, -z, y), standing on the
plate.
"""

import re
import struct
from pathlib import Path

import numpy as np
import torch

from ..frames import yup_points_from_zup, zup_points_from_yup
from ..mesh import Mesh, bounds, join_vertices
from .files import write_bytes

_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corner", "<f4", (3, 3)), ("unused", "<u2")])
_VERTEX = re.compile(rb"\bvertex\s+(\S+)\s+(\S+)\s+(\S+)", re.IGNORECASE)
_HEADER = b"roundview, millimetres, +Z up"  # must not begin with "solid", as ASCII files do


def save_stl(mesh: Mesh, path: Path | str, *, height_mm: float = 80.0) -> None:
    """Write a mesh as binary STL, atomically.

    Args:
        mesh: At least one face with some area; colours are left out, as STL has none.
        path: Where to.
        height_mm: From the plate to the top (our y). Printing has no other size to go by.

    Raises:
        ValueError: If the mesh is empty, flat or not finite, or height_mm is not positive.
    """
    corner = printable(mesh, height_mm).double().numpy()[mesh.faces.cpu().numpy()]
    across = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    length = np.linalg.norm(across, axis=1, keepdims=True)
    solid = length[:, 0] > 0  # a triangle without area has no normal, and slicers complain
    table = np.zeros(int(solid.sum()), _TRIANGLE)
    table["corner"], table["normal"] = corner[solid], across[solid] / length[solid]
    head = _HEADER.ljust(80, b"\0") + struct.pack("<I", len(table))
    write_bytes(path, head + table.tobytes())


def load_stl(path: Path | str) -> Mesh:
    """Read a binary or ASCII STL, +Z up, as a mesh in our world; corners at one place are joined.

    Lengths are kept, so a file in millimetres gives a mesh in millimetres.

    Raises:
        ValueError: If the file is missing or broken.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    try:
        corner = _corners(data)
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    if not len(corner) or not np.isfinite(corner).all():
        raise ValueError(f"cannot read {path}: it holds no triangles, or some are not finite")
    points = yup_points_from_zup(torch.from_numpy(corner.reshape(-1, 3)) + 0.0)  # -0 becomes 0
    joined = join_vertices(points)
    vertices = torch.zeros(int(joined.max()) + 1, 3)
    vertices[joined] = points
    return Mesh(vertices, joined.unflatten(0, (len(corner), 3)))


def printable(mesh: Mesh, height_mm: float) -> torch.Tensor:
    """Give a mesh's vertices (v, 3) as printers want them: millimetres, +Z up, on the plate z = 0.

    The middle of the bounding box stands over the origin.

    Raises:
        ValueError: If the mesh is empty, flat or not finite, or height_mm is not positive.
    """
    if not (0 < height_mm < float("inf")):
        raise ValueError(f"height_mm must be positive, got {height_mm}")
    if not len(mesh.faces):
        raise ValueError("a mesh without faces cannot be printed")
    vertices = zup_points_from_yup(mesh.vertices.detach().cpu().double())
    if not bool(vertices.isfinite().all()):
        raise ValueError("the mesh has vertices that are not finite")
    low, high = bounds(vertices[mesh.faces.cpu().unique()])
    if not float(high[2] - low[2]) > 0:
        raise ValueError("the mesh is flat: it has no height to scale")
    middle = torch.stack([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return ((vertices - middle) * (height_mm / float(high[2] - low[2]))).float()


def _corners(data: bytes) -> np.ndarray:
    """Give the corners (f, 3, 3) of either kind of file."""
    if len(data) >= 84:
        (count,) = struct.unpack("<I", data[80:84])
        # By size, not by "solid": binary files of some programs begin with that word.
        if len(data) == 84 + count * _TRIANGLE.itemsize:
            return np.frombuffer(data, _TRIANGLE, count, 84)["corner"].astype(np.float32)
    if not data.lstrip()[:5].lower() == b"solid":
        raise ValueError("it is not an STL file, or it is cut off")
    if b"endsolid" not in data[-1000:].lower():
        raise ValueError("it is cut off: its text has no end")
    words = _VERTEX.findall(data)
    if len(words) % 3:
        raise ValueError(f"its {len(words)} corners are no triangles")
    try:
        numbers = np.array([[float(word) for word in row] for row in words], np.float32)
    except ValueError as error:
        raise ValueError(f"it has a word where a number should be ({error})") from error
    return numbers.reshape(-1, 3, 3)
