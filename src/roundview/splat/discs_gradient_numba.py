"""CPU kernels that carry gradients of plates back to the discs.

The other half of `discs_project_numba.py`, laid out alike.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import numpy as np

from ..kernels import njit
from .colour_numba import add_colour_gradients
from .discs_project_numba import (
    BLOCK,
    D_CENTRE,
    D_LOGIT,
    D_SCALE,
    LANES,
    LEAN,
    OPACITY_IN,
    OUT,
    PLANES,
    SCALE_U,
    SCALE_V,
    across,
    axes,
    cross,
    dot,
    in_camera,
    keep,
    lay_out,
    numbers,
    plus,
    times,
)

(SUM_U, SUM_UX, SUM_UY, SUM_V, SUM_VX, SUM_VY, SUM_W, SUM_WX, SUM_WY, SUM_Z) = range(10)
SUM_X, SUM_Y, SUM, SLOT_DEPTH, SLOT_RGB, SLOT_NORMAL, SLOT_USED = 10, 11, 12, 13, 14, 17, 20
"""What a slot holds: gradients of U, V and W, plain and times the offset from the centre; of Z_0;
of the screen Gaussian's power times the offset from its middle; of all power; of the depth of the
centre; of colour and normal."""
SLOT = 32

_U, _F = np.uint64, np.float32
_ZERO, _ONE, _TWO = _F(0), _F(1), _F(2)


@njit
def plate_backward_kernel(first_job, last_job, fields, cameras, slotted, gradients):  # noqa: ANN001, ANN201
    """Carry the tiles' gradients back to the Gaussians. A job is a block of discs.

    Args:
        first_job: Where to begin; and so on as for `plate_kernel`.
        last_job: Where to end.
        fields: See there.
        cameras: See there.
        slotted: slots x SLOT; the first slot of each disc, n x g; and the count of its slots. The
            sums run over slots, then cameras, in this order whatever the number of threads.
        gradients: Of the five tensors of `Gaussians`, written.
    """
    g = len(fields[0])
    for job in range(first_job, last_job):
        chosen = (job * BLOCK, min(job * BLOCK + BLOCK, g))
        _plate_backward_some(fields, cameras, slotted, gradients, chosen)


@njit
def _plate_backward_some(fields, cameras, slotted, gradients, chosen):  # noqa: ANN001, ANN202
    slots, slot_of, count = slotted
    work, basis = np.empty(PLANES, np.float32), np.empty((16, 4), np.float32)
    colour, d_colour = (fields[0], fields[5]), (gradients[0], gradients[4])
    for first in range(chosen[0], chosen[1], 16):
        last = min(first + 16, chosen[1])
        work[:] = _ZERO
        lay_out(fields, first, last, work)
        for i in range(first, last):
            gradients[0][i, 0] = gradients[0][i, 1] = gradients[0][i, 2] = _ZERO
            for k in range(gradients[4].shape[1]):
                gradients[4][i, k, 0] = gradients[4][i, k, 1] = gradients[4][i, k, 2] = _ZERO
        for n_at in range(len(cameras)):
            seen = 0
            for i in range(first, last):
                seen += count[n_at, i]
                _sum_slots(slots, slot_of[n_at, i], count[n_at, i], i - first, work)
            if seen > 0:
                d_rgb = work[OUT + 16 * SLOT_RGB :]
                add_colour_gradients(colour, (first, last), cameras[n_at], d_rgb, d_colour, basis)
                _shape_backward_block(work, cameras[n_at])
        _turn_backward_block(work)
        _hand_out(work, first, last, gradients)


@njit(forceinline=True)
def _sum_slots(slots, first, count, lane, work):  # noqa: ANN001, ANN202
    for k in range(SLOT_USED):
        work[OUT + 16 * k + lane] = _ZERO
    for at in range(first, first + count):
        for k in range(SLOT_USED):
            work[OUT + 16 * k + lane] += slots[at, k]
    work[OUT + 16 * SLOT_USED + lane] = _ONE if count > 0 else _ZERO


@njit
def _hand_out(work, first, last, gradients):  # noqa: ANN001, ANN202
    for i in range(first, last):
        lane = i - first
        for k in range(3):
            gradients[0][i, k] += work[D_CENTRE + 16 * k + lane]
        gradients[1][i, 0] = work[D_SCALE + lane]
        gradients[1][i, 1] = work[D_SCALE + 16 + lane]
        for k in range(4):
            gradients[2][i, k] = work[OUT + 16 * k + lane]
        gradients[3][i] = work[D_LOGIT + lane]


@njit(forceinline=True)
def _add(work, lane, plane, value, seen):  # noqa: ANN001, ANN202
    work[lane + _U(plane)] += value if seen else _ZERO


@njit(forceinline=True)
def _get(work, lane, name):  # noqa: ANN001, ANN202
    return work[lane + _U(OUT + 16 * name)]


@njit
def _shape_backward_block(work, camera):  # noqa: ANN001, ANN202
    """Add one camera's share to the gradients of centre, scale, opacity and orientation."""
    cam = numbers(camera)
    focal = cam[15]
    for lane in range(LANES):
        seen = _get(work, lane, SLOT_USED) > _ZERO
        c = in_camera(work, lane, cam)
        # The zero gradient of what is not seen would be lost at a depth of 0.
        z = c[2] if seen else _ONE
        t_u, t_v, n, _, _ = axes(work, lane, cam)
        s_u, s_v = work[lane + _U(SCALE_U)], work[lane + _U(SCALE_V)]
        p, q, z_0 = cross(t_v, c), cross(c, t_u), dot(n, c)
        by_u, by_v = _ONE / (s_u * focal), _ONE / (s_v * focal)
        d_u = (_get(work, lane, SUM_UX) * by_u, _get(work, lane, SUM_UY) * by_u, _ZERO)
        d_v = (_get(work, lane, SUM_VX) * by_v, _get(work, lane, SUM_VY) * by_v, _ZERO)
        d_log_u, d_log_v = -dot(d_u, p), -dot(d_v, q)
        # U's slope is t_v x c, V's is c x t_u.
        d_tv, d_tu = cross(c, d_u), cross(d_v, c)
        d_c = plus(cross(d_u, t_v), cross(t_u, d_v))
        # Where the centre and the middle of the screen Gaussian appear.
        sum_u, sum_v, sum_w = (
            _get(work, lane, SUM_U),
            _get(work, lane, SUM_V),
            _get(work, lane, SUM_W),
        )
        g_x, g_y = -_TWO * _get(work, lane, SUM_X), -_TWO * _get(work, lane, SUM_Y)
        d_x = g_x - (p[0] * by_u * sum_u + q[0] * by_v * sum_v + n[0] / focal * sum_w)
        d_y = g_y - (p[1] * by_u * sum_u + q[1] * by_v * sum_v + n[1] / focal * sum_w)
        a, b = (
            (t_u[0] * s_u, t_u[1] * s_u, t_u[2] * s_u),
            (t_v[0] * s_v, t_v[1] * s_v, t_v[2] * s_v),
        )
        ax, ay, bx, by = across(a, b, (c[0], c[1], z), focal)
        k = -_ONE / (z * z - a[2] * a[2] - b[2] * b[2])
        pull_a, pull_b = k * (ax * g_x + ay * g_y), k * (bx * g_x + by * g_y)
        # The determinant below the middle's fraction gains this.
        d_rest = k * (a[2] * pull_a + b[2] * pull_b)
        slope_x, slope_y = c[0] / z, c[1] / z
        along = focal * k * (slope_x * g_x + slope_y * g_y)
        d_a = (
            focal * k * a[2] * g_x,
            focal * k * a[2] * g_y,
            pull_a - _TWO * a[2] * d_rest - along * a[2],
        )
        d_b = (
            focal * k * b[2] * g_x,
            focal * k * b[2] * g_y,
            pull_b - _TWO * b[2] * d_rest - along * b[2],
        )
        d_tu, d_tv = plus(d_tu, times(d_a, s_u)), plus(d_tv, times(d_b, s_v))
        d_log_u, d_log_v = d_log_u + dot(d_a, a), d_log_v + dot(d_b, b)
        lean = focal * k * (a[2] * a[2] + b[2] * b[2])
        d_slope_x, d_slope_y = focal * d_x - lean * g_x, focal * d_y - lean * g_y
        # W at the centre is n . c / z, the depth on the plane n . c / W.
        d_w0 = sum_w / z
        along_n = d_w0 + _get(work, lane, SUM_Z)
        d_z = _get(work, lane, SLOT_DEPTH) + _TWO * z * d_rest - d_w0 * z_0 / z
        d_z -= (d_slope_x * slope_x + d_slope_y * slope_y) / z
        d_c = plus(d_c, (d_slope_x / z, d_slope_y / z, d_z))
        d_c = plus(d_c, times(n, along_n))
        towards = _ONE if z_0 < _ZERO else -_ONE
        n_x, n_y = _get(work, lane, SLOT_NORMAL), _get(work, lane, SLOT_NORMAL + 1)
        n_z = _get(work, lane, SLOT_NORMAL + 2)
        d_n = (
            towards * (cam[0] * n_x + cam[1] * n_y + cam[2] * n_z)
            + along_n * c[0]
            + _get(work, lane, SUM_WX) / focal,
            towards * (cam[3] * n_x + cam[4] * n_y + cam[5] * n_z)
            + along_n * c[1]
            + _get(work, lane, SUM_WY) / focal,
            towards * (cam[6] * n_x + cam[7] * n_y + cam[8] * n_z) + along_n * z,
        )
        # What turning about each of the disc's own axes gains.
        _add(work, lane, LEAN, dot(d_tv, n) - dot(d_n, t_v), seen)
        _add(work, lane, LEAN + 16, dot(d_n, t_u) - dot(d_tu, n), seen)
        _add(work, lane, LEAN + 32, dot(d_tu, t_v) - dot(d_tv, t_u), seen)
        _add(work, lane, D_SCALE, d_log_u, seen)
        _add(work, lane, D_SCALE + 16, d_log_v, seen)
        _add(work, lane, D_CENTRE, d_c[0] * cam[0] + d_c[1] * cam[3] + d_c[2] * cam[6], seen)
        _add(work, lane, D_CENTRE + 16, d_c[0] * cam[1] + d_c[1] * cam[4] + d_c[2] * cam[7], seen)
        _add(work, lane, D_CENTRE + 32, d_c[0] * cam[2] + d_c[1] * cam[5] + d_c[2] * cam[8], seen)
        opacity = work[lane + _U(OPACITY_IN)]
        _add(work, lane, D_LOGIT, (opacity - _ONE) * _get(work, lane, SUM), seen)


@njit
def _turn_backward_block(work):  # noqa: ANN001, ANN202
    """Turn what leaning gains into gradients of quaternions, planes from OUT on."""
    identity = (_ONE, _ZERO, _ZERO, _ZERO, _ONE, _ZERO, _ZERO, _ZERO, _ONE)
    for lane in range(LANES):
        _, _, _, (w, x, y, z), length = axes(work, lane, identity)
        a, b = work[lane + _U(LEAN)], work[lane + _U(LEAN + 16)]
        c = work[lane + _U(LEAN + 32)]
        # The quaternion times the unit quaternions i, j, k, which half the turns are.
        factor = _TWO / length
        keep(work, lane, 0, factor * (-a * x - b * y - c * z))
        keep(work, lane, 1, factor * (a * w - b * z + c * y))
        keep(work, lane, 2, factor * (a * z + b * w - c * x))
        keep(work, lane, 3, factor * (-a * y + b * x + c * w))
