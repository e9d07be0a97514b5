"""A small real asset, as a job would leave it, for tests of the page."""

from pathlib import Path

import torch
from fakes import block

from roundview.camera import Cameras
from roundview.export.files import write_png
from roundview.export.glb import save_glb
from roundview.export.ply import save_splats
from roundview.gaussians import Gaussians
from roundview.mesh import Mesh
from roundview.rotation import SH_C0
from roundview.surface.raster import render_mesh


def make_asset(made: Path) -> None:
    """Write a block: its mesh, splats on its faces, and a picture."""
    mesh = block()
    save_glb(mesh, made / "asset.glb")
    save_splats(splats_on(mesh), made / "splats.ply")
    cameras = Cameras.orbit(
        [30.0], elevation_deg=20.0, radius=2.2, fov_deg=40.0, size_hw=(160, 160)
    )
    write_png(made / "preview.png", render_mesh(mesh, cameras).rgb[0])
    (made / "record.json").write_text("{}")


def splats_on(mesh: Mesh, count: int = 6000) -> Gaussians:
    """Lay round Gaussians on the faces of a mesh, in the colours of its corners."""
    generator = torch.Generator().manual_seed(0)
    corners = mesh.vertices[mesh.faces]
    which = torch.randint(len(corners), (count,), generator=generator)
    weights = torch.rand(count, 3, generator=generator)
    weights = weights / weights.sum(dim=1, keepdim=True)
    centre = (corners[which] * weights[..., None]).sum(dim=1)
    assert mesh.vertex_rgb is not None
    rgb = mesh.vertex_rgb[mesh.faces][which].mean(dim=1)
    return Gaussians(
        centre,
        torch.full((count, 3), -4.2),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1),
        torch.full((count,), 2.0),
        ((rgb - 0.5) / SH_C0)[:, None],
    )
