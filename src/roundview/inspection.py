"""Reading an asset file of any kind, and saying how healthy it is."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .export.glb import load_glb
from .export.obj import load_obj
from .export.ply import is_splats, load_ply, load_splats
from .gaussians import Gaussians
from .mesh import Mesh, bounds, mesh_health

_VALIDATE = """
const { validateBytes } = require(process.argv[1]);
const bytes = require("fs").readFileSync(process.argv[2]);
validateBytes(new Uint8Array(bytes), { maxIssues: 20 })
  .then((report) => console.log(JSON.stringify(report.issues)));
"""


def load_asset_file(path: Path | str) -> Mesh | Gaussians:
    """Read a GLB, an OBJ or a PLY, which may hold a mesh or splats.

    Raises:
        ValueError: If it is of another kind, or broken.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    kind = path.suffix.lower()
    if kind == ".glb":
        return load_glb(path)
    if kind == ".obj":
        return load_obj(path)
    if kind == ".ply":
        return load_splats(path) if is_splats(path) else load_ply(path)
    raise ValueError(f"{path}: give a .glb, .obj or .ply file")


def inspect_asset(path: Path | str) -> dict[str, Any]:
    """Say what an asset file holds and what is wrong with it.

    Returns:
        For a mesh: the fields of `MeshHealth`, bounds, `uv_overlap` (the share of covered texels
        that more than one face covers; None without texture coordinates), `texture_size` (height,
        width), and for a GLB `validator`: what the Khronos validator found, None where it is not
        installed. For splats: their count, their degree and the bounds of their centres.

    Raises:
        ValueError: If the file cannot be read.
    """
    thing = load_asset_file(path)
    if isinstance(thing, Gaussians):
        box = bounds(thing.centre).tolist() if len(thing) else None
        return {"gaussians": len(thing), "sh_degree": thing.sh_degree, "bounds": box}
    texture = None if thing.texture is None else [int(n) for n in thing.texture.rgb.shape[:2]]
    found = asdict(mesh_health(thing)) | {
        "bounds": bounds(thing.vertices).tolist() if len(thing.vertices) else None,
        "uv_overlap": None if thing.uv is None else uv_overlap(thing),
        "texture_size": texture,
    }
    if Path(path).suffix.lower() == ".glb":
        found["validator"] = validate_glb(Path(path))
    return found


def uv_overlap(mesh: Mesh, *, size_px: int = 1024) -> float:
    """Give the share of covered texels whose centre lies inside more than one face.

    A texel whose centre lies on an edge between two faces counts for neither.

    Raises:
        ValueError: If the mesh has no texture coordinates.
    """
    if mesh.uv is None:
        raise ValueError("a mesh without texture coordinates has no overlap of them")
    covers = np.zeros((size_px, size_px), np.int32)
    corners = mesh.uv.numpy()[mesh.faces.numpy()].astype(np.float64) * size_px
    for corner in corners:
        _cover(covers, corner)
    return float((covers > 1).sum() / max(1, int((covers > 0).sum())))


def validate_glb(path: Path) -> dict[str, Any] | None:
    """Ask the Khronos validator; None where node or its package is not installed.

    Returns:
        Numbers of errors, warnings, infos and hints, and the messages.
    """
    node, package = shutil.which("node"), next(_validator_packages(), None)
    if node is None or package is None:
        return None
    command = [node, "-e", _VALIDATE, str(package.resolve()), str(path.resolve())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        return {"errors": 1, "messages": [(done.stderr.strip().splitlines() or ["it failed"])[-1]]}
    issues = json.loads(done.stdout)
    return {
        "errors": issues["numErrors"],
        "warnings": issues["numWarnings"],
        "infos": issues["numInfos"],
        "hints": issues["numHints"],
        "messages": [f"{issue['code']}: {issue['message']}" for issue in issues["messages"]],
    }


def _validator_packages() -> Iterator[Path]:
    """Look where npm puts it: under the working folder, and in a checkout of this project."""
    for root in (Path.cwd(), Path(__file__).resolve().parents[2]):
        package = root / "node_modules" / "gltf-validator"
        if package.is_dir():
            yield package


def _cover(covers: np.ndarray, corner: np.ndarray) -> None:
    """Count the texels whose centres lie strictly inside one triangle."""
    size = len(covers)
    low = np.clip(np.floor(corner.min(0)).astype(int), 0, size)
    high = np.clip(np.ceil(corner.max(0)).astype(int), 0, size)
    if (high <= low).any():
        return
    u, v = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
    sides = []
    for k in range(3):
        (u0, v0), (u1, v1) = corner[k], corner[(k + 1) % 3]
        sides.append((u1 - u0) * (v - v0) - (v1 - v0) * (u - u0))
    # Half a thousandth of a texel's area: rounding must not make neighbours overlap.
    inside = np.minimum.reduce(sides) > 5e-4
    inside |= np.maximum.reduce(sides) < -5e-4
    covers[low[1] : high[1], low[0] : high[0]] += inside
