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
    turned,
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
        x, y, z = in_camera(work, lane, cam)
        # The zero gradient of what is not seen would be lost at a depth of 0.
        c = (x, y, z if seen else _ONE)
        t_u, t_v, n, _, _ = axes(work, lane, cam)
        s_u, s_v = work[lane + _U(SCALE_U)], work[lane + _U(SCALE_V)]
        d_u, d_v, d_log_u, d_log_v, d_x, d_y = _slopes_back(work, lane, focal, (t_u, t_v, n, c))
        # U's slope is t_v x c, V's is c x t_u.
        d_tv, d_tu = cross(c, d_u), cross(d_v, c)
        d_c = plus(cross(d_u, t_v), cross(t_u, d_v))
        # Where the middle of the screen Gaussian appears, and with it the centre.
        g_x, g_y = -_TWO * _get(work, lane, SUM_X), -_TWO * _get(work, lane, SUM_Y)
        a, b = times(t_u, s_u), times(t_v, s_v)
        d_a, d_b, d_slope_x, d_slope_y, d_z = _middle_back(a, b, c, focal, g_x, g_y)
        d_tu, d_tv = plus(d_tu, times(d_a, s_u)), plus(d_tv, times(d_b, s_v))
        d_slope_x += focal * (g_x + d_x)
        d_slope_y += focal * (g_y + d_y)
        # W at the centre is n . c / z, the depth on the plane n . c / W.
        d_w0 = _get(work, lane, SUM_W) / c[2]
        along_n = d_w0 + _get(work, lane, SUM_Z)
        d_z += _get(work, lane, SLOT_DEPTH) - d_w0 * dot(n, c) / c[2]
        d_z -= (d_slope_x * c[0] + d_slope_y * c[1]) / (c[2] * c[2])
        d_c = plus(d_c, (d_slope_x / c[2], d_slope_y / c[2], d_z))
        d_c = plus(d_c, times(n, along_n))
        d_n = plus(_normal_back(work, lane, cam, dot(n, c)), times(c, along_n))
        # What turning about each of the disc's own axes gains.
        _add(work, lane, LEAN, dot(d_tv, n) - dot(d_n, t_v), seen)
        _add(work, lane, LEAN + 16, dot(d_n, t_u) - dot(d_tu, n), seen)
        _add(work, lane, LEAN + 32, dot(d_tu, t_v) - dot(d_tv, t_u), seen)
        _add(work, lane, D_SCALE, d_log_u + dot(d_a, a), seen)
        _add(work, lane, D_SCALE + 16, d_log_v + dot(d_b, b), seen)
        _add(work, lane, D_CENTRE, d_c[0] * cam[0] + d_c[1] * cam[3] + d_c[2] * cam[6], seen)
        _add(work, lane, D_CENTRE + 16, d_c[0] * cam[1] + d_c[1] * cam[4] + d_c[2] * cam[7], seen)
        _add(work, lane, D_CENTRE + 32, d_c[0] * cam[2] + d_c[1] * cam[5] + d_c[2] * cam[8], seen)
        opacity = work[lane + _U(OPACITY_IN)]
        _add(work, lane, D_LOGIT, (opacity - _ONE) * _get(work, lane, SUM), seen)


@njit(forceinline=True)
def _slopes_back(work, lane, focal, disc):  # noqa: ANN001, ANN202
    """Give the gradients of U's and V's rays, of both log scales, and of the centre's place.

    The centre's place in the picture gains what U, V and W lose when all pixels move by as much.
    """
    t_u, t_v, n, c = disc
    p, q = cross(t_v, c), cross(c, t_u)
    by_u = _ONE / (work[lane + _U(SCALE_U)] * focal)
    by_v = _ONE / (work[lane + _U(SCALE_V)] * focal)
    d_u = (_get(work, lane, SUM_UX) * by_u, _get(work, lane, SUM_UY) * by_u, _ZERO)
    d_v = (_get(work, lane, SUM_VX) * by_v, _get(work, lane, SUM_VY) * by_v, _ZERO)
    u, v = by_u * _get(work, lane, SUM_U), by_v * _get(work, lane, SUM_V)
    w = _get(work, lane, SUM_W) / focal
    d_x, d_y = -(p[0] * u + q[0] * v + n[0] * w), -(p[1] * u + q[1] * v + n[1] * w)
    return d_u, d_v, -dot(d_u, p), -dot(d_v, q), d_x, d_y


@njit(forceinline=True)
def _middle_back(a, b, c, focal, g_x, g_y):  # noqa: ANN001, ANN202
    """Give the gradients of both deviations, of the centre's slopes, and of depth.

    The middle is k (a_z A + b_z B) off the centre, where A and B are the deviations in the picture
    and k = -1 / (z^2 - a_z^2 - b_z^2).
    """
    ax, ay, bx, by = across(a, b, c, focal)
    k = -_ONE / (c[2] * c[2] - a[2] * a[2] - b[2] * b[2])
    pull_a, pull_b = k * (ax * g_x + ay * g_y), k * (bx * g_x + by * g_y)
    # What the number below the fraction gains.
    d_rest = k * (a[2] * pull_a + b[2] * pull_b)
    zoom = focal * k
    along = zoom * (c[0] * g_x + c[1] * g_y) / c[2]
    d_a = (zoom * a[2] * g_x, zoom * a[2] * g_y, pull_a - a[2] * (_TWO * d_rest + along))
    d_b = (zoom * b[2] * g_x, zoom * b[2] * g_y, pull_b - b[2] * (_TWO * d_rest + along))
    lean = zoom * (a[2] * a[2] + b[2] * b[2])
    return d_a, d_b, -lean * g_x, -lean * g_y, _TWO * c[2] * d_rest


@njit(forceinline=True)
def _normal_back(work, lane, cam, facing):  # noqa: ANN001, ANN202
    """Give the gradient of the normal in the camera, from what was drawn of it and from W."""
    x, y = _get(work, lane, SLOT_NORMAL), _get(work, lane, SLOT_NORMAL + 1)
    shown = turned(cam, (x, y, _get(work, lane, SLOT_NORMAL + 2)))
    by_ray = (_get(work, lane, SUM_WX) / cam[15], _get(work, lane, SUM_WY) / cam[15], _ZERO)
    return plus(times(shown, _ONE if facing < _ZERO else -_ONE), by_ray)


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
