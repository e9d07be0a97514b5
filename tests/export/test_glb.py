"""Claims about GLB files: what is in them, that they come back, that the validator is content."""

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import block

import roundview
from roundview.export.glb import glb_bytes, load_glb, mesh_from_glb_bytes, save_glb
from roundview.export.inspect import validate_glb
from roundview.mesh import Mesh, Texture, mesh_health


def tetrahedron(
    uv: torch.Tensor | None = None,
    texture: Texture | None = None,
    vertex_rgb: torch.Tensor | None = None,
) -> Mesh:
    vertices = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    return Mesh(vertices, faces, uv, texture, vertex_rgb)


def textured() -> Mesh:
    levels = torch.randint(0, 256, (5, 3, 3), generator=torch.Generator().manual_seed(0))
    uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 1.0], [0.25, 0.75]])
    return tetrahedron(uv=uv, texture=Texture(levels.float() / 255))


def coloured() -> Mesh:
    return tetrahedron(vertex_rgb=torch.tensor([[0.0, 0.5, 1.0], [1, 1, 1], [0, 0, 0], [0.2] * 3]))


def ball() -> Mesh:
    """An egg off the centre with colours: many directions, no number round."""
    u, v = torch.meshgrid(torch.linspace(0, 6, 24), torch.linspace(0.1, 3, 13), indexing="ij")
    place = torch.stack([v.sin() * u.cos(), v.cos(), v.sin() * u.sin()], dim=-1).reshape(-1, 3)
    place = place / (place.amax(dim=0) - place.amin(dim=0)) * torch.tensor([1.0, 3.0, 2.0])
    corner = torch.arange(23 * 13).reshape(23, 13)[:, :-1].reshape(-1)
    faces = torch.cat(
        [
            torch.stack([corner, corner + 1, corner + 13], dim=-1),
            torch.stack([corner + 1, corner + 14, corner + 13], dim=-1),
        ]
    )
    return Mesh(place + 7.1, faces, vertex_rgb=(place.abs() / 3).clamp(0, 1))


def document_of(data: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<I", data[12:16])
    return json.loads(data[20 : 20 + length])


def assert_same_mesh(got: Mesh, wanted: Mesh) -> None:
    assert torch.equal(got.vertices, wanted.vertices)
    assert torch.equal(got.faces, wanted.faces)
    for a, b in ((got.uv, wanted.uv), (got.vertex_rgb, wanted.vertex_rgb)):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            # Colours go through linear light in float32.
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert (got.texture is None) == (wanted.texture is None)
    if got.texture is not None and wanted.texture is not None:
        assert torch.equal(got.texture.rgb, wanted.texture.rgb)


@pytest.mark.parametrize("mesh", [tetrahedron(), textured()], ids=["plain", "textured"])
def test_meshes_return(mesh: Mesh, tmp_path: Path) -> None:
    save_glb(mesh, tmp_path / "x.glb")
    got = load_glb(tmp_path / "x.glb")
    if mesh.texture is None:  # A file without colour is white, which the mesh then says.
        assert got.vertex_rgb is not None
        assert torch.equal(got.vertex_rgb, torch.ones(4, 3))
        got = Mesh(got.vertices, got.faces)
    assert_same_mesh(got, mesh)


def test_vertex_colours_return() -> None:
    assert_same_mesh(mesh_from_glb_bytes(glb_bytes(coloured())), coloured())


def test_vertex_colours_are_stored_linear() -> None:
    """SRGB 0.5 is 0.2140 of the light of white (IEC 61966-2-1)."""
    data = glb_bytes(coloured())
    document = document_of(data)
    accessor = document["accessors"][
        document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]
    ]
    view = document["bufferViews"][accessor["bufferView"]]
    start = 20 + struct.unpack("<I", data[12:16])[0] + 8 + view["byteOffset"]
    rgb = struct.unpack("<3f", data[start : start + 12])
    assert rgb == pytest.approx((0.0, 0.21404114, 1.0), rel=1e-6)


def test_the_same_mesh_gives_the_same_bytes() -> None:
    assert glb_bytes(textured()) == glb_bytes(textured())


def test_the_file_says_what_the_specification_asks() -> None:
    data = glb_bytes(textured())
    magic, version, total = struct.unpack("<4sII", data[:12])
    assert (magic, version, total) == (b"glTF", 2, len(data))
    document = document_of(data)
    assert document["asset"]["generator"] == f"roundview {roundview.__version__}"
    position = document["accessors"][
        document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]
    ]
    assert position["min"] == [0.0, 0.0, 0.0]
    assert position["max"] == [1.0, 1.0, 1.0]
    shading = document["materials"][0]["pbrMetallicRoughness"]
    assert (shading["metallicFactor"], shading["roughnessFactor"]) == (0.0, 1.0)
    assert all(view["byteOffset"] % 4 == 0 for view in document["bufferViews"])


def test_a_texture_can_be_a_jpeg() -> None:
    rgb = torch.linspace(0, 1, 64)[None, :, None].expand(64, 64, 3).contiguous()
    mesh = tetrahedron(uv=torch.rand(4, 2), texture=Texture(rgb))
    data = glb_bytes(mesh, jpeg_quality=95)
    assert document_of(data)["images"][0]["mimeType"] == "image/jpeg"
    got = mesh_from_glb_bytes(data)
    assert got.texture is not None
    torch.testing.assert_close(got.texture.rgb, rgb, rtol=0, atol=2 / 255)  # JPEG is lossy


def test_many_vertices_need_wide_indices() -> None:
    """65,535 is reserved in 16 bits, so a mesh with that index has 32."""
    for count, kind in ((65535, 5123), (65536, 5125)):
        vertices = torch.zeros(count, 3)
        vertices[1, 0], vertices[-1, 1] = 1.0, 1.0
        mesh = Mesh(vertices, torch.tensor([[0, 1, count - 1]]))
        data = glb_bytes(mesh)
        document = document_of(data)
        indices = document["accessors"][document["meshes"][0]["primitives"][0]["indices"]]
        assert indices["componentType"] == kind
        assert torch.equal(mesh_from_glb_bytes(data).faces, mesh.faces)


@pytest.mark.parametrize(
    "mesh", [tetrahedron(), textured(), coloured()], ids=["plain", "textured", "coloured"]
)
def test_the_khronos_validator_is_content(mesh: Mesh, tmp_path: Path) -> None:
    save_glb(mesh, tmp_path / "x.glb")
    report = validate_glb(tmp_path / "x.glb")
    if report is None:
        pytest.skip("gltf-validator is not installed (npm install --no-save gltf-validator)")
    # The 5x3 texture is no power of two, which is an info.
    assert (report["errors"], report["warnings"], report["hints"]) == (0, 0, 0), report


@pytest.mark.parametrize(
    "mesh", [tetrahedron(), textured(), coloured(), ball()], ids=["plain", "textured", "c", "ball"]
)
def test_the_khronos_validator_is_content_with_small_vertices(mesh: Mesh, tmp_path: Path) -> None:
    save_glb(mesh, tmp_path / "x.glb", quantize=True)
    report = validate_glb(tmp_path / "x.glb")
    if report is None:
        pytest.skip("gltf-validator is not installed (npm install --no-save gltf-validator)")
    assert (report["errors"], report["warnings"], report["hints"]) == (0, 0, 0), report


def test_small_vertices_return_within_their_rounding() -> None:
    wanted = ball()
    got = mesh_from_glb_bytes(glb_bytes(wanted, quantize=True))
    assert torch.equal(got.faces, wanted.faces)
    # Half of 65534ths of the longest side (3.0), and the float32 of a viewer's arithmetic.
    off = (got.vertices - wanted.vertices).abs().max()
    assert float(off) < 3.0 / 65534 / 2 + 1e-6
    assert got.vertex_rgb is not None
    assert wanted.vertex_rgb is not None
    torch.testing.assert_close(got.vertex_rgb, wanted.vertex_rgb, rtol=0, atol=1e-3)
    solid = Mesh(block().vertices * 0.7 + 0.3, block().faces)
    assert mesh_health(mesh_from_glb_bytes(glb_bytes(solid, quantize=True))).watertight  # no cracks
    seen = mesh_from_glb_bytes(glb_bytes(textured(), quantize=True))
    assert seen.uv is not None
    torch.testing.assert_close(seen.uv, textured().uv, rtol=0, atol=0.5 / 65535 + 1e-7)
    assert seen.texture is not None


def test_small_vertices_take_half_the_bytes() -> None:
    def vertex_bytes(data: bytes) -> int:
        return sum(
            v["byteLength"] for v in document_of(data)["bufferViews"] if v["target"] == 34962
        )

    mesh = Mesh(ball().vertices, ball().faces)
    mesh = Mesh(mesh.vertices, mesh.faces, torch.rand(len(mesh.vertices), 2))
    assert vertex_bytes(glb_bytes(mesh)) == 32 * len(mesh.vertices)
    assert vertex_bytes(glb_bytes(mesh, quantize=True)) == 16 * len(mesh.vertices)


def test_coordinates_of_a_repeating_texture_stay_floats() -> None:
    mesh = textured()
    assert mesh.uv is not None
    repeated = Mesh(mesh.vertices, mesh.faces, mesh.uv * 3 - 1, mesh.texture)
    document = document_of(glb_bytes(repeated, quantize=True))
    at = document["meshes"][0]["primitives"][0]["attributes"]["TEXCOORD_0"]
    assert document["accessors"][at]["componentType"] == 5126


def test_degenerate_faces_still_make_a_valid_file(tmp_path: Path) -> None:
    flat = Mesh(
        torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [9, 9, 9]]), torch.tensor([[0, 1, 2]])
    )
    save_glb(flat, tmp_path / "x.glb")
    report = validate_glb(tmp_path / "x.glb")
    if report is None:
        pytest.skip("gltf-validator is not installed (npm install --no-save gltf-validator)")
    assert (report["errors"], report["warnings"]) == (0, 0), report


def test_trimesh_reads_the_same(tmp_path: Path) -> None:
    import trimesh  # noqa: PLC0415  slow to import

    save_glb(textured(), tmp_path / "x.glb")
    other = trimesh.load_mesh(tmp_path / "x.glb", process=False)
    assert isinstance(other, trimesh.Trimesh)
    assert other.vertices.tolist() == textured().vertices.tolist()
    assert other.faces.tolist() == textured().faces.tolist()


def test_meshes_that_cannot_be_written_are_refused() -> None:
    with pytest.raises(ValueError, match="without faces"):
        glb_bytes(Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int64)))
    with pytest.raises(ValueError, match="not finite"):
        glb_bytes(Mesh(torch.full((3, 3), math.nan), torch.tensor([[0, 1, 2]])))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing\.glb"):
        load_glb(tmp_path / "missing.glb")
