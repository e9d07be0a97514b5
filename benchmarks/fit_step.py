"""What one step of a fit costs over its render and way back alone.

    python benchmarks/fit_step.py

A step is `fit_gradient` (photometric, MS-SSIM and mask loss) and `CloudAdam.step`; beside it the
same step by autograd, as `fit_gradient_reference` does it. All run in turn in one process on one
thread; the figures are the least processor time of many rounds, because other programs only ever
add to it. The goal is a step of at most 1.6 times the render at 10k Gaussians and 128 px.
"""

import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ROUNDVIEW_THREADS", "1")

import torch
from splat_cpu import ours, run, scene

from roundview.gaussians import Gaussians
from roundview.splat.cloud import CloudAdam, pack
from roundview.splat.render import render_gaussians
from roundview.splat.step import (
    LossWeights,
    fit_gradient,
    fit_gradient_reference,
)

SIZES = ((2_000, 64), (10_000, 128), (10_000, 256))
WEIGHTS = LossWeights(10.0, 1, 0.2, 1.0)
ROUNDS = 60


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(count: int, side: int) -> str:
    """One row of the table."""
    gaussians, cameras = scene(count, side)
    moved = (getattr(gaussians, f).detach() + 0.01 for f in gaussians.__dataclass_fields__)
    with torch.no_grad():
        target = render_gaussians(Gaussians(*moved), cameras)
    cloud = CloudAdam(pack(gaussians.detach()))
    rates = torch.full((cloud.rows.shape[1],), 1e-6)

    def by_autograd() -> None:
        fit_gradient_reference(cloud, target, WEIGHTS)
        cloud.step(rates)

    works: dict[str, Callable[[], object]] = {
        "render": lambda: run(ours("numba"), gaussians, cameras),
        "gradient": lambda: fit_gradient(cloud, target, WEIGHTS),
        "step": lambda: cloud.step(rates),
        "autograd": by_autograd,
    }
    least = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            least[name] = min(least[name], seconds(work))
    fused, render = least["gradient"] + least["step"], least["render"]
    return (
        f"| {count // 1000}k @ {side} | {render * 1e3:.2f} | {fused * 1e3:.2f} "
        f"| {least['step'] * 1e3:.2f} | {fused / render:.2f} | {least['autograd'] / render:.2f} |"
    )


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("Processor ms on one thread, least of many rounds")
    print("| Gaussians @ side | render | step | (its Adam) | step / render | autograd / render |")
    print("|---|---|---|---|---|---|")
    for count, side in SIZES:
        print(compare(count, side), flush=True)


if __name__ == "__main__":
    main()
