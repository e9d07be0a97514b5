"""Is every mesh what was asked for: exact face budgets, valid files, closed with `--watertight`?

    python benchmarks/mesh_budgets.py OBJECTS [--faces 2000,20000,100000] [--names A,B,...]
                                      [--refine-steps N]

Each object is rendered at 24 views, fitted once at `standard`, and meshed once for each budget and
once more closed. Prints a row a mesh; what a printer or a game engine would trip over is counted.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from roundview.data.objects import find_objects
from roundview.evaluate.reconstruct import THREE_RINGS
from roundview.export.glb import save_glb
from roundview.export.inspect import validate_glb
from roundview.mesh import Mesh, mesh_health
from roundview.recipes.reconstruct import STANDARD
from roundview.recipes.surfacing import asset_from_gaussians
from roundview.splat.fit import fit_gaussians
from roundview.surface.raster import render_mesh


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, mesh, write, validate and count."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("objects", type=Path, help="folder or zip of GLB files")
    parser.add_argument("--faces", default="2000,20000,100000")
    parser.add_argument("--names", help="comma-separated; all by default")
    parser.add_argument("--refine-steps", type=int, default=STANDARD.meshing.refine_steps)
    options = parser.parse_args(arguments)
    budgets = [int(part) for part in options.faces.split(",")]
    found = find_objects(options.objects)
    if options.names:
        found = [at for at in found if at.name in options.names.split(",")]
    faults, count = 0, 0
    for item in found:
        views = render_mesh(item.read(), THREE_RINGS.fitted(), geometry=False)
        rng = torch.Generator().manual_seed(0)
        cloud = fit_gaussians(views, steps=STANDARD.fit_steps, rng=rng, settings=STANDARD.fit)
        for faces, closed in [*((budget, False) for budget in budgets), (20_000, True)]:
            meshing = replace(
                STANDARD.meshing,
                faces=faces,
                watertight=closed,
                refine_steps=options.refine_steps,
            )
            asset, _, _ = asset_from_gaussians(cloud, views, meshing=meshing, rng=rng)
            told, wrong = judged(asset.mesh, faces, closed=closed)
            print(f"{item.name:60} {faces:7} {'closed' if closed else '':6} {told}", flush=True)
            faults, count = faults + wrong, count + 1
    print(f"{count - faults} of {count} meshes without a fault")


def judged(mesh: Mesh, faces: int, *, closed: bool) -> tuple[str, bool]:
    """Say what a mesh is, and whether it has a fault."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "asset.glb"
        save_glb(mesh, path)
        report = validate_glb(path)
    health = mesh_health(mesh)
    bad_file = report is not None and report["errors"] + report["warnings"] > 0
    volume = enclosed(mesh)
    wrong = len(mesh.faces) != faces or health.degenerate_faces > 0 or bad_file
    wrong |= health.non_manifold_edges > 0
    if closed:
        wrong |= not health.watertight or health.shells != 1 or volume <= 0
    validator = "no validator"
    if report is not None:
        validator = f"{report['errors']} errors, {report['warnings']} warnings"
    told = (
        f"{len(mesh.faces)} faces, {health.degenerate_faces} degenerate, "
        f"{health.non_manifold_edges} non-manifold, watertight {health.watertight}, "
        f"{health.shells} shells, volume {volume:.4f}, {validator}"
    )
    return told, wrong


def enclosed(mesh: Mesh) -> float:
    """Give the signed volume, positive for faces that look outward."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]].double() for k in range(3))
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


if __name__ == "__main__":
    with torch.no_grad():
        main()
