"""CPU kernels that sort ellipses into tiles of the picture and composite them there.

Twin of `_composite_tile` in `render.py`. A tile is 8 x 8 pixels in four bands of two rows, and a
band is 16 lanes of the processor: all loops over pixels run to 16, which the compiler turns into
vector instructions (a signed index, or a loop to 8, makes it fall back to single numbers). Each
visit of an ellipse to a tile is a pair and has its own slot for the gradient, so threads share
nothing and the sums come out the same however many there are.
"""

import math

import numpy as np
from numba import prange

from ..kernels import njit
from .project_numba import (
    BLUE,
    DEPTH,
    GREEN,
    MIDDLE_X,
    MIDDLE_Y,
    OPACITY,
    POWER_MAX,
    REACH_X,
    REACH_Y,
    RECORD,
    RED,
    SHARP_X,
    SHARP_Y,
    SHEAR,
    SLOT,
)
from .render import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

SIDE = 8
PLANES = 5
"""What a tile keeps of each pixel: transmittance (negative once it is finished), rgb, depth."""
CHUNK = 2048
"""Ellipses that one job sorts into tiles."""

_F = np.float32
_ZERO, _ONE, _HALF, _TWO = _F(0), _F(1), _F(0.5), _F(2)
_ALPHA_MAX, _ALPHA_MIN, _T_MIN = _F(ALPHA_MAX), _F(ALPHA_MIN), _F(TRANSMITTANCE_MIN)
# Unsigned: a signed index might be negative, and then the loops are not vectorised.
_U = np.uint64
_LANES, _PIXELS, _U1, _U3, _U7 = _U(16), _U(64), _U(1), _U(3), _U(7)
# exp(-s / 8) on 0 <= s <= 6 by least squares on Chebyshev nodes, relative error 1.3e-7. The eighth
# power costs three multiplications, and beyond 6 no opacity reaches ALPHA_MIN.
_S_MAX, _EIGHTH = _F(6), _F(1 / 8)
_E = tuple(
    _F(c) for c in (0.99999988, -0.99998935, 0.49984518, -0.16581965, 0.03951277, -0.00569394)
)
_SLACK = _F(1e-3)
_NOWHERE = _F(1e9)
_INFINITE_BITS = np.uint32(0x7F800000)
_DIGIT = np.uint32(11)


@njit(parallel=True)
def sort_kernel(records_bits, order, seen):  # noqa: ANN001, ANN201
    """Sort each camera's ellipses by depth, equal ones by index.

    Args:
        records_bits: n x g x RECORD, the records read as uint32: positive floats sort like these.
        order: n x g uint32, written as far as `seen`.
        seen: n int64, written: how many ellipses have a finite depth.
    """
    for n_at in prange(len(seen)):
        seen[n_at] = _sort_one(records_bits[n_at], order[n_at])


@njit
def _sort_one(bits, order):  # noqa: ANN001, ANN202
    """Radix sort, 11 bits a pass, of the bits in which the depths differ at all."""
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
            starts[((keys[j] - low) >> shift) & np.uint32(2047)] += 1
        before = 0
        for digit in range(len(starts)):
            starts[digit], before = before, before + starts[digit]
        for j in range(seen):
            digit = ((keys[j] - low) >> shift) & np.uint32(2047)
            target[starts[digit]], other_keys[starts[digit]] = source[j], keys[j]
            starts[digit] += 1
        source, target, keys, other_keys = target, source, other_keys, keys
        shift, in_place = shift + _DIGIT, not in_place
    if not in_place:
        target[:seen] = source[:seen]
    return seen


@njit(parallel=True)
def capacity_kernel(records, order, seen, size_hw, capacity):  # noqa: ANN001, ANN201
    """Bound the pairs that each job will make by the tiles in the ellipses' boxes."""
    jobs = len(capacity) // len(seen)
    for job in prange(len(capacity)):
        n_at, start = job // jobs, job % jobs * CHUNK
        ranks = order[n_at, start : min(start + CHUNK, seen[n_at])]
        capacity[job] = _capacity(records[n_at], ranks, size_hw)


@njit
def _capacity(records, ranks, size_hw):  # noqa: ANN001, ANN202
    total = 0
    for i in ranks:
        top, bottom, left, right = _box(records[i], size_hw)
        total += max(bottom - top, 0) * max(right - left, 0)
    return total


@njit
def _box(record, size_hw):  # noqa: ANN001, ANN202
    """Tiles that hold the ellipse: first and last row, first and last column, the last excluded."""
    # Clamped as floats: a reach of millions of pixels would overflow an integer.
    height, width = _F(size_hw[0]), _F(size_hw[1])
    top = min(max(record[MIDDLE_Y] - record[REACH_Y], _ZERO), height)
    bottom = min(max(record[MIDDLE_Y] + record[REACH_Y], _ZERO), height)
    left = min(max(record[MIDDLE_X] - record[REACH_X], _ZERO), width)
    right = min(max(record[MIDDLE_X] + record[REACH_X], _ZERO), width)
    return (
        int(top) // SIDE,
        (int(math.ceil(bottom)) + SIDE - 1) // SIDE,
        int(left) // SIDE,
        (int(math.ceil(right)) + SIDE - 1) // SIDE,
    )


@njit(parallel=True)
def pair_kernel(records, order, seen, size_hw, starts, pairs):  # noqa: ANN001, ANN201
    """Find the tiles and bands that each ellipse reaches.

    Args:
        records: n x g x RECORD.
        order: n x g, from `sort_kernel`.
        seen: n, from `sort_kernel`.
        size_hw: Height and width of the pictures.
        starts: Where each job's pairs begin, and as last entry where they end.
        pairs: Written: tile, ellipse and bands of each pair; first and count, n x g, of each
            ellipse; ends, one for each job; and tile_counts, jobs x tiles, zero at first.
    """
    ends = pairs[5]
    jobs = len(ends) // len(seen)
    for job in prange(len(ends)):
        n_at, start = job // jobs, job % jobs * CHUNK
        ranks = order[n_at, start : min(start + CHUNK, seen[n_at])]
        ends[job] = _pair_some(records[n_at], ranks, size_hw, starts[job], pairs, (n_at, job))


@njit
def _pair_some(records, ranks, size_hw, at, pairs, where):  # noqa: ANN001, ANN202
    """Write one job's pairs from `at` on; return where they end."""
    tile_of, ellipse_of, bands_of, first, count, _, tile_counts = pairs
    n_at, job = where
    across = (size_hw[1] + SIDE - 1) // SIDE
    low, high = np.empty(SIDE, np.float32), np.empty(SIDE, np.float32)
    for i in ranks:
        record = records[i]
        first[n_at, i] = at
        top, bottom, left, right = _box(record, size_hw)
        for row in range(top, bottom):
            _row_spans(record, row * SIDE, size_hw, low, high)
            for column in range(left, right):
                bands = _bands(low, high, column * SIDE)
                if bands > 0:
                    tile = row * across + column
                    tile_of[at], ellipse_of[at], bands_of[at] = tile, i, bands
                    tile_counts[job, tile] += 1
                    at += 1
        count[n_at, i] = at - first[n_at, i]
    return at


@njit
def _row_spans(record, top, size_hw, low, high):  # noqa: ANN001, ANN202
    """Find which pixels of eight rows, from `top`, the ellipse reaches: first and last."""
    middle_x, middle_y = record[MIDDLE_X], record[MIDDLE_Y]
    shear, sharp_y, narrow = record[SHEAR], record[SHARP_Y], _ONE / record[SHARP_X]
    power = record[POWER_MAX] + _SLACK
    below = _F(top) + _HALF
    end = _F(size_hw[0])
    for r in range(_U(SIDE)):
        y = below + _F(r)
        q = (y - middle_y) * sharp_y
        left_over = power - q * q
        inside = left_over >= _ZERO and y < end
        half = math.sqrt(max(left_over, _ZERO)) * narrow
        middle = middle_x + shear * (y - middle_y) - _HALF
        low[r] = middle - half if inside else _NOWHERE
        high[r] = middle + half if inside else -_NOWHERE


@njit
def _bands(low, high, left):  # noqa: ANN001, ANN202
    """First and last band (excluded) in which a tile is reached, as last * 16 + first; or 0."""
    begin, end = 4, 0
    first, last = _F(left), _F(left + SIDE - 1)
    for band in range(4):
        for r in (2 * band, 2 * band + 1):
            if low[r] <= last and high[r] >= first:
                begin, end = min(begin, band), band + 1
    return end * 16 + begin if end > 0 else 0


@njit(parallel=True)
def list_kernel(starts, pairs, cursors, bounds, lists):  # noqa: ANN001, ANN201
    """List each tile's pairs, nearest first.

    Args:
        starts: As for `pair_kernel`.
        pairs: As `pair_kernel` left them.
        cursors: jobs x tiles int64, scratch.
        bounds: n x tiles x 2 int64, written: where each tile's list begins and ends.
        lists: Written: ellipse, pair and bands of each entry.
    """
    ends, tile_counts = pairs[5], pairs[6]
    jobs = len(ends) // len(bounds)
    for n_at in prange(len(bounds)):
        mine = slice(n_at * jobs, n_at * jobs + jobs)
        _set_cursors(starts[n_at * jobs], tile_counts[mine], cursors[mine], bounds[n_at])
    for job in prange(len(ends)):
        _list_pairs(starts[job], ends[job], pairs, cursors[job], lists)


@njit
def _set_cursors(start, tile_counts, cursors, bounds):  # noqa: ANN001, ANN202
    """Say where each job writes into each tile's list of one camera: job after job, so in order."""
    at = start
    for tile in range(len(bounds)):
        bounds[tile, 0] = at
        for job in range(len(cursors)):
            cursors[job, tile] = at
            at += tile_counts[job, tile]
        bounds[tile, 1] = at


@njit
def _list_pairs(start, end, pairs, cursors, lists):  # noqa: ANN001, ANN202
    for pair in range(start, end):
        tile = pairs[0][pair]
        at = cursors[tile]
        cursors[tile] = at + 1
        lists[0][at], lists[1][at], lists[2][at] = pairs[1][pair], pair, pairs[2][pair]


@njit(parallel=True)
def draw_kernel(records, bounds, lists, background, light, pictures):  # noqa: ANN001, ANN201
    """Composite every tile.

    Args:
        records: n x g x RECORD.
        bounds: From `list_kernel`.
        lists: From `list_kernel`.
        background: Three colour values.
        light: n x tiles x (PLANES * 64), written: kept for the way back.
        pictures: rgb n x h x w x 3, alpha and depth n x h x w, written.
    """
    across = (pictures[1].shape[2] + SIDE - 1) // SIDE
    tiles = bounds.shape[1]
    for job in prange(len(bounds) * tiles):
        n_at, tile = job // tiles, job % tiles
        corner = (tile // across * SIDE, tile % across * SIDE)
        mine = light[n_at, tile]
        picture = (pictures[0][n_at], pictures[1][n_at], pictures[2][n_at])
        _start_tile(mine, picture[1].shape, corner)
        _draw_tile(mine, records[n_at], bounds[n_at, tile], lists, corner)
        _finish_tile(mine, corner, background, picture)


@njit
def _start_tile(light, size_hw, corner):  # noqa: ANN001, ANN202
    """Darken all pixels; those outside the picture are finished from the start."""
    light[:] = _ZERO
    for r in range(SIDE):
        for c in range(SIDE):
            inside = corner[0] + r < size_hw[0] and corner[1] + c < size_hw[1]
            light[r * SIDE + c] = _ONE if inside else -_ONE


@njit
def _finish_tile(light, corner, background, picture):  # noqa: ANN001, ANN202
    """Copy a tile into the pictures, over the background."""
    rgb, alpha, depth = picture
    h, w = alpha.shape
    for r in range(min(SIDE, h - corner[0])):
        for c in range(min(SIDE, w - corner[1])):
            at, y, x = r * SIDE + c, corner[0] + r, corner[1] + c
            behind = abs(light[at])
            for k in range(3):
                rgb[y, x, k] = light[at + 64 + 64 * k] + behind * background[k]
            alpha[y, x] = _ONE - behind
            depth[y, x] = light[at + 256] / (_ONE - behind) if behind < _ONE else _ZERO


@njit
def _draw_tile(light, records, bounds, lists, corner):  # noqa: ANN001, ANN202
    """Lay a tile's ellipses over one another until no light is left."""
    ellipse, _, bands = lists
    top, left = _F(corner[0]) + _HALF, _F(corner[1]) + _HALF
    for at in range(bounds[0], bounds[1]):
        record = records[ellipse[at]]
        x0, y0 = left - record[MIDDLE_X], top - record[MIDDLE_Y]
        shear, sharp_x, sharp_y = record[SHEAR], record[SHARP_X], record[SHARP_Y]
        opacity, z = record[OPACITY], record[DEPTH]
        red, green, blue = record[RED], record[GREEN], record[BLUE]
        for band in range(_U(bands[at] & 15), _U(bands[at] >> 4)):
            base = band * _LANES
            y1 = y0 + _F(band) * _TWO
            for lane in range(_LANES):
                i = base + lane
                dy = y1 + _F(lane >> _U3)
                p = (x0 + _F(lane & _U7) - shear * dy) * sharp_x
                q = dy * sharp_y
                a = min(opacity * _exp_minus(p * p + q * q), _ALPHA_MAX)
                a = a if a >= _ALPHA_MIN else _ZERO
                before = light[i]
                after = before - a * before
                live = after >= _T_MIN
                share = a * before if live else _ZERO
                light[i] = after if live else -abs(before)
                light[i + _U(64)] += share * red
                light[i + _U(128)] += share * green
                light[i + _U(192)] += share * blue
                light[i + _U(256)] += share * z
        if at & 7 == 7 and not _any_light(light):
            break


@njit
def _exp_minus(s):  # noqa: ANN001, ANN202
    u = min(s, _S_MAX) * _EIGHTH
    e = _E[0] + u * (_E[1] + u * (_E[2] + u * (_E[3] + u * (_E[4] + u * _E[5]))))
    e *= e
    e *= e
    return e * e


@njit
def _any_light(light):  # noqa: ANN001, ANN202
    most = _ZERO
    for i in range(_PIXELS):
        most = max(most, light[i])
    return most > _ZERO


@njit(parallel=True)
def draw_backward_kernel(records, bounds, lists, background, light, gradients, slots):  # noqa: ANN001, ANN201, PLR0913
    """Fill the slots: the gradients of each ellipse within each tile.

    Args:
        records: As for `draw_kernel`.
        bounds: As for `draw_kernel`.
        lists: As for `draw_kernel`.
        background: As for `draw_kernel`.
        light: As `draw_kernel` left it.
        gradients: Of rgb, alpha and depth, shaped like the pictures.
        slots: pairs x SLOT, written.
    """
    across = (gradients[1].shape[2] + SIDE - 1) // SIDE
    tiles = bounds.shape[1]
    for job in prange(len(bounds) * tiles):
        n_at, tile = job // tiles, job % tiles
        corner = (tile // across * SIDE, tile % across * SIDE)
        d_picture = (gradients[0][n_at], gradients[1][n_at], gradients[2][n_at])
        state = np.empty(7 * 64 + SLOT * 16, np.float32)
        _start_tile(state, d_picture[1].shape, corner)
        _start_gains(state, light[n_at, tile], corner, background, d_picture)
        _draw_tile_backward(state, records[n_at], bounds[n_at, tile], lists, corner, slots)


@njit
def _start_gains(state, light, corner, background, d_picture):  # noqa: ANN001, ANN202
    """Write what each pixel's loss gains from light of each colour, from depth and from alpha.

    The planes are transmittance, loss still to come from behind, then the gains of red, green,
    blue, depth and alpha.
    """
    d_rgb, d_alpha, d_depth = d_picture
    h, w = d_alpha.shape
    for r in range(min(SIDE, h - corner[0])):
        for c in range(min(SIDE, w - corner[1])):
            at, y, x = r * SIDE + c, corner[0] + r, corner[1] + c
            alpha, gain, coming = _ONE - abs(light[at]), d_alpha[y, x], _ZERO
            for k in range(3):
                gain -= d_rgb[y, x, k] * background[k]
                state[at + 128 + 64 * k] = d_rgb[y, x, k]
                coming += d_rgb[y, x, k] * light[at + 64 + 64 * k]
            if alpha > _ZERO:
                of_sum = d_depth[y, x] / alpha
                state[at + 320] = of_sum
                gain -= of_sum * light[at + 256] / alpha
                coming += of_sum * light[at + 256]
            state[at + 384] = gain
            state[at + 64] = coming + gain * alpha


@njit
def _draw_tile_backward(state, records, bounds, lists, corner, slots):  # noqa: ANN001, ANN202, PLR0913
    """Go through the tile's ellipses front to back again, with the loss still to come from behind.

    An ellipse of opacity a gains T v from its own light, where T is the light before it and v what
    the loss gains from light of its colour; and it takes from all behind it R / (1 - a), where R
    is what they give.
    """
    ellipse, pair, bands = lists
    top, left = _F(corner[0]) + _HALF, _F(corner[1]) + _HALF
    sums = _U(7 * 64)
    at, any_light = bounds[0], True
    while at < bounds[1] and any_light:
        record = records[ellipse[at]]
        x0, y0 = left - record[MIDDLE_X], top - record[MIDDLE_Y]
        shear, sharp_x, sharp_y = record[SHEAR], record[SHARP_X], record[SHARP_Y]
        opacity, z = record[OPACITY], record[DEPTH]
        red, green, blue = record[RED], record[GREEN], record[BLUE]
        for k in range(_U(SLOT * 16)):
            state[sums + k] = _ZERO
        for band in range(_U(bands[at] & 15), _U(bands[at] >> 4)):
            base = band * _LANES
            y1 = y0 + _F(band) * _TWO
            for lane in range(_LANES):
                i = base + lane
                dy = y1 + _F(lane >> _U3)
                p = (x0 + _F(lane & _U7) - shear * dy) * sharp_x
                q = dy * sharp_y
                raw = opacity * _exp_minus(p * p + q * q)
                a = min(raw, _ALPHA_MAX)
                a = a if a >= _ALPHA_MIN else _ZERO
                before = state[i]
                after = before - a * before
                live = after >= _T_MIN
                share = a * before if live else _ZERO
                state[i] = after if live else -abs(before)
                d_red, d_green = state[i + _U(128)], state[i + _U(192)]
                d_blue, d_depth = state[i + _U(256)], state[i + _U(320)]
                gain = d_red * red + d_green * green + d_blue * blue + d_depth * z
                gain += state[i + _U(384)]
                coming = state[i + _U(64)] - share * gain
                state[i + _U(64)] = coming
                d_power = a * coming / (_ONE - a) - share * gain
                d_power = d_power if live and raw <= _ALPHA_MAX else _ZERO
                d_p, d_q = d_power * p, d_power * q
                state[sums + lane] += d_power
                state[sums + lane + _U(16)] += d_p
                state[sums + lane + _U(32)] += d_q
                state[sums + lane + _U(48)] += d_p * p
                state[sums + lane + _U(64)] += d_p * q
                state[sums + lane + _U(80)] += d_q * q
                state[sums + lane + _U(96)] += share * d_red
                state[sums + lane + _U(112)] += share * d_green
                state[sums + lane + _U(128)] += share * d_blue
                state[sums + lane + _U(144)] += share * d_depth
        slot = slots[pair[at]]
        for k in range(_U(SLOT)):
            total = _ZERO
            for lane in range(_LANES):
                total += state[sums + k * _LANES + lane]
            slot[k] = total
        at += 1
        any_light = at & 7 != 0 or _any_light(state)
    for rest in range(at, bounds[1]):
        slots[pair[rest]] = _ZERO
