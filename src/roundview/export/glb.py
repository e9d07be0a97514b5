"""GLB: glTF 2.0 in one file, our main product. Writing here, reading in `glb_read`.

Khronos Group, "glTF 2.0 Specification", version 2.0.1, 2021. The world frame, the winding and the
texture coordinates of `Mesh` are glTF's own, so nothing is turned on the way.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..mesh import Mesh, Texture, bounds, vertex_normals
from .atlas import linear_from_srgb
from .files import encoded, quantised, write_bytes
from .glb_read import mesh_from_glb_bytes

__all__ = ["glb_bytes", "load_glb", "mesh_from_glb_bytes", "save_glb"]

_UINT16, _UINT32 = 5123, 5125
_COMPONENTS = {"<f4": 5126, "|i1": 5120, "<i2": 5122, "<u2": _UINT16}
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963
_QUANTIZATION = "KHR_mesh_quantization"
_LINEAR, _LINEAR_MIPMAP, _CLAMP = 9729, 9987, 33071


def save_glb(
    mesh: Mesh, path: Path | str, *, jpeg_quality: int | None = None, quantize: bool = False
) -> None:
    """Write a mesh as one GLB file, atomically.

    Args:
        mesh: At least one face; the texture is written when there is one, else vertex colours.
        path: Where to.
        jpeg_quality: 1 to 95 to store the texture as JPEG; None for PNG, which loses nothing.
        quantize: Halve the vertices: positions in 65534ths of the longest side, normals in 127ths,
            texture coordinates in [0, 1] and linear colours in 65535ths. Viewers must know
            KHR_mesh_quantization, as most do.

    Raises:
        ValueError: If the mesh is empty or not finite.
    """
    write_bytes(path, glb_bytes(mesh, jpeg_quality=jpeg_quality, quantize=quantize))


def load_glb(path: Path | str) -> Mesh:
    """Read a GLB file as one mesh: nodes are applied, parts joined, textures put into one.

    Raises:
        ValueError: If the file is missing, broken, or needs what we do not read (compression,
            strips, files outside of it).
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    try:
        return mesh_from_glb_bytes(data)
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}") from error


def glb_bytes(mesh: Mesh, *, jpeg_quality: int | None = None, quantize: bool = False) -> bytes:
    """Encode a mesh as GLB; the same mesh gives the same bytes. See `save_glb`."""
    if not len(mesh.faces):
        raise ValueError("a mesh without faces cannot be written as GLB")
    if not bool(mesh.vertices.isfinite().all()):
        raise ValueError("the mesh has vertices that are not finite")
    writer = _Writer()
    node: dict[str, Any] = {"mesh": 0, "name": "asset"}
    textured = mesh.texture is not None and mesh.uv is not None
    columns = {"POSITION": mesh.vertices, "NORMAL": vertex_normals(mesh)}
    if mesh.uv is not None:
        columns["TEXCOORD_0"] = mesh.uv
    if mesh.vertex_rgb is not None and not textured:
        # The specification wants vertex colours linear (3.9.2), unlike textures.
        linear = linear_from_srgb(mesh.vertex_rgb.detach().clamp(0, 1).cpu().double().numpy())
        columns["COLOR_0"] = torch.from_numpy(linear)
    arrays = {name: values.detach().cpu().numpy() for name, values in columns.items()}
    if quantize:
        middle, half = _box(mesh)
        node |= {"translation": middle.tolist(), "scale": [half] * 3}
        arrays["POSITION"] = (arrays["POSITION"].astype(np.float64) - middle) / half
        arrays = {name: _quantised_column(name, array) for name, array in arrays.items()}
    attributes = {
        name: writer.column(array, with_bounds=name == "POSITION") for name, array in arrays.items()
    }
    primitive = {"attributes": attributes, "indices": writer.indices(mesh.faces), "material": 0}
    # Double sided: meshes fused from depth may be open, and a hole should not look like a window.
    material: dict[str, Any] = {
        "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
        "doubleSided": True,
    }
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": f"roundview {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [{"primitives": [primitive], "name": "asset"}],
        "materials": [material],
    }
    if quantize:
        document |= {"extensionsUsed": [_QUANTIZATION], "extensionsRequired": [_QUANTIZATION]}
    if textured and mesh.texture is not None:
        material["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
        document |= _texture_objects(writer, mesh.texture, jpeg_quality)
    return writer.finish(document)


def _box(mesh: Mesh) -> tuple[np.ndarray, float]:
    """Give the middle of the mesh and half its longest side, as float32 numbers."""
    low, high = bounds(mesh.vertices.detach().cpu().double()).numpy()
    # Exact in JSON and in a viewer's float32. A single point has no size: any scale will do.
    return ((low + high) / 2).astype(np.float32), float(np.float32((high - low).max() / 2)) or 1.0


def _quantised_column(name: str, values: np.ndarray) -> np.ndarray:
    """Round an attribute to the normalised integers that KHR_mesh_quantization allows for it."""
    if name == "TEXCOORD_0" and (values.min() < 0 or values.max() > 1):
        return values  # No unsigned integer holds coordinates of a repeating texture.
    kind = {"POSITION": "<i2", "NORMAL": "|i1"}.get(name, "<u2")
    top = np.iinfo(kind).max
    return np.round(values.astype(np.float64) * top).clip(-top, top).astype(kind)


def _texture_objects(
    writer: "_Writer", texture: Texture, jpeg_quality: int | None
) -> dict[str, list[dict[str, Any]]]:
    levels = quantised(texture.rgb, bits=8)
    if jpeg_quality is None:
        data, mime = encoded(levels, "PNG", compress_level=6), "image/png"
    else:
        data, mime = encoded(levels, "JPEG", quality=jpeg_quality, subsampling=0), "image/jpeg"
    # Clamped: unwrapped charts never leave the picture, and plain-colour pictures are tiny.
    sampler = {"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP, "wrapS": _CLAMP, "wrapT": _CLAMP}
    return {
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [sampler],
        "images": [{"bufferView": writer.view(data, None), "mimeType": mime}],
    }


class _Writer:
    """Collects the binary chunk and the accessors that point into it."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None, stride: int | None = None) -> int:
        view: dict[str, Any] = {
            "buffer": 0,
            "byteOffset": len(self.binary),
            "byteLength": len(data),
        }
        view |= {} if target is None else {"target": target}
        self.views.append(view if stride is None else view | {"byteStride": stride})
        self.binary += data + bytes(-len(data) % 4)  # every view begins at a multiple of four
        return len(self.views) - 1

    def column(self, values: np.ndarray, *, with_bounds: bool = False) -> int:
        """Add a vertex attribute (v, c): floats as float32, integers as normalised ones."""
        array = values.astype("<f4") if values.dtype.kind == "f" else values
        row = array.shape[1] * array.itemsize
        # Rows, too, begin at multiples of four (3.6.2.4).
        padded = np.zeros((len(array), row + -row % 4), np.uint8)
        padded[:, :row] = np.ascontiguousarray(array).view(np.uint8).reshape(len(array), row)
        stride = None if row == padded.shape[1] else padded.shape[1]
        accessor: dict[str, Any] = {
            "bufferView": self.view(padded.tobytes(), _VERTEX_BUFFER, stride),
            "componentType": _COMPONENTS[array.dtype.str],
            "count": len(array),
            "type": f"VEC{array.shape[1]}",
        }
        if array.dtype.kind in "iu":
            accessor["normalized"] = True
        if with_bounds:
            # From the values as stored: the validator compares them exactly.
            accessor["min"] = array.min(axis=0).tolist()
            accessor["max"] = array.max(axis=0).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def indices(self, faces: Tensor) -> int:
        array = faces.detach().cpu().numpy().reshape(-1)
        small = int(array.max()) < 65535  # 65535 itself is reserved (3.7.2.1)
        data = array.astype("<u2" if small else "<u4").tobytes()
        self.accessors.append(
            {
                "bufferView": self.view(data, _INDEX_BUFFER),
                "componentType": _UINT16 if small else _UINT32,
                "count": len(array),
                "type": "SCALAR",
            }
        )
        return len(self.accessors) - 1

    def finish(self, document: dict[str, Any]) -> bytes:
        document |= {
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": len(self.binary)}],
        }
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        total = 12 + 8 + len(text) + 8 + len(self.binary)
        return (
            struct.pack("<4sII", b"glTF", 2, total)
            + struct.pack("<I4s", len(text), b"JSON")
            + text
            + struct.pack("<I4s", len(self.binary), b"BIN\0")
            + bytes(self.binary)
        )
