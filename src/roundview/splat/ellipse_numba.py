"""Maths of one Gaussian's ellipse, inlined into the kernels that project 16 of them at once.

Twin of `_ellipses` in `render.py`. The numbers of 16 Gaussians lie in planes, one after the other
(see `tiles_numba.py` on what makes the compiler use vector instructions).
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np

from ..kernels import njit
from .render import BLUR_PX2

SUM, SUM_P, SUM_Q, SUM_PP, SUM_PQ, SUM_QQ = range(6)
SLOT_RGB, SLOT_DEPTH, SLOT_USED = 6, 9, 10
"""What a slot holds: moments of the gradient with respect to the power; then the gradients of
colour and depth."""

# Planes of a block of 16 Gaussians: what goes in,
CENTRE_X, _CENTRE_Y, _CENTRE_Z, SCALE_0, _SCALE_1, _SCALE_2, QUAT_W, _QUAT_X, _QUAT_Y, _QUAT_Z = (
    range(0, 160, 16)
)
PEAK, POWER = 160, 176
# what comes out forward, and what the slots say backward,
OUT = HANDED_BACK = 192
# and the gradients of centre, logarithm of scale, leaning of the axes, logit of opacity.
D_CENTRE, D_SCALE, LEAN, D_LOGIT, PLANES = 448, 496, 544, 592, 608

_U, _F = np.uint64, np.float32
_ZERO, _ONE, _TWO, _HALF = _F(0), _F(1), _F(2), _F(0.5)
_BLUR = _F(BLUR_PX2)


@njit(forceinline=True)
def camera_numbers(c):  # noqa: ANN001, ANN201
    """The 16 numbers of a camera as values, which a write to an array cannot change."""
    first = (c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7])
    return (*first, c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15])


@njit(forceinline=True)
def in_camera(work, lane, cam):  # noqa: ANN001, ANN201
    """The centre in the camera's frame."""
    a, b, c = work[lane + _U(CENTRE_X)], work[lane + _U(_CENTRE_Y)], work[lane + _U(_CENTRE_Z)]
    x = cam[0] * a + cam[1] * b + cam[2] * c + cam[9]
    y = cam[3] * a + cam[4] * b + cam[5] * c + cam[10]
    z = cam[6] * a + cam[7] * b + cam[8] * c + cam[11]
    return x, y, z


@njit(forceinline=True)
def linearise(cam, x, y, z, limit):  # noqa: ANN001, ANN201
    """Rows of the projection's Jacobian in the world; whether each still moves with the centre."""
    slope_x = min(max(x / z, -limit[0]), limit[0])
    slope_y = min(max(y / z, -limit[1]), limit[1])
    zoom = cam[15] / z
    across = (
        zoom * (cam[0] - slope_x * cam[6]),
        zoom * (cam[1] - slope_x * cam[7]),
        zoom * (cam[2] - slope_x * cam[8]),
    )
    down = (
        zoom * (cam[3] - slope_y * cam[6]),
        zoom * (cam[4] - slope_y * cam[7]),
        zoom * (cam[5] - slope_y * cam[8]),
    )
    return across, down, abs(slope_x) < limit[0], abs(slope_y) < limit[1]


@njit(forceinline=True)
def scale_of(work, lane):  # noqa: ANN001, ANN201
    """The standard deviations."""
    return work[lane + _U(SCALE_0)], work[lane + _U(_SCALE_1)], work[lane + _U(_SCALE_2)]


@njit(forceinline=True)
def rotation_of(work, lane):  # noqa: ANN001, ANN201
    """The rotation matrix row by row, the unit quaternion, and the length it was divided by."""
    w, x = work[lane + _U(QUAT_W)], work[lane + _U(_QUAT_X)]
    y, z = work[lane + _U(_QUAT_Y)], work[lane + _U(_QUAT_Z)]
    length = max(math.sqrt(w * w + x * x + y * y + z * z), _F(1e-12))
    w, x, y, z = w / length, x / length, y / length, z / length
    turn = (
        _ONE - _TWO * (y * y + z * z),
        _TWO * (x * y - w * z),
        _TWO * (x * z + w * y),
        _TWO * (x * y + w * z),
        _ONE - _TWO * (x * x + z * z),
        _TWO * (y * z - w * x),
        _TWO * (x * z - w * y),
        _TWO * (y * z + w * x),
        _ONE - _TWO * (x * x + y * y),
    )
    return turn, (w, x, y, z), length


@njit(forceinline=True)
def axes_in_picture(across, down, turn):  # noqa: ANN001, ANN201
    """The Gaussian's unit axes in the picture: their x and their y."""
    x0 = across[0] * turn[0] + across[1] * turn[3] + across[2] * turn[6]
    x1 = across[0] * turn[1] + across[1] * turn[4] + across[2] * turn[7]
    x2 = across[0] * turn[2] + across[1] * turn[5] + across[2] * turn[8]
    y0 = down[0] * turn[0] + down[1] * turn[3] + down[2] * turn[6]
    y1 = down[0] * turn[1] + down[1] * turn[4] + down[2] * turn[7]
    y2 = down[0] * turn[2] + down[1] * turn[5] + down[2] * turn[8]
    return (x0, x1, x2), (y0, y1, y2)


@njit(forceinline=True)
def covariance_in_picture(axes_x, axes_y, scale):  # noqa: ANN001, ANN201
    """Blurred covariance xx, xy, yy, and its determinant as a sum of squares (Cauchy-Binet)."""
    x0, x1, x2 = axes_x[0] * scale[0], axes_x[1] * scale[1], axes_x[2] * scale[2]
    y0, y1, y2 = axes_y[0] * scale[0], axes_y[1] * scale[1], axes_y[2] * scale[2]
    xx, yy = x0 * x0 + x1 * x1 + x2 * x2, y0 * y0 + y1 * y1 + y2 * y2
    xy = x0 * y0 + x1 * y1 + x2 * y2
    a, b, c = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
    det = a * a + b * b + c * c + _BLUR * (xx + yy) + _BLUR * _BLUR
    return xx + _BLUR, xy, yy + _BLUR, det


@njit(forceinline=True)
def dot(a, b):  # noqa: ANN001, ANN201
    """The scalar product of two vectors."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(forceinline=True)
def _apply(turn, a, b, c):  # noqa: ANN001, ANN202
    return (
        turn[0] * a + turn[1] * b + turn[2] * c,
        turn[3] * a + turn[4] * b + turn[5] * c,
        turn[6] * a + turn[7] * b + turn[8] * c,
    )


@njit(forceinline=True)
def _unwhiten(work, at, xy, yy, det):  # noqa: ANN001, ANN202
    """Turn the moments into the gradients of the middle and of xx, xy and yy.

    With v = det / yy, the spread of x given y: p = (dx - xy / yy dy) / sqrt(2 v) and
    q = dy / sqrt(2 yy). So the moments give the gradients of xy / yy, v and yy first.
    """
    v, shear = det / yy, xy / yy
    sharp_x, sharp_y = math.sqrt(_HALF / v), math.sqrt(_HALF / yy)
    sum_p, sum_q = work[at + _U(16 * SUM_P)], work[at + _U(16 * SUM_Q)]
    d_shear = -_TWO * math.sqrt(yy / v) * work[at + _U(16 * SUM_PQ)]
    d_xx = -work[at + _U(16 * SUM_PP)] / v
    d_xy = d_shear / yy - _TWO * shear * d_xx
    d_yy = shear * shear * d_xx - (work[at + _U(16 * SUM_QQ)] + d_shear * shear) / yy
    d_middle_y = _TWO * (sharp_x * shear * sum_p - sharp_y * sum_q)
    return -_TWO * sharp_x * sum_p, d_middle_y, d_xx, d_xy, d_yy


@njit(forceinline=True)
def _pull(axis_x, axis_y, d_xx, d_xy, d_yy):  # noqa: ANN001, ANN202
    return _TWO * d_xx * axis_x + d_xy * axis_y, d_xy * axis_x + _TWO * d_yy * axis_y


@njit(forceinline=True)
def back_to_axes(work, lane, cam, limit):  # noqa: ANN001, ANN201
    """Carry the moments of one lane back to the Gaussian's axes in the picture.

    Returns:
        What the way on needs: whether the Gaussian is seen, its centre in the camera's frame, what
        `linearise` says, and the gradients of the middle; then the unit axes in the picture, what
        pulls at them, and the gradients of the Jacobian's two rows.
    """
    at = lane + _U(HANDED_BACK)
    seen = work[at + _U(16 * SLOT_USED)] > _ZERO
    scale = scale_of(work, lane)
    turn, _, _ = rotation_of(work, lane)
    x, y, z = in_camera(work, lane, cam)
    # The zero gradient of what is not seen would be lost at a depth of 0.
    z = z if seen else _ONE
    across, down, free_x, free_y = linearise(cam, x, y, z, limit)
    axes_x, axes_y = axes_in_picture(across, down, turn)
    _, xy, yy, det = covariance_in_picture(axes_x, axes_y, scale)
    d_middle_x, d_middle_y, d_xx, d_xy, d_yy = _unwhiten(work, at, xy, yy, det)
    x0, y0 = _pull(axes_x[0], axes_y[0], d_xx, d_xy, d_yy)
    x1, y1 = _pull(axes_x[1], axes_y[1], d_xx, d_xy, d_yy)
    x2, y2 = _pull(axes_x[2], axes_y[2], d_xx, d_xy, d_yy)
    square = (scale[0] * scale[0], scale[1] * scale[1], scale[2] * scale[2])
    d_across = _apply(turn, x0 * square[0], x1 * square[1], x2 * square[2])
    d_down = _apply(turn, y0 * square[0], y1 * square[1], y2 * square[2])
    view = (seen, x, y, z, across, down, free_x, free_y, d_middle_x, d_middle_y)
    return view, axes_x, axes_y, (x0, x1, x2), (y0, y1, y2), d_across, d_down


@njit(forceinline=True)
def back_to_centre(work, lane, cam, view, d_across, d_down):  # noqa: ANN001, ANN201
    """Carry gradients on to the centre in the camera's frame."""
    _, x, y, z, across, down, free_x, free_y, d_middle_x, d_middle_y = view
    zoom = cam[15] / z
    # A slope at the margin no longer moves with the centre.
    d_slope_x = -zoom * dot(d_across, (cam[6], cam[7], cam[8])) if free_x else _ZERO
    d_slope_y = -zoom * dot(d_down, (cam[6], cam[7], cam[8])) if free_y else _ZERO
    d_x, d_y = d_slope_x / z + d_middle_x * zoom, d_slope_y / z + d_middle_y * zoom
    d_z = work[lane + _U(HANDED_BACK + 16 * SLOT_DEPTH)] - (d_x * x + d_y * y) / z
    d_z -= (dot(d_across, across) + dot(d_down, down)) / z
    return d_x, d_y, d_z
