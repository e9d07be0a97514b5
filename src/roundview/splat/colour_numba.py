"""CPU kernels of colour: spherical harmonics of the viewing direction, and the way back.

Twin of `_rgb_towards` in `render.py` and of `sh_basis`, with the derivatives written out.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np

from ..kernels import njit
from ..rotation import SH_C0

_F = np.float32
_ZERO, _ONE, _TWO, _HALF = _F(0), _F(1), _F(2), _F(0.5)
# Normalisers of the real spherical harmonics: 3DGS writes them as decimals.
_C0 = _F(SH_C0)
_C1 = _F(math.sqrt(3 / math.pi) / 2)
_C2 = tuple(_F(math.sqrt(v / math.pi)) for v in (15 / 4, 5 / 16, 15 / 16))
_C3 = tuple(_F(math.sqrt(v / math.pi)) for v in (35 / 32, 105 / 4, 21 / 32, 7 / 16, 105 / 16))


@njit(forceinline=True)
def put_colours(centre, sh, chosen, camera, basis, out, at):  # noqa: ANN001, ANN201
    """Write the chosen Gaussians' colours towards a camera into rows of `out`, from `at` on.

    `basis` is 16 x 4 scratch.
    """
    if sh.shape[1] == 1:
        # The same from everywhere. Apart from the rest, which takes four times as long.
        for i in range(chosen[0], chosen[1]):
            for channel in range(3):
                out[i, at + channel] = max(_HALF + _C0 * sh[i, 0, channel], _ZERO)
        return
    for i in range(chosen[0], chosen[1]):
        _sh_basis(centre, i, camera, sh.shape[1], basis)
        red, green, blue = _colour(sh, i, basis)
        out[i, at], out[i, at + 1] = max(red, _ZERO), max(green, _ZERO)
        out[i, at + 2] = max(blue, _ZERO)


@njit(forceinline=True)
def add_colour_gradients(colour, chosen, camera, d_rgb, gradients, basis):  # noqa: ANN001, ANN201
    """Add one camera's share to the gradients of `colour`: centre and spherical harmonics.

    Args:
        colour: Centres, and coefficients of the spherical harmonics.
        chosen: The first of up to 16 Gaussians and the last, excluded.
        camera: Its row of 16 numbers.
        d_rgb: Three planes of 16 gradients.
        gradients: Shaped like `colour`.
        basis: 16 x 4 scratch.
    """
    centre, sh = colour
    d_centre, d_sh = gradients
    for i in range(chosen[0], chosen[1]):
        lane = i - chosen[0]
        if sh.shape[1] == 1:
            for channel in range(3):
                value = _HALF + _C0 * sh[i, 0, channel]
                pulled = _C0 * d_rgb[16 * channel + lane]
                d_sh[i, 0, channel] += pulled if value >= _ZERO else _ZERO
        else:
            pulls = (d_rgb[lane], d_rgb[16 + lane], d_rgb[32 + lane])
            _add_gradient(centre, sh, i, camera, pulls, d_centre, d_sh, basis)


@njit(forceinline=True)
def _add_gradient(centre, sh, i, camera, d_rgb, d_centre, d_sh, basis):  # noqa: ANN001, ANN202
    terms = sh.shape[1]
    inverse = _sh_basis(centre, i, camera, terms, basis)
    red, green, blue = _colour(sh, i, basis)
    d_red = d_rgb[0] if red >= _ZERO else _ZERO
    d_green = d_rgb[1] if green >= _ZERO else _ZERO
    d_blue = d_rgb[2] if blue >= _ZERO else _ZERO
    d_sh[i, 0, 0] += d_red * _C0
    d_sh[i, 0, 1] += d_green * _C0
    d_sh[i, 0, 2] += d_blue * _C0
    d_x = d_y = d_z = _ZERO
    for k in range(1, terms):
        d_sh[i, k, 0] += d_red * basis[k, 0]
        d_sh[i, k, 1] += d_green * basis[k, 0]
        d_sh[i, k, 2] += d_blue * basis[k, 0]
        pull = d_red * sh[i, k, 0] + d_green * sh[i, k, 1] + d_blue * sh[i, k, 2]
        d_x += pull * basis[k, 1]
        d_y += pull * basis[k, 2]
        d_z += pull * basis[k, 3]
    # The direction has unit length: only the part across it moves it.
    x = (centre[i, 0] - camera[12]) * inverse
    y = (centre[i, 1] - camera[13]) * inverse
    z = (centre[i, 2] - camera[14]) * inverse
    radial = d_x * x + d_y * y + d_z * z
    d_centre[i, 0] += (d_x - radial * x) * inverse
    d_centre[i, 1] += (d_y - radial * y) * inverse
    d_centre[i, 2] += (d_z - radial * z) * inverse


@njit(forceinline=True)
def _colour(sh, i, basis):  # noqa: ANN001, ANN202
    red = _HALF + _C0 * sh[i, 0, 0]
    green = _HALF + _C0 * sh[i, 0, 1]
    blue = _HALF + _C0 * sh[i, 0, 2]
    for k in range(1, sh.shape[1]):
        red += basis[k, 0] * sh[i, k, 0]
        green += basis[k, 0] * sh[i, k, 1]
        blue += basis[k, 0] * sh[i, k, 2]
    return red, green, blue


@njit(forceinline=True)
def _sh_basis(centre, i, camera, terms, basis):  # noqa: ANN001, ANN202
    """Fill rows of `basis` with value and derivatives by x, y and z at the viewing direction.

    The constant row 0 is left out. Returns one over the distance to the camera.
    """
    x, y, z = centre[i, 0] - camera[12], centre[i, 1] - camera[13], centre[i, 2] - camera[14]
    inverse = _ONE / max(math.sqrt(x * x + y * y + z * z), _F(1e-12))
    x, y, z = x * inverse, y * inverse, z * inverse
    _put(basis, 1, -_C1 * y, _ZERO, -_C1, _ZERO)
    _put(basis, 2, _C1 * z, _ZERO, _ZERO, _C1)
    _put(basis, 3, -_C1 * x, -_C1, _ZERO, _ZERO)
    if terms > 4:
        _sh_second(x, y, z, basis)
    if terms > 9:
        _sh_third(x, y, z, basis)
    return inverse


@njit(forceinline=True)
def _put(basis, k, value, d_x, d_y, d_z):  # noqa: ANN001, ANN202
    basis[k, 0], basis[k, 1], basis[k, 2], basis[k, 3] = value, d_x, d_y, d_z


@njit(forceinline=True)
def _sh_second(x, y, z, basis):  # noqa: ANN001, ANN202
    a, b, c = _C2
    _put(basis, 4, a * x * y, a * y, a * x, _ZERO)
    _put(basis, 5, -a * y * z, _ZERO, -a * z, -a * y)
    _put(basis, 6, b * (_TWO * z * z - x * x - y * y), -_TWO * b * x, -_TWO * b * y, _F(4) * b * z)
    _put(basis, 7, -a * x * z, -a * z, _ZERO, -a * x)
    _put(basis, 8, c * (x * x - y * y), _TWO * c * x, -_TWO * c * y, _ZERO)


@njit(forceinline=True)
def _sh_third(x, y, z, basis):  # noqa: ANN001, ANN202
    a, b, c, d, e = _C3
    xx, yy, zz = x * x, y * y, z * z
    three, four, six, eight = _F(3), _F(4), _F(6), _F(8)
    _put(basis, 9, -a * y * (three * xx - yy), -six * a * x * y, -three * a * (xx - yy), _ZERO)
    _put(basis, 10, b * x * y * z, b * y * z, b * x * z, b * x * y)
    ring = four * zz - xx - yy
    _put(basis, 11, -c * y * ring, _TWO * c * x * y, c * (_TWO * yy - ring), -eight * c * y * z)
    pole = _TWO * zz - three * (xx + yy)
    d_pole = three * d * (_TWO * zz - xx - yy)
    _put(basis, 12, d * z * pole, -six * d * x * z, -six * d * y * z, d_pole)
    _put(basis, 13, -c * x * ring, c * (_TWO * xx - ring), _TWO * c * x * y, -eight * c * x * z)
    _put(basis, 14, e * z * (xx - yy), _TWO * e * x * z, -_TWO * e * y * z, e * (xx - yy))
    _put(basis, 15, -a * x * (xx - three * yy), -three * a * (xx - yy), six * a * x * y, _ZERO)
