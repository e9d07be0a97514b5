"""Sorting by depth and into tiles: every pixel that an ellipse reaches is in one of its bands."""

import math

import numpy as np
import pytest

from roundview.splat import pairs_numba as pairs
from roundview.splat import project_numba as project


def random_records(rng: np.random.Generator, count: int, size_hw: tuple[int, int]) -> np.ndarray:
    """Ellipses of all shapes in and round the picture."""
    h, w = size_hw
    found = np.zeros((1, count, project.RECORD), np.float32)
    record = found[0]
    record[:, project.MIDDLE_X] = rng.uniform(-5, w + 5, count)
    record[:, project.MIDDLE_Y] = rng.uniform(-5, h + 5, count)
    long, short = np.exp(rng.uniform(-0.5, 3.5, count)), np.exp(rng.uniform(-0.5, 1, count))
    turn = rng.uniform(0, math.pi, count)
    xx = (long * np.cos(turn)) ** 2 + (short * np.sin(turn)) ** 2
    yy = (long * np.sin(turn)) ** 2 + (short * np.cos(turn)) ** 2
    xy = (long**2 - short**2) * np.sin(turn) * np.cos(turn)
    record[:, project.SHEAR] = xy / yy
    record[:, project.SHARP_X] = np.sqrt(0.5 * yy) / (long * short)
    record[:, project.SHARP_Y] = np.sqrt(0.5 / yy)
    record[:, project.OPACITY] = rng.uniform(0.005, 1, count)
    record[:, project.POWER_MAX] = np.log(255 * record[:, project.OPACITY])
    record[:, project.REACH_X] = np.sqrt(2 * record[:, project.POWER_MAX] * xx)
    record[:, project.REACH_Y] = np.sqrt(2 * record[:, project.POWER_MAX] * yy)
    record[:, project.DEPTH] = rng.uniform(1, 2, count)
    return found


def sort(records: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, int, np.ndarray]:
    count = records.shape[1]
    order, seen = np.zeros((1, count), np.uint32), np.zeros(1, np.int64)
    capacity = np.zeros((1, max(-(-count // pairs.CHUNK), 1), 2), np.int64)
    both = (records, records.view(np.uint32))
    pairs.sort_kernel(0, 1, both, order, seen, size_hw, capacity)
    return order, int(seen[0]), capacity


@pytest.mark.parametrize("count", [0, 1, 2, 1000, 5000])
def test_ellipses_come_nearest_first_and_equal_ones_by_index(count: int) -> None:
    rng = np.random.default_rng(count)
    records = np.zeros((1, count, project.RECORD), np.float32)
    depth = rng.choice(np.exp(rng.normal(size=count // 2 + 1) * 5).astype(np.float32), count)
    depth[rng.uniform(size=count) < 0.2] = np.inf
    records[0, :, project.DEPTH] = depth
    order, seen, _ = sort(records, (8, 8))
    expected = np.argsort(depth, kind="stable")
    assert seen == np.isfinite(depth).sum()
    assert np.array_equal(order[0, :seen], expected[:seen])


@pytest.mark.parametrize("size_hw", [(16, 16), (37, 45), (1, 1), (9, 70)])
def test_every_pixel_that_an_ellipse_reaches_is_in_one_of_its_bands(
    size_hw: tuple[int, int],
) -> None:
    h, w = size_hw
    rng = np.random.default_rng(h)
    # More than a chunk, so that the lists are put together from two jobs.
    count = pairs.CHUNK + 100
    records = random_records(rng, count, size_hw)
    order, seen, capacity = sort(records, size_hw)
    chunks, across = capacity.shape[1], -(-w // pairs.SIDE)
    starts = np.zeros((chunks + 1, 2), np.int64)
    starts[1:] = capacity[0].cumsum(axis=0)
    tile_counts = np.zeros((chunks, across * -(-h // pairs.SIDE)), np.int64)
    found = np.zeros((int(starts[-1, 0]), 2), np.uint32)
    slot_of = (np.zeros((1, count), np.int64), np.zeros((1, count), np.int64))
    paired = (found, *slot_of, np.zeros(chunks, np.int64), tile_counts)
    seen_of = np.array([seen])
    pairs.pair_kernel(0, chunks, records, order, seen_of, size_hw, starts, paired)
    cursors, bounds = np.zeros_like(tile_counts), np.zeros((1, tile_counts.shape[1], 2), np.int64)
    pairs.cursor_kernel(0, 1, starts, tile_counts, cursors, bounds)
    listed = np.zeros_like(found)
    pairs.list_kernel(0, chunks, starts, paired, cursors, listed)

    covered = np.zeros((count, h, w), bool)
    opened: list[int] = []
    rank = np.empty(count, np.int64)
    rank[order[0, :seen]] = np.arange(seen)
    for tile, (begin, end) in enumerate(bounds[0]):
        bits = listed[begin:end, 1]
        ellipse = bits >> pairs.ELLIPSE_SHIFT
        assert (np.diff(rank[ellipse]) > 0).all(), "a tile's list must go from near to far"
        opened += listed[begin:end, 0][(bits & pairs.OPENS) > 0].tolist()
        top, left = tile // across * pairs.SIDE, tile % across * pairs.SIDE
        for one, which in zip(bits, ellipse, strict=True):
            first, last = one & pairs.FIRST_BAND, (one >> pairs.LAST_SHIFT) & pairs.LAST_BAND
            covered[which, top + 2 * first : top + 2 * last, left : left + pairs.SIDE] = True
    # Each slot is opened once, and the counts say how many there are.
    assert len(set(opened)) == len(opened) == slot_of[1].sum()

    y, x = np.mgrid[:h, :w] + 0.5
    record = records[0].astype(np.float64)[:, :, None, None]
    dx, dy = x - record[:, project.MIDDLE_X], y - record[:, project.MIDDLE_Y]
    p = (dx - record[:, project.SHEAR] * dy) * record[:, project.SHARP_X]
    q = dy * record[:, project.SHARP_Y]
    reached = record[:, project.OPACITY] * np.exp(-p * p - q * q) >= 1 / 255
    assert reached.any()
    assert not (reached & ~covered).any()
    # And not much more than that: a band is 2 x 8 pixels.
    assert covered.sum() < 6 * reached.sum() + 16 * count
