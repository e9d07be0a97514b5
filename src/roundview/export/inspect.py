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

_BAND_TEXELS = 1 << 20
_SPANS = 200_000
"""Texels, and rows of triangles, that `uv_overlap` holds at a time: some 100 MB; chosen by us."""
_VALIDATE = """
const [folder, file] = process.argv.slice(1);
const data = new Uint8Array(require("fs").readFileSync(file));
require(folder).validateBytes(data, {uri: file, maxIssues: 100}).then(
  (report) => process.stdout.write(JSON.stringify(report.issues)),
  (error) => { console.error(String(error)); process.exit(1); },
);
"""


def inspect(path: Path | str) -> Json:
    """Describe a GLB, OBJ, PLY, STL, 3MF, USDZ, .splat or .spz file.

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
    """Read a mesh from a GLB, OBJ, PLY, STL, 3MF or USDZ file.

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
    uv = mesh.uv.detach().cpu().double().numpy()
    corners = uv[mesh.faces.cpu().numpy()] * np.array([w, h], np.float64)
    covered = shared = 0
    band = max(1, _BAND_TEXELS // w)
    for top in range(0, h, band):
        count = _covered(corners, (top, min(top + band, h)), w)
        covered += int((count > 0).sum())
        shared += int((count > 1).sum())
    return shared / covered if covered else 0.0


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


def _covered(corners: np.ndarray, rows: tuple[int, int], w: int) -> np.ndarray:
    """Count for each texel of some rows the triangles that its centre lies strictly inside of.

    Where all are covered twice the count stops: no answer depends on more.
    """
    top, bottom = rows
    low, high = corners.min(axis=1), corners.max(axis=1)
    first = np.ceil(low[:, 1] - 0.5).clip(top, bottom).astype(np.int64)
    tall = np.floor(high[:, 1] + 0.5).clip(top, bottom).astype(np.int64) - first
    members = np.flatnonzero((tall > 0) & (low[:, 0] < w) & (high[:, 0] > 0))
    members = members[np.argsort(-tall[members], kind="stable")]  # Large ones fill it soonest.
    ends = np.cumsum(tall[members])
    steps = np.zeros((bottom - top, w + 1), np.int32)  # Between a texel and the one to its left.
    at = 0
    while at < len(members):
        begin = ends[at] - tall[members[at]]
        stop = max(at + 1, int(np.searchsorted(ends, begin + _SPANS, side="right")))
        some = members[at:stop]
        face = np.repeat(some, tall[some])
        row = (
            first[face]
            + np.arange(len(face))
            - np.repeat(ends[at:stop] - tall[some] - begin, tall[some])
        )
        left, right = _spans(corners[face], row, w)
        full = left < right
        np.add.at(steps, (row[full] - top, left[full]), 1)
        np.add.at(steps, (row[full] - top, right[full]), -1)
        at = stop
        if at < len(members) and (np.cumsum(steps, axis=1)[:, :w] > 1).all():
            break
    return np.cumsum(steps, axis=1)[:, :w]


def _spans(corners: np.ndarray, row: np.ndarray, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the texels of a row whose centres lie strictly inside of a triangle: from, up to."""
    edge = np.roll(corners, -1, axis=1) - corners
    turn = np.sign(edge[:, :1, 0] * edge[:, 1:2, 1] - edge[:, :1, 1] * edge[:, 1:2, 0])
    up = turn * edge[..., 0] * (row[:, None] + 0.5 - corners[..., 1])
    along, origin = turn * edge[..., 1], corners[..., 0]
    # float32 coordinates place an edge to about 1e-4 of a texel.
    slack = 1e-4 * np.abs(edge).sum(axis=-1) + 1e-12
    change = _changes(up, along, origin, slack, w)
    enters = along < 0
    return np.where(enters, change, 0).max(axis=1), np.where(enters, w, change).min(axis=1)


def _changes(
    up: np.ndarray, along: np.ndarray, origin: np.ndarray, slack: np.ndarray, w: int
) -> np.ndarray:
    """Find the first texel of a row that lies beyond an edge; w where none does.

    The side of texel x is up - along * (x + 1/2 - origin), inside where it is above the slack.
    Solved for x, and where rounding made that wrong by a texel, bisected.
    """

    def beyond(x: np.ndarray, some: Any = ...) -> np.ndarray:  # noqa: ANN401  an index
        side = up[some] - along[some] * (x + 0.5 - origin[some])
        return (side > slack[some]) == (along[some] < 0)

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        root = np.ceil(origin - 0.5 + (up - slack) / along)
    change = np.where(along == 0, w, np.nan_to_num(root)).clip(0, w).astype(np.int64)
    right = ((change == 0) | ~beyond(change - 1)) & ((change == w) | beyond(change))
    wrong = np.nonzero(~right)
    found = np.zeros(len(wrong[0]), np.int64)
    for bit in reversed(range(w.bit_length())):
        further = found + (1 << bit)
        found = np.where((further <= w) & ~beyond(further - 1, wrong), further, found)
    change[wrong] = found
    return change


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
