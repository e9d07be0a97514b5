"""One file in, one file out: assets in the formats that other programs want."""

from pathlib import Path

import torch

from ..gaussians import Gaussians
from ..mesh import Mesh
from .glb import load_glb, save_glb
from .obj import load_obj, save_obj
from .ply import is_splats, load_ply, load_splats, save_ply, save_splats
from .spz import load_spz, save_spz
from .stl import load_stl, save_stl
from .three_mf import save_3mf
from .three_mf_read import load_3mf
from .usdz import save_usdz
from .usdz_read import load_usdz
from .web_splat import load_splat, save_splat

MESH_SUFFIXES = (".glb", ".obj", ".ply", ".stl", ".3mf", ".usdz")
"""What `save_as` writes a mesh to."""

SPLAT_SUFFIXES = (".ply", ".splat", ".spz")
"""What `save_as` writes Gaussians to."""

_SIZED = (".stl", ".3mf", ".usdz")


def load_any(path: Path | str) -> Mesh | Gaussians:
    """Read a mesh (.glb, .obj, .ply, .stl, .3mf, .usdz) or Gaussians (.ply, .splat, .spz).

    Raises:
        ValueError: If the file cannot be read or is of another kind.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".ply" and is_splats(path):
        return load_splats(path)
    readers = {".glb": load_glb, ".obj": load_obj, ".ply": load_ply, ".stl": load_stl}
    readers |= {".3mf": load_3mf, ".usdz": load_usdz, ".splat": load_splat, ".spz": load_spz}
    if suffix not in readers:
        raise ValueError(f"{path} is not a {_listed([*readers])} file")
    return readers[suffix](path)


def save_as(
    asset: Mesh | Gaussians,
    path: Path | str,
    *,
    height_mm: float | None = None,
    quantize: bool = False,
) -> None:
    """Write a mesh or Gaussians in the format that the suffix names, atomically.

    Args:
        asset: What to write.
        path: Where to; see `MESH_SUFFIXES` and `SPLAT_SUFFIXES`.
        height_mm: How tall it stands, for .stl, .3mf (80 by default) and .usdz (by default a unit
            is a metre). Others have no unit, or keep ours.
        quantize: See `save_glb`; for .glb only.

    Raises:
        ValueError: If the suffix is none of ours, holds the other kind of asset, or has no use for
            an argument that was given.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    check_suffix(suffix, splats=isinstance(asset, Gaussians))
    if height_mm is not None and suffix not in _SIZED:
        raise ValueError(f"{suffix} files have no millimetres: height_mm is for {_listed(_SIZED)}")
    if quantize and suffix != ".glb":
        raise ValueError(f"quantize is for .glb, not {suffix}")
    if isinstance(asset, Gaussians):
        {".ply": save_splats, ".splat": save_splat, ".spz": save_spz}[suffix](asset, path)
    elif suffix == ".glb":
        save_glb(asset, path, quantize=quantize)
    elif suffix in (".obj", ".ply"):
        save = save_obj if suffix == ".obj" else save_ply
        save(asset if suffix == ".obj" else vertex_coloured(asset), path)
    elif suffix == ".usdz":
        save_usdz(asset, path, meters_per_unit=_meters_per_unit(asset, height_mm))
    else:
        save = save_stl if suffix == ".stl" else save_3mf
        save(asset, path, height_mm=80.0 if height_mm is None else height_mm)


def check_suffix(suffix: str, *, splats: bool) -> None:
    """Refuse a format that is unknown or holds no asset of that kind.

    Raises:
        ValueError: Naming the formats that would do.
    """
    known = {*MESH_SUFFIXES, *SPLAT_SUFFIXES}
    if suffix not in known:
        raise ValueError(f"{suffix or 'no suffix'} is no format we write: {_listed(sorted(known))}")
    fitting = SPLAT_SUFFIXES if splats else MESH_SUFFIXES
    if suffix not in fitting:
        what, other = ("splats", "a mesh") if splats else ("a mesh", "splats")
        raise ValueError(f"{suffix} holds {other}, this is {what}: write {_listed(fitting)}")


def vertex_coloured(mesh: Mesh) -> Mesh:
    """Give each vertex the texture's colour at its place (nearest texel), for files without one."""
    if mesh.texture is None or mesh.uv is None:
        return mesh
    h, w = mesh.texture.rgb.shape[:2]
    # Coordinates out of [0, 1] are clamped, as the texture is.
    at = (mesh.uv.detach() * torch.tensor([w, h]).to(mesh.uv)).floor().long()
    rgb = mesh.texture.rgb[at[:, 1].clamp(0, h - 1), at[:, 0].clamp(0, w - 1)]
    return Mesh(mesh.vertices, mesh.faces, vertex_rgb=rgb)


def _meters_per_unit(mesh: Mesh, height_mm: float | None) -> float:
    if height_mm is None:
        return 1.0
    tall = float(mesh.vertices[:, 1].max() - mesh.vertices[:, 1].min())
    if not tall > 0:
        raise ValueError("the mesh is flat: it has no height to scale")
    return height_mm / 1000 / tall


def _listed(names: tuple[str, ...] | list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"
