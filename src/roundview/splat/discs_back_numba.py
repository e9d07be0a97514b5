"""CPU kernels that carry gradients of the pictures back to plates, tile by tile.

The other half of `discs_tiles_numba.py`. A job is a row of tiles, and each disc has one slot for
its gradient there, as in `tiles_numba.py`: threads share nothing, and the sums come out the same.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import numpy as np

from ..kernels import njit
from .discs_gradient_numba import SLOT
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
    first_depth,
    offsets,
    reached,
    start_tile,
)
from .lanes_numba import WIDTH, constant, evens, load, odds, pick, size, spread, store
from .pairs_numba import ELLIPSE_SHIFT, FIRST_BAND, LAST_BAND, LAST_SHIFT, OPENS, SIDE
from .render import ALPHA_MAX, ALPHA_MIN, NEAR, TRANSMITTANCE_MIN
from .tiles_numba import _exp_minus  # pyright: ignore[reportPrivateUsage]  one exponential for both

_F, _U = np.float32, np.uint64
_ZERO, _ONE, _TWO, _HALF = _F(0), _F(1), _F(2), _F(0.5)
_ALPHA_MAX, _ALPHA_MIN, _T_MIN = _F(ALPHA_MAX), _F(ALPHA_MIN), _F(TRANSMITTANCE_MIN)
_NEAR = _F(NEAR)
_LANES = _U(WIDTH)
_columns = constant([float(lane % SIDE) for lane in range(WIDTH)])
_rows = constant([float(lane // SIDE) for lane in range(WIDTH)])
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
    state = np.empty(_STATE, np.float32)
    for column in range(across):
        tile, corner = row * across + column, (row * SIDE, column * SIDE)
        start_tile(state, size_hw, corner)
        _start_gains(state, light[tile], corner, background, d_picture)
        _draw_tile_backward(state, plates, bounds[tile], listed, corner, slots)


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


@njit(forceinline=True)
def _draw_tile_backward(state, plates, bounds, listed, corner, slots):  # noqa: ANN001, ANN202
    """Go through the tile's discs front to back again, with the loss still to come from behind."""
    zero, one, two = spread(_ZERO), spread(_ONE), spread(_TWO)
    least, most = spread(_T_MIN), spread(_ALPHA_MAX)
    first_z = spread(first_depth(plates, bounds, listed))
    at, any_light = bounds[0], True
    while at < bounds[1] and any_light:
        bits = listed[at, 1]
        e = bits >> ELLIPSE_SHIFT
        plane = _plane(plates, e, corner)
        opacity, z = spread(plates[e, OPACITY]), spread(plates[e, DEPTH])
        red, green, blue = spread(plates[e, RED]), spread(plates[e, GREEN]), spread(plates[e, BLUE])
        n_x, n_y = spread(plates[e, NORMAL]), spread(plates[e, NORMAL + 1])
        n_z, rank = spread(plates[e, NORMAL + 2]), spread(_F(at - bounds[0]))
        s_u = s_ux = s_uy = s_v = s_vx = s_vy = s_w = s_wx = s_wy = s_0 = zero
        s_x = s_y = s = s_z = s_red = s_green = s_blue = s_nx = s_ny = s_nz = zero
        for band in range(_U(bits & FIRST_BAND), _U((bits >> LAST_SHIFT) & LAST_BAND)):
            i = band * _LANES
            dx, dy, ex, ey, p, q, inverse, met, sharp, power = _meet(plane, band)
            here = pick(sharp, met, z) - first_z
            raw = opacity * _exp_minus(power)
            a = pick(raw < most, raw, most)
            a = pick(a >= spread(_ALPHA_MIN), a, zero)
            before = load(state, i)
            after = before - a * before
            live = after >= least
            share = pick(live, a * before, zero)
            store(state, i, pick(live, after, -size(before)))
            d_red, d_green = load(state, i + _U(128)), load(state, i + _U(192))
            d_blue, d_n_x = load(state, i + _U(256)), load(state, i + _U(320))
            d_n_y, d_n_z = load(state, i + _U(384)), load(state, i + _U(448))
            k_1, k_2 = load(state, i + _U(576)), load(state, i + _U(640))
            gain = d_red * red + d_green * green + d_blue * blue
            gain += d_n_x * n_x + d_n_y * n_y + d_n_z * n_z
            gain += load(state, i + _U(512)) + here * (k_1 + here * k_2)
            coming = load(state, i + _U(64)) - share * gain
            store(state, i + _U(64), coming)
            d_power = a * coming / (one - a) - share * gain
            d_power = pick(live & (most >= raw), d_power, zero)
            d_here = share * (k_1 + two * here * k_2)
            chosen = load(state, i + _U(768))
            chosen = (chosen >= rank) & (rank >= chosen) & (share > zero)
            d_here += pick(chosen, load(state, i + _U(704)), zero)
            # Where the blur is seen, the plane gains nothing, even if it is met at infinity.
            d_blurred = pick(sharp, zero, d_power)
            inverse, met = pick(sharp, inverse, zero), pick(sharp, met, zero)
            p, q = pick(sharp, p, zero), pick(sharp, q, zero)
            d_u, d_v = d_power * p * inverse, d_power * q * inverse
            d_w = -(d_power * (p * p + q * q) + d_here * met) * inverse
            s_u, s_ux, s_uy = s_u + d_u, s_ux + d_u * dx, s_uy + d_u * dy
            s_v, s_vx, s_vy = s_v + d_v, s_vx + d_v * dx, s_vy + d_v * dy
            s_w, s_wx, s_wy = s_w + d_w, s_wx + d_w * dx, s_wy + d_w * dy
            s_0, s_z = s_0 + d_here * inverse, s_z + pick(sharp, zero, d_here)
            s_x, s_y, s = s_x + d_blurred * ex, s_y + d_blurred * ey, s + d_power
            s_red, s_green = s_red + share * d_red, s_green + share * d_green
            s_blue, s_nx = s_blue + share * d_blue, s_nx + share * d_n_x
            s_ny, s_nz = s_ny + share * d_n_y, s_nz + share * d_n_z
        eight = _sums(_four(s_u, s_ux, s_uy, s_v), _four(s_vx, s_vy, s_w, s_wx))
        rest = _sums(_four(s_wy, s_0, s_x, s_y), _four(s, s_z, s_red, s_green))
        last = _sums(_sums(_four(s_blue, s_nx, s_ny, s_nz), zero), zero)
        slot, opens = _U(listed[at, 0]) * _U(SLOT), bits & OPENS > 0
        sums = _sums(eight, rest)
        store(slots, slot, sums if opens else load(slots, slot) + sums)
        slot += _LANES
        store(slots, slot, last if opens else load(slots, slot) + last)
        at += 1
        any_light = at & 7 != 0 or reached(state)
    for rest_at in range(at, bounds[1]):
        if listed[rest_at, 1] & OPENS > 0:
            slot = _U(listed[rest_at, 0]) * _U(SLOT)
            store(slots, slot, zero)
            store(slots, slot + _LANES, zero)


@njit(forceinline=True)
def _plane(plates, e, corner):  # noqa: ANN001, ANN202
    """What `_meet` must know of a disc in the tile at this corner."""
    x, y, middle_x, middle_y = offsets(plates, e, corner)
    return (
        spread(x) + _columns(),
        spread(y) + _rows(),
        spread(middle_x) + _columns(),
        spread(middle_y) + _rows(),
        (spread(plates[e, U_X]), spread(plates[e, U_Y])),
        (spread(plates[e, V_X]), spread(plates[e, V_Y])),
        (spread(plates[e, W_X]), spread(plates[e, W_Y])),
        spread(plates[e, W_0]),
        spread(plates[e, Z_0]),
    )


@njit(forceinline=True)
def _meet(plane, band):  # noqa: ANN001, ANN202
    """Meet a disc at the pixels of a band: offsets, u, v, 1 / W, depth, which power, power."""
    x, y, middle_x, middle_y, u, v, w, w_0, z_0 = plane
    down = spread(_F(band) * _TWO)
    dy, ey = y + down, middle_y + down
    inverse = spread(_ONE) / (w_0 + w[0] * x + w[1] * dy)
    p, q = (u[0] * x + u[1] * dy) * inverse, (v[0] * x + v[1] * dy) * inverse
    on_plane, blurred = spread(_HALF) * (p * p + q * q), middle_x * middle_x + ey * ey
    met = z_0 * inverse
    sharp = (blurred >= on_plane) & (met > spread(_NEAR))
    return x, dy, middle_x, ey, p, q, inverse, met, sharp, pick(sharp, on_plane, blurred)


@njit(forceinline=True)
def _sums(first, second):  # noqa: ANN001, ANN202
    """Add neighbours: after four rounds each lane holds the sum of one of sixteen registers."""
    return evens(first, second) + odds(first, second)


@njit(forceinline=True)
def _four(a, b, c, d):  # noqa: ANN001, ANN202
    return _sums(_sums(a, b), _sums(c, d))
