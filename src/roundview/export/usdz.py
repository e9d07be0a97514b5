"""USDZ: a textured mesh for AR on phones and for USD's tools; needs the extra `usd`.

Pixar, "Universal Scene Description" and "USDZ File Format Specification", version 1.3, 2021. The
stage is +Y up like our world. Its texture coordinates grow upwards, ours downwards. Pixar's own
library writes the file, since its binary layers have no specification.
"""

import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..mesh import Mesh, bounds, vertex_normals
from .atlas import linear_from_srgb
from .files import atomic_path, write_png

_NAME = "asset"
Untyped = Any  # what Pixar's library has no types for


def save_usdz(mesh: Mesh, path: Path | str, *, meters_per_unit: float = 1.0) -> None:
    """Write a mesh with its texture or vertex colours as USDZ, atomically.

    Args:
        mesh: At least one face.
        path: Where to.
        meters_per_unit: How long a unit of the mesh is; with 1, as in glTF, an asset is 1 m long.

    Raises:
        ValueError: If usd-core is not installed, the mesh is empty or not finite, or
            meters_per_unit is not positive.
    """
    pxr = load_pxr()
    if not len(mesh.faces):
        raise ValueError("a mesh without faces cannot be written as USDZ")
    if not bool(mesh.vertices.isfinite().all()):
        raise ValueError("the mesh has vertices that are not finite")
    if not (0 < meters_per_unit < float("inf")):
        raise ValueError(f"meters_per_unit must be positive, got {meters_per_unit}")
    textured = mesh.texture is not None and mesh.uv is not None
    with tempfile.TemporaryDirectory() as name, atomic_path(path) as temporary:
        folder = Path(name)
        layer = folder / f"{_NAME}.usdc"
        stage = pxr.Usd.Stage.CreateNew(str(layer))
        pxr.UsdGeom.SetStageUpAxis(stage, pxr.UsdGeom.Tokens.y)
        pxr.UsdGeom.SetStageMetersPerUnit(stage, meters_per_unit)
        root = pxr.UsdGeom.Xform.Define(stage, f"/{_NAME}")
        stage.SetDefaultPrim(root.GetPrim())
        pxr.Usd.ModelAPI(root).SetKind(pxr.Kind.Tokens.component)
        surface = _surface(pxr, stage, mesh)
        if textured and mesh.texture is not None:
            write_png(folder / "texture.png", mesh.texture.rgb)
            _bind(pxr, stage, surface, _picture(pxr, stage, "./texture.png"))
        elif mesh.vertex_rgb is not None:
            _bind(pxr, stage, surface, _vertex_colour(pxr, stage, surface, mesh))
        stage.GetRootLayer().Save()
        if not pxr.UsdUtils.CreateNewUsdzPackage(pxr.Sdf.AssetPath(str(layer)), str(temporary)):
            raise ValueError(f"usd-core could not pack {path}")


def _surface(pxr: Untyped, stage: Untyped, mesh: Mesh) -> Untyped:
    """Define the triangles, with normals and texture coordinates."""
    vertices = np.ascontiguousarray(mesh.vertices.detach().cpu().numpy(), np.float32)
    faces = mesh.faces.cpu().numpy().astype(np.int32)
    surface = pxr.UsdGeom.Mesh.Define(stage, f"/{_NAME}/mesh")
    surface.CreatePointsAttr(pxr.Vt.Vec3fArray.FromNumpy(vertices))
    surface.CreateFaceVertexCountsAttr(pxr.Vt.IntArray.FromNumpy(np.full(len(faces), 3, np.int32)))
    surface.CreateFaceVertexIndicesAttr(pxr.Vt.IntArray.FromNumpy(faces.reshape(-1)))
    normals = vertex_normals(mesh).detach().cpu().numpy().astype(np.float32)
    surface.CreateNormalsAttr(pxr.Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(normals)))
    surface.SetNormalsInterpolation(pxr.UsdGeom.Tokens.vertex)
    # Else the triangles are taken for the cage of a smooth surface.
    surface.CreateSubdivisionSchemeAttr(pxr.UsdGeom.Tokens.none)
    surface.CreateDoubleSidedAttr(True)
    extent = bounds(mesh.vertices).detach().cpu().numpy().astype(np.float32)
    surface.CreateExtentAttr(pxr.Vt.Vec3fArray.FromNumpy(extent))
    if mesh.uv is not None:
        uv = mesh.uv.detach().cpu().numpy().astype(np.float32) * [1, -1] + [0, 1]
        coordinates = pxr.UsdGeom.PrimvarsAPI(surface).CreatePrimvar(
            "st", pxr.Sdf.ValueTypeNames.TexCoord2fArray, pxr.UsdGeom.Tokens.vertex
        )
        coordinates.Set(pxr.Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(uv, np.float32)))
    return surface


def _picture(pxr: Untyped, stage: Untyped, file: str) -> Untyped:
    """Read a picture at the primvar `st`; give its colour."""
    types = pxr.Sdf.ValueTypeNames
    place = _shader(pxr, stage, "coordinates", "UsdPrimvarReader_float2")
    place.CreateInput("varname", types.String).Set("st")
    picture = _shader(pxr, stage, "picture", "UsdUVTexture")
    picture.CreateInput("file", types.Asset).Set(pxr.Sdf.AssetPath(file))
    picture.CreateInput("sourceColorSpace", types.Token).Set("sRGB")
    for wrap in ("wrapS", "wrapT"):
        picture.CreateInput(wrap, types.Token).Set("clamp")
    result = place.CreateOutput("result", types.Float2)
    picture.CreateInput("st", types.Float2).ConnectToSource(result)
    return picture.CreateOutput("rgb", types.Float3)


def _vertex_colour(pxr: Untyped, stage: Untyped, surface: Untyped, mesh: Mesh) -> Untyped:
    """Store vertex colours, which USD wants linear; give what reads them."""
    assert mesh.vertex_rgb is not None
    rgb = linear_from_srgb(mesh.vertex_rgb.detach().clamp(0, 1).cpu().double().numpy())
    colour = surface.CreateDisplayColorPrimvar(pxr.UsdGeom.Tokens.vertex)
    colour.Set(pxr.Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(rgb, np.float32)))
    reader = _shader(pxr, stage, "colours", "UsdPrimvarReader_float3")
    reader.CreateInput("varname", pxr.Sdf.ValueTypeNames.String).Set("displayColor")
    return reader.CreateOutput("result", pxr.Sdf.ValueTypeNames.Float3)


def _bind(pxr: Untyped, stage: Untyped, surface: Untyped, colour: Untyped) -> None:
    """Give the triangles a dull material of that colour."""
    types = pxr.Sdf.ValueTypeNames
    material = pxr.UsdShade.Material.Define(stage, f"/{_NAME}/material")
    preview = _shader(pxr, stage, "preview", "UsdPreviewSurface")
    preview.CreateInput("roughness", types.Float).Set(1.0)
    preview.CreateInput("metallic", types.Float).Set(0.0)
    preview.CreateInput("diffuseColor", types.Color3f).ConnectToSource(colour)
    outcome = preview.CreateOutput("surface", types.Token)
    material.CreateSurfaceOutput().ConnectToSource(outcome)
    pxr.UsdShade.MaterialBindingAPI.Apply(surface.GetPrim()).Bind(material)


def _shader(pxr: Untyped, stage: Untyped, name: str, kind: str) -> Untyped:
    shader = pxr.UsdShade.Shader.Define(stage, f"/{_NAME}/material/{name}")
    shader.CreateIdAttr(kind)
    return shader


def load_pxr() -> Untyped:
    """Import Pixar's library, module by module, as it does not do so itself.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        for name in ("Kind", "Sdf", "Usd", "UsdGeom", "UsdShade", "UsdUtils", "Vt"):
            importlib.import_module(f"pxr.{name}")
        return importlib.import_module("pxr")
    except ImportError as error:
        raise ValueError("USDZ needs usd-core: pip install roundview[usd]") from error
