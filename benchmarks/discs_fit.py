"""What a fit by discs buys: pictures and normals beside those of a fit by solid Gaussians.

    python benchmarks/discs_fit.py OBJECTS NAME [NAME ...] [--side 128] [--steps 300]

OBJECTS is a folder or zip of GLB files, a NAME one of them without its extension. Each is seen in
24 views (eight azimuths at elevations -20, 10 and 50 degrees) and judged in 16 others at elevation
30: PSNR, the mean angle between drawn and true normals, the same of the normals of the drawn depth,
and the mean error of depth, the object's longest side being 1. Solid Gaussians -> discs:

                                    PSNR          normals       of depth      depth error
    Android_Lego, 128 px, 300       34.0 -> 33.6  none ->  9.9  17.4 -> 11.4  0.018 -> 0.015
    African_Black_Rhino, 128, 300   34.5 -> 33.8  none -> 10.4  16.0 -> 10.1  0.020 -> 0.016
    Bluefish_2Eye_Boat_Shoe, same   33.4 -> 32.6  none -> 17.3  22.3 -> 18.2  0.025 -> 0.026
    African_Black_Rhino, 256, 400   35.7 -> 36.0  none ->  7.7  18.1 -> 11.3  0.014 -> 0.009
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from roundview.camera import Cameras, concatenate_cameras
from roundview.data.objects import find_objects
from roundview.gaussians import Gaussians
from roundview.metrics import psnr
from roundview.splat.disc_fit import fit_discs
from roundview.splat.disc_losses import normals_of_depth
from roundview.splat.discs import render_discs
from roundview.splat.fit import fit_gaussians
from roundview.splat.render import render_gaussians
from roundview.surface.raster import render_mesh
from roundview.views import Views

RADIUS, FOV_DEG = 1.5, 49.13


def ring(count: int, elevation_deg: float, side: int) -> Cameras:
    """Cameras at even azimuths."""
    return Cameras.orbit(
        [360 * i / count for i in range(count)],
        elevation_deg=elevation_deg,
        radius=RADIUS,
        fov_deg=FOV_DEG,
        size_hw=(side, side),
    )


def mean_angle_deg(ours: Tensor | None, true: Tensor, seen: Tensor) -> float:
    """Mean angle between normals where both are known; NaN without any."""
    if ours is None:
        return float("nan")
    known = seen & (ours != 0).any(dim=-1)
    cosine = (ours * true).sum(dim=-1)[known].clamp(-1, 1)
    return float(torch.rad2deg(torch.arccos(cosine)).mean())


def judge(drawn: Views, true: Views) -> str:
    """Say how far a render is from the truth."""
    assert true.normal is not None
    assert true.depth is not None
    assert drawn.depth is not None
    seen = (true.alpha > 0.9) & (drawn.alpha > 0.5)
    of_depth = normals_of_depth(drawn.depth, drawn.cameras)
    return (
        f"PSNR {float(psnr(drawn.rgb.clamp(0, 1), true.rgb).mean()):.2f}"
        f"  normals {mean_angle_deg(drawn.normal, true.normal, seen):.1f}"
        f"  of depth {mean_angle_deg(of_depth, true.normal, seen):.1f}"
        f"  depth error {float((drawn.depth - true.depth).abs()[seen].mean()):.4f}"
    )


def main() -> None:
    """Fit every object twice and print a line for each fit."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("objects", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    found = {each.name: each for each in find_objects(arguments.objects)}
    around = [ring(8, elevation_deg, arguments.side) for elevation_deg in (-20.0, 10.0, 50.0)]
    unseen = ring(16, 30.0, arguments.side)
    for name in arguments.names:
        mesh = found[name].read()
        views = render_mesh(mesh, concatenate_cameras(around), geometry=False)
        true = render_mesh(mesh, unseen)
        for kind, fit in (("solid", fit_gaussians), ("discs", fit_discs)):
            begin = time.process_time()
            rng = torch.Generator().manual_seed(0)
            fitted: Gaussians = fit(views, steps=arguments.steps, rng=rng)
            seconds = time.process_time() - begin
            with torch.no_grad():
                if kind == "solid":
                    drawn = render_gaussians(fitted, unseen)
                else:
                    drawn = render_discs(fitted, unseen).views
            print(f"{name}  {kind}  {judge(drawn, true)}  {seconds:.0f} s of processor time")


if __name__ == "__main__":
    main()
