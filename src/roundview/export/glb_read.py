"""Read GLB: containers, accessors, nodes and materials into parts, and these into one mesh.

Written here because a training set is read file by file: this takes about as long as decoding the
texture. Whatever a broken or hostile file holds, the answer is a mesh or a ValueError.
"""

import base64
import binascii
import json
import logging
import struct
from dataclasses import replace
from typing import Any

import numpy as np

from ..mesh import Mesh
from .atlas import Part, linear_from_srgb, mesh_from_parts, srgb_from_linear
from .files import levels_from_bytes

_LOG = logging.getLogger(__name__)
_DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_READABLE = {"KHR_mesh_quantization", "KHR_texture_transform", "EXT_texture_webp"}
_MODES = {5: "triangle strip", 6: "triangle fan"}
_CLAMP, _MIRROR = 33071, 33648
_MAX_VERTICES = 50_000_000  # a node can repeat a mesh: a small file may ask for a lot of memory

Json = dict[str, Any]


def mesh_from_glb_bytes(data: bytes) -> Mesh:
    """Read a GLB that is in memory as one mesh; see `load_glb`.

    Raises:
        ValueError: In one line, what is wrong with it or what we do not read.
    """
    try:
        document, binary = _container(data)
        return mesh_from_parts(_Reader(document, binary).parts())
    except (LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        # Its JSON is not built as glTF's: a missing key, a list for a number, an index too far.
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(f"the GLB is malformed ({type(error).__name__}: {reason})") from error


def _container(data: bytes) -> tuple[Json, bytes]:
    """Split the file into its JSON and its binary chunk."""
    if len(data) < 20 or data[:4] != b"glTF":
        raise ValueError("it is not a GLB file")
    _, version, total = struct.unpack("<4sII", data[:12])
    if version != 2:
        raise ValueError(f"it is glTF version {version}; only version 2 is read")
    if total > len(data):
        raise ValueError(f"it is truncated: {len(data)} of {total} bytes are there")
    at, chunks = 12, {}
    while at + 8 <= total:
        length, kind = struct.unpack("<I4s", data[at : at + 8])
        if at + 8 + length > total:
            raise ValueError("a chunk is longer than the file")
        chunks.setdefault(kind, data[at + 8 : at + 8 + length])
        at += 8 + length
    try:
        document = json.loads(chunks.get(b"JSON", b""))
    except ValueError as error:
        raise ValueError("its JSON chunk cannot be parsed") from error
    missing = sorted(set(document.get("extensionsRequired", [])) - _READABLE)
    if missing:
        raise ValueError(f"it needs {', '.join(missing)}, which is not read; export without it")
    return document, chunks.get(b"BIN\0", b"")


class _Reader:
    """Walks one document; decoded pictures are kept, since parts share them."""

    def __init__(self, document: Json, binary: bytes) -> None:
        self.document = document
        self.binary = binary
        self.pictures: dict[tuple[Any, ...], np.ndarray] = {}
        self.buffers: dict[int, bytes] = {}
        self.vertices = 0

    def parts(self) -> list[Part]:
        """Give every triangle primitive of the scene in world coordinates."""
        nodes = self.document.get("nodes", [])
        if not nodes:
            meshes = range(len(self.document.get("meshes", [])))
            return [part for at in meshes for part in self._mesh(at, np.eye(4))]
        parts, seen = [], set()
        todo = [(at, np.eye(4)) for at in self._roots(nodes)]
        while todo:
            at, world_from_parent = todo.pop(0)
            if at in seen:
                raise ValueError(f"node {at} has two parents or is its own ancestor")
            seen.add(at)
            node = nodes[_index(at)]
            world_from_node = world_from_parent @ _node_matrix(node)
            if "mesh" in node:
                parts += self._mesh(node["mesh"], world_from_node)
            todo += [(child, world_from_node) for child in node.get("children", [])]
        return parts

    def _roots(self, nodes: list[Json]) -> list[int]:
        scenes = self.document.get("scenes")
        if scenes:
            return scenes[_index(self.document.get("scene", 0))].get("nodes", [])
        children = {child for node in nodes for child in node.get("children", [])}
        return [at for at in range(len(nodes)) if at not in children]

    def _mesh(self, at: int, world_from_node: np.ndarray) -> list[Part]:
        primitives = self.document["meshes"][_index(at)]["primitives"]
        parts = [self._primitive(primitive) for primitive in primitives]
        return [_moved(part, world_from_node) for part in parts if part is not None]

    def _primitive(self, primitive: Json) -> Part | None:
        mode = primitive.get("mode", 4)
        if mode in _MODES:
            raise ValueError(f"it holds a {_MODES[mode]}, which is not read; export as triangles")
        if mode != 4:
            _LOG.warning("points or lines in the GLB are left out")
            return None
        attributes = primitive["attributes"]
        vertices = self._accessor(attributes["POSITION"], 3)
        self.vertices += len(vertices)
        if self.vertices > _MAX_VERTICES:
            raise ValueError(f"it holds over {_MAX_VERTICES // 1_000_000} million vertices")
        if "indices" in primitive:
            indices = self._accessor(primitive["indices"], 1, scaled=False)[:, 0].astype(np.int64)
        else:
            indices = np.arange(len(vertices))
        if len(indices) % 3:
            raise ValueError(f"a triangle list has {len(indices)} corners, not a multiple of 3")
        if len(indices) and int(indices.max()) >= len(vertices):
            raise ValueError(f"a face names vertex {indices.max()} of {len(vertices)}")
        part = Part(vertices, indices.reshape(-1, 3), np.ones(3))
        return self._coloured(part, primitive, attributes)

    def _coloured(self, part: Part, primitive: Json, attributes: Json) -> Part:
        """Add what the material and the vertex colours say; the factors are linear light."""
        materials = self.document.get("materials", [])
        material = materials[_index(primitive["material"])] if "material" in primitive else {}
        shading = material.get("pbrMetallicRoughness", {})
        factor = np.array(shading.get("baseColorFactor", [1, 1, 1, 1]), np.float64)[:3]
        if factor.shape != (3,) or not np.isfinite(factor).all():
            raise ValueError("a material's baseColorFactor is broken")
        link = shading.get("baseColorTexture")
        name = f"TEXCOORD_{link.get('texCoord', 0)}" if link else ""
        if link and name in attributes:
            uv = self._accessor(attributes[name], 2).astype(np.float64)
            if len(uv) != len(part.vertices) or not np.isfinite(uv).all():
                raise ValueError("its texture coordinates are broken")
            picture, repeats = self._texture(link["index"], factor)
            if "COLOR_0" in attributes and (self._colour(attributes["COLOR_0"]) != 1).any():
                _LOG.warning("vertex colours on top of a texture are left out")
            return replace(part, uv=uv, picture=picture, repeats=repeats)
        if "COLOR_0" in attributes:
            factor = factor * self._colour(attributes["COLOR_0"])
            if len(factor) != len(part.vertices):
                raise ValueError("its vertex colours are broken")
        return replace(part, rgb=srgb_from_linear(factor))

    def _colour(self, at: int) -> np.ndarray:
        return self._accessor(at, None)[:, :3]

    def _texture(self, at: int, factor: np.ndarray) -> tuple[np.ndarray, bool]:
        """Give the picture times the factor, and whether it repeats outside [0, 1]."""
        texture = self.document["textures"][_index(at)]
        webp = texture.get("extensions", {}).get("EXT_texture_webp", {})
        source = _index(webp.get("source", texture.get("source")))
        samplers = self.document.get("samplers", [])
        sampler = samplers[_index(texture["sampler"])] if "sampler" in texture else {}
        wraps = {sampler.get("wrapS"), sampler.get("wrapT")}
        if _MIRROR in wraps:
            _LOG.warning("a mirrored texture is read as a repeated one")
        key = (source, *factor.tolist())
        if key not in self.pictures:
            levels = levels_from_bytes(self._image(source), f"texture {source}")
            self.pictures[key] = _tinted(levels, factor)
        return self.pictures[key], wraps != {_CLAMP}

    def _image(self, at: int) -> bytes:
        image = self.document["images"][at]
        if "bufferView" in image:
            return self._view(image["bufferView"])[0].tobytes()
        return _data_uri(image["uri"], "texture")

    def _view(self, at: int) -> tuple[np.ndarray, int | None]:
        """Give a buffer view's bytes and its stride."""
        view = self.document["bufferViews"][_index(at)]
        buffer = self._buffer(_index(view["buffer"]))
        start, length = _index(view.get("byteOffset", 0)), _index(view["byteLength"])
        if start + length > len(buffer):
            raise ValueError(f"buffer view {at} reaches beyond the file's data")
        return np.frombuffer(buffer, np.uint8, length, start), view.get("byteStride")

    def _buffer(self, at: int) -> bytes:
        uri = self.document["buffers"][at].get("uri")
        if uri is None:
            return self.binary
        if at not in self.buffers:
            self.buffers[at] = _data_uri(uri, "buffer")
        return self.buffers[at]

    def _accessor(self, at: int, width: int | None, *, scaled: bool = True) -> np.ndarray:
        """Read an accessor as (count, width); integers are scaled where it says normalized."""
        accessor = self.document["accessors"][_index(at)]
        if "sparse" in accessor or "bufferView" not in accessor:
            raise ValueError("it has sparse accessors, which are not read; export without them")
        dtype, columns = np.dtype(_DTYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]]
        if width not in (None, columns):
            raise ValueError(f"accessor {at} is {accessor['type']}, expected {width} numbers")
        count, start = _index(accessor["count"]), _index(accessor.get("byteOffset", 0))
        data, stride = self._view(accessor["bufferView"])
        row = columns * dtype.itemsize
        stride = row if stride is None else _index(stride)
        if stride < row or start + stride * (count - 1) + row > len(data):
            raise ValueError(f"accessor {at} reaches beyond its buffer view")
        shape, strides = (count, columns), (stride, dtype.itemsize)
        values = np.ndarray(shape, dtype, data.data, start, strides)
        if scaled and accessor.get("normalized") and dtype.kind in "iu":
            return np.maximum(values / np.iinfo(dtype).max, -1).astype(np.float32)
        return values.astype(np.float32) if scaled else values


def _index(value: object) -> int:
    """Check an index or a count: Python would take negative ones and true."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"the GLB is malformed (an index or count of {value!r})")
    return value


def _data_uri(uri: str, what: str) -> bytes:
    head, comma, body = uri.partition(",")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        raise ValueError(f"its {what} lies outside of the file, which is not read; embed it")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise ValueError(f"its {what} cannot be decoded ({error})") from error


def _tinted(levels: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Multiply a picture by a linear factor; give RGB bytes."""
    if levels.dtype == np.uint16:
        levels = (levels >> 8).astype(np.uint8)
    rgb = np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels[..., :3]
    if (factor == 1).all():
        return rgb
    table = srgb_from_linear(linear_from_srgb(np.arange(256)[:, None] / 255) * factor)
    table = np.round(table * 255).astype(np.uint8)
    return np.stack([table[rgb[..., c], c] for c in range(3)], axis=-1)


def _node_matrix(node: Json) -> np.ndarray:
    if "matrix" in node:
        matrix = np.array(node["matrix"], np.float64).reshape(4, 4).T  # stored by columns
    else:
        x, y, z, w = np.array(node.get("rotation", [0, 0, 0, 1]), np.float64)
        rotation = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(rotation) * np.array(node.get("scale", [1, 1, 1]), np.float64)
        matrix[:3, 3] = node.get("translation", [0, 0, 0])
    if not np.isfinite(matrix).all():
        raise ValueError("a node's transform is not finite")
    return matrix


def _moved(part: Part, world_from_node: np.ndarray) -> Part:
    if (world_from_node == np.eye(4)).all():
        return part
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later
        vertices = part.vertices @ world_from_node[:3, :3].T + world_from_node[:3, 3]
        # A mirror turns the triangles inside out (specification, 3.7.4).
        mirrors = np.linalg.det(world_from_node[:3, :3]) < 0
    faces = part.faces[:, ::-1] if mirrors else part.faces
    return replace(part, vertices=vertices, faces=faces)
