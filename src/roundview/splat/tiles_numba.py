"""CPU kernels that composite ellipses in the tiles of the picture, and the way back.

Twin of `_composite_tile` in `render.py`. A band of a tile, two rows of eight pixels, is 16 lanes of
the processor: all loops over pixels run to 16, which the compiler turns into vector instructions (a
signed index, or a loop to 8, makes it fall back to single numbers). On the way back a job is a row
of tiles, and each ellipse has one slot for its gradient there: threads share nothing, and the sums
come out the same however many there are.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..kernels import njit
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
    SLOT_USED,
)
from .render import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

PLANES = 6
"""What a tile keeps of each pixel: transmittance (negative once finished), rgb, depth, alpha.

Alpha is summed up, because 1 - transmittance has few correct digits where the picture is faint."""

_F = np.float32
_ZERO, _ONE, _TWO, _HALF = _F(0), _F(1), _F(2), _F(0.5)
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
            seen = light[at + 320]
            for k in range(3):
                rgb[y, x, k] = light[at + 64 + 64 * k] + (_ONE - seen) * background[k]
            alpha[y, x] = seen
            depth[y, x] = light[at + 256] / seen if seen > _ZERO else _ZERO


@njit
def _draw_tile(light, records, bounds, listed, corner):  # noqa: ANN001, ANN202
    """Lay a tile's ellipses over one another until no light is left."""
    top, left = _F(corner[0]) + _HALF, _F(corner[1]) + _HALF
    for at in range(bounds[0], bounds[1]):
        bits = listed[at, 1]
        first, last = _U(bits & FIRST_BAND), _U((bits >> LAST_SHIFT) & LAST_BAND)
        e = bits >> ELLIPSE_SHIFT
        x0, y0 = left - records[e, MIDDLE_X], top - records[e, MIDDLE_Y]
        shear, sharp_x, sharp_y = records[e, SHEAR], records[e, SHARP_X], records[e, SHARP_Y]
        opacity, z = records[e, OPACITY], records[e, DEPTH]
        red, green, blue = records[e, RED], records[e, GREEN], records[e, BLUE]
        for band in range(first, last):
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
                light[i + _U(320)] += share
        if at & 7 == 7 and not _any_light(light):
            break


@njit(forceinline=True)
def _exp_minus(s):  # noqa: ANN001, ANN202
    u = min(s, _S_MAX) * _EIGHTH
    e = _E[0] + u * (_E[1] + u * (_E[2] + u * (_E[3] + u * (_E[4] + u * _E[5]))))
    e *= e
    e *= e
    return e * e


@njit(forceinline=True)
def _any_light(light):  # noqa: ANN001, ANN202
    most = _ZERO
    for i in range(_PIXELS):
        most = max(most, light[i])
    return most > _ZERO


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


@njit
def _draw_row_backward(drawn, row, d_picture, slots):  # noqa: ANN001, ANN202
    """Go through one row of tiles, left to right: they share their slots."""
    records, bounds, listed, background, light = drawn
    across = (d_picture[1].shape[1] + SIDE - 1) // SIDE
    state, sums = np.empty(7 * 64, np.float32), np.empty(SLOT_USED * 16, np.float32)
    for column in range(across):
        tile, corner = row * across + column, (row * SIDE, column * SIDE)
        _start_tile(state, d_picture[1].shape, corner)
        _start_gains(state, light[tile], corner, background, d_picture)
        _draw_tile_backward(state, sums, records, bounds[tile], listed, corner, slots)


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


@njit
def _draw_tile_backward(state, sums, records, bounds, listed, corner, slots):  # noqa: ANN001, ANN202
    """Go through the tile's ellipses front to back again, with the loss still to come from behind.

    An ellipse of opacity a gains T v from its own light, where T is the light before it and v what
    the loss gains from light of its colour; and it takes from all behind it R / (1 - a), where R
    is what they give.
    """
    top, left = _F(corner[0]) + _HALF, _F(corner[1]) + _HALF
    at, any_light = bounds[0], True
    while at < bounds[1] and any_light:
        bits = listed[at, 1]
        first, last = _U(bits & FIRST_BAND), _U((bits >> LAST_SHIFT) & LAST_BAND)
        e = bits >> ELLIPSE_SHIFT
        x0, y0 = left - records[e, MIDDLE_X], top - records[e, MIDDLE_Y]
        shear, sharp_x, sharp_y = records[e, SHEAR], records[e, SHARP_X], records[e, SHARP_Y]
        opacity, z = records[e, OPACITY], records[e, DEPTH]
        red, green, blue = records[e, RED], records[e, GREEN], records[e, BLUE]
        for k in range(_U(SLOT_USED * 16)):
            sums[k] = _ZERO
        for band in range(first, last):
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
                sums[lane] += d_power
                sums[lane + _U(16)] += d_p
                sums[lane + _U(32)] += d_q
                sums[lane + _U(48)] += d_p * p
                sums[lane + _U(64)] += d_p * q
                sums[lane + _U(80)] += d_q * q
                sums[lane + _U(96)] += share * d_red
                sums[lane + _U(112)] += share * d_green
                sums[lane + _U(128)] += share * d_blue
                sums[lane + _U(144)] += share * d_depth
        _add_to_slot(sums, slots, listed[at, 0], bits & OPENS > 0)
        at += 1
        any_light = at & 7 != 0 or _any_light(state)
    for rest in range(at, bounds[1]):
        if listed[rest, 1] & OPENS > 0:
            for k in range(_U(SLOT_USED)):
                slots[listed[rest, 0], k] = _ZERO


@njit(forceinline=True)
def _add_to_slot(sums, slots, at, opens):  # noqa: ANN001, ANN202
    for k in range(_U(SLOT_USED)):
        total = _sum_of_lanes(sums, k * _LANES)  # pyright: ignore[reportCallIssue]
        slots[at, k] = total if opens else slots[at, k] + total


@intrinsic
def _sum_of_lanes(context, array, index):  # noqa: ANN001, ANN202
    """Add up 16 numbers of a float32 array from `index` on, halving them four times.

    Written in LLVM's language, because a loop over so few numbers is never vectorised.
    """
    del context
    signature = types.float32(array, index)

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0]).data
        kind = ir.VectorType(ir.FloatType(), 16)
        at = builder.bitcast(builder.gep(data, [arguments[1]]), kind.as_pointer())
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.FloatType(), [ir.FloatType(), kind]),
            "llvm.vector.reduce.fadd.v16f32",
        )
        zero = ir.Constant(ir.FloatType(), -0.0)
        return builder.call(function, [zero, builder.load(at, align=4)], fastmath=("reassoc",))

    return signature, generate
