"""Read 3MF: the package, its objects where the build places them, their colours and pictures.

3MF Consortium, "3MF Core Specification", version 1.3, 2021, and "3MF Materials and Properties
Extension", version 1.2.1, 2019. Whatever a broken or hostile file holds, the answer is a mesh or a
ValueError.
"""

import io
import logging
import posixpath
import re
import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree

import numpy as np

from ..frames import yup_points_from_zup
from ..mesh import Mesh
from .atlas import Part, mesh_from_parts
from .files import levels_from_bytes

_LOG = logging.getLogger(__name__)
_CORE = "{http://schemas.microsoft.com/3dmanufacturing/core/2015/02}"
_MATERIAL = "{http://schemas.microsoft.com/3dmanufacturing/material/2015/02}"
_MODEL_TYPE = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"
_MILLIMETRES = {
    "micron": 1e-3,
    "millimeter": 1.0,
    "centimeter": 10.0,
    "inch": 25.4,
    "foot": 304.8,
    "meter": 1000.0,
}
_MAX_BYTES = 1 << 30  # of one part: a small zip may ask for a lot of memory
# What a part may unpack to, however small it is packed. Meshes as XML pack to a fifth or a tenth,
# bombs to a thousandth: chosen by us, so that a file of 100 kB cannot take a gigabyte.
_MOST_UNPACKED, _LEAST_MAX_BYTES = 50, 1 << 24
_MAX_VERTICES = 50_000_000  # the build can repeat an object
_MAX_REPEATED = 5_000_000  # of them by objects that are placed again: chosen by us
_MAX_PARTS = 100_000  # objects of objects can double at each step
_COLOUR = re.compile(r"#([0-9a-fA-F]{6})([0-9a-fA-F]{2})?")

Element: TypeAlias = ElementTree.Element


def load_3mf(path: Path | str) -> Mesh:
    """Read a 3MF, +Z up, as one mesh in our world, in millimetres.

    Parts of the build are joined; several pictures become one. Corners of one place with different
    colours or texture coordinates are vertices of their own, as our meshes have it.

    Raises:
        ValueError: If the file is missing, broken, or needs an extension that is not read.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    try:
        mesh = mesh_from_3mf_bytes(data)
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    return mesh


def mesh_from_3mf_bytes(data: bytes) -> Mesh:
    """Read a 3MF that is in memory; see `load_3mf`.

    Raises:
        ValueError: In one line, what is wrong with it or what we do not read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            mesh = mesh_from_parts(_Model(package).parts())
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error) as error:
        raise ValueError(f"it is not a 3MF package, or it is damaged ({error})") from error
    except (NotImplementedError, RuntimeError, LookupError, OverflowError) as error:
        # Packed by a method that Python lacks, or encrypted; or a number without its like.
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(f"it is malformed ({type(error).__name__}: {reason})") from error
    return replace(mesh, vertices=yup_points_from_zup(mesh.vertices) + 0.0)  # -0 becomes 0


class _Model:
    """Walks the model of one package; decoded pictures are kept, since groups share them."""

    def __init__(self, package: zipfile.ZipFile) -> None:
        self.package = package
        name = _start_of(package)
        self.folder = posixpath.dirname(name)
        self.root = _xml(_content(package, name))
        if self.root.tag != f"{_CORE}model":
            raise ValueError(f"its model begins with {self.root.tag!r}, not a 3MF model")
        wanted = self.root.get("requiredextensions", "").split()
        # Prefixes are gone after parsing; "m" is what all the world writes for materials.
        if any(prefix != "m" for prefix in wanted):
            raise ValueError(f"it needs the extensions {' '.join(wanted)}; only materials are read")
        unit = self.root.get("unit", "millimeter")
        if unit not in _MILLIMETRES:
            raise ValueError(f"its unit {unit!r} is none of {', '.join(_MILLIMETRES)}")
        self.millimetres = _MILLIMETRES[unit]
        self.pictures: dict[str, tuple[np.ndarray, bool]] = {}
        self.textures: dict[str, tuple[np.ndarray, str]] = {}
        self.colours: dict[str, np.ndarray] = {}
        self.objects: dict[str, list[Part]] = {}
        self.vertices = self.repeated = self.placed = 0

    def parts(self) -> list[Part]:
        """Give all that the build places, millimetres, +Z up."""
        for resource in self.root.iterfind(f"{_CORE}resources/*"):
            self._take(resource)
        placed = []
        for item in self.root.iterfind(f"{_CORE}build/{_CORE}item"):
            placed += self._placed(item)
        return [replace(part, vertices=part.vertices * self.millimetres) for part in placed]

    def _take(self, resource: Element) -> None:
        """Read one resource; those before it are known, as the core specification asks (4.1)."""
        kind, at = resource.tag, resource.get("id", "")
        if kind == f"{_CORE}object":
            self.objects[at] = self._object(resource)
        elif kind == f"{_MATERIAL}colorgroup":
            self.colours[at] = _colours(resource, f"{_MATERIAL}color", "color")
        elif kind == f"{_CORE}basematerials":
            self.colours[at] = _colours(resource, f"{_CORE}base", "displaycolor")
        elif kind == f"{_MATERIAL}texture2d":
            self.pictures[at] = self._picture(resource)
        elif kind == f"{_MATERIAL}texture2dgroup":
            places = [(one.get("u"), one.get("v")) for one in resource]
            uv = _numbers(places, 2) * [1, -1] + [0, 1]  # their v grows upwards
            self.textures[at] = (uv, _of(resource, "texid"))

    def _picture(self, resource: Element) -> tuple[np.ndarray, bool]:
        name = _of(resource, "path")
        path = posixpath.normpath(posixpath.join("/", self.folder, name)).lstrip("/")
        levels = levels_from_bytes(_content(self.package, path), name)
        if levels.dtype == np.uint16:
            levels = (levels >> 8).astype(np.uint8)
        rgb = np.repeat(levels[..., :1], 3, axis=2) if levels.shape[2] < 3 else levels[..., :3]
        style = {resource.get(f"tilestyle{axis}", "wrap") for axis in "uv"}
        return rgb, "wrap" in style

    def _object(self, resource: Element) -> list[Part]:
        mesh = resource.find(f"{_CORE}mesh")
        if mesh is None:
            path = f"{_CORE}components/{_CORE}component"
            return [part for one in resource.iterfind(path) for part in self._placed(one)]
        rows = [(v.get("x"), v.get("y"), v.get("z")) for v in mesh.iter(f"{_CORE}vertex")]
        vertices = _numbers(rows, 3)
        self._count(len(vertices))
        whole = resource.get("pid"), resource.get("pindex", "0")
        groups: dict[str | None, list[tuple[str | None, ...]]] = {}
        for triangle in mesh.iter(f"{_CORE}triangle"):
            given = triangle.get
            # A triangle that names no colour has the object's; corners that do not, the first's.
            pid, index = (given("pid", whole[0]), given("p1"))
            if index is None:
                pid, index = whole
            second, third = given("p2", index), given("p3", index)
            corners = (given("v1"), given("v2"), given("v3"), index, second, third)
            groups.setdefault(pid, []).append(corners)
        return [self._part(vertices, pid, rows) for pid, rows in groups.items()]

    def _part(
        self, vertices: np.ndarray, pid: str | None, rows: list[tuple[str | None, ...]]
    ) -> Part:
        """Make a piece of the triangles that share a group of colours or coordinates."""
        table = _numbers(rows, 6)
        if not (table == np.floor(table)).all():
            raise ValueError("a triangle names a corner that is no whole number")
        corners = table[:, :3].astype(np.int64)
        _check(corners, len(vertices), "vertex")
        index = table[:, 3:].astype(np.int64)
        known = self.textures if pid in self.textures else self.colours
        if pid is None or pid not in known:
            if pid is not None:
                _LOG.warning("colours of another kind than those that are read are left out")
            index = np.zeros_like(index)
        pairs, faces = np.unique(
            np.stack([corners, index], axis=-1).reshape(-1, 2), axis=0, return_inverse=True
        )
        part = Part(vertices[pairs[:, 0]], faces.reshape(-1, 3), np.ones(3))
        if pid in self.textures:
            uv, texture = self.textures[pid]
            _check(index, len(uv), "texture coordinate")
            picture, repeats = self.pictures[texture]
            return replace(part, uv=uv[pairs[:, 1]], picture=picture, repeats=repeats)
        if pid in self.colours:
            _check(index, len(self.colours[pid]), "colour")
            return replace(part, rgb=self.colours[pid][pairs[:, 1]])
        return part

    def _placed(self, one: Element) -> list[Part]:
        """Give an object's parts where an item of the build or a component puts them."""
        name = _of(one, "objectid")
        if name not in self.objects:
            raise ValueError(f"object {name} is placed before it is defined, or never is")
        parts = self.objects[name]
        self._repeat(parts)
        words = one.get("transform")
        if words is None:
            return parts
        # Points are rows: (x y z 1) times a matrix of four rows and three columns.
        matrix = _numbers([words.split()], 12).reshape(4, 3)
        mirrored = np.linalg.det(matrix[:3]) < 0
        return [
            replace(
                part,
                vertices=part.vertices @ matrix[:3] + matrix[3],
                faces=part.faces[:, ::-1] if mirrored else part.faces,
            )
            for part in parts
        ]

    def _repeat(self, parts: list[Part]) -> None:
        """Bound what is placed: a few lines can ask for any number of copies."""
        self.placed += len(parts)
        self.repeated += sum(len(part.vertices) for part in parts)
        # Placing everything once repeats nothing.
        if self.repeated > _MAX_REPEATED + self.vertices or self.placed > _MAX_PARTS:
            raise ValueError(
                f"it places over {_MAX_PARTS} parts or {_MAX_REPEATED // 10**6} million vertices"
            )

    def _count(self, more: int) -> None:
        self.vertices += more
        if self.vertices > _MAX_VERTICES:
            raise ValueError(f"it holds over {_MAX_VERTICES // 1_000_000} million vertices")


def _start_of(package: zipfile.ZipFile) -> str:
    """Find the part that holds the model: the package's relationships name it."""
    for relation in _xml(_content(package, "_rels/.rels")):
        if relation.get("Type") == _MODEL_TYPE:
            return posixpath.normpath(_of(relation, "Target")).lstrip("/")
    raise ValueError("its relationships name no 3D model")


def _content(package: zipfile.ZipFile, name: str) -> bytes:
    try:
        entry = package.getinfo(name)
    except KeyError as error:
        raise ValueError(f"its part {name} is missing") from error
    most = max(_LEAST_MAX_BYTES, min(_MAX_BYTES, entry.compress_size * _MOST_UNPACKED))
    # What the entry says of its size need not be true.
    with package.open(entry) as part:
        data = part.read(most + 1)
    if max(len(data), entry.file_size) > most:
        raise ValueError(f"its part {name} unpacks to over {most >> 20} MB: too much to be read")
    return data


def _xml(data: bytes) -> Element:
    # The core specification forbids document types, with which a small text can be made endless.
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("its XML declares a document type, which 3MF forbids")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, UnicodeError, LookupError) as error:
        raise ValueError(f"its XML is broken: {error}") from error


def _of(element: Element, name: str) -> str:
    value = element.get(name)
    if value is None:
        raise ValueError(f"one {element.tag.rsplit('}', 1)[-1]} has no {name}")
    return value


def _numbers(rows: list[tuple[str | None, ...]] | list[list[str]], width: int) -> np.ndarray:
    """Turn rows of words into finite numbers (rows, width)."""
    try:
        table = np.array(rows, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("it has something else where a number should be") from error
    if not rows:
        return np.zeros((0, width))
    if table.shape != (len(rows), width) or not (np.abs(table) < 1e12).all():
        raise ValueError(f"it lacks some of {width} numbers in a row, or they are not finite")
    return table


def _colours(group: Element, tag: str, attribute: str) -> np.ndarray:
    """Read sRGB colours (n, 3); how solid they are is left out."""
    rows = []
    for one in group.iterfind(tag):
        found = _COLOUR.fullmatch(_of(one, attribute))
        if found is None:
            raise ValueError(f"{one.get(attribute)!r} is no colour like #RRGGBB")
        rows.append([int(found[1][k : k + 2], 16) / 255 for k in (0, 2, 4)])
    return np.array(rows).reshape(-1, 3)


def _check(index: np.ndarray, count: int, what: str) -> None:
    if len(index) and (index.min() < 0 or index.max() >= count):
        raise ValueError(f"a triangle names {what} {index.max()} of {count}")
