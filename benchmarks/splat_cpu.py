"""What the CPU splatting kernel buys: forward and backward against PyTorch, on the same scenes.

    python benchmarks/splat_cpu.py [--quick]

Peers: our own readable reference (dense 16 x 16 tiles), and gsplat's PyTorch functions (projection,
spherical harmonics, `accumulate`). gsplat finds the (Gaussian, pixel) pairs on a GPU only and takes
two helpers from nerfacc; both are replaced by PyTorch here, and the ratio is given with and without
the search for the pairs. All run in one process, in turn; the figures are medians. Ratios are of
processor time on one thread, so that other programs on the machine count little; the last column is
wall time, one thread over two.

Where g++ and AVX-512 are, `peers/splat.cpp` is compiled too: the same function by hand. That table
gives the share of its speed that ours reaches, torch's part of the work included: processor time,
least of many rounds. The last table has the cost of colour that depends on the direction.

What tries at faster kernels gave on Zen 5, old and new in one run (10k @ 128, 50k @ 512):
- Sixteen lanes as one value (`lanes_numba.py`), not loops that the compiler turns into vectors or
  does not, sums in registers and added up by shuffles. Expected: nothing forward, a little back.
  Found: nothing forward, tiles backward 1.4 and 1.2 times faster. Tile loops now equal the C++.
- Slots added up sixteen numbers at a time. Expected: little. Found: 1.7 and 2.8 times faster.
- The rows that an ellipse spans kept in registers while pairs are made, and unsigned indices there.
  Expected: 1.5 times faster; found: 1.1 for the first, 1.4 and 1.5 for both. Pairs are twice as big
  as in the C++, which has no slots because it has no threads.
- Exact tests of ellipse and tile (Hanson et al., "Speedy-Splat", 2024; Feng et al., "FlashGS",
  2024): nothing to gain. A pair lists only bands of two rows that the ellipse's own rows reach: of
  the lanes computed on these scenes 51, 55, 71 and 74% (in the order of the sizes) lie inside the
  ellipse. Counted, not built: blocks of 4 x 4 pixels would save 10, 10, 7 and 6% of the blocks;
  bands that begin at any column of a wider tile 21, 19, 13 and 11%, less what is lost because
  wider tiles are later in running out of light.
"""

import argparse
import ctypes
import functools
import os
import statistics
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from peers.cpp import Compiled, compiled
from torch import Tensor

from roundview.camera import Cameras
from roundview.gaussians import Gaussians
from roundview.splat.render import render_gaussians

SIZES = ((2_000, 64), (10_000, 128), (10_000, 256), (50_000, 512))
ALPHA_MIN, TRANSMITTANCE_MIN = 1 / 255, 1e-4


@dataclass
class Taken:
    """Seconds of one run: processor and wall time, and processor time of the search for pairs."""

    processor: float
    wall: float
    search: float = 0.0


def scene(count: int, side: int, degree: int = 0) -> tuple[Gaussians, Cameras]:
    """A ball of Gaussians whose size goes with their spacing, filling two thirds of the picture."""
    rng = torch.Generator().manual_seed(0)
    centre = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)
    centre *= 0.5 * torch.rand(count, 1, generator=rng) ** (1 / 3)
    spread = torch.exp(0.3 * torch.randn(count, 3, generator=rng))
    fields = (
        centre,
        torch.log(0.02 * (10_000 / count) ** (1 / 3) * spread),
        torch.randn(count, 4, generator=rng),
        torch.randn(count, generator=rng),
        torch.randn(count, (degree + 1) ** 2, 3, generator=rng),
    )
    cameras = Cameras.orbit(
        [20.0], elevation_deg=20.0, radius=1.5, fov_deg=49.13, size_hw=(side, side)
    )
    return Gaussians(*(field.requires_grad_() for field in fields)), cameras


def ours(
    backend: Literal["reference", "numba"],
) -> Callable[[Gaussians, Cameras], tuple[tuple[Tensor, ...], float]]:
    """Our renderer: rgb, alpha, depth."""

    def draw(gaussians: Gaussians, cameras: Cameras) -> tuple[tuple[Tensor, ...], float]:
        views = render_gaussians(gaussians, cameras, backend=backend)
        assert views.depth is not None
        return (views.rgb, views.alpha, views.depth), 0.0

    return draw


def gsplat_maths(gaussians: Gaussians, cameras: Cameras) -> tuple[tuple[Tensor, ...], float]:
    """Do the maths with the functions of gsplat, and find the pairs with ours."""
    from gsplat.cuda import _torch_impl as gsplat  # noqa: PLC0415  finds nerfacc only now

    h, w = cameras.size_hw
    pose = cameras.camera_from_world
    focal = cameras.focal_px
    intrinsics = torch.zeros(len(cameras), 3, 3)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, 0, 2], intrinsics[:, 1, 2], intrinsics[:, 2, 2] = w / 2, h / 2, 1.0
    covariance, _ = gsplat._quat_scale_to_covar_preci(  # pyright: ignore[reportPrivateUsage]  the peer has no other door
        gaussians.quat_wxyz, gaussians.scale, compute_preci=False
    )
    assert covariance is not None
    radii, middle, depth, conic, _ = gsplat._fully_fused_projection(  # pyright: ignore[reportPrivateUsage]  the peer has no other door
        gaussians.centre, covariance, pose, intrinsics, w, h
    )
    direction = gaussians.centre - cameras.origin
    rgb = gsplat._spherical_harmonics(  # pyright: ignore[reportPrivateUsage]  the peer has no other door
        0, direction, gaussians.sh
    )
    rgb = (rgb + 0.5).clamp(min=0)
    opacity = gaussians.opacity[None]
    start = time.process_time()
    with torch.no_grad():
        ellipse, pixel = search_pairs(radii[0], middle[0], conic[0], opacity[0], depth[0], (h, w))
    search = time.process_time() - start
    shown = torch.cat([rgb[None], depth[..., None]], dim=-1)
    image = torch.zeros_like(pixel)
    drawn, alpha = gsplat.accumulate(middle, conic, opacity, shown, ellipse, pixel, image, w, h)
    depth = drawn[..., 3:] / alpha.clamp(min=1e-9)
    return (drawn[..., :3] + (1 - alpha), alpha, depth), search


def search_pairs(
    radii: Tensor,
    middle: Tensor,
    conic: Tensor,
    opacity: Tensor,
    depth: Tensor,
    size_hw: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """All pairs of Gaussian and pixel that are composited, by pixel and then by depth."""
    order = depth.argsort()
    order = order[(radii[order] > 0).all(dim=-1)]
    # In parts that stay in the processor's cache.
    parts = [
        reached_pixels(some, radii, middle, conic, opacity, size_hw) for some in order.split(500)
    ]
    ellipse, pixel, alpha = (torch.cat(values) for values in zip(*parts, strict=True))
    pixel, by_pixel = pixel.sort(stable=True)
    ellipse, alpha = ellipse[by_pixel], alpha[by_pixel]
    lit = torch.exp(cumulated_within(torch.log1p(-alpha), pixel)) >= TRANSMITTANCE_MIN
    return ellipse[lit], pixel[lit]


def reached_pixels(
    some: Tensor,
    radii: Tensor,
    middle: Tensor,
    conic: Tensor,
    opacity: Tensor,
    size_hw: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels in the boxes of some ellipses where they are opaque enough: ellipse, pixel, alpha."""
    h, w = size_hw
    low = (middle[some] - radii[some]).floor().clamp(min=0).long()
    high = torch.minimum((middle[some] + radii[some]).ceil().long(), torch.tensor([w, h]))
    extent = (high - low).clamp(min=0)
    count = extent.prod(dim=-1)
    at = torch.repeat_interleave(torch.arange(len(some)), count)
    inside = torch.arange(len(at)) - torch.repeat_interleave(count.cumsum(0) - count, count)
    x = low[at, 0] + inside % extent[at, 0]
    y = low[at, 1] + inside // extent[at, 0]
    dx, dy = x + 0.5 - middle[some][at, 0], y + 0.5 - middle[some][at, 1]
    c = conic[some][at]
    power = 0.5 * (c[:, 0] * dx**2 + c[:, 2] * dy**2) + c[:, 1] * dx * dy
    alpha = (opacity[some][at] * torch.exp(-power)).clamp(max=0.99)
    reached = alpha >= ALPHA_MIN
    return some[at][reached], (y * w + x)[reached], alpha[reached]


def cumulated_within(values: Tensor, group: Tensor) -> Tensor:
    """Cumulative sum that starts afresh in every group of equal neighbours."""
    # In float64: over a whole picture the sum grows large, and differences of it are wanted.
    total = values.double().cumsum(0)
    _, counts = torch.unique_consecutive(group, return_counts=True)
    first = counts.cumsum(0) - counts
    before = (total - values)[first]
    return (total - torch.repeat_interleave(before, counts)).to(values)


def weights_from_alpha(alpha: Tensor, *, ray_indices: Tensor, n_rays: int) -> tuple[Tensor, Tensor]:
    """Stand in for the helper of nerfacc: weights of samples from their opacity."""
    del n_rays
    logarithm = torch.log1p(-alpha)
    before = torch.exp(cumulated_within(logarithm, ray_indices) - logarithm)
    return alpha * before, before


def accumulate(
    weights: Tensor, values: Tensor | None, *, ray_indices: Tensor, n_rays: int
) -> Tensor:
    """Stand in for the helper of nerfacc: weighted sums by ray."""
    weighted = weights[:, None] if values is None else weights[:, None] * values
    return weighted.new_zeros(n_rays, weighted.shape[1]).index_add(0, ray_indices, weighted)


def lend_nerfacc() -> None:
    """Put the two helpers where gsplat looks for them."""
    module = types.ModuleType("nerfacc")
    module.__dict__.update(
        render_weight_from_alpha=weights_from_alpha, accumulate_along_rays=accumulate
    )
    sys.modules["nerfacc"] = module


def run(
    draw: Callable[[Gaussians, Cameras], tuple[tuple[Tensor, ...], float]],
    gaussians: Gaussians,
    cameras: Cameras,
) -> tuple[Taken, tuple[Tensor, ...]]:
    """Draw and go back once."""
    inputs = [getattr(gaussians, name) for name in gaussians.__dataclass_fields__]
    wall, processor = time.perf_counter(), time.process_time()
    pictures, search = draw(gaussians, cameras)
    gradients = torch.autograd.grad(
        list(pictures), inputs, [torch.ones_like(picture) for picture in pictures]
    )
    taken = Taken(time.process_time() - processor, time.perf_counter() - wall, search)
    return taken, (*(picture.detach().flatten() for picture in pictures), *gradients)


def compare(count: int, side: int, rounds: int) -> str:
    """One row of the table."""
    gaussians, cameras = scene(count, side)
    peers = {"reference": ours("reference"), "gsplat": gsplat_maths, "numba": ours("numba")}
    times: dict[str, list[Taken]] = {name: [] for name in (*peers, "two")}
    os.environ["ROUNDVIEW_THREADS"] = "1"
    results = {name: run(draw, gaussians, cameras)[1] for name, draw in peers.items()}
    # gsplat caps opacity at 0.999 and finds pairs at the edges by another rounding.
    for name, tolerance in (("gsplat", 0.1), ("numba", 0.02)):
        for expected, found in zip(results["reference"], results[name], strict=True):
            error = float((expected - found).abs().max() / expected.abs().max())
            assert error < tolerance, f"{name} draws something else: {error:.3g}"
    for _ in range(rounds):
        for name, draw in peers.items():
            for _ in range(20 if name == "numba" else 1):
                times[name].append(run(draw, gaussians, cameras)[0])
        os.environ["ROUNDVIEW_THREADS"] = "2"
        times["two"] += [run(peers["numba"], gaussians, cameras)[0] for _ in range(20)]
        os.environ["ROUNDVIEW_THREADS"] = "1"

    def median(name: str, of: str) -> float:
        return statistics.median(getattr(taken, of) for taken in times[name])

    numba = median("numba", "processor")
    reference, gsplat = median("reference", "processor"), median("gsplat", "processor")
    searching = median("gsplat", "search")
    return (
        f"| {count // 1000}k @ {side} | {reference * 1e3:.0f} | {gsplat * 1e3:.0f} "
        f"| {searching * 1e3:.0f} | {numba * 1e3:.2f} | {reference / numba:.0f}x "
        f"| {gsplat / numba:.0f}x | {(gsplat - searching) / numba:.0f}x "
        f"| {median('numba', 'wall') / median('two', 'wall'):.2f} |"
    )


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def least_seconds(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least processor time of each, called in turn."""
    least = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            least[name] = min(least[name], seconds(work))
    return least


def compare_with_cpp(library: ctypes.CDLL, count: int, side: int) -> str:
    """One row of the table of the C++ peer."""
    gaussians, cameras = scene(count, side)
    peer = Compiled(library, gaussians, cameras)
    inputs = [getattr(gaussians, name) for name in gaussians.__dataclass_fields__]
    drawn, _ = ours("numba")(gaussians, cameras)
    slopes = tuple(torch.ones_like(picture) for picture in drawn)

    def backward() -> tuple[Tensor, ...]:
        return torch.autograd.grad(drawn, inputs, slopes, retain_graph=True)

    expected = (*(picture.detach() for picture in drawn), *backward())
    for a, b in zip(expected, (*peer.forward(), *peer.backward(slopes)), strict=True):
        # A pixel in a hundred thousand may fall on the other side of a threshold.
        off = (a - b).abs() > 1e-4 * a.abs().max()
        assert off.double().mean() < 1e-4, "the peer draws something else"
    works: dict[str, Callable[[], object]] = {
        "forward": lambda: ours("numba")(gaussians, cameras),
        "backward": backward,
        "c++ forward": peer.forward,
        "c++ backward": lambda: peer.backward(slopes),
    }
    least = least_seconds(works, 40 if count < 50_000 else 15)
    there, back = least["forward"], least["backward"]
    peer_there, peer_back = least["c++ forward"], least["c++ backward"]
    return (
        f"| {count // 1000}k @ {side} | {peer_there * 1e3:.2f} + {peer_back * 1e3:.2f} "
        f"| {there * 1e3:.2f} + {back * 1e3:.2f} | {peer_there / there:.0%} "
        f"| {peer_back / back:.0%} | {(peer_there + peer_back) / (there + back):.0%} |"
    )


def compare_degrees() -> str:
    """One row of the table of degrees."""
    works: dict[str, Callable[[], object]] = {}
    for degree in range(4):
        gaussians, cameras = scene(10_000, 128, degree)
        works[str(degree)] = functools.partial(run, ours("numba"), gaussians, cameras)
    least = least_seconds(works, 30)
    ratios = [f"{value / least['0']:.2f}" for value in least.values()]
    return f"| {' | '.join(ratios)} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the two small sizes, 3 rounds")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    os.environ["ROUNDVIEW_THREADS"] = "1"
    library = compiled()
    if library is not None:
        print("C++ and numba, forward + backward, processor ms on one thread; share of C++'s speed")
        print("| Gaussians @ side | C++ | numba | forward | backward | total |")
        print("|---|---|---|---|---|---|")
        for count, side in SIZES:
            print(compare_with_cpp(library, count, side), flush=True)
    print("Colour of degree 0 to 3, forward + backward at 10k @ 128, over degree 0")
    print("| 0 | 1 | 2 | 3 |")
    print("|---|---|---|---|")
    print(compare_degrees(), flush=True)
    lend_nerfacc()
    print("Forward + backward, processor ms on one thread; ratios over numba")
    print(
        "| Gaussians @ side | reference | gsplat maths | (its search) | numba "
        "| reference / numba | gsplat / numba | without search | 1 -> 2 threads, wall |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for count, side in SIZES[:2] if quick else SIZES:
        print(compare(count, side, 3 if quick else 5), flush=True)


if __name__ == "__main__":
    main()
