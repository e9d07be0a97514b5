from dataclasses import replace

import pytest
import torch
from torch import Tensor

from roundview.field.march import (
    Occupancy,
    RaySamples,
    composite,
    composite_reference,
    kernels_for,
    march,
    march_reference,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inward_rays(count: int) -> tuple[Tensor, Tensor]:
    """From points on a sphere towards points near the middle; the last one looks away."""
    origin = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng(1)), dim=1) * 2
    goal = torch.randn(count, 3, generator=rng(2)) * 0.3
    direction = torch.nn.functional.normalize(goal - origin, dim=1)
    direction[-1] *= -1
    return origin, direction


def test_ray_along_an_axis_is_sampled_in_the_middles_of_its_steps() -> None:
    occupancy = Occupancy(4, 0.5)
    origin, direction = torch.tensor([[0.1, 0.1, 2.0]]), torch.tensor([[0.0, 0.0, -1.0]])
    samples = march(origin, direction, occupancy, step=0.25)
    torch.testing.assert_close(samples.distance, torch.tensor([1.625, 1.875, 2.125, 2.375]))
    assert samples.first.tolist() == [0, 4]


def test_empty_cells_are_skipped() -> None:
    occupancy = Occupancy(4, 0.5)
    only = torch.zeros(4, 4, 4, dtype=torch.bool)
    only[2, 2, 1] = True
    occupancy.allow(only)
    origin, direction = torch.tensor([[0.1, 0.1, 2.0]]), torch.tensor([[0.0, 0.0, -1.0]])
    samples = march(origin, direction, occupancy, step=0.25)
    torch.testing.assert_close(samples.distance, torch.tensor([2.125]))


@pytest.mark.parametrize("count", [1, 65, 200])
def test_marching_kernel_matches_reference(count: int) -> None:
    occupancy = Occupancy(8, 0.5)
    occupancy.allow(torch.rand(8, 8, 8, generator=rng(3)) < 0.5)
    origin, direction = inward_rays(count)
    samples = march(origin, direction, occupancy, step=0.0317, rng=rng(4))
    shift = torch.rand(count, generator=rng(4))
    expected = march_reference(origin, direction, occupancy, step=0.0317, shift=shift)
    # A sample on a cell's border may be rounded into either.
    assert (samples.first.diff() - expected.first.diff()).abs().max() <= 1
    assert len(samples.ray) == int(samples.first[-1])
    if len(samples.ray) == len(expected.ray):
        torch.testing.assert_close(samples.distance, expected.distance)
        assert samples.ray.equal(expected.ray)


@pytest.fixture
def on_triton(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> torch.device:
    """March by the GPU's kernels, in Triton's interpreter where there is no GPU."""
    pytest.importorskip("triton")
    from roundview.field import march_triton  # noqa: PLC0415  once it is known to be there

    monkeypatch.setattr("roundview.field.march.kernels_for", lambda _: march_triton)
    return device


@pytest.mark.kernel
@pytest.mark.parametrize("count", [0, 1, 65])
def test_marching_on_a_gpu_matches_reference(count: int, on_triton: torch.device) -> None:
    occupancy = Occupancy(8, 0.5)
    occupancy.allow(torch.rand(8, 8, 8, generator=rng(3)) < 0.5)
    occupancy = occupancy.to(on_triton)
    origin, direction = (part[:count].to(on_triton) for part in inward_rays(max(1, count)))
    samples = march(origin, direction, occupancy, step=0.0617, rng=rng(4))
    shift = torch.rand(count, generator=rng(4)).to(on_triton)
    expected = march_reference(origin, direction, occupancy, step=0.0617, shift=shift)
    assert (samples.first.diff() - expected.first.diff()).abs().sum() <= count // 20
    assert samples.ray.equal(torch.repeat_interleave(samples.first.diff()))
    if len(samples.ray) == len(expected.ray):
        torch.testing.assert_close(samples.distance, expected.distance)


def packed(counts: list[int]) -> RaySamples:
    first = torch.tensor([0, *counts]).cumsum(0)
    ray = torch.repeat_interleave(torch.arange(len(counts)), first.diff())
    return RaySamples(torch.zeros(sum(counts)), ray, first, 0.1)


def test_nearer_samples_hide_farther_ones() -> None:
    alpha = torch.tensor([0.5, 0.5, 1.0, 0.25])
    values = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    out, weight = composite(alpha, values, packed([3, 0, 1]))
    torch.testing.assert_close(weight, torch.tensor([0.5, 0.25, 0.25, 0.25]))
    torch.testing.assert_close(out, torch.tensor([[2.0], [0.0], [2.0]]))


@pytest.mark.parametrize("counts", [[0], [1], [5, 0, 129, 1]])
def test_compositing_kernel_matches_reference_with_gradients(counts: list[int]) -> None:
    compare_compositing(counts, torch.device("cpu"))


@pytest.mark.kernel
@pytest.mark.parametrize("counts", [[], [0], [1], [5, 0, 40, 1]])
def test_compositing_on_a_gpu_matches_reference_with_gradients(
    counts: list[int], on_triton: torch.device
) -> None:
    compare_compositing(counts, on_triton)


def compare_compositing(counts: list[int], device: torch.device) -> None:
    packing, total = packed(counts), sum(counts)
    samples = replace(
        packing,
        distance=packing.distance.to(device),
        ray=packing.ray.to(device),
        first=packing.first.to(device),
    )
    alpha = torch.rand(total, generator=rng(5)) * 0.5
    alpha[:2] = torch.tensor([0.0, 1.0])[:total]
    alpha = alpha.to(device).requires_grad_()
    values = torch.rand(total, 3, generator=rng(6)).to(device).requires_grad_()
    pull = torch.rand(len(counts), 3, generator=rng(7)).to(device)
    push = torch.rand(total, generator=rng(8)).to(device)
    results = []
    for function in (composite, composite_reference):
        out, weight = function(alpha, values, samples)
        loss = (out * pull).sum() + (weight * push).sum()
        results.append((out, weight, *torch.autograd.grad(loss, [alpha, values])))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_kernels_are_chosen_by_where_a_tensor_lies() -> None:
    chosen = kernels_for(torch.zeros(1))
    assert chosen is not None
    assert chosen.__name__.endswith("march_numba")
    assert kernels_for(torch.zeros(1).double()) is None
    assert kernels_for(torch.zeros(1, device="meta")) is None


def test_occupancy_keeps_the_cells_that_hold_something() -> None:
    occupancy = Occupancy(8, 0.5)
    left = torch.zeros(8, 8, 8, dtype=torch.bool)
    left[:4] = True
    occupancy.allow(left)

    def presence(points: Tensor) -> Tensor:
        return (points.norm(dim=1) < 0.3).float()

    for _ in range(4):
        occupancy.update(presence, rng(9), threshold=0.01)
    assert bool(occupancy.full[3, 3, 3])
    assert not bool(occupancy.full[0, 0, 0])  # nothing there
    assert not bool(occupancy.full[4, 4, 4])  # not allowed


def test_points_in_allowed_cells_are_known() -> None:
    occupancy = Occupancy(2, 1.0)
    cells = torch.zeros(2, 2, 2, dtype=torch.bool)
    cells[1, 0, 1] = True
    occupancy.allow(cells)
    points = torch.tensor([[0.5, -0.5, 0.5], [-0.5, -0.5, 0.5], [1.5, -0.5, 0.5]])
    assert occupancy.contains(points).tolist() == [True, False, False]


def test_one_look_tells_all_where_nothing_is_kept() -> None:
    occupancy = Occupancy(4, 0.5)
    occupancy.update(lambda points: torch.ones(len(points)), rng(), threshold=0.01)

    def corner(points: Tensor) -> Tensor:
        return (points > 0.25).all(dim=1).float()

    occupancy.update(corner, rng(), threshold=0.01)
    assert bool(occupancy.full.all())  # 0.95 is left of what was found before
    occupancy.update(corner, rng(), threshold=0.01, kept=0.0)
    assert occupancy.full.nonzero().tolist() == [[3, 3, 3]]
