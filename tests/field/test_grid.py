import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from roundview.field.grid import (
    GridLayout,
    GridSettings,
    HashGrid,
    encode_reference,
    frequency_encoding,
    kernels_for,
    slope_reference,
)

# The first level in order, the second filled up to 8, the others hashed.
SMALL = GridSettings(levels=4, features=2, log2_table=9, coarsest=5, finest=40)
# One level in order, one hashed: Triton's interpreter is slow.
TINY = GridSettings(levels=2, features=2, log2_table=7, coarsest=4, finest=20)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def grid(settings: GridSettings = SMALL) -> HashGrid:
    made = HashGrid(settings, torch.Generator().manual_seed(1))
    with torch.no_grad():
        made.table.copy_(random(*made.table.shape, seed=2) - 0.5)
    return made


def test_layout_is_that_of_tiny_cuda_nn() -> None:
    # Levels of 16, 32 and 64 cells: scale n - 1, n nodes a side, rows in eights up to the table's.
    layout = GridLayout.of(GridSettings(3, 2, 15, 16, 64))
    assert layout.scale.tolist() == [15.0, 31.0, 63.0]
    assert layout.resolution.tolist() == [16, 32, 64]
    assert layout.first.tolist() == [0, 4096, 4096 + 32768, 4096 + 2 * 32768]


def test_feature_at_a_node_is_the_nodes_row() -> None:
    made = grid(GridSettings(1, 2, 9, 5, 5))
    # Level of 5 nodes: x * 4 + 0.5 is whole at x = (n - 0.5) / 4.
    place = torch.tensor([[0.5 / 4, 1.5 / 4, 2.5 / 4]])
    row = 1 + 2 * 5 + 3 * 25
    torch.testing.assert_close(made(place)[0], made.table[row])


def test_hashed_node_lies_where_the_paper_says() -> None:
    made = grid(GridSettings(1, 2, 9, 40, 40))
    place = (torch.tensor([[7.0, 11.0, 23.0]]) - 0.5) / 39
    row = (7 ^ (11 * 2654435761 % 2**32) ^ (23 * 805459861 % 2**32)) % 512
    torch.testing.assert_close(made(place)[0], made.table[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 700])
@pytest.mark.parametrize("active", [0, 2, 4])
def test_kernel_matches_reference(count: int, active: int) -> None:
    made = grid()
    made.active = active
    points = random(count, 3, seed=3) * 1.2 - 0.1  # some outside
    expected = encode_reference(points, made.table, made.layout, active)
    # The place in a cell of the 40 is rounded at its whole part.
    torch.testing.assert_close(made(points), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("features", [2, 4])
def test_kernel_gradients_match_reference(features: int) -> None:
    made = grid(replace(SMALL, features=features))
    points = (random(300, 3, seed=4) * 1.2 - 0.1).requires_grad_()
    upstream = random(300, made.width, seed=5)
    ours = torch.autograd.grad((made(points) * upstream).sum(), [points, made.table])
    reference = encode_reference(points, made.table, made.layout, made.active)
    theirs = torch.autograd.grad((reference * upstream).sum(), [points, made.table])
    for one, other in zip(ours, theirs, strict=True):
        # The slopes of hashed levels add up to tens.
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("features", [2, 4])
def test_gradients_of_the_slope_match_reference(features: int) -> None:
    made = grid(replace(SMALL, features=features))
    points = random(300, 3, seed=6) * 1.2 - 0.1
    upstream = random(300, made.width, seed=7).requires_grad_()
    pull = random(300, 3, seed=8)
    inputs = [made.table, upstream]
    ours = torch.autograd.grad((made.slope(points, upstream) * pull).sum(), inputs)
    slope = slope_reference(points, made.table, upstream, made.layout, made.active)
    theirs = torch.autograd.grad((slope * pull).sum(), inputs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.fixture
def on_triton(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> torch.device:
    """Let all grids use the GPU's kernels, in Triton's interpreter where there is no GPU."""
    pytest.importorskip("triton")
    from roundview.field import grid_triton  # noqa: PLC0415  once it is known to be there

    monkeypatch.setattr("roundview.field.grid.kernels_for", lambda *_: grid_triton)
    return device


@pytest.mark.kernel
@pytest.mark.parametrize(("count", "active"), [(0, 4), (1, 4), (140, 2), (3, 0)])
def test_gpu_kernel_matches_reference(count: int, active: int, on_triton: torch.device) -> None:
    made = grid().to(on_triton)
    made.active = active
    points = (random(count, 3, seed=3) * 1.2 - 0.1).to(on_triton)
    expected = encode_reference(points, made.table, made.layout, active)
    torch.testing.assert_close(made(points), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.kernel
@pytest.mark.parametrize("features", [2, 4])
def test_gpu_kernels_have_all_gradients_of_the_reference(
    features: int, on_triton: torch.device
) -> None:
    made = grid(replace(TINY, features=features)).to(on_triton)
    points = (random(40, 3, seed=4) * 1.2 - 0.1).to(on_triton).requires_grad_()
    upstream = random(40, made.width, seed=5).to(on_triton).requires_grad_()
    pull = random(40, 3, seed=8).to(on_triton)
    found = []
    for encoded, slope in (
        (made(points), made.slope(points.detach(), upstream)),
        (
            encode_reference(points, made.table, made.layout, made.active),
            slope_reference(points.detach(), made.table, upstream, made.layout, made.active),
        ),
    ):
        first = torch.autograd.grad((encoded * upstream.detach()).sum(), [points, made.table])
        second = torch.autograd.grad((slope * pull).sum(), [made.table, upstream])
        found.append((slope, *first, *second))
    for one, other in zip(*found, strict=True):
        # As for the other kernels: the slopes of hashed levels add up to tens.
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.kernel
def test_gpu_kernels_give_the_same_bytes_twice(on_triton: torch.device) -> None:
    made = grid(TINY).to(on_triton)
    points = random(20, 3, seed=4).to(on_triton)
    twice = [torch.autograd.grad(made(points).square().sum(), made.table)[0] for _ in range(2)]
    assert torch.equal(*twice)


def test_kernels_are_chosen_by_where_tensors_lie() -> None:
    points, table = random(1, 3), random(8, 2)
    chosen = kernels_for(points, table)
    assert chosen is not None
    assert chosen.__name__.endswith("grid_numba")
    assert kernels_for(points.double(), table.double()) is None
    assert kernels_for(points.to("meta"), table.to("meta")) is None


def test_reference_slope_is_that_of_finite_differences() -> None:
    made = grid().double()
    points = random(20, 3, seed=9).double()
    upstream = random(20, made.width, seed=10).double()
    slope = made.slope(points, upstream)
    step = 1e-7
    for axis in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[axis] = step
        rise = ((made(points + shift) - made(points - shift)) * upstream).sum(dim=1) / (2 * step)
        torch.testing.assert_close(slope[:, axis], rise, rtol=1e-6, atol=1e-6)


def test_sleeping_levels_give_nothing() -> None:
    made = grid()
    made.active = 1
    features = made(random(5, 3))
    assert bool((features[:, :2] != 0).all())
    assert bool((features[:, 2:] == 0).all())


def test_frequencies_double() -> None:
    wave = frequency_encoding(torch.tensor([[0.25]]), 2)[0]
    half = math.sqrt(0.5)
    torch.testing.assert_close(wave, torch.tensor([half, half, 1.0, 0.0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"levels": 0}, {"coarsest": 1}, {"finest": 8}, {"features": 3}])
def test_grid_without_content_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"finest|features|a grid needs"):
        GridSettings(**wrong)
