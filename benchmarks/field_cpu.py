"""What fields cost and give on a CPU: rendering, fits of known shapes, fits of scans.

    python benchmarks/field_cpu.py render
    python benchmarks/field_cpu.py shapes [--steps 600]
    python benchmarks/field_cpu.py objects OBJECTS [--names A B] [--steps 1000]

"render" draws one 64-pixel view of a radiance field and goes back to its parameters, 64 samples
along the cube's diagonal, once where the field fills its cube and once where its occupancy grid
knows that it is a ball; kernel and torch's own operations by turns, least time of several rounds.
"shapes" fits a signed distance field to 24 views of a ball and of a ring, 96 pixels, and says how
far the mesh is from the truth, in percent of the radius.
"objects" fits signed distance, radiance and Gaussians to 24 views (8 azimuths at elevations -20, 10
and 50, 128 pixels) of objects in a folder or zip of GLB files, and compares 16 other views
(elevation 30) and the distance between surfaces. Seconds are processor seconds.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from roundview.camera import Cameras, rays
from roundview.data.objects import find_objects
from roundview.field import grid, march
from roundview.field.fit import RADIANCE_FIT, SDF_FIT, fit_field, mesh_from_field
from roundview.field.radiance import RadianceField, RadianceSettings
from roundview.field.render import Field
from roundview.mesh import Mesh
from roundview.metrics.surface import chamfer
from roundview.recipes.reconstruct import STANDARD
from roundview.recipes.surfacing import all_round
from roundview.splat.fit import fit_gaussians
from roundview.splat.render import render_gaussians
from roundview.surface.clean import Cleaning, clean_mesh
from roundview.surface.isosurface import mesh_from_density, mesh_from_depth
from roundview.surface.raster import render_mesh
from roundview.views import Views

FOV_DEG, DISTANCE = 49.13, 1.5
Distance = Callable[[Tensor], Tensor]


def generator(seed: int = 0) -> torch.Generator:
    """Randomness that repeats."""
    return torch.Generator().manual_seed(seed)


def orbit(count: int, elevations: tuple[float, ...], size: int) -> Cameras:
    """`count` azimuths at each elevation."""
    pairs = [(360 * k / count, e) for e in elevations for k in range(count)]
    return Cameras.orbit(
        [azimuth for azimuth, _ in pairs],
        elevation_deg=[elevation for _, elevation in pairs],
        radius=DISTANCE,
        fov_deg=FOV_DEG,
        size_hw=(size, size),
    )


def meshed(field: Field, resolution: int = 128) -> Mesh:
    """The field's surface."""
    return mesh_from_field(
        field,
        lambda values: mesh_from_density(values, level=0.0, half_width=field.half_width),
        resolution=resolution,
    )


def time_rendering(rounds: int) -> None:
    """Print what a picture and its gradient cost."""
    camera = orbit(1, (15.0,), 64)
    for name, looks in (("full cube", 0), ("ball", 4)):
        field = RadianceField(RadianceSettings(), generator())
        for _ in range(looks):
            field.refresh(generator())

        def once(field: RadianceField = field) -> None:
            views = field.render(camera, rng=generator(1), normals=False)
            views.rgb.square().mean().backward()

        def plain(once: Callable[[], None] = once) -> None:
            with (
                mock.patch.object(grid, "_compiled", return_value=False),
                mock.patch.object(march, "composite", march.composite_reference),
            ):
                once()

        taken: dict[str, list[float]] = {"kernels": [], "torch": []}
        once()
        for _ in range(rounds):
            for kind, run in (("kernels", once), ("torch", plain)):
                start = time.perf_counter()
                run()
                taken[kind].append(time.perf_counter() - start)
        ours, theirs = (min(taken[kind]) * 1e3 for kind in ("kernels", "torch"))
        print(f"{name}: {ours:.0f} ms by kernels, {theirs:.0f} ms by torch, {theirs / ours:.1f}x")


def ball(points: Tensor) -> Tensor:
    """Distance to a ball of radius 0.35."""
    return points.norm(dim=-1) - 0.35


def ring(points: Tensor) -> Tensor:
    """Distance to a torus of radius 0.3 and thickness 0.12, lying tilted."""
    a = math.radians(50)
    y = points[..., 1] * math.cos(a) - points[..., 2] * math.sin(a)
    z = points[..., 1] * math.sin(a) + points[..., 2] * math.cos(a)
    around = (points[..., 0].square() + z.square()).sqrt() - 0.3
    return (around.square() + y.square()).sqrt() - 0.12


def traced(distance: Distance, cameras: Cameras) -> Views:
    """Views of a shape by sphere tracing, coloured by place, four samples a pixel."""
    h, w = cameras.size_hw
    fine = cameras.resized((2 * h, 2 * w))
    direction = torch.nn.functional.normalize(rays(fine), dim=-1)
    origin = fine.origin[:, None, None].expand_as(direction)
    along = torch.zeros(direction.shape[:3])
    for _ in range(80):
        along = along + distance(origin + along[..., None] * direction)
    place = origin + along[..., None] * direction
    hit = (distance(place).abs() < 1e-3) & (along < 3)
    rgb = torch.where(hit[..., None], 0.5 + 0.4 * (12 * place).sin(), torch.ones(3))
    pooled = torch.cat([rgb, hit[..., None].float()], dim=-1).permute(0, 3, 1, 2)
    rgba = torch.nn.functional.avg_pool2d(pooled, 2).permute(0, 2, 3, 1)
    return Views(rgba[..., :3], rgba[..., 3], cameras)


def fit_shapes(steps: int) -> None:
    """Print how near fits of known shapes come."""
    for name, distance, radius in (("ball", ball, 0.35), ("torus", ring, 0.3)):
        views = traced(distance, orbit(8, (-35.0, 0.0, 35.0), 96))
        start = time.process_time()
        field = fit_field(views, steps=steps, rng=generator())
        taken = time.process_time() - start
        away = distance(meshed(field).vertices) / radius * 100
        print(
            f"{name}: {taken:.0f} s, mesh off by {away.abs().mean():.2f}% of the radius on "
            f"average, {away.mean():+.2f}% with sign, {away.abs().quantile(0.95):.2f}% at 95%"
        )


def psnr(drawn: Views, truth: Views) -> float:
    """Mean PSNR over views, dB."""
    error = (drawn.rgb.clamp(0, 1) - truth.rgb).square().mean(dim=(1, 2, 3))
    return float(-10 * error.log10().mean())


def fit_objects(source: Path, names: list[str], steps: int) -> None:
    """Print a table of three fits of each object."""
    found = {object_.name: object_ for object_ in find_objects(source)}
    print("| object | fit | processor s | held-out PSNR | Chamfer |\n|---|---|---|---|---|")
    cleaning = Cleaning(faces=20_000, smoothing=0)
    for name in names or sorted(found)[:2]:
        truth = found[name].read()
        seen, held = (
            render_mesh(truth, cameras, supersample=3, geometry=False)
            for cameras in (orbit(8, (-20.0, 10.0, 50.0), 128), orbit(16, (30.0,), 128))
        )
        for kind, settings in (("signed distance", SDF_FIT), ("radiance", RADIANCE_FIT)):
            start = time.process_time()
            field = fit_field(seen, steps=steps, rng=generator(), settings=settings)
            taken = time.process_time() - start
            with torch.no_grad():
                near = psnr(field.render(held.cameras, normals=False), held)
                if kind == "radiance":
                    around = field.render(all_round(128), normals=False)
                    mesh = mesh_from_depth(around, resolution=128)
                else:
                    mesh = meshed(field)
            gap = chamfer(clean_mesh(mesh, cleaning), truth, generator())
            print(f"| {name} | {kind} | {taken:.0f} | {near:.2f} | {gap:.5f} |", flush=True)
        start = time.process_time()
        cloud = fit_gaussians(
            seen, steps=STANDARD.fit_steps, rng=generator(), settings=STANDARD.fit
        )
        taken = time.process_time() - start
        near = psnr(render_gaussians(cloud, held.cameras), held)
        fused = mesh_from_depth(render_gaussians(cloud, all_round(128)), resolution=128)
        gap = chamfer(clean_mesh(fused, replace(cleaning, smoothing=8)), truth, generator())
        print(f"| {name} | Gaussians | {taken:.0f} | {near:.2f} | {gap:.5f} |", flush=True)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["render", "shapes", "objects"])
    parser.add_argument("source", nargs="?", type=Path)
    parser.add_argument("--names", nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    if arguments.what == "render":
        time_rendering(arguments.rounds)
    elif arguments.what == "shapes":
        fit_shapes(arguments.steps)
    elif arguments.source is None:
        parser.error("objects needs a folder or zip of GLB files")
    else:
        fit_objects(arguments.source, arguments.names, arguments.steps)


if __name__ == "__main__":
    main()
