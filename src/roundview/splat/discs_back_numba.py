"""CPU kernels that carry gradients of the pictures back to plates, tile by tile.

The other half of `discs_tiles_numba.py`. A job is a row of tiles, and each disc has one slot for
its gradient there, as in `tiles_numba.py`: threads share nothing, and the sums come out the same.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import numpy as np

from ..kernels import njit
from .discs_gradient_numba import SLOT_USED
from .discs_project_numba import (
    BLUE,
    DEPTH,
    GREEN,
    NORMAL,
    OPACITY,
    RED,
    U_X,
    U_Y,
    V_X,
    V_Y,
    W_0,
    W_X,
    W_Y,
    Z_0,
)
from .discs_tiles_numba import (
    LIGHT_ALPHA,
    LIGHT_CHOSEN,
    LIGHT_DEPTH,
    LIGHT_NORMAL,
    LIGHT_RGB,
    LIGHT_SQUARE,
    exp_minus,
    first_depth,
    offsets,
    reached,
    start_tile,
)
from .lanes_numba import load, total
from .pairs_numba import ELLIPSE_SHIFT, FIRST_BAND, LAST_BAND, LAST_SHIFT, OPENS, SIDE
from .render import ALPHA_MAX, ALPHA_MIN, NEAR, TRANSMITTANCE_MIN

_F, _U = np.float32, np.uint64
_ZERO, _ONE, _TWO, _HALF = _F(0), _F(1), _F(2), _F(0.5)
_ALPHA_MAX, _ALPHA_MIN, _T_MIN = _F(ALPHA_MAX), _F(ALPHA_MIN), _F(TRANSMITTANCE_MIN)
_NEAR = _F(NEAR)
_LANES, _U3, _U7 = _U(16), _U(3), _U(7)
# Where the planes of a tile begin on the way back, behind the transmittance: the loss still to come
# from behind, the gains from light of each colour and normal, the gain of light by depth as a
# quadratic, that of the median depth, and which pair of the list gave that.
_COMING, _GAIN_RGB, _GAIN_NORMAL, _GAIN, _GAIN_MEDIAN, _AT_MEDIAN = 64, 128, 320, 512, 704, 768
_STATE = 832


@njit
def draw_discs_backward_kernel(first_job, last_job, drawn, gradients, slots):  # noqa: ANN001, ANN201
    """Fill the slots. A job is a row of tiles of one camera.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        drawn: As `draw_discs_kernel` left it.
        gradients: Of the pictures, shaped like them.
        slots: slots x SLOT, written.
    """
    plates, bounds, listed, background, light = drawn
    rgb, normal, alpha, depth, median, distortion = gradients
    rows = (alpha.shape[1] + SIDE - 1) // SIDE
    for job in range(first_job, last_job):
        n_at, row = job // rows, job % rows
        d_picture = (
            rgb[n_at],
            normal[n_at],
            alpha[n_at],
            depth[n_at],
            median[n_at],
            distortion[n_at],
        )
        mine = (plates[n_at], bounds[n_at], listed, background, light[n_at])
        _draw_row_backward(mine, row, d_picture, slots)


@njit
def _draw_row_backward(drawn, row, d_picture, slots):  # noqa: ANN001, ANN202
    """Go through one row of tiles, left to right: they share their slots."""
    plates, bounds, listed, background, light = drawn
    size_hw = d_picture[2].shape
    across = (size_hw[1] + SIDE - 1) // SIDE
    state, sums = np.empty(_STATE, np.float32), np.empty(SLOT_USED * 16, np.float32)
    for column in range(across):
        tile, corner = row * across + column, (row * SIDE, column * SIDE)
        start_tile(state, size_hw, corner)
        _start_gains(state, light[tile], corner, background, d_picture)
        first = first_depth(plates, bounds[tile], listed)
        _draw_tile_backward(state, sums, plates, bounds[tile], listed, corner, first, slots)


@njit
def _start_gains(state, light, corner, background, d_picture):  # noqa: ANN001, ANN202
    """Write what each pixel's loss gains from light of each colour and normal, and at each depth.

    With A, D and Q the sums of light, light times depth and times squared depth, the mean depth is
    D / A and the distortion A Q - D^2. So light at depth z gains k_0 + k_1 z + k_2 z^2.
    """
    d_rgb, d_normal, d_alpha, d_depth, d_median, d_distortion = d_picture
    h, w = d_alpha.shape
    for r in range(min(SIDE, h - corner[0])):
        for c in range(min(SIDE, w - corner[1])):
            at, y, x = r * SIDE + c, corner[0] + r, corner[1] + c
            alpha, z, square = (
                light[at + LIGHT_ALPHA],
                light[at + LIGHT_DEPTH],
                light[at + LIGHT_SQUARE],
            )
            k_0, coming, twist = d_alpha[y, x], _ZERO, d_distortion[y, x]
            for k in range(3):
                k_0 -= d_rgb[y, x, k] * background[k]
                state[at + _GAIN_RGB + 64 * k] = d_rgb[y, x, k]
                state[at + _GAIN_NORMAL + 64 * k] = d_normal[y, x, k]
                coming += d_rgb[y, x, k] * light[at + LIGHT_RGB + 64 * k]
                coming += d_normal[y, x, k] * light[at + LIGHT_NORMAL + 64 * k]
            of_mean = d_depth[y, x] / alpha if alpha > _ZERO else _ZERO
            mean = z / alpha if alpha > _ZERO else _ZERO
            k_0 += twist * square - of_mean * mean
            k_1, k_2 = of_mean - _TWO * twist * z, twist * alpha
            state[at + _COMING] = coming + k_0 * alpha + k_1 * z + k_2 * square
            state[at + _GAIN], state[at + _GAIN + 64], state[at + _GAIN + 128] = k_0, k_1, k_2
            state[at + _GAIN_MEDIAN] = d_median[y, x] if alpha > _ZERO else _ZERO
            state[at + _AT_MEDIAN] = light[at + LIGHT_CHOSEN]


@njit
def _draw_tile_backward(state, sums, plates, bounds, listed, corner, first_z, slots):  # noqa: ANN001, ANN202
    """Go through the tile's discs front to back again, with the loss still to come from behind."""
    at, any_light = bounds[0], True
    while at < bounds[1] and any_light:
        bits = listed[at, 1]
        first, last = _U(bits & FIRST_BAND), _U((bits >> LAST_SHIFT) & LAST_BAND)
        e = bits >> ELLIPSE_SHIFT
        x0, y0, mx0, my0 = offsets(plates, e, corner)
        u_x, u_y, v_x, v_y = plates[e, U_X], plates[e, U_Y], plates[e, V_X], plates[e, V_Y]
        w_x, w_y, w_0, z_0 = plates[e, W_X], plates[e, W_Y], plates[e, W_0], plates[e, Z_0]
        opacity, z = plates[e, OPACITY], plates[e, DEPTH]
        red, green, blue = plates[e, RED], plates[e, GREEN], plates[e, BLUE]
        n_x, n_y, n_z = plates[e, NORMAL], plates[e, NORMAL + 1], plates[e, NORMAL + 2]
        rank = _F(at - bounds[0])
        for k in range(_U(SLOT_USED * 16)):
            sums[k] = _ZERO
        for band in range(first, last):
            base = band * _LANES
            down = _F(band) * _TWO
            for lane in range(_LANES):
                i = base + lane
                right, below = _F(lane & _U7), down + _F(lane >> _U3)
                dx, dy = x0 + right, y0 + below
                ex, ey = mx0 + right, my0 + below
                inverse = _ONE / (w_0 + w_x * dx + w_y * dy)
                p, q = (u_x * dx + u_y * dy) * inverse, (v_x * dx + v_y * dy) * inverse
                on_plane, blurred = _HALF * (p * p + q * q), ex * ex + ey * ey
                met = z_0 * inverse
                sharp = (on_plane <= blurred) & (met > _NEAR)
                here = (met if sharp else z) - first_z
                power = on_plane if sharp else blurred
                raw = opacity * exp_minus(power)
                a = min(raw, _ALPHA_MAX)
                a = a if a >= _ALPHA_MIN else _ZERO
                before = state[i]
                after = before - a * before
                live = after >= _T_MIN
                share = a * before if live else _ZERO
                state[i] = after if live else -abs(before)
                d_red, d_green = state[i + _U(128)], state[i + _U(192)]
                d_blue, d_n_x = state[i + _U(256)], state[i + _U(320)]
                d_n_y, d_n_z = state[i + _U(384)], state[i + _U(448)]
                k_1, k_2 = state[i + _U(576)], state[i + _U(640)]
                gain = d_red * red + d_green * green + d_blue * blue
                gain += d_n_x * n_x + d_n_y * n_y + d_n_z * n_z
                gain += state[i + _U(512)] + here * (k_1 + here * k_2)
                coming = state[i + _U(64)] - share * gain
                state[i + _U(64)] = coming
                d_power = a * coming / (_ONE - a) - share * gain
                d_power = d_power if live and raw <= _ALPHA_MAX else _ZERO
                d_here = share * (k_1 + _TWO * here * k_2)
                chosen = (state[i + _U(768)] == rank) & (share > _ZERO)
                d_here += state[i + _U(704)] if chosen else _ZERO
                # Where the blur is seen, the plane gains nothing, even if it is met at infinity.
                d_z = _ZERO if sharp else d_here
                d_blurred = _ZERO if sharp else d_power
                inverse = inverse if sharp else _ZERO
                p, q, met = p if sharp else _ZERO, q if sharp else _ZERO, met if sharp else _ZERO
                d_u, d_v = d_power * p * inverse, d_power * q * inverse
                d_w = -(d_power * (p * p + q * q) + d_here * met) * inverse
                sums[lane] += d_u
                sums[lane + _U(16)] += d_u * dx
                sums[lane + _U(32)] += d_u * dy
                sums[lane + _U(48)] += d_v
                sums[lane + _U(64)] += d_v * dx
                sums[lane + _U(80)] += d_v * dy
                sums[lane + _U(96)] += d_w
                sums[lane + _U(112)] += d_w * dx
                sums[lane + _U(128)] += d_w * dy
                sums[lane + _U(144)] += d_here * inverse
                sums[lane + _U(160)] += d_blurred * ex
                sums[lane + _U(176)] += d_blurred * ey
                sums[lane + _U(192)] += d_power
                sums[lane + _U(208)] += d_z
                sums[lane + _U(224)] += share * d_red
                sums[lane + _U(240)] += share * d_green
                sums[lane + _U(256)] += share * d_blue
                sums[lane + _U(272)] += share * d_n_x
                sums[lane + _U(288)] += share * d_n_y
                sums[lane + _U(304)] += share * d_n_z
        _add_to_slot(sums, slots, listed[at, 0], bits & OPENS > 0)
        at += 1
        any_light = at & 7 != 0 or reached(state)
    for rest in range(at, bounds[1]):
        if listed[rest, 1] & OPENS > 0:
            for k in range(_U(SLOT_USED)):
                slots[listed[rest, 0], k] = _ZERO


@njit(forceinline=True)
def _add_to_slot(sums, slots, at, opens):  # noqa: ANN001, ANN202
    for k in range(_U(SLOT_USED)):
        here = total(load(sums, k * _LANES))
        slots[at, k] = here if opens else slots[at, k] + here
