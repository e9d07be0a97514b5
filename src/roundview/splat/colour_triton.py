"""GPU kernels of colour: spherical harmonics of the viewing direction, and the way back.

Twin of `_rgb_towards` in `render.py` and of `sh_basis`, with the derivatives written out.
"""

# Triton infers the types of kernels, takes arrays one by one, and writes constants in capitals.
# ruff: noqa: ANN001, ANN201, ANN202, N803, PLR0913

import math

import triton.language as tl

from ..kernels_triton import jit
from ..rotation import SH_C0

_C0 = tl.constexpr(SH_C0)
# Normalisers of the real spherical harmonics: 3DGS writes them as decimals.
_C1 = tl.constexpr(math.sqrt(3 / math.pi) / 2)
_C2A = tl.constexpr(math.sqrt(15 / 4 / math.pi))
_C2B = tl.constexpr(math.sqrt(5 / 16 / math.pi))
_C2C = tl.constexpr(math.sqrt(15 / 16 / math.pi))
_C3A = tl.constexpr(math.sqrt(35 / 32 / math.pi))
_C3B = tl.constexpr(math.sqrt(105 / 4 / math.pi))
_C3C = tl.constexpr(math.sqrt(21 / 32 / math.pi))
_C3D = tl.constexpr(math.sqrt(7 / 16 / math.pi))
_C3E = tl.constexpr(math.sqrt(105 / 16 / math.pi))


@jit
def direction_towards(x, y, z, camera):
    """Unit vector from a camera (its row of numbers) to the centre, and one over the distance."""
    x -= tl.load(camera + 12)
    y -= tl.load(camera + 13)
    z -= tl.load(camera + 14)
    inverse = 1.0 / tl.maximum(tl.sqrt(x * x + y * y + z * z), 1e-12)
    return x * inverse, y * inverse, z * inverse, inverse


@jit
def colour_of(sh, i, here, direction, TERMS: tl.constexpr):
    """Colour before it is clamped: three blocks."""
    at = sh + i * (3 * TERMS)
    red, green, blue = direction[0] * 0.0 + 0.5, direction[0] * 0.0 + 0.5, direction[0] * 0.0 + 0.5
    for k in tl.static_range(TERMS):
        basis = _term(direction[0], direction[1], direction[2], k)[0]
        red += basis * tl.load(at + 3 * k, mask=here, other=0.0)
        green += basis * tl.load(at + 3 * k + 1, mask=here, other=0.0)
        blue += basis * tl.load(at + 3 * k + 2, mask=here, other=0.0)
    return red, green, blue


@jit
def centre_gradient_of_colour(sh, i, here, direction, d_rgb, TERMS: tl.constexpr):
    """What the centre gains from the colour's gradient: the harmonics turn as it moves.

    `direction` is that of `direction_towards`, with one over the distance.
    """
    x, y, z, inverse = direction[0], direction[1], direction[2], direction[3]
    at = sh + i * (3 * TERMS)
    d_x, d_y, d_z = x * 0.0, x * 0.0, x * 0.0
    for k in tl.static_range(1, TERMS):
        pull = d_rgb[0] * tl.load(at + 3 * k, mask=here, other=0.0)
        pull += d_rgb[1] * tl.load(at + 3 * k + 1, mask=here, other=0.0)
        pull += d_rgb[2] * tl.load(at + 3 * k + 2, mask=here, other=0.0)
        _, by_x, by_y, by_z = _term(x, y, z, k)
        d_x += pull * by_x
        d_y += pull * by_y
        d_z += pull * by_z
    # The direction has unit length: only the part across it moves it.
    radial = d_x * x + d_y * y + d_z * z
    return (d_x - radial * x) * inverse, (d_y - radial * y) * inverse, (d_z - radial * z) * inverse


@jit
def sh_backward_kernel(
    centres, cameras, records, d_records, d_sh, n, g, TERMS: tl.constexpr, BLOCK: tl.constexpr
):
    """Write the gradient of the harmonics. A program is a block of Gaussians, all cameras.

    Args:
        centres: g x 3.
        cameras: n x 16, see `project_kernel`.
        records: n x g x 16, of what is drawn; the rest is not read.
        d_records: n x g x 16, see `sum_slots_kernel`; zero where nothing is drawn.
        d_sh: g x TERMS x 3, written.
        n: Number of cameras.
        g: Number of Gaussians.
        TERMS: Coefficients of a colour.
        BLOCK: Gaussians of a program.
    """
    i = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    here = i < g
    x = tl.load(centres + 3 * i, mask=here, other=0.0)
    y = tl.load(centres + 3 * i + 1, mask=here, other=0.0)
    z = tl.load(centres + 3 * i + 2, mask=here, other=0.0)
    # Terms outside, cameras inside: all terms at once would not fit into the registers.
    for k in tl.static_range(TERMS):
        red = tl.zeros((BLOCK,), tl.float32)
        green = tl.zeros((BLOCK,), tl.float32)
        blue = tl.zeros((BLOCK,), tl.float32)
        n_at = tl.program_id(0) * 0
        while n_at < n:
            camera = cameras + n_at * 16
            direction = direction_towards(x, y, z, camera)
            basis = _term(direction[0], direction[1], direction[2], k)[0]
            d_red, d_green, d_blue = colour_gradient(records, d_records, n_at * g + i, here)
            red += d_red * basis
            green += d_green * basis
            blue += d_blue * basis
            n_at += 1
        at = d_sh + i * (3 * TERMS) + 3 * k
        tl.store(at, red, mask=here)
        tl.store(at + 1, green, mask=here)
        tl.store(at + 2, blue, mask=here)


@jit
def colour_gradient(records, d_records, e, here):
    """Gradient of the colour before it was clamped at 0."""
    red = _passed(records, d_records, 16 * e + 6, here)
    green = _passed(records, d_records, 16 * e + 7, here)
    blue = _passed(records, d_records, 16 * e + 8, here)
    return red, green, blue


@jit
def _passed(records, d_records, at, here):
    gradient = tl.load(d_records + at, mask=here, other=0.0)
    value = tl.load(records + at, mask=here & (gradient != 0.0), other=0.0)
    return tl.where(value >= 0.0, gradient, 0.0)


@jit
def _term(x, y, z, K: tl.constexpr):
    """Value of basis function K, and its derivatives by x, y and z."""
    if K == 0:
        zero = x * 0.0
        result = zero + _C0, zero, zero, zero
    elif K < 4:
        result = _first_degree(x, y, z, K)
    elif K < 9:
        result = _second_degree(x, y, z, K)
    elif K < 13:
        result = _third_degree(x, y, z, K)
    else:
        result = _third_degree_end(x, y, z, K)
    return result


@jit
def _first_degree(x, y, z, K: tl.constexpr):
    zero = x * 0.0
    if K == 1:
        result = -_C1 * y, zero, zero - _C1, zero
    elif K == 2:
        result = _C1 * z, zero, zero, zero + _C1
    else:
        result = -_C1 * x, zero - _C1, zero, zero
    return result


@jit
def _second_degree(x, y, z, K: tl.constexpr):
    zero = x * 0.0
    if K == 4:
        result = _C2A * x * y, _C2A * y, _C2A * x, zero
    elif K == 5:
        result = -_C2A * y * z, zero, -_C2A * z, -_C2A * y
    elif K == 6:
        value = _C2B * (2.0 * z * z - x * x - y * y)
        result = value, -2.0 * _C2B * x, -2.0 * _C2B * y, 4.0 * _C2B * z
    elif K == 7:
        result = -_C2A * x * z, -_C2A * z, zero, -_C2A * x
    else:
        result = _C2C * (x * x - y * y), 2.0 * _C2C * x, -2.0 * _C2C * y, zero
    return result


@jit
def _third_degree(x, y, z, K: tl.constexpr):
    xx, yy, zz = x * x, y * y, z * z
    if K == 9:
        by_y = -3.0 * _C3A * (xx - yy)
        result = -_C3A * y * (3.0 * xx - yy), -6.0 * _C3A * x * y, by_y, x * 0.0
    elif K == 10:
        result = _C3B * x * y * z, _C3B * y * z, _C3B * x * z, _C3B * x * y
    elif K == 11:
        ring = 4.0 * zz - xx - yy
        by_y = _C3C * (2.0 * yy - ring)
        result = -_C3C * y * ring, 2.0 * _C3C * x * y, by_y, -8.0 * _C3C * y * z
    else:
        value = _C3D * z * (2.0 * zz - 3.0 * (xx + yy))
        by_z = 3.0 * _C3D * (2.0 * zz - xx - yy)
        result = value, -6.0 * _C3D * x * z, -6.0 * _C3D * y * z, by_z
    return result


@jit
def _third_degree_end(x, y, z, K: tl.constexpr):
    xx, yy, zz = x * x, y * y, z * z
    if K == 13:
        ring = 4.0 * zz - xx - yy
        by_x = _C3C * (2.0 * xx - ring)
        result = -_C3C * x * ring, by_x, 2.0 * _C3C * x * y, -8.0 * _C3C * x * z
    elif K == 14:
        by_z = _C3E * (xx - yy)
        result = _C3E * z * (xx - yy), 2.0 * _C3E * x * z, -2.0 * _C3E * y * z, by_z
    else:
        by_x = -3.0 * _C3A * (xx - yy)
        result = -_C3A * x * (xx - 3.0 * yy), by_x, 6.0 * _C3A * x * y, x * 0.0
    return result
