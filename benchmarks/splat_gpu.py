"""What the GPU splatting kernel takes beside gsplat's CUDA kernels, on the same scenes.

    python benchmarks/splat_gpu.py [--quick] [--rounds 50] [--stages] [--tune]
    python benchmarks/splat_gpu.py --interpret

All run in one process, in turn; the figures are medians of CUDA events round the whole call, launch
costs included. Each is first checked against our reference, where that takes seconds, or else
against the other. gsplat needs nvcc on the machine; without it, ours is timed alone. `--stages`
times our kernels one by one, `--tune` tries other launch settings, both at the last size.
`--interpret` runs the script at a tiny size in Triton's interpreter on the CPU: its times mean
nothing, it shows that the script works.
"""

import argparse
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.gaussians import Gaussians
from roundview.splat.render import Backend, render_gaussians
from roundview.splat.render_gsplat import require_compiled_gsplat

SIZES = ((100_000, 512), (100_000, 1024), (1_000_000, 512), (1_000_000, 1024))
TINY = ((12, 24),)
REFERENCE_SIZE = (3_000, 128)
NAMES = ("centre", "log_scale", "quat_wxyz", "opacity_logit", "sh")


def scene(count: int, side: int, views: int, device: str) -> tuple[Gaussians, Cameras]:
    """A ball of Gaussians whose size goes with their spacing, filling two thirds of the picture."""
    rng = torch.Generator().manual_seed(0)
    centre = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)
    centre *= 0.5 * torch.rand(count, 1, generator=rng) ** (1 / 3)
    spread = torch.exp(0.3 * torch.randn(count, 3, generator=rng))
    fields = (
        centre,
        torch.log(0.02 * (10_000 / count) ** (1 / 3) * spread),
        torch.randn(count, 4, generator=rng),
        # Between 0.05 and 0.95, as gsplat caps the opacity elsewhere than we do.
        torch.randn(count, generator=rng).clamp(-3, 3),
        torch.randn(count, 4, 3, generator=rng) * 0.5,
    )
    cameras = Cameras.orbit(
        [360.0 * k / views + 20 for k in range(views)],
        elevation_deg=20.0,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(side, side),
    )
    return Gaussians(*(f.to(device).requires_grad_() for f in fields)), cameras.to(device)


def draw(gaussians: Gaussians, cameras: Cameras, backend: Backend) -> tuple[Tensor, ...]:
    """Colour, alpha and depth."""
    views = render_gaussians(gaussians, cameras, backend=backend)
    assert views.depth is not None
    return views.rgb, views.alpha, views.depth


def forward(gaussians: Gaussians, cameras: Cameras, backend: Backend) -> tuple[Tensor, ...]:
    """Draw as for a viewer."""
    with torch.no_grad():
        return draw(gaussians, cameras, backend)


def both_ways(gaussians: Gaussians, cameras: Cameras, backend: Backend) -> tuple[Tensor, ...]:
    """Draw and go back, as in a step of a fit."""
    pictures = draw(gaussians, cameras, backend)
    inputs = [getattr(gaussians, name) for name in NAMES]
    ones = [torch.ones_like(picture) for picture in pictures]
    gradients = torch.autograd.grad(list(pictures), inputs, ones)
    return (*(picture.detach() for picture in pictures), *gradients)


def check(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], who: str) -> None:
    """Stop if two renderers draw different things.

    A few pixels lie at a threshold, and then differ by up to a Gaussian's share of 1 / 255; so
    the mean difference is looked at, against the mean of the values.
    """
    names = ("rgb", "alpha", "depth", *NAMES)[: len(found)]
    for name, ours, theirs in zip(names, found, expected, strict=True):
        error = float((ours - theirs).abs().mean() / theirs.abs().mean().clamp(min=1e-12))
        if not error < 2e-3:
            sys.exit(f"{who}: {name} differs by {error:.2e} of its mean")


def milliseconds(run: Callable[[], Any]) -> float:
    """Time one call: on the GPU's own clock, or the processor's."""
    if not torch.cuda.is_available():
        start = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - start)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    run()
    last.record()
    last.synchronize()
    return first.elapsed_time(last)


def compare(gaussians: Gaussians, cameras: Cameras, backends: list[Backend], rounds: int) -> str:
    """One row of the table."""
    count, side, views = len(gaussians), cameras.size_hw[0], len(cameras)
    cells = [f"| {count} | {side} | {views} "]
    for way in (forward, both_ways):
        # The first calls compile, and fill the allocator.
        results = [way(gaussians, cameras, backend) for backend in backends]
        for backend, result in zip(backends[1:], results[1:], strict=True):
            check(results[0], result, f"{backends[0]} and {backend}")
        del results
        times: dict[str, list[float]] = {backend: [] for backend in backends}
        for _ in range(rounds):
            for backend in backends:
                times[backend].append(
                    milliseconds(functools.partial(way, gaussians, cameras, backend))
                )
        medians = {backend: statistics.median(taken) for backend, taken in times.items()}
        cells += [f"| {medians[backend]:.3f} " for backend in backends]
        if "gsplat" in medians:
            cells.append(f"| {medians['gsplat'] / medians['triton']:.2f}x ")
    if torch.cuda.is_available():
        cells.append(f"| {torch.cuda.max_memory_allocated() / 2**20:.0f} ")
        torch.cuda.reset_peak_memory_stats()
    return "".join(cells) + "|"


def stages(gaussians: Gaussians, cameras: Cameras, device: str) -> None:
    """Print the time that each kernel takes on the GPU in one forward and backward."""
    both_ways(gaussians, cameras, "triton")
    with torch.profiler.profile() as profile:
        for _ in range(10 if device == "cuda" else 1):
            both_ways(gaussians, cameras, "triton")
    key = f"self_{'device' if device == 'cuda' else 'cpu'}_time_total"
    print(profile.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=50))


def tune(gaussians: Gaussians, cameras: Cameras, device: str, rounds: int) -> None:
    """Time our kernels with tiles of other sizes and other numbers of warps."""
    from roundview.splat import render_triton as ours  # noqa: PLC0415  Triton looks at the environment

    print("| tile | warps forward | backward | forward, ms | forward + backward, ms |")
    print("|---" * 5 + "|")
    kept = [dict(settings) for settings in (ours.PAIR, ours.DRAW, ours.DRAW_BACKWARD)]
    # A warp of 32 threads has at least one pixel a thread, and at most 32.
    choices = [(8, 1, 1), (8, 2, 1), (8, 2, 2), (16, 1, 1), (16, 2, 1), (16, 4, 1), (16, 4, 2)]
    choices += [(16, 8, 4), (32, 4, 4), (32, 8, 4), (32, 8, 8)]
    for tile, draw_warps, backward_warps in choices if device == "cuda" else choices[:1]:
        for settings in (ours.PAIR, ours.DRAW, ours.DRAW_BACKWARD):
            settings["TILE"] = tile
        ours.DRAW["num_warps"], ours.DRAW_BACKWARD["num_warps"] = draw_warps, backward_warps
        cells = []
        for way in (forward, both_ways):
            call = functools.partial(way, gaussians, cameras, "triton")
            call()
            taken = statistics.median(milliseconds(call) for _ in range(rounds))
            cells.append(f"{taken:.3f}")
        print(f"| {tile} | {draw_warps} | {backward_warps} | {' | '.join(cells)} |", flush=True)
    for settings, before in zip((ours.PAIR, ours.DRAW, ours.DRAW_BACKWARD), kept, strict=True):
        settings.update(before)


def usable_backends(device: str) -> list[Backend]:
    """Triton, and gsplat where it can be had."""
    if device == "cpu":
        return ["triton", "reference"]
    try:
        require_compiled_gsplat()
    except (ImportError, ValueError) as error:
        print(f"gsplat is left out: {error}")
        return ["triton"]
    return ["triton", "gsplat"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the two small sizes")
    parser.add_argument("--rounds", type=int, default=50, help="repetitions of each call")
    parser.add_argument("--views", type=int, default=1, help="cameras drawn in one call")
    parser.add_argument("--stages", action="store_true", help="time our kernels one by one as well")
    parser.add_argument("--tune", action="store_true", help="try other sizes of tiles and programs")
    parser.add_argument("--interpret", action="store_true", help="tiny, on the CPU: a dry run")
    options = parser.parse_args()
    device = "cpu" if options.interpret else "cuda"
    if options.interpret:
        # Triton looks when a kernel is imported, which is when one is first asked for.
        os.environ["TRITON_INTERPRET"] = "1"
    elif not torch.cuda.is_available():
        sys.exit("There is no CUDA device here: nothing is measured. --interpret makes a dry run.")
    name = (
        "the interpreter, times mean nothing" if device == "cpu" else torch.cuda.get_device_name()
    )
    print(f"torch {torch.__version__} on {name}")
    backends = usable_backends(device)
    if device == "cuda":
        small = scene(*REFERENCE_SIZE, 2, device)
        expected = both_ways(*small, "reference")
        for backend in backends:
            check(both_ways(*small, backend), expected, f"{backend} and reference")
        print("All agree with the reference at", REFERENCE_SIZE)
    print_table(options, backends, device)


def print_table(options: argparse.Namespace, backends: list[Backend], device: str) -> None:
    """Print a row a size, and what else is wanted of the last one."""
    ratio = ["gsplat / triton"] if "gsplat" in backends else []
    columns = [
        *("Gaussians", "side", "views"),
        *(f"{b} forward, ms" for b in backends),
        *ratio,
        *(f"{b} forward + backward, ms" for b in backends),
        *ratio,
        *(["peak MiB"] if device == "cuda" else []),
    ]
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    rounds = options.rounds if device == "cuda" else 1
    sizes = TINY if device == "cpu" else SIZES[:2] if options.quick else SIZES
    for count, side in sizes:
        gaussians, cameras = scene(count, side, options.views, device)
        print(compare(gaussians, cameras, backends, rounds), flush=True)
    gaussians, cameras = scene(*sizes[-1], options.views, device)
    if options.stages:
        stages(gaussians, cameras, device)
    if options.tune:
        tune(gaussians, cameras, device, rounds)


if __name__ == "__main__":
    main()
