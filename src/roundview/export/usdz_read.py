"""Read USDZ: triangles where the stage places them, with one picture or colours; needs `usd`.

Pixar, "Universal Scene Description" and "USDZ File Format Specification", version 1.3, 2021. Their
own library opens the stage, since its binary layers have no specification; pictures are read from
the package, which is a zip. What the preview surface calls its diffuse colour is ours.
"""

import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..frames import yup_points_from_zup
from ..mesh import Mesh
from .atlas import Part, mesh_from_parts, srgb_from_linear
from .files import levels_from_bytes
from .usdz import Untyped, load_pxr

_INSIDE = re.compile(r"\[([^\[\]]+)\]$")  # package.usdz[picture.png], as the library names them
_TRIAL_SECONDS = 60.0  # by the clock; chosen by us, a stage of a million faces takes one
_TRIAL = """
import os, sys
from pxr import Usd
try:
    import resource
    room = (1 << 29) + 8 * os.path.getsize(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (room, room))
    resource.setrlimit(resource.RLIMIT_CPU, (5 + (room >> 28), 10 + (room >> 28)))
except (ImportError, OSError, ValueError):
    pass  # Not on Windows.
stage = Usd.Stage.Open(sys.argv[1])
for prim in stage.Traverse():
    for attribute in prim.GetAttributes():
        attribute.Get()
print("read")
"""
_PER_CORNER, _PER_POINT = ("faceVarying",), ("vertex", "varying")


@dataclass(frozen=True, eq=False)
class _Look:
    """What a material says: a picture, a plain colour (sRGB), or neither."""

    picture: np.ndarray | None = None
    repeats: bool = False
    rgb: np.ndarray | None = None


def load_usdz(path: Path | str) -> Mesh:
    """Read a USDZ as one mesh in our world; lengths are in the stage's own unit.

    All meshes of the stage are joined; several pictures become one. Polygons become fans.

    Raises:
        ValueError: If usd-core is not installed, or the file is missing or broken.
    """
    pxr = load_pxr()
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"cannot read {path}: no such file")
    _try(path)
    try:
        with zipfile.ZipFile(path) as package:
            stage = pxr.Usd.Stage.Open(str(path))
            mesh = mesh_from_parts(_Stage(pxr, stage, package).parts())
    except (zipfile.BadZipFile, RuntimeError, ValueError, LookupError, EOFError) as error:
        # Pixar's errors are RuntimeErrors of many lines.
        reason = (str(error).strip().splitlines() or ["it is broken"])[0]
        raise ValueError(f"cannot read {path}: {reason}") from error
    if pxr.UsdGeom.GetStageUpAxis(stage) == pxr.UsdGeom.Tokens.z:
        return replace(mesh, vertices=yup_points_from_zup(mesh.vertices) + 0.0)  # -0 becomes 0
    return mesh


def _try(path: Path) -> None:
    """Read a file in a process that may die of it.

    Pixar's library believes what a damaged file says of its own sizes: one of 3 kB took 4 GB.

    Raises:
        ValueError: If that process gave up, ran out of memory or died.
    """
    words = [sys.executable, "-P", "-c", _TRIAL, os.fspath(path.absolute())]
    alone = os.environ | {"PXR_WORK_THREAD_LIMIT": "1"}
    try:
        done = subprocess.run(
            words, capture_output=True, timeout=_TRIAL_SECONDS, check=False, env=alone
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"cannot read {path}: it takes too long") from None
    if not done.stdout.endswith(b"read\n"):
        raise ValueError(f"cannot read {path}: it is damaged, or asks for too much memory")


class _Stage:
    """Walks one stage; decoded pictures are kept, since meshes share them."""

    def __init__(self, pxr: Untyped, stage: Untyped, package: zipfile.ZipFile) -> None:
        self.pxr, self.stage, self.package = pxr, stage, package
        self.placed = pxr.UsdGeom.XformCache()
        self.pictures: dict[str, np.ndarray] = {}

    def parts(self) -> list[Part]:
        """Give every mesh, in the stage's world."""
        kind = self.pxr.UsdGeom.Mesh
        return [self._part(kind(prim)) for prim in self.stage.Traverse() if prim.IsA(kind)]

    def _part(self, surface: Untyped) -> Part:
        points = _table(surface.GetPointsAttr().Get(), 3)
        corners = np.array(surface.GetFaceVertexIndicesAttr().Get() or [], np.int64)
        counts = np.array(surface.GetFaceVertexCountsAttr().Get() or [], np.int64)
        # First of all: polygons of two thousand million corners would be laid out else.
        if counts.sum() > len(corners) or (len(corners) and corners.min() < 0):
            raise ValueError("a polygon names corners that are not there")
        slots = _fans(counts)
        if len(corners) and corners.max() >= len(points):
            raise ValueError(f"a polygon names point {corners.max()} of {len(points)}")
        matrix = np.array(self.placed.GetLocalToWorldTransform(surface.GetPrim()))
        backwards = surface.GetOrientationAttr().Get() == self.pxr.UsdGeom.Tokens.leftHanded
        if backwards != (np.linalg.det(matrix[:3, :3]) < 0):
            slots = slots[:, ::-1]
        # Corners that share a point and all that is said of it are one vertex.
        look = self._look(surface)
        uv, rgb = self._values(surface, "st", 2), self._values(surface, "displayColor", 3)
        split = any(value is not None and len(value) != len(points) for value in (uv, rgb))
        keys = np.stack([corners[slots], slots if split else 0 * slots], axis=-1)
        unique, faces = np.unique(keys.reshape(-1, 2), axis=0, return_inverse=True)
        point, slot = unique.T
        # Points are rows of a matrix product.
        part = Part(
            points[point] @ matrix[:3, :3] + matrix[3, :3],
            faces.reshape(-1, 3),
            np.ones(3) if look.rgb is None else look.rgb,
        )
        if look.picture is not None and uv is not None:
            uv = _at(uv, point, slot, len(points)) * [1, -1] + [0, 1]  # theirs grow upwards
            return replace(part, uv=uv, picture=look.picture, repeats=look.repeats)
        if look.rgb is None and rgb is not None:
            return replace(part, rgb=srgb_from_linear(_at(rgb, point, slot, len(points))))
        return part

    def _values(self, surface: Untyped, name: str, width: int) -> np.ndarray | None:
        """Read a primvar as one row a point, or one a corner; None if there is none."""
        primvar = self.pxr.UsdGeom.PrimvarsAPI(surface).GetPrimvar(name)
        if not primvar or not primvar.HasValue():
            return None
        table = _table(primvar.ComputeFlattened(), width)
        points = len(surface.GetPointsAttr().Get())
        if primvar.GetInterpolation() in _PER_POINT + _PER_CORNER:
            return table
        # One for all, or one a face, of which the mean does.
        return np.tile(table.mean(axis=0), (points, 1)) if len(table) else None

    def _look(self, surface: Untyped) -> _Look:
        """Follow the material to what gives its diffuse colour."""
        shade = self.pxr.UsdShade
        material = shade.MaterialBindingAPI(surface.GetPrim()).ComputeBoundMaterial()[0]
        preview = material.ComputeSurfaceSource()[0] if material else None
        colour = preview.GetInput("diffuseColor") if preview else None
        if not colour:
            return _Look()
        sources = colour.GetConnectedSources()[0]
        if not sources:
            plain = colour.Get()
            return _Look(rgb=None if plain is None else srgb_from_linear(np.array(plain)))
        shader = shade.Shader(sources[0].source.GetPrim())
        if shader.GetIdAttr().Get() != "UsdUVTexture":
            return _Look()  # A reader of the vertices' colours.
        wrap = [shader.GetInput(name) for name in ("wrapS", "wrapT")]
        repeats = any(one and one.Get() == "repeat" for one in wrap)
        return _Look(self._picture(shader.GetInput("file").Get()), repeats)

    def _picture(self, asset: Any) -> np.ndarray:  # noqa: ANN401  the library's
        found = _INSIDE.search(asset.resolvedPath or "")
        name = found[1] if found else asset.path.removeprefix("./")
        if name not in self.pictures:
            if name not in self.package.namelist():
                raise ValueError(f"its picture {name} is missing")
            levels = levels_from_bytes(self.package.read(name), name)
            if levels.dtype == np.uint16:
                levels = (levels >> 8).astype(np.uint8)
            grey = levels.shape[2] < 3
            self.pictures[name] = np.repeat(levels[..., :1], 3, 2) if grey else levels[..., :3]
        return self.pictures[name]


def _fans(counts: np.ndarray) -> np.ndarray:
    """Cut polygons of so many corners each into triangles (f, 3) of their corners' numbers."""
    if len(counts) and counts.min() < 3:
        raise ValueError("a polygon has fewer than three corners")
    starts = np.repeat(np.cumsum(counts) - counts, counts - 2)
    first = np.cumsum(counts - 2) - (counts - 2)
    within = np.arange(len(starts)) - np.repeat(first, counts - 2)
    return np.stack([starts, starts + within + 1, starts + within + 2], axis=1)


def _table(values: Untyped, width: int) -> np.ndarray:
    return np.zeros((0, width)) if values is None else np.array(values, float).reshape(-1, width)


def _at(values: np.ndarray, point: np.ndarray, slot: np.ndarray, points: int) -> np.ndarray:
    """Take values that are told by point, or else by corner."""
    index = point if len(values) == points else slot
    if len(index) and index.max() >= len(values):
        raise ValueError(f"{len(values)} texture coordinates or colours are too few")
    return values[index]
