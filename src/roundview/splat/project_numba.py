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
from .camera_numba import add_camera_gradient, add_origin_gradient
from .colour_numba import add_colour_gradients, put_colours
from .ellipse_numba import (
    CENTRE_X,
    D_CENTRE,
    D_LOGIT,
    D_SCALE,
    HANDED_BACK,
    LEAN,
    OUT,
    PEAK,
    PLANES,
    POWER,
    QUAT_W,
    SCALE_0,
    SLOT_RGB,
    SLOT_USED,
    SUM,
    axes_in_picture,
    back_to_axes,
    back_to_centre,
    camera_numbers,
    covariance_in_picture,
    in_camera,
    linearise,
    rotation_of,
    scale_of,
)
from .lanes_numba import load, spread, store
from .render import FRUSTUM_MARGIN, NEAR

MIDDLE_X, MIDDLE_Y, SHEAR, SHARP_X, SHARP_Y, OPACITY, RED, GREEN, BLUE, DEPTH = range(10)
"""What a record holds. At (dx, dy) pixels from the middle the ellipse has the power p^2 + q^2 with
p = (dx - SHEAR dy) SHARP_X and q = dy SHARP_Y: the distance of x given y, and of y."""
REACH_X, REACH_Y, POWER_MAX = range(10, 13)
"""Half the box in which alpha reaches ALPHA_MIN, pixels, and the power where it does."""
RECORD = 16
SLOT = 16
"""See `ellipse_numba.py`. What is over pads it, and a record too, to a line of the cache."""

_U = np.uint64
_LANES = _U(16)
BLOCK = 512
"""Gaussians that one job projects."""
_F = np.float32
_ZERO, _ONE, _TWO, _HALF, _INFINITE = _F(0), _F(1), _F(2), _F(0.5), _F(np.inf)
_NEAR, _MARGIN = _F(NEAR), _F(FRUSTUM_MARGIN)


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


@njit(forceinline=True)
def _project_some(fields, camera, size_hw, records, chosen):  # noqa: ANN001, ANN202
    work, basis = np.zeros(PLANES, np.float32), np.empty((16, 4), np.float32)
    for first in range(chosen[0], chosen[1], 16):
        last = min(first + 16, chosen[1])
        _lay_out(fields, first, last, work)
        _project_block(work, camera, size_hw)
        for i in range(first, last):
            # Rows are not taken out as arrays of their own: counting references to them is slow.
            for k in range(13):
                records[i, k] = work[OUT + 16 * k + i - first]
    put_colours(fields[0], fields[5], chosen, camera, basis, records, RED)


@njit(forceinline=True)
def _lay_out(fields, first, last, work):  # noqa: ANN001, ANN202
    centre, scale, quat, opacity, power, _ = fields
    for i in range(first, last):
        lane = i - first
        for k in range(3):
            work[CENTRE_X + 16 * k + lane] = centre[i, k]
            work[SCALE_0 + 16 * k + lane] = scale[i, k]
        for k in range(4):
            work[QUAT_W + 16 * k + lane] = quat[i, k]
        work[PEAK + lane], work[POWER + lane] = opacity[i], power[i]


@njit(forceinline=True)
def _project_block(work, camera, size_hw):  # noqa: ANN001, ANN202
    """Compute records, less their colours, in the planes from OUT on."""
    cam = camera_numbers(camera)
    height, width = _F(size_hw[0]), _F(size_hw[1])
    limit = (_MARGIN * _HALF * width / cam[15], _MARGIN * _HALF * height / cam[15])
    for lane in range(_LANES):
        x, y, z = in_camera(work, lane, cam)
        across, down, _, _ = linearise(cam, x, y, z, limit)
        turn, _, _ = rotation_of(work, lane)
        axes_x, axes_y = axes_in_picture(across, down, turn)
        xx, xy, yy, det = covariance_in_picture(axes_x, axes_y, scale_of(work, lane))
        power = work[lane + _U(POWER)]
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
        _keep(work, lane, OPACITY, work[lane + _U(PEAK)])
        _keep(work, lane, DEPTH, z if seen else _INFINITE)
        _keep(work, lane, REACH_X, reach_x)
        _keep(work, lane, REACH_Y, reach_y)
        _keep(work, lane, POWER_MAX, power)


@njit(forceinline=True)
def _keep(work, lane, name, value):  # noqa: ANN001, ANN202
    work[lane + _U(OUT + 16 * name)] = value


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
        gradients: Of the five tensors of `Gaussians`, and of the rows of the cameras, blocks x n
            x 16, each block's part; no block where that is not wanted. Written.
    """
    g = len(fields[0])
    for job in range(first_job, last_job):
        chosen = (job * BLOCK, min(job * BLOCK + BLOCK, g))
        _project_backward_some(fields, cameras, size_hw, slotted, gradients, chosen)


@njit(forceinline=True)
def _project_backward_some(fields, cameras, size_hw, slotted, gradients, chosen):  # noqa: ANN001, ANN202
    slots, slot_of, count = slotted
    work, basis = np.empty(PLANES, np.float32), np.empty((16, 4), np.float32)
    lines, before = np.empty(256, np.float32), np.empty((16, 3), np.float32)
    colour, d_colour = (fields[0], fields[5]), (gradients[0], gradients[4])
    by_camera = len(gradients[5]) > 0
    if by_camera:
        gradients[5][chosen[0] // BLOCK] = _ZERO
    for first in range(chosen[0], chosen[1], 16):
        last = min(first + 16, chosen[1])
        work[:] = _ZERO
        _lay_out(fields, first, last, work)
        gradients[0][first:last] = _ZERO
        gradients[4][first:last] = _ZERO
        for n_at in range(len(cameras)):
            camera = cameras[n_at]
            if _lay_out_slots(slots, slot_of, count, (n_at, first, last), lines, work) > 0:
                if by_camera:
                    before[: last - first] = gradients[0][first:last]
                d_rgb = work[HANDED_BACK + 16 * SLOT_RGB :]
                add_colour_gradients(colour, (first, last), camera, d_rgb, d_colour, basis)
                if by_camera:
                    d_camera = gradients[5][chosen[0] // BLOCK, n_at]
                    add_origin_gradient(before, gradients[0][first:last], d_camera)
                    add_camera_gradient(work, camera, size_hw, d_camera)
                _shape_backward_block(work, camera, size_hw)
        _turn_backward_block(work)
        _hand_out(work, first, last, gradients)


@njit(forceinline=True)
def _lay_out_slots(slots, slot_of, count, chosen, lines, work):  # noqa: ANN001, ANN202
    """Add up the slots of up to 16 ellipses and lay the sums out in planes; count the slots."""
    n_at, first, last = chosen
    seen = 0
    for lane in range(16):
        here = count[n_at, first + lane] if first + lane < last else 0
        at, sums = slot_of[n_at, first + lane] if here > 0 else 0, spread(_ZERO)
        for slot in range(at, at + here):
            sums += load(slots, _U(slot) * _U(SLOT))
        store(lines, _U(16 * lane), sums)
        lines[16 * lane + SLOT_USED] = _ONE if here > 0 else _ZERO
        seen += here
    for k in range(_U(SLOT_USED + 1)):
        for lane in range(_LANES):
            work[_U(HANDED_BACK) + _LANES * k + lane] = lines[_LANES * lane + k]
    return seen


@njit(forceinline=True)
def _hand_out(work, first, last, gradients):  # noqa: ANN001, ANN202
    for i in range(first, last):
        lane = i - first
        for k in range(3):
            gradients[0][i, k] += work[D_CENTRE + 16 * k + lane]
            gradients[1][i, k] = work[D_SCALE + 16 * k + lane]
        for k in range(4):
            gradients[2][i, k] = work[OUT + 16 * k + lane]
        gradients[3][i] = work[D_LOGIT + lane]


@njit(forceinline=True)
def _shape_backward_block(work, camera, size_hw):  # noqa: ANN001, ANN202
    """Add one camera's share to the gradients of centre, scale, opacity and orientation."""
    cam = camera_numbers(camera)
    wide, high = _MARGIN * _HALF * _F(size_hw[1]), _MARGIN * _HALF * _F(size_hw[0])
    for lane in range(_LANES):
        limit = (wide / cam[15], high / cam[15])
        view, axes_x, axes_y, x, y, d_across, d_down = back_to_axes(work, lane, cam, limit)
        seen, scale = view[0], scale_of(work, lane)
        # What axis 0 gains when 0 and 1 lean towards each other, 1 with 2, 2 with 0.
        _add(work, lane, LEAN, x[1] * axes_x[0] + y[1] * axes_y[0], seen)
        _add(work, lane, LEAN + 16, x[2] * axes_x[1] + y[2] * axes_y[1], seen)
        _add(work, lane, LEAN + 32, x[0] * axes_x[2] + y[0] * axes_y[2], seen)
        a, b, c = scale[0] * scale[0], scale[1] * scale[1], scale[2] * scale[2]
        _add(work, lane, D_SCALE, a * (x[0] * axes_x[0] + y[0] * axes_y[0]), seen)
        _add(work, lane, D_SCALE + 16, b * (x[1] * axes_x[1] + y[1] * axes_y[1]), seen)
        _add(work, lane, D_SCALE + 32, c * (x[2] * axes_x[2] + y[2] * axes_y[2]), seen)
        d_x, d_y, d_z = back_to_centre(work, lane, cam, view, d_across, d_down)
        _add(work, lane, D_CENTRE, d_x * cam[0] + d_y * cam[3] + d_z * cam[6], seen)
        _add(work, lane, D_CENTRE + 16, d_x * cam[1] + d_y * cam[4] + d_z * cam[7], seen)
        _add(work, lane, D_CENTRE + 32, d_x * cam[2] + d_y * cam[5] + d_z * cam[8], seen)
        peak = work[lane + _U(PEAK)]
        _add(work, lane, D_LOGIT, (peak - _ONE) * work[lane + _U(HANDED_BACK + 16 * SUM)], seen)


@njit(forceinline=True)
def _add(work, lane, plane, value, seen):  # noqa: ANN001, ANN202
    work[lane + _U(plane)] += value if seen else _ZERO


@njit(forceinline=True)
def _turn_backward_block(work):  # noqa: ANN001, ANN202
    """Turn what the axes gain from leaning into gradients of quaternions, planes from OUT on.

    A turn by a small angle about axis 2 moves axis 0 towards 1 and 1 away from 0, so it gains
    (scale_0^2 - scale_1^2) lean_0. As differences of scales, round Gaussians lose no digits.
    """
    for lane in range(_LANES):
        s0, s1, s2 = scale_of(work, lane)
        _, (w, x, y, z), length = rotation_of(work, lane)
        a = (s1 - s2) * (s1 + s2) * work[lane + _U(LEAN + 16)]
        b = (s2 - s0) * (s2 + s0) * work[lane + _U(LEAN + 32)]
        c = (s0 - s1) * (s0 + s1) * work[lane + _U(LEAN)]
        # The quaternion times the unit quaternions i, j, k, which half the turns are.
        factor = _TWO / length
        _keep(work, lane, 0, factor * (-a * x - b * y - c * z))
        _keep(work, lane, 1, factor * (a * w - b * z + c * y))
        _keep(work, lane, 2, factor * (a * z + b * w - c * x))
        _keep(work, lane, 3, factor * (-a * y + b * x + c * w))
