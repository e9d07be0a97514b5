"""What does `roundview fit` make of true views? Draws truth, splats, mesh, normals and wireframe.

    python benchmarks/reconstruction_figure.py OBJECTS -o FILE [--names A,B,...] [--side 192]

Each object is rendered at 24 views of 256 pixels (8 azimuths at elevations -20, 10 and 50), fitted
at `standard`, and drawn from elevation 30, between the fitted azimuths. The wireframe is that of
the mesh reduced to 2,000 faces, since 20,000 would be a grey blot.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from roundview.camera import Cameras
from roundview.data.objects import find_objects
from roundview.evaluate.reconstruct import THREE_RINGS
from roundview.export.files import write_png
from roundview.export.sheet import contact_sheet
from roundview.mesh import Mesh
from roundview.models import PlainStages
from roundview.recipes.reconstruct import reconstruct
from roundview.recipes.surfacing import moved_gaussians
from roundview.splat.render import render_gaussians
from roundview.surface.decimate import decimate
from roundview.surface.raster import Light, nearest_faces, render_mesh

LAMP = Light((0.4, 0.8, 0.6))
AZIMUTH_DEG = 30.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, draw and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("objects", type=Path, help="folder or zip of GLB files")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--names", help="comma-separated; the first six by default")
    parser.add_argument("--side", type=int, default=192)
    options = parser.parse_args(arguments)
    found = find_objects(options.objects)
    wanted = options.names.split(",") if options.names else [at.name for at in found[:6]]
    columns = [drawn(at.read(), options.side) for at in found if at.name in wanted]
    # One row a kind, one column an object.
    rows = torch.stack(columns, dim=1).flatten(0, 1)
    write_png(options.output, contact_sheet(rows, columns=len(columns)))


def drawn(truth: Mesh, side: int) -> Float[Tensor, "5 h w 3"]:
    """Fit one object and draw its five pictures."""
    stages = PlainStages()
    views = render_mesh(truth, THREE_RINGS.fitted(), geometry=False)
    asset = reconstruct(views, torch.Generator().manual_seed(0), stage=stages)
    back = stages.notes["world_from_views"]
    scale, shift = 1 / back["scale"], -torch.tensor(back["shift"]) / back["scale"]
    mesh = replace(asset.mesh, vertices=asset.mesh.vertices * scale + shift)
    if asset.gaussians is None:
        raise ValueError("the asset has no splats")
    splats = moved_gaussians(asset.gaussians, scale, shift)
    camera = Cameras.orbit(
        [AZIMUTH_DEG], elevation_deg=30.0, radius=1.5, fov_deg=49.13, size_hw=(side, side)
    )
    seen = render_mesh(mesh, camera, supersample=3)
    if seen.normal is None:
        raise ValueError("the renderer gave no normals")
    cover = seen.alpha[..., None]
    normals = (0.5 + 0.5 * seen.normal) * cover + 1 - cover
    return torch.cat(
        [
            render_mesh(truth, camera, supersample=3).rgb,
            render_gaussians(splats, camera).rgb.clamp(0, 1),
            seen.rgb,
            normals,
            wireframe(decimate(mesh, 2000), camera),
        ]
    )


def wireframe(mesh: Mesh, camera: Cameras) -> Float[Tensor, "1 h w 3"]:
    """Draw the edges that can be seen, dark on a shaded surface."""
    plain = Mesh(mesh.vertices, mesh.faces)
    fine = camera.resized((camera.size_hw[0] * 4, camera.size_hw[1] * 4))
    face_at, _ = nearest_faces(plain, fine)
    edge = torch.zeros_like(face_at, dtype=torch.float32)
    edge[:, :, 1:] += (face_at[:, :, 1:] != face_at[:, :, :-1]).float()
    edge[:, 1:] += (face_at[:, 1:] != face_at[:, :-1]).float()
    line = torch.nn.functional.avg_pool2d(edge.clamp(max=1)[:, None], 4)[:, 0, ..., None]
    shaded = render_mesh(plain, camera, light=LAMP, smooth=False).rgb
    return shaded * (1 - line.clamp(max=1))


if __name__ == "__main__":
    with torch.no_grad():
        main()
