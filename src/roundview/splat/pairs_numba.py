"""CPU kernels that sort ellipses by depth and find the tiles of the picture that each reaches.

A tile is 8 x 8 pixels in four bands of two rows. Each visit of an ellipse to a tile is a pair. It
is listed with the bands that the ellipse reaches there, because the ellipses of a good fit are
smaller than a tile; and with the number of its slot, the place where the ellipse's gradient is
added up over one row of tiles.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np

from ..kernels import njit
from .lanes_numba import bits_of, constant, pick, root, spread, swapped
from .project_numba import (
    DEPTH,
    MIDDLE_X,
    MIDDLE_Y,
    POWER_MAX,
    REACH_X,
    REACH_Y,
    SHARP_X,
    SHARP_Y,
    SHEAR,
)

SIDE = 8
CHUNK = 2048
"""Ellipses that one job pairs with tiles, nearest first."""

_F, _U = np.float32, np.uint64
_ZERO, _ONE, _HALF = _F(0), _F(1), _F(0.5)
# Widens the ellipse against rounding: a pair too many costs little, a pixel too few is an error.
_SLACK = _F(1e-3)
_NOWHERE = _F(1e9)
_BANDS = np.uint32(15)
_rows_by_halves = constant([*(2.0 * r for r in range(8)), *(2.0 * r + 1 for r in range(8))])
_INFINITE_BITS = np.uint32(0x7F800000)
_DIGIT_BITS = np.uint32(11)
_DIGIT_MASK = np.uint32(2047)
FIRST_BAND, LAST_BAND, LAST_SHIFT = np.uint32(3), np.uint32(7), np.uint32(2)
OPENS = np.uint32(32)
ELLIPSE_SHIFT = np.uint32(6)
"""A pair in 32 bits: first band, last band (excluded), whether it opens its slot, ellipse."""
MOST_ELLIPSES = 1 << 26
# First and last band for each set of the four bands written as bits.
_SPAN = np.array(
    [0] + [(m & -m).bit_length() - 1 + 4 * m.bit_length() for m in range(1, 16)], np.uint32
)


@njit
def sort_kernel(first_job, last_job, records, order, seen, size_hw, capacity):  # noqa: ANN001, ANN201
    """Sort each camera's ellipses by depth, equal ones by index. A job is a camera.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        records: n x g x RECORD, and the same numbers read as uint32.
        order: n x g uint32, written as far as `seen`.
        seen: n int64, written: how many ellipses have a finite depth.
        size_hw: Height and width of the pictures.
        capacity: n x chunks x 2, written: bounds of the pairs and slots that each chunk of CHUNK
            ellipses will make, from the boxes round them.
    """
    for job in range(first_job, last_job):
        seen[job] = _sort_one(records[1][job], order[job])
        for chunk in range(capacity.shape[1]):
            ranks = order[job, chunk * CHUNK : min(chunk * CHUNK + CHUNK, seen[job])]
            capacity[job, chunk, 0], capacity[job, chunk, 1] = _capacity(
                records[0][job], ranks, size_hw
            )


@njit(forceinline=True)
def _sort_one(bits, order):  # noqa: ANN001, ANN202
    """Radix sort, 11 bits a pass, of the bits in which the depths differ at all.

    Read as integers, positive floats have the same order.
    """
    keys = np.empty(len(bits), np.uint32)
    low, high = _INFINITE_BITS, np.uint32(0)
    seen = 0
    for i in range(len(bits)):
        key = bits[i, DEPTH]
        if key < _INFINITE_BITS:
            keys[seen], order[seen] = key, i
            low, high = min(low, key), max(high, key)
            seen += 1
    source, target, other_keys = order, np.empty_like(order), np.empty_like(keys)
    shift, in_place = np.uint32(0), True
    while seen > 0 and ((high - low) >> shift) > 0:
        starts = np.zeros(1 << 11, np.int64)
        for j in range(seen):
            starts[((keys[j] - low) >> shift) & _DIGIT_MASK] += 1
        before = 0
        for digit in range(len(starts)):
            starts[digit], before = before, before + starts[digit]
        for j in range(seen):
            digit = ((keys[j] - low) >> shift) & _DIGIT_MASK
            target[starts[digit]], other_keys[starts[digit]] = source[j], keys[j]
            starts[digit] += 1
        source, target, keys, other_keys = target, source, other_keys, keys
        shift, in_place = shift + _DIGIT_BITS, not in_place
    if not in_place:
        target[:seen] = source[:seen]
    return seen


@njit(forceinline=True)
def _capacity(records, ranks, size_hw):  # noqa: ANN001, ANN202
    pairs, slots = 0, 0
    for i in ranks:
        top, bottom, left, right = _box(records, i, size_hw)
        pairs += (bottom - top) * (right - left)
        slots += bottom - top
    return pairs, slots


@njit(forceinline=True)
def _box(records, i, size_hw):  # noqa: ANN001, ANN202
    """Tiles that hold the ellipse: first and last row, first and last column, the last excluded."""
    # Clamped as floats: a reach of millions of pixels would overflow an integer.
    height, width = _F(size_hw[0]), _F(size_hw[1])
    top = min(max(records[i, MIDDLE_Y] - records[i, REACH_Y], _ZERO), height)
    bottom = min(max(records[i, MIDDLE_Y] + records[i, REACH_Y], _ZERO), height)
    left = min(max(records[i, MIDDLE_X] - records[i, REACH_X], _ZERO), width)
    right = min(max(records[i, MIDDLE_X] + records[i, REACH_X], _ZERO), width)
    return (
        int(top) // SIDE,
        (int(math.ceil(bottom)) + SIDE - 1) // SIDE,
        int(left) // SIDE,
        (int(math.ceil(right)) + SIDE - 1) // SIDE,
    )


@njit
def pair_kernel(first_job, last_job, records, order, seen, size_hw, starts, pairs):  # noqa: ANN001, ANN201
    """Find the tiles and bands that each ellipse reaches. A job is a chunk of one camera.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        records: n x g x RECORD.
        order: As for `sort_kernel`.
        seen: As for `sort_kernel`.
        size_hw: As for `sort_kernel`.
        starts: jobs x 2, where each job's pairs and slots begin.
        pairs: Written: for each pair the tile and the 32 bits above; first slot and count of slots
            of each ellipse, n x g; where each job's pairs end; and how many pairs each job has in
            each tile, jobs x tiles, zero at first.
    """
    chunks = len(pairs[3]) // len(seen)
    for job in range(first_job, last_job):
        n_at, start = job // chunks, job % chunks * CHUNK
        ranks = order[n_at, start : min(start + CHUNK, seen[n_at])]
        out = (pairs[0], pairs[1][n_at], pairs[2][n_at], pairs[4][job])
        pairs[3][job] = _pair_some(records[n_at], ranks, size_hw, starts[job], out)


@njit(forceinline=True)
def _pair_some(records, ranks, size_hw, starts, out):  # noqa: ANN001, ANN202
    """Write one job's pairs; return where they end."""
    pairs, first, count, tile_counts = out
    across = (size_hw[1] + SIDE - 1) // SIDE
    # Unsigned: a signed index might be negative, which would be looked after at every access.
    at, slot = _U(starts[0]), starts[1]
    low = high = spread(_ZERO)
    for i in ranks:
        first[i] = slot
        top, bottom, left, right = _box(records, i, size_hw)
        for row in range(top, bottom):
            # The spans of two rows of tiles are found at once: 16 lanes.
            half = np.uint32((row - top) & 1)
            if half == 0:
                low, high = _row_spans(records, i, row * SIDE, size_hw)
            opens = OPENS
            for column in range(left, right):
                start, end = spread(_F(column * SIDE)), spread(_F(column * SIDE + SIDE - 1))
                bits = bits_of((end >= low) & (high >= start)) >> (half << np.uint32(2))
                span = _SPAN[bits & _BANDS]
                tile = _U(row * across + column)
                pairs[at, 0] = tile
                pairs[at, 1] = (i << ELLIPSE_SHIFT) | opens | span
                # Written in any case and kept if a band is reached: a branch costs more.
                reached = span > 0
                tile_counts[tile] += reached
                at += _U(reached)
                opens = np.uint32(0) if reached else opens
            slot += opens == 0
        count[i] = slot - first[i]
    return at


@njit(forceinline=True)
def _row_spans(records, i, top, size_hw):  # noqa: ANN001, ANN202
    """Find the pixels of 16 rows from `top` on that the ellipse reaches, first and last; by band.

    Lanes 0 to 7 stand for the eight bands.
    """
    # Even rows come first, so that bands are made of halves.
    y = spread(_F(top) + _HALF) + _rows_by_halves()
    dy = y - spread(records[i, MIDDLE_Y])
    q = dy * spread(records[i, SHARP_Y])
    left_over = spread(records[i, POWER_MAX] + _SLACK) - q * q
    zero, nowhere = spread(_ZERO), spread(_NOWHERE)
    inside = (left_over >= zero) & (spread(_F(size_hw[0])) > y)
    narrow = spread(_ONE / records[i, SHARP_X])
    half = root(pick(left_over >= zero, left_over, zero)) * narrow
    middle = spread(records[i, MIDDLE_X] - _HALF) + spread(records[i, SHEAR]) * dy
    low = pick(inside, middle - half, nowhere)
    high = pick(inside, middle + half, -nowhere)
    other_low, other_high = swapped(low, low), swapped(high, high)
    return pick(low < other_low, low, other_low), pick(high > other_high, high, other_high)


@njit
def cursor_kernel(first_job, last_job, starts, tile_counts, cursors, bounds):  # noqa: ANN001, ANN201
    """Find where each chunk writes into each tile's list: in order of depth. A job is a camera.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        starts: As for `pair_kernel`.
        tile_counts: As `pair_kernel` left them.
        cursors: chunks of all cameras x tiles int64, written.
        bounds: n x tiles x 2 int64, written: where each tile's list begins and ends.
    """
    chunks = len(cursors) // len(bounds)
    for job in range(first_job, last_job):
        at = starts[job * chunks, 0]
        for tile in range(bounds.shape[1]):
            bounds[job, tile, 0] = at
            for chunk in range(job * chunks, job * chunks + chunks):
                cursors[chunk, tile] = at
                at += tile_counts[chunk, tile]
            bounds[job, tile, 1] = at


@njit
def list_kernel(first_job, last_job, starts, pairs, cursors, listed):  # noqa: ANN001, ANN201
    """List each tile's pairs, nearest first. A job is a chunk of one camera.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        starts: As for `pair_kernel`.
        pairs: As `pair_kernel` left them.
        cursors: From `cursor_kernel`; moved on.
        listed: Written: slot of each pair, and the 32 bits above.
    """
    for job in range(first_job, last_job):
        _list_pairs(starts[job], pairs[3][job], pairs[0], cursors[job], listed)


@njit(forceinline=True)
def _list_pairs(starts, end, pairs, cursors, listed):  # noqa: ANN001, ANN202
    slot = starts[1] - 1
    for pair in range(_U(starts[0]), _U(end)):
        tile, bits = pairs[pair, 0], pairs[pair, 1]
        slot += (bits & OPENS) > 0
        at = _U(cursors[tile])
        cursors[tile] += 1
        listed[at, 0], listed[at, 1] = slot, bits
