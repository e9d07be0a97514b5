"""Claims about joining parts: what stays as it is, and where packed pictures end up."""

import numpy as np
import pytest
import torch

from roundview.export import atlas
from roundview.export.atlas import Part, linear_from_srgb, mesh_from_parts, srgb_from_linear
from roundview.mesh import Mesh

TRIANGLE = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
FACE = np.array([[0, 1, 2]])
UV = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
WHITE = np.ones(3)


def plain(*rgb: float, h: int = 2, w: int = 2) -> np.ndarray:
    return np.tile(np.array(rgb, np.uint8), (h, w, 1))


def colour_at(mesh: Mesh, uv: torch.Tensor) -> torch.Tensor:
    """Sample the texture as a renderer does: linearly, clamped."""
    assert mesh.texture is not None
    picture = mesh.texture.rgb.permute(2, 0, 1)[None]
    grid = (uv * 2 - 1)[None, None]
    sampled = torch.nn.functional.grid_sample(
        picture, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled[0, :, 0].T


def test_srgb_has_its_published_values_and_returns() -> None:
    """IEC 61966-2-1: half is 0.2140, the linear piece ends at 0.04045."""
    values = np.array([0.0, 0.04045, 0.5, 1.0])
    wanted = [0.0, 0.04045 / 12.92, 0.21404114, 1.0]
    np.testing.assert_allclose(linear_from_srgb(values), wanted, rtol=1e-6)
    ramp = np.linspace(0, 1, 101)
    np.testing.assert_allclose(srgb_from_linear(linear_from_srgb(ramp)), ramp, atol=1e-7)


def test_plain_colours_become_vertex_colours() -> None:
    red, blue = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    mesh = mesh_from_parts([Part(TRIANGLE, FACE, red), Part(TRIANGLE, FACE, blue)])
    assert mesh.texture is None
    assert mesh.vertex_rgb is not None
    assert mesh.vertex_rgb.tolist() == [[1, 0, 0]] * 3 + [[0, 0, 1]] * 3
    assert mesh.faces.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_one_picture_stays_as_it_is() -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    part = Part(TRIANGLE, FACE, WHITE, UV, picture)
    mesh = mesh_from_parts([part, part])
    assert mesh.texture is not None
    assert mesh.uv is not None
    torch.testing.assert_close(mesh.texture.rgb * 255, torch.from_numpy(picture).float())
    assert mesh.uv.tolist() == [*UV.tolist(), *UV.tolist()]


def test_each_part_keeps_its_colour_in_the_packed_picture() -> None:
    """Also right at the border of its picture, where a neighbour could bleed in."""
    parts = [
        Part(TRIANGLE, FACE, WHITE, UV, plain(255, 0, 0, h=5, w=3)),
        Part(TRIANGLE, FACE, WHITE, UV, plain(0, 255, 0, h=2, w=9)),
        Part(TRIANGLE, FACE, np.array([0.0, 0.0, 1.0])),  # no picture at all
    ]
    mesh = mesh_from_parts(parts)
    assert mesh.uv is not None
    got = colour_at(mesh, mesh.uv)
    wanted = torch.eye(3).repeat_interleave(3, dim=0)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


def test_a_packed_picture_keeps_its_detail() -> None:
    """The middle of a texel of a gradient has the same colour before and after packing."""
    ramp = np.zeros((1, 8, 3), np.uint8)
    ramp[0, :, 0] = np.arange(8) * 30
    uv = np.stack([(np.array([0, 3, 7]) + 0.5) / 8, np.full(3, 0.5)], axis=1)
    parts = [
        Part(TRIANGLE, FACE, WHITE, uv, ramp),
        Part(TRIANGLE, FACE, WHITE, UV, plain(9, 9, 9, h=3)),
    ]
    mesh = mesh_from_parts(parts)
    assert mesh.uv is not None
    got = colour_at(mesh, mesh.uv[:3])[:, 0] * 255
    torch.testing.assert_close(got, torch.tensor([0.0, 90.0, 210.0]), rtol=0, atol=1e-3)


def test_whole_tiles_are_taken_off_each_face() -> None:
    """Two faces that share an edge, one tile apart: same colours, no second tile."""
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    uv = np.array([[5.0, 2.0], [6.0, 2.0], [5.0, 3.0], [6.0, 3.0]])
    faces = np.array([[0, 1, 2], [1, 3, 2]])
    part = Part(vertices, faces, WHITE, uv, plain(1, 2, 3), repeats=True)
    mesh = mesh_from_parts([part])
    assert mesh.texture is not None
    assert mesh.uv is not None
    assert tuple(mesh.texture.rgb.shape[:2]) == (2, 2)
    assert mesh.uv.min() >= 0
    assert mesh.uv.max() <= 1
    torch.testing.assert_close(
        mesh.vertices[mesh.faces], torch.from_numpy(vertices[faces]).float(), rtol=0, atol=0
    )


def test_a_face_over_several_tiles_repeats_the_picture() -> None:
    """U runs from 0 to 3 over a picture whose left half is red: red at u = 0.25, 1.25, 2.25."""
    half = np.concatenate([plain(255, 0, 0, w=4), plain(0, 0, 255, w=4)], axis=1)
    uv = UV * [3.0, 1.0]
    mesh = mesh_from_parts([Part(TRIANGLE, FACE, WHITE, uv, half, repeats=True)])
    assert mesh.texture is not None
    assert mesh.uv is not None
    assert tuple(mesh.texture.rgb.shape[:2]) == (2, 24)
    assert mesh.uv.max() <= 1
    for tile in range(3):
        at = torch.tensor([[(tile + 0.25) / 3, 0.5], [(tile + 0.75) / 3, 0.5]])
        wanted = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])
        torch.testing.assert_close(colour_at(mesh, at), wanted, rtol=0, atol=1e-5)


def test_absurd_repeats_are_cut(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atlas, "_LARGEST_PX", 64)
    part = Part(TRIANGLE, FACE, WHITE, UV * 1e30, plain(1, 2, 3), repeats=True)
    mesh = mesh_from_parts([part])
    assert mesh.texture is not None
    assert max(mesh.texture.rgb.shape) == 64
    assert "repeats" in caplog.text


def test_large_atlases_shrink_and_huge_ones_are_refused(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atlas, "_LARGEST_PX", 64)
    parts = [
        Part(TRIANGLE, FACE, WHITE, UV, plain(255, 0, 0, h=60, w=60)),
        Part(TRIANGLE, FACE, WHITE, UV, plain(0, 255, 0, h=60, w=60)),
    ]
    mesh = mesh_from_parts(parts)
    assert mesh.texture is not None
    assert mesh.uv is not None
    assert max(mesh.texture.rgb.shape) == 64
    assert "shrunk" in caplog.text
    wanted = torch.eye(3)[:2].repeat_interleave(3, dim=0)
    # Half-size texels mix a little of the empty atlas in at the rim of the gutter.
    torch.testing.assert_close(colour_at(mesh, mesh.uv), wanted, rtol=0, atol=0.3)
    monkeypatch.setattr(atlas, "_LARGEST_PX", 32)
    with pytest.raises(ValueError, match="more than we join"):
        mesh_from_parts(parts)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="no triangles"):
        mesh_from_parts([Part(TRIANGLE, np.zeros((0, 3), np.int64), WHITE)])
    with pytest.raises(ValueError, match="not finite"):
        mesh_from_parts([Part(TRIANGLE * 1e39, FACE, WHITE)])
