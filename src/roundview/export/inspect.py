"""Say what is in a 3D file, and whether it is sound."""

import json
import os
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..gaussians import Gaussians
from ..mesh import Mesh, bounds, mesh_health
from .convert import load_any

Json = dict[str, Any]

_VALIDATE = """
const [folder, file] = process.argv.slice(1);
const data = new Uint8Array(require("fs").readFileSync(file));
require(folder).validateBytes(data, {uri: file, maxIssues: 100}).then(
  (report) => process.stdout.write(JSON.stringify(report.issues)),
  (error) => { console.error(String(error)); process.exit(1); },
);
"""


def inspect(path: Path | str) -> Json:
    """Describe a GLB, OBJ, PLY, STL, .splat or .spz file.

    Returns:
        For a mesh: format, faces, vertices, watertight, shells, degenerate_faces,
        non_manifold_edges, boundary_edges (all counted after vertices at one place are joined),
        bounds (lowest and highest corner), uv_overlap (see `uv_overlap`, null without texture
        coordinates), texture_size ([width, height] or null) and validator (see `validate_glb`; null
        for other files and where it is not installed).
        For splats: format ("splats", whatever the file), gaussians, sh_degree and bounds of the
        centres.

    Raises:
        ValueError: If the file cannot be read or is of another kind.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    mesh = load_any(path)
    if isinstance(mesh, Gaussians):
        return {
            "format": "splats",
            "gaussians": len(mesh),
            "sh_degree": mesh.sh_degree,
            "bounds": bounds(mesh.centre).tolist() if len(mesh) else None,
        }
    texture = mesh.texture
    h, w = (1024, 1024) if texture is None else texture.rgb.shape[:2]
    return {
        "format": suffix[1:],
        **asdict(mesh_health(mesh)),
        "bounds": bounds(mesh.vertices).tolist() if len(mesh.vertices) else None,
        "uv_overlap": None if mesh.uv is None else uv_overlap(mesh, size_hw=(h, w)),
        "texture_size": None if texture is None else [w, h],
        "validator": validate_glb(path) if suffix == ".glb" else None,
    }


def load_mesh(path: Path | str) -> Mesh:
    """Read a mesh from a GLB, OBJ, PLY or STL file.

    Raises:
        ValueError: If the file cannot be read or holds no mesh.
    """
    mesh = load_any(path)
    if isinstance(mesh, Gaussians):
        raise ValueError(f"{path} holds splats, not a mesh")
    return mesh


def uv_overlap(mesh: Mesh, *, size_hw: tuple[int, int]) -> float:
    """Give the fraction of the covered texels whose centre lies inside more than one triangle.

    A texel that two triangles share bakes one side's colour onto the other. Centres exactly on an
    edge count for neither side, so neighbours do not count as overlapping.

    Args:
        mesh: A mesh with texture coordinates.
        size_hw: Size of the texture in texels.

    Raises:
        ValueError: If the mesh has no texture coordinates.
    """
    if mesh.uv is None:
        raise ValueError("mesh has no texture coordinates")
    h, w = size_hw
    scale = np.array([w, h], np.float64)
    corners = mesh.uv.detach().cpu().double().numpy()[mesh.faces.cpu().numpy()] * scale
    count = np.zeros(h * w, np.int32)
    low = np.floor(corners.min(axis=1) - 0.5).clip(0, scale).astype(np.int64)
    high = np.ceil(corners.max(axis=1) + 0.5).clip(0, scale).astype(np.int64)
    side = (high - low).max(axis=1, initial=0)
    # Triangles of like size go together, so that no small one pays for a large one's window.
    bucket = 2 ** np.ceil(np.log2(np.maximum(side, 1))).astype(np.int64)
    for window in np.unique(bucket):
        members = np.flatnonzero((bucket == window) & (side > 0))
        step = max(1, 4_000_000 // int(window) ** 2)
        for start in range(0, len(members), step):
            some = members[start : start + step]
            count += _covered(corners[some], low[some], int(window), size_hw)
    covered = int((count > 0).sum())
    return float((count > 1).sum() / covered) if covered else 0.0


def validate_glb(path: Path | str) -> Json | None:
    """Run the Khronos glTF validator on a file.

    It is the npm package `gltf-validator`, looked for in the folder that ROUNDVIEW_GLTF_VALIDATOR
    names, ./node_modules, NODE_PATH and npm's global folder, and run by `node`.

    Returns:
        errors, warnings, infos, hints (counts) and messages ({code, severity, message, pointer}),
        or None where node or the package is not installed.

    Raises:
        ValueError: If the validator cannot read the file.
    """
    node, package = shutil.which("node"), _validator_folder()
    if node is None or package is None:
        return None
    done = subprocess.run(
        [node, "-e", _VALIDATE, "--", str(package), str(Path(path).resolve())],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"the glTF validator cannot read {path}: {reason}")
    issues = json.loads(done.stdout)
    names = ("error", "warning", "info", "hint")
    messages = [
        {
            "code": message["code"],
            "severity": names[message["severity"]],
            "message": message["message"],
            "pointer": message.get("pointer"),
        }
        for message in issues["messages"]
    ]
    counts = {f"{name}s": issues[f"num{name.capitalize()}s"] for name in names}
    return {**counts, "messages": messages}


def _covered(
    corners: np.ndarray, low: np.ndarray, window: int, size_hw: tuple[int, int]
) -> np.ndarray:
    """Count for each texel the triangles that its centre lies strictly inside of."""
    h, w = size_hw
    offset = np.stack(np.meshgrid(np.arange(window), np.arange(window)), axis=-1).reshape(-1, 2)
    texel = low[:, None] + offset
    centre = texel + 0.5
    inside_left = np.ones(texel.shape[:2], bool)
    inside_right = np.ones(texel.shape[:2], bool)
    for k in range(3):
        a, b = corners[:, k, None], corners[:, (k + 1) % 3, None]
        edge = b - a
        side = edge[..., 0] * (centre[..., 1] - a[..., 1]) - edge[..., 1] * (
            centre[..., 0] - a[..., 0]
        )
        # float32 coordinates place an edge to about 1e-4 of a texel.
        slack = 1e-4 * np.abs(edge).sum(axis=-1) + 1e-12
        inside_left &= side > slack
        inside_right &= side < -slack
    inside = (inside_left | inside_right) & (texel < [w, h]).all(axis=-1)
    at = (texel[..., 1] * w + texel[..., 0])[inside]
    return np.bincount(at, minlength=h * w)


def _validator_folder() -> Path | None:
    named = os.environ.get("ROUNDVIEW_GLTF_VALIDATOR")
    if named:
        return Path(named).resolve() if (Path(named) / "package.json").is_file() else None
    places = [Path("node_modules")]
    places += [Path(entry) for entry in os.environ.get("NODE_PATH", "").split(os.pathsep) if entry]
    for place in places:
        if (place / "gltf-validator" / "package.json").is_file():
            return (place / "gltf-validator").resolve()
    npm = shutil.which("npm")
    if npm is None:
        return None
    done = subprocess.run(
        [npm, "root", "-g"], capture_output=True, text=True, timeout=60, check=False
    )
    place = Path(done.stdout.strip() or "/nowhere") / "gltf-validator"
    return place if (place / "package.json").is_file() else None
