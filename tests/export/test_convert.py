"""Claims about conversion: the suffix decides, and nonsense is said to be so."""

from pathlib import Path

import pytest
import torch
import trimesh
from fakes import block

from roundview.export.convert import (
    MESH_SUFFIXES,
    SPLAT_SUFFIXES,
    check_suffix,
    load_any,
    save_as,
    vertex_coloured,
)
from roundview.gaussians import Gaussians
from roundview.mesh import Mesh, Texture


def splats() -> Gaussians:
    return Gaussians(
        torch.eye(3),
        torch.full((3, 3), -3.0),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 3),
        torch.zeros(3),
        torch.zeros(3, 1, 3),
    )


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply", ".stl", ".3mf"])
def test_meshes_come_back_whatever_the_format(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"b{suffix.upper()}"
    save_as(block(), path)
    got = load_any(path)
    assert isinstance(got, Mesh)
    tall = got.vertices[:, 1].max() - got.vertices[:, 1].min()
    assert float(tall) == pytest.approx(80.0 if suffix in (".stl", ".3mf") else 1.0)
    assert len(got.faces) == 12


@pytest.mark.parametrize("suffix", SPLAT_SUFFIXES)
def test_splats_come_back_whatever_the_format(suffix: str, tmp_path: Path) -> None:
    save_as(splats(), tmp_path / f"g{suffix}")
    got = load_any(tmp_path / f"g{suffix}")
    assert isinstance(got, Gaussians)
    assert torch.equal(got.centre, torch.eye(3))


def test_sizes_reach_the_file(tmp_path: Path) -> None:
    for name in ("b.stl", "b.3mf"):
        save_as(block(), tmp_path / name, height_mm=40.0)
        theirs = trimesh.load(tmp_path / name, force="mesh")
        assert isinstance(theirs, trimesh.Trimesh)
        assert theirs.extents[2] == pytest.approx(40.0)


def test_small_vertices_make_a_smaller_file(tmp_path: Path) -> None:
    save_as(block(), tmp_path / "a.glb")
    save_as(block(), tmp_path / "b.glb", quantize=True)
    assert (tmp_path / "b.glb").stat().st_size < (tmp_path / "a.glb").stat().st_size


def test_a_ply_takes_the_textures_colours(tmp_path: Path) -> None:
    mesh = block()
    levels = torch.tensor([[[1.0, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 1, 1]]])
    uv = torch.tensor([[0.1, 0.2], [0.9, 0.2], [0.1, 0.9], [1.0, 1.0]]).repeat(6, 1)
    save_as(Mesh(mesh.vertices, mesh.faces, uv, Texture(levels)), tmp_path / "b.ply")
    got = load_any(tmp_path / "b.ply")
    assert isinstance(got, Mesh)
    assert got.vertex_rgb is not None
    assert torch.equal(got.vertex_rgb[:4], levels.reshape(4, 3))
    assert vertex_coloured(mesh) is mesh


@pytest.mark.parametrize(
    ("suffix", "splats_in", "wrong"),
    [
        (".spz", False, "holds splats, this is a mesh: write .glb, .obj, .ply, .stl, .3mf or"),
        (".stl", True, "holds a mesh, this is splats: write .ply, .splat or .spz"),
        (".fbx", False, r"\.fbx is no format we write: \.3mf, \.glb, .* or \.usdz"),
        ("", True, "no suffix is no format"),
    ],
)
def test_formats_that_do_not_fit_are_refused(suffix: str, splats_in: bool, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        check_suffix(suffix, splats=splats_in)


def test_every_known_format_fits_something() -> None:
    for suffix in MESH_SUFFIXES:
        check_suffix(suffix, splats=False)
    for suffix in SPLAT_SUFFIXES:
        check_suffix(suffix, splats=True)


def test_arguments_without_a_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"height_mm is for \.stl, \.3mf or \.usdz"):
        save_as(block(), tmp_path / "b.glb", height_mm=3.0)
    with pytest.raises(ValueError, match=r"quantize is for \.glb"):
        save_as(block(), tmp_path / "b.obj", quantize=True)
    assert not list(tmp_path.iterdir())


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a \.glb, \.obj"):
        load_any(tmp_path / "b.blend")
