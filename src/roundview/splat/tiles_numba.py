"""CPU kernels that composite ellipses in the tiles of the picture, and the way back.

Twin of `_composite_tile` in `render.py`. A band of a tile, two rows of eight pixels, is 16 lanes of
the processor and computed at once. On the way back a job is a row of tiles, and each ellipse has
one slot for its gradient there: threads share nothing, and the sums come out the same however many
there are.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import numpy as np

from ..kernels import njit
from .lanes_numba import WIDTH, any_of, constant, evens, load, odds, pick, size, spread, store
from .pairs_numba import ELLIPSE_SHIFT, FIRST_BAND, LAST_BAND, LAST_SHIFT, OPENS, SIDE
from .project_numba import (
    BLUE,
    DEPTH,
    GREEN,
    MIDDLE_X,
    MIDDLE_Y,
    OPACITY,
    RED,
    SHARP_X,
    SHARP_Y,
    SHEAR,
    SLOT,
)
from .render import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

PLANES = 6
"""What a tile keeps of each pixel: transmittance (negative once finished), rgb, depth, alpha.

Alpha is summed up, because 1 - transmittance has few correct digits where the picture is faint."""

_F = np.float32
_ZERO, _ONE, _TWO, _HALF = _F(0), _F(1), _F(2), _F(0.5)
_ALPHA_MAX, _ALPHA_MIN, _T_MIN = _F(ALPHA_MAX), _F(ALPHA_MIN), _F(TRANSMITTANCE_MIN)
_U = np.uint64
_LANES, _PIXELS = _U(WIDTH), _U(64)
_columns = constant([float(lane % SIDE) for lane in range(WIDTH)])
_rows = constant([float(lane // SIDE) for lane in range(WIDTH)])
# exp(-s / 8) on 0 <= s <= 6 by least squares on Chebyshev nodes, relative error 1.3e-7. The eighth
# power costs three multiplications, and beyond 6 no opacity reaches ALPHA_MIN.
_S_MAX, _EIGHTH = _F(6), _F(1 / 8)
_E = tuple(
    _F(c) for c in (0.99999988, -0.99998935, 0.49984518, -0.16581965, 0.03951277, -0.00569394)
)


@njit
def draw_kernel(first_job, last_job, drawn, pictures):  # noqa: ANN001, ANN201
    """Composite tiles. A job is a tile of one camera.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        drawn: records, n x g x RECORD; the bounds of `cursor_kernel` and the list of `list_kernel`;
            three background colour values; and light, n x tiles x (PLANES * 64), written: kept
            for the way back.
        pictures: rgb n x h x w x 3, alpha and depth n x h x w, written.
    """
    records, bounds, listed, background, light = drawn
    across = (pictures[1].shape[2] + SIDE - 1) // SIDE
    tiles = bounds.shape[1]
    for job in range(first_job, last_job):
        n_at, tile = job // tiles, job % tiles
        corner = (tile // across * SIDE, tile % across * SIDE)
        mine = light[n_at, tile]
        picture = (pictures[0][n_at], pictures[1][n_at], pictures[2][n_at])
        _start_tile(mine, picture[1].shape, corner)
        _draw_tile(mine, records[n_at], bounds[n_at, tile], listed, corner)
        _finish_tile(mine, corner, background, picture)


@njit(forceinline=True)
def _start_tile(light, size_hw, corner):  # noqa: ANN001, ANN202
    """Darken all pixels; those outside the picture are finished from the start."""
    light[:] = _ZERO
    for r in range(SIDE):
        for c in range(SIDE):
            inside = corner[0] + r < size_hw[0] and corner[1] + c < size_hw[1]
            light[r * SIDE + c] = _ONE if inside else -_ONE


@njit(forceinline=True)
def _finish_tile(light, corner, background, picture):  # noqa: ANN001, ANN202
    """Copy a tile into the pictures, over the background."""
    rgb, alpha, depth = picture
    h, w = alpha.shape
    for r in range(min(SIDE, h - corner[0])):
        for c in range(min(SIDE, w - corner[1])):
            at, y, x = r * SIDE + c, corner[0] + r, corner[1] + c
            seen = light[at + 320]
            for k in range(3):
                rgb[y, x, k] = light[at + 64 + 64 * k] + (_ONE - seen) * background[k]
            alpha[y, x] = seen
            depth[y, x] = light[at + 256] / seen if seen > _ZERO else _ZERO


@njit(forceinline=True)
def _draw_tile(light, records, bounds, listed, corner):  # noqa: ANN001, ANN202
    """Lay a tile's ellipses over one another until no light is left."""
    zero, least = spread(_ZERO), spread(_T_MIN)
    for at in range(bounds[0], bounds[1]):
        bits = listed[at, 1]
        e = bits >> ELLIPSE_SHIFT
        shape = ellipse_shape(records, e, corner)
        z, red = spread(records[e, DEPTH]), spread(records[e, RED])
        green, blue = spread(records[e, GREEN]), spread(records[e, BLUE])
        for band in range(_U(bits & FIRST_BAND), _U((bits >> LAST_SHIFT) & LAST_BAND)):
            i = band * _LANES
            a, _, _, _ = opacity_at(shape, band)
            before = load(light, i)
            after = before - a * before
            live = after >= least
            share = pick(live, a * before, zero)
            store(light, i, pick(live, after, -size(before)))
            store(light, i + _U(64), load(light, i + _U(64)) + share * red)
            store(light, i + _U(128), load(light, i + _U(128)) + share * green)
            store(light, i + _U(192), load(light, i + _U(192)) + share * blue)
            store(light, i + _U(256), load(light, i + _U(256)) + share * z)
            store(light, i + _U(320), load(light, i + _U(320)) + share)
        if at & 7 == 7 and not _any_light(light):
            break


@njit(forceinline=True)
def ellipse_shape(records, e, corner):  # noqa: ANN001, ANN201
    """What `opacity_at` must know of an ellipse in the tile at this corner."""
    top, left = _F(corner[0]) + _HALF, _F(corner[1]) + _HALF
    return (
        spread(left - records[e, MIDDLE_X]) + _columns(),
        spread(top - records[e, MIDDLE_Y]) + _rows(),
        spread(records[e, SHEAR]),
        spread(records[e, SHARP_X]),
        spread(records[e, SHARP_Y]),
        spread(records[e, OPACITY]),
    )


@njit(forceinline=True)
def opacity_at(shape, band):  # noqa: ANN001, ANN201
    """Opacity at the pixels of a band, that without its limits, and p and q (see `RECORD`)."""
    x, y, shear, sharp_x, sharp_y, opacity = shape
    dy = y + spread(_F(band) * _TWO)
    p = (x - shear * dy) * sharp_x
    q = dy * sharp_y
    raw = opacity * _exp_minus(p * p + q * q)
    most = spread(_ALPHA_MAX)
    a = pick(raw < most, raw, most)
    return pick(a >= spread(_ALPHA_MIN), a, spread(_ZERO)), raw, p, q


@njit(forceinline=True)
def _exp_minus(s):  # noqa: ANN001, ANN202
    most = spread(_S_MAX)
    u = pick(s < most, s, most) * spread(_EIGHTH)
    e = spread(_E[4]) + u * spread(_E[5])
    e = spread(_E[0]) + u * (spread(_E[1]) + u * (spread(_E[2]) + u * (spread(_E[3]) + u * e)))
    e *= e
    e *= e
    return e * e


@njit(forceinline=True)
def _any_light(light):  # noqa: ANN001, ANN202
    zero = spread(_ZERO)
    some = (load(light, _U(0)) > zero) | (load(light, _LANES) > zero)
    rest = (load(light, _U(2) * _LANES) > zero) | (load(light, _U(3) * _LANES) > zero)
    return any_of(some | rest)


@njit
def draw_backward_kernel(first_job, last_job, drawn, gradients, slots):  # noqa: ANN001, ANN201
    """Fill the slots. A job is a row of tiles of one camera.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        drawn: As `draw_kernel` left it.
        gradients: Of rgb, alpha and depth, shaped like the pictures.
        slots: slots x SLOT, written.
    """
    records, bounds, listed, background, light = drawn
    rows = (gradients[1].shape[1] + SIDE - 1) // SIDE
    for job in range(first_job, last_job):
        n_at, row = job // rows, job % rows
        d_picture = (gradients[0][n_at], gradients[1][n_at], gradients[2][n_at])
        mine = (records[n_at], bounds[n_at], listed, background, light[n_at])
        _draw_row_backward(mine, row, d_picture, slots)


@njit(forceinline=True)
def _draw_row_backward(drawn, row, d_picture, slots):  # noqa: ANN001, ANN202
    """Go through one row of tiles, left to right: they share their slots."""
    records, bounds, listed, background, light = drawn
    across = (d_picture[1].shape[1] + SIDE - 1) // SIDE
    state = np.empty(7 * 64, np.float32)
    for column in range(across):
        tile, corner = row * across + column, (row * SIDE, column * SIDE)
        _start_tile(state, d_picture[1].shape, corner)
        _start_gains(state, light[tile], corner, background, d_picture)
        _draw_tile_backward(state, records, bounds[tile], listed, corner, slots)


@njit(forceinline=True)
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
            alpha, gain, coming = light[at + 320], d_alpha[y, x], _ZERO
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


@njit(forceinline=True)
def _draw_tile_backward(state, records, bounds, listed, corner, slots):  # noqa: ANN001, ANN202
    """Go through the tile's ellipses front to back again, with the loss still to come from behind.

    An ellipse of opacity a gains T v from its own light, where T is the light before it and v what
    the loss gains from light of its colour; and it takes from all behind it R / (1 - a), where R
    is what they give.
    """
    zero, one = spread(_ZERO), spread(_ONE)
    least, most = spread(_T_MIN), spread(_ALPHA_MAX)
    at, any_light = bounds[0], True
    while at < bounds[1] and any_light:
        bits = listed[at, 1]
        e = bits >> ELLIPSE_SHIFT
        shape = ellipse_shape(records, e, corner)
        z, red = spread(records[e, DEPTH]), spread(records[e, RED])
        green, blue = spread(records[e, GREEN]), spread(records[e, BLUE])
        s = s_p = s_q = s_pp = s_pq = s_qq = zero
        s_red = s_green = s_blue = s_depth = zero
        for band in range(_U(bits & FIRST_BAND), _U((bits >> LAST_SHIFT) & LAST_BAND)):
            i = band * _LANES
            a, raw, p, q = opacity_at(shape, band)
            before = load(state, i)
            after = before - a * before
            live = after >= least
            share = pick(live, a * before, zero)
            store(state, i, pick(live, after, -size(before)))
            d_red, d_green = load(state, i + _U(128)), load(state, i + _U(192))
            d_blue, d_depth = load(state, i + _U(256)), load(state, i + _U(320))
            gain = d_red * red + d_green * green + d_blue * blue + d_depth * z
            gain += load(state, i + _U(384))
            coming = load(state, i + _U(64)) - share * gain
            store(state, i + _U(64), coming)
            d_power = a * coming / (one - a) - share * gain
            d_power = pick(live & (most >= raw), d_power, zero)
            d_p, d_q = d_power * p, d_power * q
            s, s_p, s_q = s + d_power, s_p + d_p, s_q + d_q
            s_pp, s_pq, s_qq = s_pp + d_p * p, s_pq + d_p * q, s_qq + d_q * q
            s_red, s_green = s_red + share * d_red, s_green + share * d_green
            s_blue, s_depth = s_blue + share * d_blue, s_depth + share * d_depth
        four = _sums(_sums(s, s_p), _sums(s_q, s_pp))
        eight = _sums(four, _sums(_sums(s_pq, s_qq), _sums(s_red, s_green)))
        sums = _sums(eight, _sums(_sums(_sums(s_blue, s_depth), zero), zero))
        slot = _U(listed[at, 0]) * _U(SLOT)
        store(slots, slot, sums if bits & OPENS > 0 else load(slots, slot) + sums)
        at += 1
        any_light = at & 7 != 0 or _any_light(state)
    for rest in range(at, bounds[1]):
        if listed[rest, 1] & OPENS > 0:
            store(slots, _U(listed[rest, 0]) * _U(SLOT), zero)


@njit(forceinline=True)
def _sums(first, second):  # noqa: ANN001, ANN202
    """Add neighbours: after four rounds each lane holds the sum of one of sixteen registers."""
    return evens(first, second) + odds(first, second)
