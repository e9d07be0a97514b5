"""Claims about reading GLB files that others wrote, well or badly."""

import base64
import json
import random
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from roundview.export.files import png_bytes
from roundview.export.glb import glb_bytes
from roundview.export.glb_read import mesh_from_glb_bytes
from roundview.mesh import Mesh, Texture, face_normals

TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)


class File:
    """Builds a GLB by hand: arrays go into the binary chunk, the rest is plain JSON."""

    def __init__(self) -> None:
        self.binary = b""
        self.document: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "accessors": [],
            "bufferViews": [],
            "nodes": [],
            "meshes": [],
        }

    def view(self, data: bytes, **extra: object) -> int:
        view = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data)}
        self.document["bufferViews"].append(view | extra)
        self.binary += data + bytes(-len(data) % 4)
        return len(self.document["bufferViews"]) - 1

    def array(self, values: np.ndarray, **extra: object) -> int:
        kinds = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
        width = 1 if values.ndim == 1 else values.shape[1]
        accessor = {
            "bufferView": self.view(values.tobytes()),
            "componentType": kinds[values.dtype.str[1:]],
            "count": len(values),
            "type": {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}[width],
        }
        self.document["accessors"].append(accessor | extra)
        return len(self.document["accessors"]) - 1

    def mesh(self, *primitives: dict[str, Any]) -> int:
        self.document["meshes"].append({"primitives": list(primitives)})
        return len(self.document["meshes"]) - 1

    def node(self, **node: object) -> int:
        self.document["nodes"].append(node)
        return len(self.document["nodes"]) - 1

    def texture(self, rgb: torch.Tensor, **sampler: int) -> int:
        """Add a picture and a texture that uses it; give a material's index."""
        document = self.document
        for name in ("images", "textures", "samplers", "materials"):
            document.setdefault(name, [])
        picture = {"bufferView": self.view(png_bytes(rgb)), "mimeType": "image/png"}
        document["images"].append(picture)
        document["samplers"].append(sampler)
        at = len(document["images"]) - 1
        document["textures"].append({"source": at, "sampler": len(document["samplers"]) - 1})
        material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": at}}}
        document["materials"].append(material)
        return len(document["materials"]) - 1

    def build(self) -> bytes:
        self.document["buffers"] = [{"byteLength": len(self.binary)}]
        return glb(self.document, self.binary)

    def read(self) -> Mesh:
        return mesh_from_glb_bytes(self.build())


def glb(document: object, binary: bytes = b"") -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text
    body += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def one_triangle() -> File:
    file = File()
    file.node(mesh=file.mesh({"attributes": {"POSITION": file.array(TRIANGLE)}}))
    return file


def test_corners_without_indices_are_taken_in_order() -> None:
    mesh = one_triangle().read()
    assert mesh.vertices.tolist() == TRIANGLE.tolist()
    assert mesh.faces.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("kind", ["u1", "u2", "u4"])
def test_every_index_width_is_read(kind: str) -> None:
    file = File()
    indices = file.array(np.array([2, 0, 1], kind))
    position = file.array(TRIANGLE)
    file.node(mesh=file.mesh({"attributes": {"POSITION": position}, "indices": indices}))
    assert file.read().faces.tolist() == [[2, 0, 1]]


def test_interleaved_vertices_are_read() -> None:
    file = File()
    rows = np.concatenate([TRIANGLE, np.full((3, 2), 7, np.float32)], axis=1)
    view = file.view(rows.tobytes(), byteStride=20)
    accessor = {"bufferView": view, "componentType": 5126, "count": 3, "type": "VEC3"}
    file.document["accessors"].append(accessor)
    file.node(mesh=file.mesh({"attributes": {"POSITION": 0}}))
    assert file.read().vertices.tolist() == TRIANGLE.tolist()


def test_a_node_turns_then_scales_then_moves() -> None:
    """A quarter turn about y takes +x to -z; scaled by 2, moved up by 3."""
    file = one_triangle()
    half = 0.5**0.5
    file.document["nodes"] = [
        {"children": [1], "translation": [0, 3, 0]},
        {"mesh": 0, "rotation": [0, half, 0, half], "scale": [2, 2, 2]},
    ]
    wanted = torch.tensor([[0.0, 3, 0], [0, 3, -2], [0, 5, 0]])
    torch.testing.assert_close(file.read().vertices, wanted, rtol=1e-6, atol=1e-6)


def test_a_matrix_is_stored_by_columns() -> None:
    file = one_triangle()
    file.document["nodes"][0]["matrix"] = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 6, 7, 1]
    assert file.read().vertices[0].tolist() == [5, 6, 7]


def test_a_mirror_does_not_turn_triangles_inside_out() -> None:
    file = one_triangle()
    before = face_normals(file.read())
    file.document["nodes"][0]["scale"] = [-1, 1, 1]
    torch.testing.assert_close(face_normals(file.read()), before)


def test_only_the_scene_that_is_shown_counts() -> None:
    file = one_triangle()
    file.node(mesh=0, translation=[9, 9, 9])
    file.document["scenes"] = [{"nodes": [0]}, {"nodes": [1]}]
    assert len(file.read().faces) == 1
    file.document["scene"] = 1
    assert file.read().vertices[0].tolist() == [9, 9, 9]


def test_parts_are_joined_and_share_one_picture() -> None:
    file = File()
    material = file.texture(torch.rand(4, 4, 3), wrapS=33071, wrapT=33071)
    uv = file.array(np.array([[0, 0], [1, 0], [0, 1]], np.float32))
    position = file.array(TRIANGLE)
    part = {"attributes": {"POSITION": position, "TEXCOORD_0": uv}, "material": material}
    file.node(mesh=file.mesh(part, part))
    mesh = file.read()
    assert mesh.faces.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert mesh.texture is not None
    assert tuple(mesh.texture.rgb.shape) == (4, 4, 3)


def test_a_colour_factor_is_linear_light() -> None:
    """A factor of 0.2140 makes white the grey of sRGB 0.5."""
    file = one_triangle()
    shading = {"baseColorFactor": [0.21404114, 1.0, 0.0, 1.0]}
    file.document["materials"] = [{"pbrMetallicRoughness": shading}]
    file.document["meshes"][0]["primitives"][0]["material"] = 0
    rgb = file.read().vertex_rgb
    assert rgb is not None
    torch.testing.assert_close(rgb[0], torch.tensor([0.5, 1.0, 0.0]), rtol=1e-5, atol=1e-6)


def test_a_colour_factor_tints_the_picture() -> None:
    file = File()
    material = file.texture(torch.ones(2, 2, 3))
    shading = file.document["materials"][material]["pbrMetallicRoughness"]
    shading["baseColorFactor"] = [0.21404114, 1.0, 0.0, 1.0]
    attributes = {
        "POSITION": file.array(TRIANGLE),
        "TEXCOORD_0": file.array(TRIANGLE[:, :2].copy()),
    }
    file.node(mesh=file.mesh({"attributes": attributes, "material": material}))
    mesh = file.read()
    assert mesh.texture is not None
    torch.testing.assert_close(
        mesh.texture.rgb[0, 0], torch.tensor([0.5, 1.0, 0.0]), rtol=0, atol=0.51 / 255
    )


def test_quantized_positions_are_scaled() -> None:
    file = File()
    position = file.array(
        np.array([[0, 0, 0, 0], [127, 0, 0, 0], [0, -127, 0, 0]], "i1")[:, :3].copy()
    )
    file.document["accessors"][position]["normalized"] = True
    file.document["extensionsRequired"] = ["KHR_mesh_quantization"]
    file.node(mesh=file.mesh({"attributes": {"POSITION": position}}))
    assert file.read().vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, -1, 0]]


def test_buffers_may_be_in_the_text() -> None:
    file = one_triangle()
    uri = "data:application/octet-stream;base64," + base64.b64encode(file.binary).decode()
    file.document["buffers"] = [{"byteLength": len(file.binary), "uri": uri}]
    assert len(mesh_from_glb_bytes(glb(file.document)).faces) == 1


def break_it(change: Callable[[dict[str, Any]], Any]) -> bytes:
    file = one_triangle()
    file.build()
    change(file.document)
    return glb(file.document, file.binary)


def primitive(document: dict[str, Any]) -> dict[str, Any]:
    return document["meshes"][0]["primitives"][0]


BROKEN = {
    "strip": (lambda d: primitive(d).update(mode=5), "triangle strip"),
    "points only": (lambda d: primitive(d).update(mode=0), "no triangles"),
    "draco": (
        lambda d: d.update(extensionsRequired=["KHR_draco_mesh_compression"]),
        "KHR_draco_mesh_compression",
    ),
    "no position": (lambda d: primitive(d).update(attributes={}), "malformed"),
    "index too far": (lambda d: d["nodes"][0].update(mesh=7), "malformed"),
    "negative index": (lambda d: d["nodes"][0].update(mesh=-1), "malformed"),
    "cycle": (
        lambda d: d["nodes"][0].update(children=[0]) or d.update(scenes=[{"nodes": [0]}]),
        "ancestor",
    ),
    "all are children": (lambda d: d["nodes"][0].update(children=[0]), "no triangles"),
    "huge count": (lambda d: d["accessors"][0].update(count=10**12), "beyond its buffer view"),
    "no count": (lambda d: d["accessors"][0].pop("count"), "malformed"),
    "four corners": (lambda d: d["accessors"][0].update(count=2), "multiple of 3"),
    "wrong width": (lambda d: d["accessors"][0].update(type="VEC2"), "expected 3"),
    "view too long": (lambda d: d["bufferViews"][0].update(byteLength=10**9), "beyond the file"),
    "stride": (lambda d: d["bufferViews"][0].update(byteStride=1), "beyond its buffer view"),
    "sparse": (lambda d: d["accessors"][0].update(sparse={}), "sparse"),
    "outside": (lambda d: d.update(buffers=[{"uri": "/etc/passwd"}]), "outside of the file"),
    "nodes no list": (lambda d: d.update(nodes={"a": 1}), "malformed"),
    "rotation text": (lambda d: d["nodes"][0].update(rotation="abcd"), "could not convert"),
    "infinite": (lambda d: d["nodes"][0].update(scale=[1e308] * 3), "finite"),
    "empty": (lambda d: d.clear(), "no triangles"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_in_one_line(name: str) -> None:
    change, message = BROKEN[name]
    with pytest.raises(ValueError, match=message) as caught:
        mesh_from_glb_bytes(break_it(change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"glTF", b"glTF" + bytes(40), b"{}" * 20, glb([]), glb(None), glb("x"), glb({})[:-9]],
)
def test_what_is_no_glb_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"it is|GLB"):
        mesh_from_glb_bytes(data)


def test_no_damage_gives_anything_but_a_mesh_or_a_value_error() -> None:
    """Cut and flip bytes of a good file in 300 ways."""
    uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    texture = Texture(torch.rand(4, 4, 3, generator=torch.Generator().manual_seed(0)))
    good = glb_bytes(Mesh(torch.from_numpy(TRIANGLE), torch.tensor([[0, 1, 2]]), uv, texture))
    dice = random.Random(0)
    refused = 0
    for _ in range(300):
        data = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        if dice.random() < 0.2:
            data = data[: dice.randrange(len(data))]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's, about the damaged picture
                mesh_from_glb_bytes(bytes(data))
        except ValueError:
            refused += 1
    assert refused > 100
