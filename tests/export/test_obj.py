"""Claims about OBJ: it comes back, v is turned over, broken files name their line."""

import logging
from pathlib import Path

import pytest
import torch

from roundview.export.files import write_png
from roundview.export.obj import load_obj, save_obj
from roundview.mesh import Mesh, Texture


def corner_sets(mesh: Mesh) -> torch.Tensor:
    """Positions and texture coordinates face by face: these stay when vertices are renumbered."""
    assert mesh.uv is not None
    return torch.cat([mesh.vertices, mesh.uv], dim=1)[mesh.faces]


def textured() -> Mesh:
    rng = torch.Generator().manual_seed(1)
    levels = torch.randint(0, 256, (4, 4, 3), generator=rng)
    return Mesh(
        torch.randn(6, 3, generator=rng),
        torch.tensor([[0, 1, 2], [2, 1, 3], [4, 5, 0]]),
        torch.rand(6, 2, generator=rng),
        Texture(levels.float() / 255),
    )


def test_textured_meshes_return(tmp_path: Path) -> None:
    save_obj(textured(), tmp_path / "x.obj")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.mtl", "x.obj", "x.png"]
    got = load_obj(tmp_path / "x.obj")
    # The coordinate v is stored as 1 - v.
    torch.testing.assert_close(corner_sets(got), corner_sets(textured()), rtol=1e-6, atol=1e-6)
    assert got.texture is not None
    assert torch.equal(got.texture.rgb, textured().texture.rgb)  # pyright: ignore[reportOptionalMemberAccess]


def test_coloured_meshes_return(tmp_path: Path) -> None:
    mesh = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]), vertex_rgb=torch.rand(3, 3))
    save_obj(mesh, tmp_path / "x.obj")
    got = load_obj(tmp_path / "x.obj")
    assert torch.equal(got.vertices, mesh.vertices)
    assert got.vertex_rgb is not None
    torch.testing.assert_close(got.vertex_rgb, mesh.vertex_rgb)
    assert [p.name for p in tmp_path.iterdir()] == ["x.obj"]


def test_a_square_by_hand(tmp_path: Path) -> None:
    """Polygons, indices from the end, and the texture's bottom-left origin."""
    text = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
    text += "mtllib x.mtl\nusemtl wood\nf -4/-4 -3/-3 -2/-2 -1/-1\n"
    (tmp_path / "x.obj").write_text(text)
    (tmp_path / "x.mtl").write_text("newmtl wood\nKd 1 1 1\nmap_Kd -s 1 1 1 my wood.png\n")
    write_png(tmp_path / "wood.png", torch.rand(2, 2, 3))
    mesh = load_obj(tmp_path / "x.obj")
    assert mesh.faces.shape == (2, 3)
    assert mesh.uv is not None
    low = mesh.vertices[:, 1] == 0
    assert mesh.uv[low][:, 1].tolist() == [1.0, 1.0]  # our v grows downwards
    assert mesh.texture is not None


def test_plain_materials_give_colours(tmp_path: Path) -> None:
    text = (
        "mtllib x.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl a\nf 1 2 3\nusemtl b\nf 3//1 2//1 1//1\n"
    )
    (tmp_path / "x.obj").write_text(text)
    (tmp_path / "x.mtl").write_text("newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 0 1\n")
    mesh = load_obj(tmp_path / "x.obj")
    assert mesh.vertex_rgb is not None
    assert mesh.vertex_rgb[mesh.faces[:, 0]].tolist() == [[1, 0, 0], [0, 0, 1]]


def test_a_missing_material_file_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "x.obj").write_text("mtllib gone.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with caplog.at_level(logging.WARNING):
        assert len(load_obj(tmp_path / "x.obj").faces) == 1
    assert "gone.mtl" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no triangles"),
        ("v 0 0\n", "line 1"),
        ("v a b c\n", "line 1"),
        ("v 0 0 0\nf 1 1 2\n", "line 2: index 2 of 1"),
        ("v 0 0 0\nf 0 0 0\n", "index 0"),
        ("v 0 0 0\nf 1 1\n", "three corners"),
        ("v nan 0 0\nf 1 1 1\n", "not finite"),
        ("v 0 0 0\nf 1/1 1/1 1/1\n", "index 1 of 0"),
    ],
)
def test_broken_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.obj").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_obj(tmp_path / "x.obj")


def test_a_missing_texture_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.obj").write_text("mtllib x.mtl\n")
    (tmp_path / "x.mtl").write_text("newmtl a\nmap_Kd ../secret.png\n")
    with pytest.raises(ValueError, match=r"secret\.png is missing"):
        load_obj(tmp_path / "x.obj")


def test_what_obj_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="blank"):
        save_obj(textured(), tmp_path / "my mesh.obj")
    with pytest.raises(ValueError, match="without faces"):
        save_obj(Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int64)), tmp_path / "x.obj")
    assert list(tmp_path.iterdir()) == []
