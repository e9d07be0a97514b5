"""CPU kernels that turn Gaussians into ellipses in the picture, and gradients back again.

Twin of `_ellipses` in `render.py`, with the sum over cameras inside. Forward, one ellipse is a row
of `RECORD` numbers; backward, what the tiles hand back of it is a row of `SLOT` numbers. Sixteen
Gaussians go through together, one in each lane of the processor: their numbers are first laid out
in planes of 16 (see `tiles_numba.py` on what makes the compiler use vector instructions).
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np

from ..kernels import njit
from .colour_numba import add_colour_gradients, put_colours
from .render import BLUR_PX2, FRUSTUM_MARGIN, NEAR

MIDDLE_X, MIDDLE_Y, SHEAR, SHARP_X, SHARP_Y, OPACITY, RED, GREEN, BLUE, DEPTH = range(10)
"""What a record holds. At (dx, dy) pixels from the middle the ellipse has the power p^2 + q^2 with
p = (dx - SHEAR dy) SHARP_X and q = dy SHARP_Y: the distance of x given y, and of y."""
REACH_X, REACH_Y, POWER_MAX = range(10, 13)
"""Half the box in which alpha reaches ALPHA_MIN, pixels, and the power where it does."""
RECORD = 16
SUM, SUM_P, SUM_Q, SUM_PP, SUM_PQ, SUM_QQ = range(6)
SLOT_RGB, SLOT_DEPTH, SLOT_USED = 6, 9, 10
SLOT = 16
"""What a slot holds: moments of the gradient with respect to the power; then the gradients of
colour and depth. The rest pads it, and a record too, to a line of the processor's cache."""

# Planes of a block of 16 Gaussians: what goes in,
_X, _Y, _Z, _SCALE_0, _SCALE_1, _SCALE_2, _QUAT_W, _QUAT_X, _QUAT_Y, _QUAT_Z = range(0, 160, 16)
_OPACITY, _POWER = 160, 176
# what comes out forward, and what the slots say backward,
_OUT = _SLOT = 192
# and the gradients of centre, logarithm of scale, leaning of the axes, logit of opacity.
_D_CENTRE, _D_SCALE, _LEAN, _D_LOGIT, _PLANES = 448, 496, 544, 592, 608

_U = np.uint64
_LANES = _U(16)
BLOCK = 512
"""Gaussians that one job projects."""
_F = np.float32
_ZERO, _ONE, _TWO, _HALF, _INFINITE = _F(0), _F(1), _F(2), _F(0.5), _F(np.inf)
_BLUR, _NEAR, _MARGIN = _F(BLUR_PX2), _F(NEAR), _F(FRUSTUM_MARGIN)


@njit
def project_kernel(first_job, last_job, fields, cameras, size_hw, records):  # noqa: ANN001, ANN201
    """Fill the records. A job is a block of Gaussians for one camera.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        fields: float32 arrays: centre, scale, quat_wxyz, opacity, logarithm of opacity / ALPHA_MIN,
            sh. The first three and the last as in `Gaussians`.
        cameras: n x 16: camera_from_world rotation (9) and shift (3), origin (3), focal length.
        size_hw: Height and width of the pictures.
        records: n x g x RECORD, written; the depth of a Gaussian that cannot be seen is infinite.
    """
    g = records.shape[1]
    each = (g + BLOCK - 1) // BLOCK
    for job in range(first_job, last_job):
        n_at, first = job // each, job % each * BLOCK
        chosen = (first, min(first + BLOCK, g))
        _project_some(fields, cameras[n_at], size_hw, records[n_at], chosen)


@njit
def _project_some(fields, camera, size_hw, records, chosen):  # noqa: ANN001, ANN202
    work, basis = np.zeros(_PLANES, np.float32), np.empty((16, 4), np.float32)
    for first in range(chosen[0], chosen[1], 16):
        last = min(first + 16, chosen[1])
        _lay_out(fields, first, last, work)
        _project_block(work, camera, size_hw)
        for i in range(first, last):
            # Rows are not taken out as arrays of their own: counting references to them is slow.
            for k in range(13):
                records[i, k] = work[_OUT + 16 * k + i - first]
    put_colours(fields[0], fields[5], chosen, camera, basis, records, RED)


@njit
def _lay_out(fields, first, last, work):  # noqa: ANN001, ANN202
    centre, scale, quat, opacity, power, _ = fields
    for i in range(first, last):
        lane = i - first
        for k in range(3):
            work[_X + 16 * k + lane] = centre[i, k]
            work[_SCALE_0 + 16 * k + lane] = scale[i, k]
        for k in range(4):
            work[_QUAT_W + 16 * k + lane] = quat[i, k]
        work[_OPACITY + lane], work[_POWER + lane] = opacity[i], power[i]


@njit
def _project_block(work, camera, size_hw):  # noqa: ANN001, ANN202
    """Compute records, less their colours, in the planes from _OUT on."""
    cam = _numbers(camera)
    height, width = _F(size_hw[0]), _F(size_hw[1])
    limit = (_MARGIN * _HALF * width / cam[15], _MARGIN * _HALF * height / cam[15])
    for lane in range(_LANES):
        x, y, z = _in_camera(work, lane, cam)
        across, down, _, _ = _linearise(cam, x, y, z, limit)
        turn, _, _ = _rotation(work, lane)
        axes_x, axes_y = _axes(across, down, turn)
        xx, xy, yy, det = _covariance(axes_x, axes_y, _scale(work, lane))
        power = work[lane + _U(_POWER)]
        middle_x = cam[15] * x / z + _HALF * width
        middle_y = cam[15] * y / z + _HALF * height
        reach_x = math.sqrt(_TWO * max(power, _ZERO) * xx)
        reach_y = math.sqrt(_TWO * max(power, _ZERO) * yy)
        inside = (middle_x + reach_x > _ZERO) & (middle_x - reach_x < width)
        inside &= (middle_y + reach_y > _ZERO) & (middle_y - reach_y < height)
        seen = inside & (z > _NEAR) & (power >= _ZERO) & (det < _INFINITE)
        _keep(work, lane, MIDDLE_X, middle_x)
        _keep(work, lane, MIDDLE_Y, middle_y)
        _keep(work, lane, SHEAR, xy / yy)
        _keep(work, lane, SHARP_X, math.sqrt(_HALF * yy / det))
        _keep(work, lane, SHARP_Y, math.sqrt(_HALF / yy))
        _keep(work, lane, OPACITY, work[lane + _U(_OPACITY)])
        _keep(work, lane, DEPTH, z if seen else _INFINITE)
        _keep(work, lane, REACH_X, reach_x)
        _keep(work, lane, REACH_Y, reach_y)
        _keep(work, lane, POWER_MAX, power)


@njit(forceinline=True)
def _keep(work, lane, name, value):  # noqa: ANN001, ANN202
    work[lane + _U(_OUT + 16 * name)] = value


@njit
def project_backward_kernel(first_job, last_job, fields, cameras, size_hw, slotted, gradients):  # noqa: ANN001, ANN201
    """Carry the tiles' gradients back to the Gaussians. A job is a block of Gaussians.

    Args:
        first_job: Where to begin; and so on as for `project_kernel`.
        last_job: Where to end.
        fields: See there.
        cameras: See there.
        size_hw: See there.
        slotted: slots x SLOT; the first slot of each ellipse, n x g; and the count of its slots.
            The sums run over slots, then cameras, in this order whatever the number of threads.
        gradients: Of the five tensors of `Gaussians`, written.
    """
    g = len(fields[0])
    for job in range(first_job, last_job):
        chosen = (job * BLOCK, min(job * BLOCK + BLOCK, g))
        _project_backward_some(fields, cameras, size_hw, slotted, gradients, chosen)


@njit
def _project_backward_some(fields, cameras, size_hw, slotted, gradients, chosen):  # noqa: ANN001, ANN202
    slots, slot_of, count = slotted
    work, basis = np.empty(_PLANES, np.float32), np.empty((16, 4), np.float32)
    slot = np.empty(SLOT, np.float32)
    colour, d_colour = (fields[0], fields[5]), (gradients[0], gradients[4])
    for first in range(chosen[0], chosen[1], 16):
        last = min(first + 16, chosen[1])
        work[:] = _ZERO
        _lay_out(fields, first, last, work)
        for i in range(first, last):
            gradients[0][i, 0] = gradients[0][i, 1] = gradients[0][i, 2] = _ZERO
            for k in range(gradients[4].shape[1]):
                gradients[4][i, k, 0] = gradients[4][i, k, 1] = gradients[4][i, k, 2] = _ZERO
        for n_at in range(len(cameras)):
            camera, seen = cameras[n_at], 0
            for i in range(first, last):
                seen += count[n_at, i]
                _sum_slots(slots, slot_of[n_at, i], count[n_at, i], slot)
                _lay_out_slot(slot, count[n_at, i], i - first, work)
            if seen > 0:
                d_rgb = work[_SLOT + 16 * SLOT_RGB :]
                add_colour_gradients(colour, (first, last), camera, d_rgb, d_colour, basis)
                _shape_backward_block(work, camera, size_hw)
        _turn_backward_block(work)
        _hand_out(work, first, last, gradients)


@njit(forceinline=True)
def _lay_out_slot(slot, count, lane, work):  # noqa: ANN001, ANN202
    for k in range(SLOT_USED):
        work[_SLOT + 16 * k + lane] = slot[k]
    work[_SLOT + 16 * SLOT_USED + lane] = _ONE if count > 0 else _ZERO


@njit
def _hand_out(work, first, last, gradients):  # noqa: ANN001, ANN202
    for i in range(first, last):
        lane = i - first
        for k in range(3):
            gradients[0][i, k] += work[_D_CENTRE + 16 * k + lane]
            gradients[1][i, k] = work[_D_SCALE + 16 * k + lane]
        for k in range(4):
            gradients[2][i, k] = work[_OUT + 16 * k + lane]
        gradients[3][i] = work[_D_LOGIT + lane]


@njit(forceinline=True)
def _sum_slots(slots, first, count, total):  # noqa: ANN001, ANN202
    for k in range(_LANES):
        total[k] = _ZERO
    for at in range(first, first + count):
        for k in range(_LANES):
            total[k] += slots[at, k]


@njit
def _shape_backward_block(work, camera, size_hw):  # noqa: ANN001, ANN202
    """Add one camera's share to the gradients of centre, scale, opacity and orientation."""
    cam = _numbers(camera)
    wide, high = _MARGIN * _HALF * _F(size_hw[1]), _MARGIN * _HALF * _F(size_hw[0])
    for lane in range(_LANES):
        at = lane + _U(_SLOT)
        seen = work[at + _U(16 * SLOT_USED)] > _ZERO
        scale = _scale(work, lane)
        turn, _, _ = _rotation(work, lane)
        x, y, z = _in_camera(work, lane, cam)
        # The zero gradient of what is not seen would be lost at a depth of 0.
        z = z if seen else _ONE
        across, down, free_x, free_y = _linearise(cam, x, y, z, (wide / cam[15], high / cam[15]))
        axes_x, axes_y = _axes(across, down, turn)
        _, xy, yy, det = _covariance(axes_x, axes_y, scale)
        d_middle_x, d_middle_y, d_xx, d_xy, d_yy = _unwhiten(work, at, xy, yy, det)
        x0, y0 = _pull(axes_x[0], axes_y[0], d_xx, d_xy, d_yy)
        x1, y1 = _pull(axes_x[1], axes_y[1], d_xx, d_xy, d_yy)
        x2, y2 = _pull(axes_x[2], axes_y[2], d_xx, d_xy, d_yy)
        # What axis 0 gains when 0 and 1 lean towards each other, 1 with 2, 2 with 0.
        _add(work, lane, _LEAN, x1 * axes_x[0] + y1 * axes_y[0], seen)
        _add(work, lane, _LEAN + 16, x2 * axes_x[1] + y2 * axes_y[1], seen)
        _add(work, lane, _LEAN + 32, x0 * axes_x[2] + y0 * axes_y[2], seen)
        x0, y0 = x0 * scale[0] * scale[0], y0 * scale[0] * scale[0]
        x1, y1 = x1 * scale[1] * scale[1], y1 * scale[1] * scale[1]
        x2, y2 = x2 * scale[2] * scale[2], y2 * scale[2] * scale[2]
        _add(work, lane, _D_SCALE, x0 * axes_x[0] + y0 * axes_y[0], seen)
        _add(work, lane, _D_SCALE + 16, x1 * axes_x[1] + y1 * axes_y[1], seen)
        _add(work, lane, _D_SCALE + 32, x2 * axes_x[2] + y2 * axes_y[2], seen)
        d_across, d_down = _apply(turn, x0, x1, x2), _apply(turn, y0, y1, y2)
        zoom = cam[15] / z
        # A slope at the margin no longer moves with the centre.
        d_slope_x = -zoom * _dot(d_across, (cam[6], cam[7], cam[8])) if free_x else _ZERO
        d_slope_y = -zoom * _dot(d_down, (cam[6], cam[7], cam[8])) if free_y else _ZERO
        d_x, d_y = d_slope_x / z + d_middle_x * zoom, d_slope_y / z + d_middle_y * zoom
        d_z = work[at + _U(16 * SLOT_DEPTH)] - (d_x * x + d_y * y) / z
        d_z -= (_dot(d_across, across) + _dot(d_down, down)) / z
        _add(work, lane, _D_CENTRE, d_x * cam[0] + d_y * cam[3] + d_z * cam[6], seen)
        _add(work, lane, _D_CENTRE + 16, d_x * cam[1] + d_y * cam[4] + d_z * cam[7], seen)
        _add(work, lane, _D_CENTRE + 32, d_x * cam[2] + d_y * cam[5] + d_z * cam[8], seen)
        opacity = work[lane + _U(_OPACITY)]
        _add(work, lane, _D_LOGIT, (opacity - _ONE) * work[at + _U(16 * SUM)], seen)


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
def _add(work, lane, plane, value, seen):  # noqa: ANN001, ANN202
    work[lane + _U(plane)] += value if seen else _ZERO


@njit(forceinline=True)
def _dot(a, b):  # noqa: ANN001, ANN202
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(forceinline=True)
def _apply(turn, a, b, c):  # noqa: ANN001, ANN202
    return (
        turn[0] * a + turn[1] * b + turn[2] * c,
        turn[3] * a + turn[4] * b + turn[5] * c,
        turn[6] * a + turn[7] * b + turn[8] * c,
    )


@njit
def _turn_backward_block(work):  # noqa: ANN001, ANN202
    """Turn what the axes gain from leaning into gradients of quaternions, planes from _OUT on.

    A turn by a small angle about axis 2 moves axis 0 towards 1 and 1 away from 0, so it gains
    (scale_0^2 - scale_1^2) lean_0. As differences of scales, round Gaussians lose no digits.
    """
    for lane in range(_LANES):
        s0, s1, s2 = _scale(work, lane)
        _, (w, x, y, z), length = _rotation(work, lane)
        a = (s1 - s2) * (s1 + s2) * work[lane + _U(_LEAN + 16)]
        b = (s2 - s0) * (s2 + s0) * work[lane + _U(_LEAN + 32)]
        c = (s0 - s1) * (s0 + s1) * work[lane + _U(_LEAN)]
        # The quaternion times the unit quaternions i, j, k, which half the turns are.
        factor = _TWO / length
        _keep(work, lane, 0, factor * (-a * x - b * y - c * z))
        _keep(work, lane, 1, factor * (a * w - b * z + c * y))
        _keep(work, lane, 2, factor * (a * z + b * w - c * x))
        _keep(work, lane, 3, factor * (-a * y + b * x + c * w))


@njit(forceinline=True)
def _numbers(c):  # noqa: ANN001, ANN202
    """The 16 numbers of a camera as values, which a write to an array cannot change."""
    first = (c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7])
    return (*first, c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15])


@njit(forceinline=True)
def _in_camera(work, lane, cam):  # noqa: ANN001, ANN202
    a, b, c = work[lane + _U(_X)], work[lane + _U(_Y)], work[lane + _U(_Z)]
    x = cam[0] * a + cam[1] * b + cam[2] * c + cam[9]
    y = cam[3] * a + cam[4] * b + cam[5] * c + cam[10]
    z = cam[6] * a + cam[7] * b + cam[8] * c + cam[11]
    return x, y, z


@njit(forceinline=True)
def _linearise(cam, x, y, z, limit):  # noqa: ANN001, ANN202
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
def _scale(work, lane):  # noqa: ANN001, ANN202
    return work[lane + _U(_SCALE_0)], work[lane + _U(_SCALE_1)], work[lane + _U(_SCALE_2)]


@njit(forceinline=True)
def _rotation(work, lane):  # noqa: ANN001, ANN202
    """The rotation matrix row by row, the unit quaternion, and the length it was divided by."""
    w, x = work[lane + _U(_QUAT_W)], work[lane + _U(_QUAT_X)]
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
def _axes(across, down, turn):  # noqa: ANN001, ANN202
    """The Gaussian's unit axes in the picture: their x and their y."""
    x0 = across[0] * turn[0] + across[1] * turn[3] + across[2] * turn[6]
    x1 = across[0] * turn[1] + across[1] * turn[4] + across[2] * turn[7]
    x2 = across[0] * turn[2] + across[1] * turn[5] + across[2] * turn[8]
    y0 = down[0] * turn[0] + down[1] * turn[3] + down[2] * turn[6]
    y1 = down[0] * turn[1] + down[1] * turn[4] + down[2] * turn[7]
    y2 = down[0] * turn[2] + down[1] * turn[5] + down[2] * turn[8]
    return (x0, x1, x2), (y0, y1, y2)


@njit(forceinline=True)
def _covariance(axes_x, axes_y, scale):  # noqa: ANN001, ANN202
    """Blurred covariance xx, xy, yy, and its determinant as a sum of squares (Cauchy-Binet)."""
    x0, x1, x2 = axes_x[0] * scale[0], axes_x[1] * scale[1], axes_x[2] * scale[2]
    y0, y1, y2 = axes_y[0] * scale[0], axes_y[1] * scale[1], axes_y[2] * scale[2]
    xx, yy = x0 * x0 + x1 * x1 + x2 * x2, y0 * y0 + y1 * y1 + y2 * y2
    xy = x0 * y0 + x1 * y1 + x2 * y2
    a, b, c = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
    det = a * a + b * b + c * c + _BLUR * (xx + yy) + _BLUR * _BLUR
    return xx + _BLUR, xy, yy + _BLUR, det
