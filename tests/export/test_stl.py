"""Claims about STL: millimetres, +Z up, on the plate; others read the same solid."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from fakes import block

from roundview.export.stl import load_stl, printable, save_stl
from roundview.mesh import Mesh, bounds, mesh_health


def wedge() -> Mesh:
    """One metre wide (x), two tall (y), four deep (z), no two corners alike but for the sides."""
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 4]])
    return Mesh(vertices, torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))


def test_up_is_z_and_the_height_is_as_asked() -> None:
    placed = printable(wedge(), 100.0)
    # A factor of 50; our front (+Z) is theirs at -Y, and the middle of the base over the origin.
    wanted = [[-25.0, 100, 0], [25, 100, 0], [-25, 100, 100], [-25, -100, 0]]
    torch.testing.assert_close(placed, torch.tensor(wanted))


def test_one_triangle_is_these_bytes(tmp_path: Path) -> None:
    triangle = Mesh(torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
    save_stl(triangle, tmp_path / "t.stl", height_mm=10.0)
    data = (tmp_path / "t.stl").read_bytes()
    assert not data.startswith(b"solid")
    assert data[80:] == struct.pack(
        "<I12fH", 1, *(0, -1, 0), *(-10, 0, 0), *(10, 0, 0), *(-10, 0, 10), 0
    )


def test_meshes_return(tmp_path: Path) -> None:
    save_stl(block(), tmp_path / "b.stl", height_mm=50.0)
    got = load_stl(tmp_path / "b.stl")
    assert len(got.faces) == 12
    assert len(got.vertices) == 8  # joined: the block has four for each side
    assert mesh_health(got).watertight
    size = bounds(got.vertices)
    torch.testing.assert_close(size[1] - size[0], torch.tensor([30.0, 50.0, 25.0]))
    assert float(size[0, 1]) == 0


@pytest.mark.parametrize("height_mm", [80.0, 12.5])
def test_trimesh_finds_the_same_solid(height_mm: float, tmp_path: Path) -> None:
    save_stl(wedge(), tmp_path / "w.stl", height_mm=height_mm)
    theirs = trimesh.load(tmp_path / "w.stl", force="mesh")
    assert isinstance(theirs, trimesh.Trimesh)
    assert theirs.is_watertight
    assert theirs.extents[2] == pytest.approx(height_mm, rel=1e-5)
    # A pyramid over half of 1 x 4, two high, scaled; positive, so it is not inside out.
    assert theirs.volume == pytest.approx(8 / 6 * (height_mm / 2) ** 3, rel=1e-4)


def test_numpy_stl_reads_the_same_corners(tmp_path: Path) -> None:
    stl_mesh = pytest.importorskip("stl.mesh", reason="pip install numpy-stl")
    save_stl(block(), tmp_path / "b.stl")
    theirs = stl_mesh.Mesh.from_file(str(tmp_path / "b.stl"))
    got = load_stl(tmp_path / "b.stl")
    ours = got.vertices[got.faces].numpy()
    np.testing.assert_array_equal(
        np.stack([theirs.vectors[..., 0], theirs.vectors[..., 2], -theirs.vectors[..., 1]], -1),
        ours,
    )


def test_text_and_files_that_lie_about_it_are_read(tmp_path: Path) -> None:
    save_stl(wedge(), tmp_path / "w.stl")
    data = (tmp_path / "w.stl").read_bytes()
    (tmp_path / "liar.stl").write_bytes(b"solid" + data[5:])
    wanted = load_stl(tmp_path / "w.stl")
    assert torch.equal(load_stl(tmp_path / "liar.stl").vertices, wanted.vertices)
    theirs = trimesh.load(tmp_path / "w.stl", force="mesh")
    theirs.export(tmp_path / "text.stl", file_type="stl_ascii")
    got = load_stl(tmp_path / "text.stl")
    torch.testing.assert_close(got.vertices, wanted.vertices, rtol=1e-5, atol=1e-5)
    assert torch.equal(got.faces, wanted.faces)


def test_faces_without_area_are_left_out(tmp_path: Path) -> None:
    mesh = wedge()
    faces = torch.cat([mesh.faces, torch.tensor([[1, 1, 2]])])
    save_stl(Mesh(mesh.vertices, faces), tmp_path / "w.stl")
    assert len(load_stl(tmp_path / "w.stl").faces) == 4


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"", "not an STL file"),
        (bytes(80) + struct.pack("<I", 5) + bytes(50), "cut off"),
        (bytes(84), "no triangles"),
        (b"solid x\nfacet normal 0 0 1\n", "has no end"),
        (b"solid x\nvertex 0 0 0\nendsolid", "1 corners are no triangles"),
        (b"solid x\nvertex 0 0 0\nvertex 0 a 0\nvertex 0 0 0\nendsolid", "a word where"),
        (b"solid x\nvertex 0 0 0\nvertex 0 nan 0\nvertex 0 0 0\nendsolid", "not finite"),
    ],
)
def test_broken_files_are_refused(data: bytes, wrong: str, tmp_path: Path) -> None:
    (tmp_path / "b.stl").write_bytes(data)
    with pytest.raises(ValueError, match=wrong):
        load_stl(tmp_path / "b.stl")
    with pytest.raises(ValueError, match="No such file"):
        load_stl(tmp_path / "missing.stl")


@pytest.mark.parametrize(
    ("mesh", "height_mm", "wrong"),
    [
        (wedge(), 0.0, "height_mm must be positive"),
        (wedge(), float("inf"), "height_mm must be positive"),
        (Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int64)), 1.0, "without faces"),
        (Mesh(torch.eye(3) * torch.tensor([1.0, 0, 1]), torch.tensor([[0, 1, 2]])), 1.0, "flat"),
        (Mesh(torch.full((3, 3), torch.nan), torch.tensor([[0, 1, 2]])), 1.0, "not finite"),
    ],
)
def test_what_cannot_be_printed_is_refused(
    mesh: Mesh, height_mm: float, wrong: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=wrong):
        save_stl(mesh, tmp_path / "b.stl", height_mm=height_mm)
    assert not list(tmp_path.iterdir())
