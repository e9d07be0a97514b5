"""Claims about USDZ, where Pixar's library is installed; and what is said where it is not."""

import importlib
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import block

from roundview.export.usdz import save_usdz
from roundview.mesh import Mesh, Texture, vertex_normals

Untyped = Any  # Pixar's library


@pytest.fixture(scope="module")
def pxr() -> Untyped:
    pytest.importorskip("pxr", reason="pip install roundview[usd]")
    for name in ("Usd", "UsdGeom", "UsdShade", "UsdUtils"):
        importlib.import_module(f"pxr.{name}")
    return importlib.import_module("pxr")


def textured() -> Mesh:
    mesh = block()
    uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.75], [0.0, 1.0]]).repeat(6, 1)
    levels = torch.randint(0, 256, (8, 4, 3), generator=torch.Generator().manual_seed(0))
    return Mesh(mesh.vertices, mesh.faces, uv, Texture(levels.float() / 255))


def test_the_stage_says_what_the_mesh_says(pxr: Untyped, tmp_path: Path) -> None:
    mesh = textured()
    save_usdz(mesh, tmp_path / "b.usdz", meters_per_unit=0.25)
    stage = pxr.Usd.Stage.Open(str(tmp_path / "b.usdz"))
    assert pxr.UsdGeom.GetStageUpAxis(stage) == "Y"
    assert pxr.UsdGeom.GetStageMetersPerUnit(stage) == 0.25
    assert stage.GetDefaultPrim().GetName() == "asset"
    (prim,) = [prim for prim in stage.Traverse() if prim.IsA(pxr.UsdGeom.Mesh)]
    surface = pxr.UsdGeom.Mesh(prim)
    np.testing.assert_array_equal(np.array(surface.GetPointsAttr().Get()), mesh.vertices)
    np.testing.assert_array_equal(
        np.array(surface.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3), mesh.faces
    )
    np.testing.assert_allclose(
        np.array(surface.GetNormalsAttr().Get()), vertex_normals(mesh), atol=1e-6
    )
    assert surface.GetSubdivisionSchemeAttr().Get() == "none"
    uv = np.array(pxr.UsdGeom.PrimvarsAPI(prim).GetPrimvar("st").Get())
    np.testing.assert_array_equal(uv[:4], [[0, 1], [1, 1], [1, 0.25], [0, 0]])
    cache = pxr.UsdGeom.BBoxCache(pxr.Usd.TimeCode.Default(), ["default"])
    size = cache.ComputeWorldBound(stage.GetPseudoRoot()).ComputeAlignedRange().GetSize()
    np.testing.assert_allclose(list(size), [0.6, 1.0, 0.5], rtol=1e-6)


def test_the_material_leads_to_the_picture(pxr: Untyped, tmp_path: Path) -> None:
    save_usdz(textured(), tmp_path / "b.usdz")
    with zipfile.ZipFile(tmp_path / "b.usdz") as package:
        assert package.namelist() == ["asset.usdc", "texture.png"]
        # USDZ is read in place: stored, and at multiples of 64 bytes.
        for entry in package.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert (entry.header_offset + 30 + len(entry.filename) + len(entry.extra)) % 64 == 0
    stage = pxr.Usd.Stage.Open(str(tmp_path / "b.usdz"))
    prim = stage.GetPrimAtPath("/asset/mesh")
    material, _ = pxr.UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
    preview, _, _ = material.ComputeSurfaceSource()
    assert preview.GetIdAttr().Get() == "UsdPreviewSurface"
    (source,), _ = preview.GetInput("diffuseColor").GetConnectedSources()
    picture = pxr.UsdShade.Shader(source.source.GetPrim())
    assert picture.GetInput("file").Get().path == "./texture.png"
    assert picture.GetInput("sourceColorSpace").Get() == "sRGB"


def test_vertex_colours_are_stored_linear(pxr: Untyped, tmp_path: Path) -> None:
    mesh = block()
    assert mesh.vertex_rgb is not None
    save_usdz(mesh, tmp_path / "b.usdz")
    stage = pxr.Usd.Stage.Open(str(tmp_path / "b.usdz"))
    prim = stage.GetPrimAtPath("/asset/mesh")
    rgb = np.array(pxr.UsdGeom.Gprim(prim).GetDisplayColorAttr().Get())
    grey = int((mesh.vertex_rgb[:, 0] == 0.5).nonzero()[0])
    np.testing.assert_allclose(rgb[grey], [0.21404] * 3, atol=1e-4)  # sRGB 0.5


@pytest.mark.parametrize(
    "mesh", [textured(), block(), Mesh(block().vertices, block().faces)], ids=["t", "v", "plain"]
)
def test_pixars_checks_find_nothing(pxr: Untyped, mesh: Mesh, tmp_path: Path) -> None:
    save_usdz(mesh, tmp_path / "b.usdz")
    assert complaints(pxr, tmp_path / "b.usdz") == []


def test_pixars_checks_would_find_something(pxr: Untyped, tmp_path: Path) -> None:
    stage = pxr.Usd.Stage.CreateNew(str(tmp_path / "bad.usda"))
    pxr.UsdGeom.Mesh.Define(stage, "/mesh")  # no up axis, no default prim
    stage.GetRootLayer().Save()
    assert complaints(pxr, tmp_path / "bad.usda")


def complaints(pxr: Untyped, path: Path) -> list[str]:
    """Run what usdchecker runs; versions from 25.11 on have validators, older ones a checker."""
    if hasattr(pxr.UsdUtils, "ComplianceChecker"):
        checker = pxr.UsdUtils.ComplianceChecker(arkit=path.suffix == ".usdz")
        checker.CheckCompliance(str(path))
        return checker.GetErrors() + checker.GetWarnings() + checker.GetFailedChecks()
    validation = importlib.import_module("pxr.UsdValidation")
    registry = validation.ValidationRegistry()
    context = validation.ValidationContext(registry.GetOrLoadAllValidators())
    found = context.Validate(pxr.Usd.Stage.Open(str(path)))
    return [f"{error.GetName()}: {error.GetMessage()}" for error in found]


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pxr"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(ValueError, match=r"pip install roundview\[usd\]"):
        save_usdz(block(), tmp_path / "b.usdz")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("pxr")
def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    mesh = block()
    with pytest.raises(ValueError, match="meters_per_unit must be positive"):
        save_usdz(mesh, tmp_path / "b.usdz", meters_per_unit=0.0)
    with pytest.raises(ValueError, match="without faces"):
        save_usdz(Mesh(mesh.vertices, mesh.faces[:0]), tmp_path / "b.usdz")
    with pytest.raises(ValueError, match="not finite"):
        save_usdz(Mesh(mesh.vertices / 0, mesh.faces), tmp_path / "b.usdz")
    assert not list(tmp_path.iterdir())
