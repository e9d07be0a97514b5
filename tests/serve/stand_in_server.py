"""A server for the page's tests: real chores and a real asset, but jobs that take no time.

stand_in_server.py FOLDER PORT
"""

import sys
from pathlib import Path

import torch
import uvicorn

sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes import block
from serve_fakes import helper, made_folder, stand_in

from roundview.camera import Cameras
from roundview.export.files import write_png
from roundview.export.glb import save_glb
from roundview.export.ply import save_splats
from roundview.gaussians import Gaussians
from roundview.mesh import Mesh
from roundview.rotation import SH_C0
from roundview.serve.app import create_app
from roundview.serve.desk import Desk
from roundview.serve.limits import Limits
from roundview.surface.raster import render_mesh


def splats_on(mesh: Mesh) -> Gaussians:
    """Lay round Gaussians on the faces of a mesh, in the colours of its corners."""
    generator = torch.Generator().manual_seed(0)
    corners = mesh.vertices[mesh.faces]
    which = torch.randint(len(corners), (6000,), generator=generator)
    weights = torch.rand(6000, 3, generator=generator)
    weights = weights / weights.sum(dim=1, keepdim=True)
    centre = (corners[which] * weights[..., None]).sum(dim=1)
    assert mesh.vertex_rgb is not None
    rgb = mesh.vertex_rgb[mesh.faces][which].mean(dim=1)
    return Gaussians(
        centre,
        torch.full((6000, 3), -4.2),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(6000, 1),
        torch.full((6000,), 2.0),
        ((rgb - 0.5) / SH_C0)[:, None],
    )


def make_asset(made: Path) -> None:
    mesh = block()
    save_glb(mesh, made / "asset.glb")
    save_splats(splats_on(mesh), made / "splats.ply")
    cameras = Cameras.orbit(
        [30.0], elevation_deg=20.0, radius=2.2, fov_deg=40.0, size_hw=(160, 160)
    )
    write_png(made / "preview.png", render_mesh(mesh, cameras).rgb[0])
    (made / "record.json").write_text("{}")


def main(folder: Path, port: int, *, quick: bool) -> None:
    made = folder / "made"
    if not made.exists():
        (made_folder if quick else make_asset)(made)
    limits = Limits(free_bytes=0, queued=256, workers=2)
    chores = helper() if quick else None
    desk = Desk(folder / "data", limits, command=stand_in(made), helper=chores)
    uvicorn.run(create_app(desk), port=port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), quick=sys.argv[3:] == ["quick"])
