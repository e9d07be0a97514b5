"""Claims about reading USDZ: what we write comes back, and so do stages of other makers."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import block

from roundview.export.convert import load_any, save_as
from roundview.export.usdz import save_usdz
from roundview.export.usdz_read import load_usdz
from roundview.mesh import Mesh, Texture, mesh_health

Untyped = Any  # Pixar's library


@pytest.fixture(scope="module")
def pxr() -> Untyped:
    pytest.importorskip("pxr", reason="pip install roundview[usd]")
    for name in ("Gf", "Sdf", "Usd", "UsdGeom", "UsdUtils", "Vt"):
        importlib.import_module(f"pxr.{name}")
    return importlib.import_module("pxr")


def textured() -> Mesh:
    mesh = block()
    uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.75], [0.0, 1.0]]).repeat(6, 1)
    levels = torch.randint(0, 256, (8, 4, 3), generator=torch.Generator().manual_seed(0))
    return Mesh(mesh.vertices, mesh.faces, uv, Texture(levels.float() / 255))


def square(pxr: Untyped, folder: Path, *, up: str = "Y", hand: str = "rightHanded") -> Path:
    """A package with one four-cornered polygon, turned and moved, coloured corner by corner."""
    stage = pxr.Usd.Stage.CreateNew(str(folder / "square.usdc"))
    pxr.UsdGeom.SetStageUpAxis(stage, up)
    frame = pxr.UsdGeom.Xform.Define(stage, "/frame")
    frame.AddTranslateOp().Set(pxr.Gf.Vec3d(10, 20, 30))
    surface = pxr.UsdGeom.Mesh.Define(stage, "/frame/square")
    surface.CreatePointsAttr([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)])
    surface.CreateFaceVertexCountsAttr([4])
    surface.CreateFaceVertexIndicesAttr([0, 1, 2, 3])
    surface.CreateOrientationAttr(hand)
    colour = surface.CreateDisplayColorPrimvar("faceVarying")
    colour.Set([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)])
    stage.GetRootLayer().Save()
    asset = pxr.Sdf.AssetPath(str(folder / "square.usdc"))
    assert pxr.UsdUtils.CreateNewUsdzPackage(asset, str(folder / "square.usdz"))
    return folder / "square.usdz"


@pytest.mark.usefixtures("pxr")
def test_a_textured_mesh_returns(tmp_path: Path) -> None:
    mesh = textured()
    save_usdz(mesh, tmp_path / "b.usdz")
    got = load_usdz(tmp_path / "b.usdz")
    assert got.texture is not None
    assert got.uv is not None
    assert mesh.texture is not None
    assert mesh.uv is not None
    assert torch.equal(got.vertices[got.faces], mesh.vertices[mesh.faces])
    torch.testing.assert_close(got.uv[got.faces], mesh.uv[mesh.faces])
    assert torch.equal(got.texture.rgb, mesh.texture.rgb)
    assert mesh_health(got).watertight


@pytest.mark.usefixtures("pxr")
def test_vertex_colours_return(tmp_path: Path) -> None:
    mesh = block()
    save_as(mesh, tmp_path / "b.usdz")
    got = load_any(tmp_path / "b.usdz")
    assert isinstance(got, Mesh)
    assert got.vertex_rgb is not None
    assert mesh.vertex_rgb is not None
    torch.testing.assert_close(got.vertex_rgb[got.faces], mesh.vertex_rgb[mesh.faces])


@pytest.mark.parametrize("up", ["Y", "Z"])
def test_polygons_are_placed_and_cut_and_keep_the_colours_of_their_corners(
    up: str, pxr: Untyped, tmp_path: Path
) -> None:
    got = load_usdz(square(pxr, tmp_path, up=up))
    corners = got.vertices[got.faces]
    where = {"Y": [[10.0, 20, 30], [11, 20, 30]], "Z": [[10.0, 30, -20], [11, 30, -20]]}[up]
    assert corners[0, :2].tolist() == where
    assert len(corners) == 2
    assert got.vertex_rgb is not None
    colours = got.vertex_rgb[got.faces]
    torch.testing.assert_close(colours[0], torch.eye(3))
    torch.testing.assert_close(colours[1], torch.tensor([[1.0, 0, 0], [0, 0, 1], [1, 1, 1]]))


def test_left_handed_polygons_are_turned_over(pxr: Untyped, tmp_path: Path) -> None:
    got = load_usdz(square(pxr, tmp_path, hand="leftHanded"))
    a, b, c = got.vertices[got.faces[0]]
    assert float(torch.linalg.cross(b - a, c - a)[2]) < 0


@pytest.mark.usefixtures("pxr")
def test_broken_files_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "b.usdz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"cannot read .*b\.usdz") as caught:
        load_usdz(tmp_path / "b.usdz")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no such file"):
        load_usdz(tmp_path / "gone.usdz")
    save_usdz(textured(), tmp_path / "c.usdz")
    whole = (tmp_path / "c.usdz").read_bytes()
    (tmp_path / "c.usdz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot read"):
        load_usdz(tmp_path / "c.usdz")


def test_sizes_that_a_damaged_file_claims_are_not_believed(pxr: Untyped, tmp_path: Path) -> None:
    stage = pxr.Usd.Stage.CreateNew(str(tmp_path / "a.usda"))
    surface = pxr.UsdGeom.Mesh.Define(stage, "/a")
    surface.CreatePointsAttr([(0, 0, 0), (1, 0, 0), (0, 1, 0)])
    surface.CreateFaceVertexIndicesAttr([0, 1, 2])
    surface.CreateFaceVertexCountsAttr([2**31 - 1, 2**31 - 1])
    stage.Save()
    layer = pxr.Sdf.AssetPath(str(tmp_path / "a.usda"))
    pxr.UsdUtils.CreateNewUsdzPackage(layer, str(tmp_path / "a.usdz"))
    with pytest.raises(ValueError, match="corners that are not there"):
        load_usdz(tmp_path / "a.usdz")


@pytest.mark.usefixtures("pxr")
def test_a_file_that_ends_its_reader_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_usdz(block(), tmp_path / "a.usdz")
    for trial in ("import os; os.abort()", "bytes(1 << 62)"):
        monkeypatch.setattr("roundview.export.usdz_read._TRIAL", trial)
        with pytest.raises(ValueError, match="damaged, or asks for too much"):
            load_usdz(tmp_path / "a.usdz")
    monkeypatch.setattr("roundview.export.usdz_read._TRIAL", "while True: pass")
    monkeypatch.setattr("roundview.export.usdz_read._TRIAL_SECONDS", 0.2)
    with pytest.raises(ValueError, match="takes too long"):
        load_usdz(tmp_path / "a.usdz")
