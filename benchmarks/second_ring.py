"""What do rings of drawn views above and below buy? Fits with and without them, against the truth.

    python benchmarks/second_ring.py OBJECTS [--objects 5] [--quality draft]

For each object of a folder or zip of GLB files the IM-3D recipe runs twice from the same rendered
photograph and seed: with the single ring of the paper, and with further rings. The Gaussians
are compared with the truth on the photograph's ring (15 views the photograph does not show), from
above (elevation 60) and from below (elevation -25). PSNR in dB over white, higher is better.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from roundview.camera import Cameras
from roundview.data.objects import find_objects
from roundview.evaluate.through_recipe import WatchedStages
from roundview.gaussians import Gaussians
from roundview.image import Foreground, Image
from roundview.loaders import Wanted
from roundview.loaders.im3d import load_im3d
from roundview.mesh import Mesh
from roundview.metrics import psnr
from roundview.recipes.im3d import QUALITIES, Im3d, im3d
from roundview.splat.render import render_gaussians
from roundview.surface.raster import render_mesh

PHOTO_ELEVATION_DEG = 30.0
SIZE_PX = 128


def ring(elevation_deg: float, azimuth_deg: list[float], size_px: int = SIZE_PX) -> Cameras:
    return Cameras.orbit(
        azimuth_deg,
        elevation_deg=elevation_deg,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(size_px, size_px),
    )


PLACES = {
    "ring": ring(PHOTO_ELEVATION_DEG, [22.5 * k for k in range(1, 16)]),
    "above": ring(60.0, [45.0 * k for k in range(8)]),
    "below": ring(-25.0, [45.0 * k for k in range(8)]),
}


def scores(mesh: Mesh, settings: Im3d) -> dict[str, float]:
    """PSNR of the last fit at each place."""
    seen = render_mesh(mesh, ring(PHOTO_ELEVATION_DEG, [0.0], 256), supersample=3)
    photo = Foreground(seen.straight_rgb()[0], seen.alpha[0])
    models = load_im3d(Wanted(use_matte=False, photo_elevation_deg=PHOTO_ELEVATION_DEG)).models
    stages = WatchedStages({"matte": photo})
    rng = torch.Generator().manual_seed(0)
    im3d(Image(photo.rgb, photo.alpha), models, rng, settings, stages)
    fitted = [value for value in stages.results.values() if isinstance(value, Gaussians)][-1]
    found = {}
    for place, cameras in PLACES.items():
        truth = render_mesh(mesh, cameras, supersample=3, geometry=False).rgb
        found[place] = float(psnr(render_gaussians(fitted, cameras).rgb, truth).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("objects_in", type=Path)
    parser.add_argument("--objects", type=int, default=5)
    parser.add_argument("--quality", default="draft")
    given = parser.parse_args()
    with_rings = replace(QUALITIES[given.quality], photo_elevation_deg=PHOTO_ELEVATION_DEG)
    plans = {"one ring": replace(with_rings, more_rings=()), "further rings": with_rings}
    totals = {name: dict.fromkeys(PLACES, 0.0) for name in plans}
    objects = find_objects(given.objects_in)
    taken = objects[:: max(1, len(objects) // given.objects)][: given.objects]
    for item in taken:
        mesh = item.read()
        for name, settings in plans.items():
            found = scores(mesh, settings)
            print(f"{item.name[:32]:32} {name:14}", {k: round(v, 2) for k, v in found.items()})
            for place, value in found.items():
                totals[name][place] += value / len(taken)
    for name, means in totals.items():
        print(f"mean of {len(taken)}: {name:14}", {k: round(v, 2) for k, v in means.items()})


if __name__ == "__main__":
    main()
