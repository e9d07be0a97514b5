"""What discs cost beside solid Gaussians: the two CPU kernels on the same scenes, in one run.

    python benchmarks/discs_cpu.py

Forward and backward of every picture that each kernel gives: colour, alpha and depth; and for discs
normal, median depth and distortion. Processor time on one thread, so that other programs on the
machine count little; interleaved, the least of several runs. Measured on one shared core, twice:
1.5 and 1.7 times at 2,000 Gaussians and 64 px, 2.4 at 10,000 and 128 px, 2.1 and 2.4 at 256 px.
"""

import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["ROUNDVIEW_THREADS"] = "1"

import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.gaussians import Gaussians
from roundview.splat.discs import render_discs
from roundview.splat.render import render_gaussians

SIZES = ((2_000, 64), (10_000, 128), (10_000, 256))
RUNS = 9


def scene(count: int, side: int) -> tuple[Gaussians, Cameras]:
    """Gaussians on a sphere, flat along it, as a fit leaves them; they overlap by two thirds."""
    rng = torch.Generator().manual_seed(0)
    outward = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)
    spread = torch.exp(0.3 * torch.randn(count, 3, generator=rng)) * torch.tensor([1.0, 1.0, 0.1])
    # The turn of +Z to the outward direction.
    half_way = outward + torch.tensor([0.0, 0.0, 1.0])
    x, y, z = torch.nn.functional.normalize(half_way, dim=-1).unbind(-1)
    fields = (
        0.4 * outward,
        torch.log(0.01 * (10_000 / count) ** 0.5 * spread),
        torch.stack([z, -y, x, torch.zeros_like(x)], dim=-1),
        torch.randn(count, generator=rng),
        torch.randn(count, 1, 3, generator=rng),
    )
    cameras = Cameras.orbit(
        [20.0], elevation_deg=20.0, radius=1.5, fov_deg=49.13, size_hw=(side, side)
    )
    return Gaussians(*(field.requires_grad_() for field in fields)), cameras


def solid(gaussians: Gaussians, cameras: Cameras) -> list[Tensor]:
    """Draw Gaussians."""
    views = render_gaussians(gaussians, cameras, backend="numba")
    assert views.depth is not None
    return [views.rgb, views.alpha, views.depth]


def flat(gaussians: Gaussians, cameras: Cameras) -> list[Tensor]:
    """Draw discs."""
    seen = render_discs(gaussians, cameras, backend="numba")
    views = seen.views
    assert views.depth is not None
    assert views.normal is not None
    return [views.rgb, views.alpha, views.depth, views.normal, seen.median_depth, seen.distortion]


def main() -> None:
    """Print a row for each size."""
    print(f"{'Gaussians':>9} {'side':>5}  forward  backward  both (discs over Gaussians)")
    for count, side in SIZES:
        gaussians, cameras = scene(count, side)
        fields = list(vars(gaussians).values())
        best = {draw: [float("inf")] * 3 for draw in (solid, flat)}
        for _ in range(RUNS):
            for draw, least in best.items():
                begin = time.process_time()
                pictures = draw(gaussians, cameras)
                drawn = time.process_time()
                torch.autograd.grad([picture.sum() for picture in pictures], fields)
                end = time.process_time()
                taken = (drawn - begin, end - drawn, end - begin)
                least[:] = [min(a, b) for a, b in zip(least, taken, strict=True)]
        ratios = [a / b for a, b in zip(best[flat], best[solid], strict=True)]
        milliseconds = ", ".join(f"{1e3 * least[2]:.1f} ms" for least in best.values())
        print(
            f"{count:9} {side:5}  {ratios[0]:6.2f}x  {ratios[1]:7.2f}x  {ratios[2]:.2f}x"
            f"  ({milliseconds})"
        )


if __name__ == "__main__":
    main()
