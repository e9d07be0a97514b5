"""CPU kernels that carry discs into the picture.

Twin of `_plates` in `discs.py`; laid out as `project_numba.py`: sixteen discs go through together,
one in each lane of the processor. A disc gives two rows: a plate, which says what it shows, and a
cover, an ellipse round all it reaches, in the form of the records that `pairs_numba.py` pairs with
tiles. The way back is in `discs_gradient_numba.py`.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np

from ..kernels import njit
from . import project_numba as project
from .colour_numba import put_colours
from .render import NEAR

(CENTRE_X, CENTRE_Y, U_X, U_Y, V_X, V_Y, W_X, W_Y, W_0, Z_0) = range(10)
"""What a plate holds. At (dx, dy) pixels from the centre, U = U_X dx + U_Y dy, V likewise and
W = W_X dx + W_Y dy + W_0; u = U / W, v = V / W, depth = Z_0 / W."""
MIDDLE_X, MIDDLE_Y, DEPTH, OPACITY, RED, GREEN, BLUE, NORMAL = range(10, 18)
"""Middle of the screen Gaussian, depth of the centre, and what is seen; the normal is the last
three, in the world, turned towards the camera."""
PLATE = 32

# Planes of a block of 16 discs: what goes in,
_X, _Y, _Z, SCALE_U, SCALE_V, _QUAT_W, _QUAT_X, _QUAT_Y, _QUAT_Z = range(0, 144, 16)
OPACITY_IN, _POWER = 144, 160
# what comes out forward (the cover behind the plate), and what the slots say backward,
OUT = 176
COVER = OUT + 16 * 20
# and the gradients of centre, logarithm of scale, leaning of the axes, logit of opacity.
D_CENTRE, D_SCALE, LEAN, D_LOGIT = OUT + 576, OUT + 624, OUT + 656, OUT + 704
PLANES = OUT + 720

_U = np.uint64
LANES = _U(16)
BLOCK = 512
"""Discs that one job projects."""
_F = np.float32
_ZERO, _ONE, _TWO, _HALF, _INFINITE = _F(0), _F(1), _F(2), _F(0.5), _F(np.inf)
_NEAR, _TINY = _F(NEAR), _F(1e-12)
# Widen the cover against rounding: a pair too many costs little, a pixel too few is an error.
_WIDER, _ROUNDER, _SLACK_PX, _LEAST_REST = _F(1.001), _F(2e-6), _F(0.02), _F(1e-5)


@njit
def plate_kernel(first_job, last_job, fields, cameras, size_hw, plates, covers):  # noqa: ANN001, ANN201
    """Fill the plates and covers. A job is a block of discs for one camera.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        fields: float32 arrays: centre, scale, quat_wxyz, opacity, logarithm of opacity / ALPHA_MIN,
            sh. The first three and the last as in `Gaussians`.
        cameras: n x 16: camera_from_world rotation (9) and shift (3), origin (3), focal length.
        size_hw: Height and width of the pictures.
        plates: n x g x PLATE, written.
        covers: n x g x project_numba.RECORD, written; the depth of a disc that cannot be seen is
            infinite.
    """
    g = plates.shape[1]
    each = (g + BLOCK - 1) // BLOCK
    for job in range(first_job, last_job):
        n_at, first = job // each, job % each * BLOCK
        chosen = (first, min(first + BLOCK, g))
        _plate_some(fields, cameras[n_at], size_hw, plates[n_at], covers[n_at], chosen)


@njit
def _plate_some(fields, camera, size_hw, plates, covers, chosen):  # noqa: ANN001, ANN202
    work, basis = np.zeros(PLANES, np.float32), np.empty((16, 4), np.float32)
    for first in range(chosen[0], chosen[1], 16):
        last = min(first + 16, chosen[1])
        lay_out(fields, first, last, work)
        _plate_block(work, camera, size_hw)
        for i in range(first, last):
            for k in range(20):
                plates[i, k] = work[OUT + 16 * k + i - first]
            for k in range(13):
                covers[i, k] = work[COVER + 16 * k + i - first]
    put_colours(fields[0], fields[5], chosen, camera, basis, plates, RED)


@njit
def lay_out(fields, first, last, work):  # noqa: ANN001, ANN201
    """Write up to 16 discs into the planes, a lane each."""
    centre, scale, quat, opacity, power, _ = fields
    for i in range(first, last):
        lane = i - first
        for k in range(3):
            work[_X + 16 * k + lane] = centre[i, k]
        work[SCALE_U + lane], work[SCALE_V + lane] = scale[i, 0], scale[i, 1]
        for k in range(4):
            work[_QUAT_W + 16 * k + lane] = quat[i, k]
        work[OPACITY_IN + lane], work[_POWER + lane] = opacity[i], power[i]


@njit(forceinline=True)
def keep(work, lane, name, value):  # noqa: ANN001, ANN201
    """Write one number of a plate, or of what else comes out, for one lane."""
    work[lane + _U(OUT + 16 * name)] = value


@njit
def _plate_block(work, camera, size_hw):  # noqa: ANN001, ANN202
    """Compute plates, less their colours, and covers in the planes from OUT on."""
    cam = numbers(camera)
    half_w, half_h, focal = _HALF * _F(size_hw[1]), _HALF * _F(size_hw[0]), cam[15]
    for lane in range(LANES):
        c = in_camera(work, lane, cam)
        z = c[2]
        t_u, t_v, n, _, _ = axes(work, lane, cam)
        s_u, s_v = work[lane + _U(SCALE_U)], work[lane + _U(SCALE_V)]
        p, q = cross(t_v, c), cross(c, t_u)
        z_0 = dot(n, c)
        a, b = times(t_u, s_u), times(t_v, s_v)
        ax, ay, bx, by = across(a, b, c, focal)
        k = -_ONE / (z * z - a[2] * a[2] - b[2] * b[2])
        x, y = focal * c[0] / z + half_w, focal * c[1] / z + half_h
        m_x, m_y = x + k * (a[2] * ax + b[2] * bx), y + k * (a[2] * ay + b[2] * by)
        towards = _ONE if z_0 < _ZERO else -_ONE
        keep(work, lane, CENTRE_X, x)
        keep(work, lane, CENTRE_Y, y)
        keep(work, lane, U_X, p[0] / (s_u * focal))
        keep(work, lane, U_Y, p[1] / (s_u * focal))
        keep(work, lane, V_X, q[0] / (s_v * focal))
        keep(work, lane, V_Y, q[1] / (s_v * focal))
        keep(work, lane, W_X, n[0] / focal)
        keep(work, lane, W_Y, n[1] / focal)
        keep(work, lane, W_0, z_0 / z)
        keep(work, lane, Z_0, z_0)
        keep(work, lane, MIDDLE_X, m_x)
        keep(work, lane, MIDDLE_Y, m_y)
        keep(work, lane, DEPTH, z)
        keep(work, lane, OPACITY, work[lane + _U(OPACITY_IN)])
        keep(work, lane, NORMAL, towards * (cam[0] * n[0] + cam[3] * n[1] + cam[6] * n[2]))
        keep(work, lane, NORMAL + 1, towards * (cam[1] * n[0] + cam[4] * n[1] + cam[7] * n[2]))
        keep(work, lane, NORMAL + 2, towards * (cam[2] * n[0] + cam[5] * n[1] + cam[8] * n[2]))
        _cover(work, lane, (half_w, half_h), (x, y, z), (m_x, m_y), (ax, ay, a[2], bx, by, b[2]))


@njit(forceinline=True)
def _cover(work, lane, half, centre, middle, deviations):  # noqa: ANN001, ANN202
    """Write an ellipse round all that a disc and its screen Gaussian reach."""
    half_w, half_h = half
    x, y, z = centre
    ax, ay, az, bx, by, bz = deviations
    leaning = az * az + bz * bz
    power = work[lane + _U(_POWER)]
    level, blur = _TWO * max(power, _ZERO), math.sqrt(max(power, _ZERO))
    # The circle of the power where alpha ends, as an ellipse in the picture.
    rest = z * z - level * leaning
    whole = rest < _LEAST_REST * z * z
    share = level / rest
    e_x, e_y = -share * (az * ax + bz * bx), -share * (az * ay + bz * by)
    xx = e_x * e_x + share * (ax * ax + bx * bx)
    xy = e_x * e_y + share * (ax * ay + bx * by)
    yy = e_y * e_y + share * (ay * ay + by * by)
    e_x, e_y = x + e_x, y + e_y
    off_x, off_y = e_x - middle[0], e_y - middle[1]
    off = math.sqrt(off_x * off_x + off_y * off_y)
    xx, xy, yy, det = _rounded(xx, xy, yy, blur + off + _SLACK_PX)
    # A circle that reaches behind the camera may show anywhere.
    everywhere = _TWO * (half_w * half_w + half_h * half_h)
    e_x, e_y = half_w if whole else e_x, half_h if whole else e_y
    xx, yy = everywhere if whole else xx, everywhere if whole else yy
    xy, det = _ZERO if whole else xy, everywhere * everywhere if whole else det
    reach_x, reach_y = math.sqrt(xx), math.sqrt(yy)
    inside = (e_x + reach_x > _ZERO) & (e_x - reach_x < _TWO * half_w)
    inside &= (e_y + reach_y > _ZERO) & (e_y - reach_y < _TWO * half_h)
    seen = inside & (z - math.sqrt(leaning) > _NEAR) & (power >= _ZERO) & (det < _INFINITE)
    at = lane + _U(COVER)
    work[at + _U(16 * project.MIDDLE_X)] = e_x
    work[at + _U(16 * project.MIDDLE_Y)] = e_y
    work[at + _U(16 * project.SHEAR)] = xy / yy
    work[at + _U(16 * project.SHARP_X)] = math.sqrt(yy / det)
    work[at + _U(16 * project.SHARP_Y)] = _ONE / reach_y
    work[at + _U(16 * project.DEPTH)] = z if seen else _INFINITE
    work[at + _U(16 * project.REACH_X)] = reach_x
    work[at + _U(16 * project.REACH_Y)] = reach_y
    work[at + _U(16 * project.POWER_MAX)] = _ONE


@njit(forceinline=True)
def _rounded(xx, xy, yy, radius):  # noqa: ANN001, ANN202
    """Widen an ellipse until no half axis is shorter than the radius; its determinant as well.

    Half axes are the roots of the eigenvalues, so it is these that are raised.
    """
    mean, half = _HALF * (xx + yy), _HALF * (xx - yy)
    spread = math.sqrt(half * half + xy * xy)
    long, short = mean + spread, max(mean - spread, _ZERO)
    new_long = _WIDER * max(long, radius * radius)
    new_short = _WIDER * max(short, radius * radius) + _ROUNDER * long
    # The same axes: old matrix times alike, plus a circle.
    alike = (new_long - new_short) / max(_TWO * spread, _TINY)
    alike = max(min(alike, _WIDER), _ZERO)
    circle = max(new_long - alike * long, new_short - alike * short)
    xx, xy, yy = alike * xx + circle, alike * xy, alike * yy + circle
    return xx, xy, yy, (alike * long + circle) * (alike * short + circle)


@njit(forceinline=True)
def numbers(c):  # noqa: ANN001, ANN201
    """The 16 numbers of a camera as values, which a write to an array cannot change."""
    first = (c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7])
    return (*first, c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15])


@njit(forceinline=True)
def in_camera(work, lane, cam):  # noqa: ANN001, ANN201
    """Give the centre in the camera frame."""
    a, b, c = work[lane + _U(_X)], work[lane + _U(_Y)], work[lane + _U(_Z)]
    x = cam[0] * a + cam[1] * b + cam[2] * c + cam[9]
    y = cam[3] * a + cam[4] * b + cam[5] * c + cam[10]
    z = cam[6] * a + cam[7] * b + cam[8] * c + cam[11]
    return x, y, z


@njit(forceinline=True)
def axes(work, lane, cam):  # noqa: ANN001, ANN201
    """The disc's axes and normal in the camera, the unit quaternion, and its length before."""
    w, x = work[lane + _U(_QUAT_W)], work[lane + _U(_QUAT_X)]
    y, z = work[lane + _U(_QUAT_Y)], work[lane + _U(_QUAT_Z)]
    length = max(math.sqrt(w * w + x * x + y * y + z * z), _TINY)
    w, x, y, z = w / length, x / length, y / length, z / length
    t_u = (_ONE - _TWO * (y * y + z * z), _TWO * (x * y + w * z), _TWO * (x * z - w * y))
    t_v = (_TWO * (x * y - w * z), _ONE - _TWO * (x * x + z * z), _TWO * (y * z + w * x))
    n = (_TWO * (x * z + w * y), _TWO * (y * z - w * x), _ONE - _TWO * (x * x + y * y))
    return turned(cam, t_u), turned(cam, t_v), turned(cam, n), (w, x, y, z), length


@njit(forceinline=True)
def across(a, b, c, focal):  # noqa: ANN001, ANN201
    """The deviations in the picture, times depth: pixels right and down of both."""
    x, y = c[0] / c[2], c[1] / c[2]
    return (
        focal * (a[0] - x * a[2]),
        focal * (a[1] - y * a[2]),
        focal * (b[0] - x * b[2]),
        focal * (b[1] - y * b[2]),
    )


@njit(forceinline=True)
def turned(cam, v):  # noqa: ANN001, ANN201
    """Turn a vector of the world into the camera frame."""
    return (
        cam[0] * v[0] + cam[1] * v[1] + cam[2] * v[2],
        cam[3] * v[0] + cam[4] * v[1] + cam[5] * v[2],
        cam[6] * v[0] + cam[7] * v[1] + cam[8] * v[2],
    )


@njit(forceinline=True)
def cross(a, b):  # noqa: ANN001, ANN201
    """Give the cross product."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@njit(forceinline=True)
def dot(a, b):  # noqa: ANN001, ANN201
    """Give the inner product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(forceinline=True)
def plus(a, b):  # noqa: ANN001, ANN201
    """Add two vectors."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@njit(forceinline=True)
def times(a, factor):  # noqa: ANN001, ANN201
    """Scale a vector."""
    return a[0] * factor, a[1] * factor, a[2] * factor
