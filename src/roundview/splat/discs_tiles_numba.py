"""CPU kernels that composite discs in the tiles of the picture.

Twin of `_composite_tile` in `discs.py`; what a band and a job are, and why the loops look as they
do, is told in `tiles_numba.py`. Depths within a tile are counted from that of the nearest disc's
centre, so that small differences keep their digits. The way back is in `discs_back_numba.py`.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import numpy as np

from ..kernels import njit
from .discs import MEDIAN_LIGHT
from .discs_project_numba import (
    BLUE,
    CENTRE_X,
    CENTRE_Y,
    DEPTH,
    GREEN,
    MIDDLE_X,
    MIDDLE_Y,
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
from .pairs_numba import ELLIPSE_SHIFT, FIRST_BAND, LAST_BAND, LAST_SHIFT, SIDE
from .render import ALPHA_MAX, ALPHA_MIN, NEAR, TRANSMITTANCE_MIN

PLANES = 12
"""What a tile keeps of each pixel: transmittance (negative once finished), rgb, normal, alpha, sums
of depth and squared depth, median depth, and which pair of the tile's list that was."""

_F, _U = np.float32, np.uint64
_ZERO, _ONE, _TWO, _HALF = _F(0), _F(1), _F(2), _F(0.5)
_ALPHA_MAX, _ALPHA_MIN, _T_MIN = _F(ALPHA_MAX), _F(ALPHA_MIN), _F(TRANSMITTANCE_MIN)
_NEAR, _MEDIAN_LIGHT = _F(NEAR), _F(MEDIAN_LIGHT)
_LANES, _PIXELS, _U3, _U7 = _U(16), _U(64), _U(3), _U(7)
# exp(-s / 8) on 0 <= s <= 6 by least squares on Chebyshev nodes, relative error 1.3e-7. The eighth
# power costs three multiplications, and beyond 6 no opacity reaches ALPHA_MIN.
_S_MAX, _EIGHTH = _F(6), _F(1 / 8)
_E = tuple(
    _F(c) for c in (0.99999988, -0.99998935, 0.49984518, -0.16581965, 0.03951277, -0.00569394)
)
# Where the planes of a tile begin, behind the transmittance.
LIGHT_RGB, LIGHT_NORMAL, LIGHT_ALPHA, LIGHT_DEPTH, LIGHT_SQUARE, LIGHT_MEDIAN, LIGHT_CHOSEN = (
    64,
    256,
    448,
    512,
    576,
    640,
    704,
)


@njit
def draw_discs_kernel(first_job, last_job, drawn, pictures):  # noqa: ANN001, ANN201
    """Composite tiles. A job is a tile of one camera.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        drawn: plates, n x g x PLATE; the bounds of `cursor_kernel` and the list of `list_kernel`;
            three background colour values; and light, n x tiles x (PLANES * 64), written: kept
            for the way back.
        pictures: rgb and normal (its sum) n x h x w x 3, alpha, depth, median depth and distortion
            n x h x w, written.
    """
    plates, bounds, listed, background, light = drawn
    rgb, normal, alpha, depth, median, distortion = pictures
    across = (alpha.shape[2] + SIDE - 1) // SIDE
    tiles = bounds.shape[1]
    for job in range(first_job, last_job):
        n_at, tile = job // tiles, job % tiles
        corner = (tile // across * SIDE, tile % across * SIDE)
        mine = light[n_at, tile]
        start_tile(mine, alpha.shape[1:], corner)
        first = first_depth(plates[n_at], bounds[n_at, tile], listed)
        _draw_tile(mine, plates[n_at], bounds[n_at, tile], listed, corner, first)
        picture = (
            rgb[n_at],
            normal[n_at],
            alpha[n_at],
            depth[n_at],
            median[n_at],
            distortion[n_at],
        )
        _finish_tile(mine, corner, background, first, picture)


@njit
def start_tile(light, size_hw, corner):  # noqa: ANN001, ANN201
    """Darken all pixels; those outside the picture are finished from the start."""
    light[:] = _ZERO
    for r in range(SIDE):
        for c in range(SIDE):
            inside = corner[0] + r < size_hw[0] and corner[1] + c < size_hw[1]
            light[r * SIDE + c] = _ONE if inside else -_ONE


@njit(forceinline=True)
def first_depth(plates, bounds, listed):  # noqa: ANN001, ANN201
    """Give the depth that a tile's depths are counted from."""
    if bounds[0] == bounds[1]:
        return _ZERO
    return plates[listed[bounds[0], 1] >> ELLIPSE_SHIFT, DEPTH]


@njit
def _finish_tile(light, corner, background, first, picture):  # noqa: ANN001, ANN202
    """Copy a tile into the pictures, over the background."""
    rgb, normal, alpha, depth, median, distortion = picture
    h, w = alpha.shape
    for r in range(min(SIDE, h - corner[0])):
        for c in range(min(SIDE, w - corner[1])):
            at, y, x = r * SIDE + c, corner[0] + r, corner[1] + c
            seen = light[at + LIGHT_ALPHA]
            for k in range(3):
                rgb[y, x, k] = light[at + LIGHT_RGB + 64 * k] + (_ONE - seen) * background[k]
                normal[y, x, k] = light[at + LIGHT_NORMAL + 64 * k]
            alpha[y, x] = seen
            z = light[at + LIGHT_DEPTH]
            depth[y, x] = first + z / seen if seen > _ZERO else _ZERO
            median[y, x] = first + light[at + LIGHT_MEDIAN] if seen > _ZERO else _ZERO
            distortion[y, x] = max(seen * light[at + LIGHT_SQUARE] - z * z, _ZERO)


@njit(forceinline=True)
def offsets(plates, e, corner):  # noqa: ANN001, ANN201
    """Give the first pixel of the tile from the centre of a disc, and from its middle."""
    left, top = _F(corner[1]) + _HALF, _F(corner[0]) + _HALF
    x, y = left - plates[e, CENTRE_X], top - plates[e, CENTRE_Y]
    return x, y, left - plates[e, MIDDLE_X], top - plates[e, MIDDLE_Y]


@njit
def _draw_tile(light, plates, bounds, listed, corner, first_z):  # noqa: ANN001, ANN202
    """Lay a tile's discs over one another until no light is left."""
    for at in range(bounds[0], bounds[1]):
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
                a = min(opacity * exp_minus(power), _ALPHA_MAX)
                a = a if a >= _ALPHA_MIN else _ZERO
                before = light[i]
                after = before - a * before
                live = after >= _T_MIN
                share = a * before if live else _ZERO
                light[i] = after if live else -abs(before)
                light[i + _U(64)] += share * red
                light[i + _U(128)] += share * green
                light[i + _U(192)] += share * blue
                light[i + _U(256)] += share * n_x
                light[i + _U(320)] += share * n_y
                light[i + _U(384)] += share * n_z
                light[i + _U(448)] += share
                light[i + _U(512)] += share * here
                light[i + _U(576)] += share * here * here
                chosen = (share > _ZERO) & (before > _MEDIAN_LIGHT)
                light[i + _U(640)] = here if chosen else light[i + _U(640)]
                light[i + _U(704)] = rank if chosen else light[i + _U(704)]
        if at & 7 == 7 and not reached(light):
            break


@njit(forceinline=True)
def exp_minus(s):  # noqa: ANN001, ANN201
    """Give exp(-s) to float32, where any opacity may reach ALPHA_MIN."""
    u = min(s, _S_MAX) * _EIGHTH
    e = _E[0] + u * (_E[1] + u * (_E[2] + u * (_E[3] + u * (_E[4] + u * _E[5]))))
    e *= e
    e *= e
    return e * e


@njit(forceinline=True)
def reached(light):  # noqa: ANN001, ANN201
    """Say whether any light is left in the tile."""
    most = _ZERO
    for i in range(_PIXELS):
        most = max(most, light[i])
    return most > _ZERO
