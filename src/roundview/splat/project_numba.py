"""CPU kernels that turn Gaussians into ellipses in the picture, and gradients back again.

Twin of `_ellipses` in `render.py`, with the activations (exponential, logistic function, unit
quaternion) and the sum over cameras inside. Forward, one ellipse is a row of `RECORD` numbers;
backward, what the tiles hand back of it is a row of `SLOT` numbers.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np
from numba import prange

from ..kernels import njit
from ..rotation import SH_C0
from .render import ALPHA_MIN, BLUR_PX2, FRUSTUM_MARGIN, NEAR

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

_CHUNK = 512
_LANES = np.uint64(16)
_F = np.float32
_ZERO, _ONE, _TWO, _HALF = _F(0), _F(1), _F(2), _F(0.5)
_BLUR, _NEAR, _MARGIN = _F(BLUR_PX2), _F(NEAR), _F(FRUSTUM_MARGIN)
_LOG_ALPHA_MIN = _F(math.log(ALPHA_MIN))
# Normalisers of the real spherical harmonics: 3DGS writes them as decimals.
_C0 = _F(SH_C0)
_C1 = _F(math.sqrt(3 / math.pi) / 2)
_C2 = tuple(_F(math.sqrt(v / math.pi)) for v in (15 / 4, 5 / 16, 15 / 16))
_C3 = tuple(_F(math.sqrt(v / math.pi)) for v in (35 / 32, 105 / 4, 21 / 32, 7 / 16, 105 / 16))


@njit(parallel=True)
def project_kernel(fields, cameras, size_hw, records):  # noqa: ANN001, ANN201
    """Fill the records.

    Args:
        fields: The five tensors of `Gaussians` as float32 arrays.
        cameras: n x 16: camera_from_world rotation (9) and shift (3), origin (3), focal length.
        size_hw: Height and width of the pictures.
        records: n x g x RECORD, written; the depth of a Gaussian that cannot be seen is infinite.
    """
    n, g = records.shape[0], records.shape[1]
    chunks = (g + _CHUNK - 1) // _CHUNK
    for job in prange(n * chunks):
        n_at, first = job // chunks, job % chunks * _CHUNK
        chosen = (first, min(first + _CHUNK, g))
        _project_some(fields, cameras[n_at], size_hw, records[n_at], chosen)


@njit
def _project_some(fields, camera, size_hw, records, chosen):  # noqa: ANN001, ANN202
    basis = np.empty((16, 4), np.float32)
    for i in range(chosen[0], chosen[1]):
        _project_one(fields, i, camera, size_hw, records[i], basis)


@njit
def _project_one(fields, i, camera, size_hw, record, basis):  # noqa: ANN001, ANN202
    centre, log_scale, quat, opacity_logit, sh = fields
    record[DEPTH] = np.inf
    x, y, z = _in_camera(centre, i, camera)
    if not z > _NEAR:
        return
    across, down, _, _ = _linearise(camera, x, y, z, size_hw)
    turn, _ = _rotation(quat, i)
    axes_x, axes_y = _axes(across, down, turn)
    xx, xy, yy, det = _covariance(axes_x, axes_y, _scale(log_scale, i))
    opacity = _ONE / (_ONE + math.exp(-opacity_logit[i]))
    power = math.log(opacity) - _LOG_ALPHA_MIN
    if not (power >= _ZERO and det < np.inf):
        return
    middle_x = camera[15] * x / z + _HALF * _F(size_hw[1])
    middle_y = camera[15] * y / z + _HALF * _F(size_hw[0])
    reach_x, reach_y = math.sqrt(_TWO * power * xx), math.sqrt(_TWO * power * yy)
    out_x = middle_x + reach_x <= _ZERO or middle_x - reach_x >= _F(size_hw[1])
    out_y = middle_y + reach_y <= _ZERO or middle_y - reach_y >= _F(size_hw[0])
    if out_x or out_y:
        return
    record[MIDDLE_X], record[MIDDLE_Y] = middle_x, middle_y
    record[SHEAR] = xy / yy
    record[SHARP_X] = math.sqrt(_HALF * yy / det)
    record[SHARP_Y] = math.sqrt(_HALF / yy)
    record[OPACITY], record[POWER_MAX] = opacity, power
    record[REACH_X], record[REACH_Y] = reach_x, reach_y
    _sh_basis(centre, i, camera, sh.shape[1], basis)
    for channel in range(3):
        record[RED + channel] = max(_colour(sh, i, channel, basis), _ZERO)
    record[DEPTH] = z


@njit(parallel=True)
def project_backward_kernel(fields, cameras, size_hw, pairs, gradients):  # noqa: ANN001, ANN201
    """Carry the tiles' gradients back to the Gaussians.

    Args:
        fields: As for `project_kernel`.
        cameras: As for `project_kernel`.
        size_hw: As for `project_kernel`.
        pairs: slots x SLOT; the first slot of each ellipse, n x g; and the count of its slots.
            The sums run over slots, then cameras, in this order whatever the number of threads.
        gradients: Five arrays like `fields`, written.
    """
    g = len(fields[0])
    for job in prange((g + _CHUNK - 1) // _CHUNK):
        first = job * _CHUNK
        last = min(first + _CHUNK, g)
        _project_backward_some(fields, cameras, size_hw, pairs, gradients, (first, last))


@njit
def _project_backward_some(fields, cameras, size_hw, pairs, gradients, chosen):  # noqa: ANN001, ANN202
    slots, first, count = pairs
    basis = np.empty((16, 4), np.float32)
    slot, lean = np.empty(SLOT, np.float32), np.empty(3, np.float32)
    for i in range(chosen[0], chosen[1]):
        turn, length = _rotation(fields[2], i)
        scale = _scale(fields[1], i)
        lean[:] = _ZERO
        for k in range(3):
            gradients[0][i, k] = gradients[1][i, k] = _ZERO
        gradients[3][i] = _ZERO
        gradients[4][i] = _ZERO
        for n_at in range(len(cameras)):
            if count[n_at, i] == 0:
                continue
            _sum_slots(slots, first[n_at, i], count[n_at, i], slot)
            camera = cameras[n_at]
            _colour_backward(fields, i, camera, slot, gradients, basis)
            _shape_backward(fields, i, camera, size_hw, slot, (turn, scale), gradients, lean)
        _turn_backward(fields[2], i, length, scale, lean, gradients[2])
        opacity = _ONE / (_ONE + math.exp(-fields[3][i]))
        gradients[3][i] *= opacity - _ONE


@njit
def _sum_slots(slots, first, count, total):  # noqa: ANN001, ANN202
    for k in range(_LANES):
        total[k] = slots[first, k]
    for at in range(first + 1, first + count):
        for k in range(_LANES):
            total[k] += slots[at, k]


@njit
def _shape_backward(fields, i, camera, size_hw, slot, shape, gradients, lean):  # noqa: ANN001, ANN202
    """Add one camera's share to the gradients of centre, scale, opacity and orientation."""
    turn, scale = shape
    x, y, z = _in_camera(fields[0], i, camera)
    across, down, free_x, free_y = _linearise(camera, x, y, z, size_hw)
    axes_x, axes_y = _axes(across, down, turn)
    _, xy, yy, det = _covariance(axes_x, axes_y, scale)
    # With v = det / yy, the spread of x given y: p = (dx - xy / yy dy) / sqrt(2 v) and
    # q = dy / sqrt(2 yy). The moments give the gradients of xy / yy, v and yy.
    v, shear = det / yy, xy / yy
    sharp_x, sharp_y = math.sqrt(_HALF / v), math.sqrt(_HALF / yy)
    d_shear = -_TWO * math.sqrt(yy / v) * slot[SUM_PQ]
    d_xx = -slot[SUM_PP] / v
    d_xy = d_shear / yy - _TWO * shear * d_xx
    d_yy = -slot[SUM_QQ] / yy + shear * shear * d_xx - d_shear * shear / yy
    d_middle_x = -_TWO * sharp_x * slot[SUM_P]
    d_middle_y = _TWO * (sharp_x * shear * slot[SUM_P] - sharp_y * slot[SUM_Q])
    d_across_x = d_across_y = d_across_z = d_down_x = d_down_y = d_down_z = _ZERO
    for j in range(3):
        d_x = _TWO * d_xx * axes_x[j] + d_xy * axes_y[j]
        d_y = d_xy * axes_x[j] + _TWO * d_yy * axes_y[j]
        # What the axis before this one gains when the two lean towards each other.
        before = (j + 2) % 3
        lean[before] += d_x * axes_x[before] + d_y * axes_y[before]
        d_x *= scale[j] * scale[j]
        d_y *= scale[j] * scale[j]
        gradients[1][i, j] += d_x * axes_x[j] + d_y * axes_y[j]
        d_across_x += d_x * turn[j]
        d_across_y += d_x * turn[3 + j]
        d_across_z += d_x * turn[6 + j]
        d_down_x += d_y * turn[j]
        d_down_y += d_y * turn[3 + j]
        d_down_z += d_y * turn[6 + j]
    zoom = camera[15] / z
    d_slope_x = -zoom * (d_across_x * camera[6] + d_across_y * camera[7] + d_across_z * camera[8])
    d_slope_y = -zoom * (d_down_x * camera[6] + d_down_y * camera[7] + d_down_z * camera[8])
    along = d_across_x * across[0] + d_across_y * across[1] + d_across_z * across[2]
    along += d_down_x * down[0] + d_down_y * down[1] + d_down_z * down[2]
    # A slope at the margin no longer moves with the centre.
    d_slope_x = d_slope_x if free_x else _ZERO
    d_slope_y = d_slope_y if free_y else _ZERO
    d_x, d_y = d_slope_x / z + d_middle_x * zoom, d_slope_y / z + d_middle_y * zoom
    d_z = slot[SLOT_DEPTH] - along / z - (d_x * x + d_y * y) / z
    for k in range(3):
        gradients[0][i, k] += d_x * camera[k] + d_y * camera[3 + k] + d_z * camera[6 + k]
    gradients[3][i] += slot[SUM]


@njit
def _colour_backward(fields, i, camera, slot, gradients, basis):  # noqa: ANN001, ANN202
    """Add one camera's share to the gradients of the colour, and of the centre through it."""
    centre, sh = fields[0], fields[4]
    terms = sh.shape[1]
    inverse = _sh_basis(centre, i, camera, terms, basis)
    towards_x = towards_y = towards_z = _ZERO
    for channel in range(3):
        d_rgb = slot[SLOT_RGB + channel]
        if _colour(sh, i, channel, basis) < _ZERO:
            continue
        for k in range(terms):
            gradients[4][i, k, channel] += d_rgb * basis[k, 0]
            towards_x += d_rgb * sh[i, k, channel] * basis[k, 1]
            towards_y += d_rgb * sh[i, k, channel] * basis[k, 2]
            towards_z += d_rgb * sh[i, k, channel] * basis[k, 3]
    if terms > 1:
        x = (centre[i, 0] - camera[12]) * inverse
        y = (centre[i, 1] - camera[13]) * inverse
        z = (centre[i, 2] - camera[14]) * inverse
        radial = towards_x * x + towards_y * y + towards_z * z
        gradients[0][i, 0] += (towards_x - radial * x) * inverse
        gradients[0][i, 1] += (towards_y - radial * y) * inverse
        gradients[0][i, 2] += (towards_z - radial * z) * inverse


@njit
def _turn_backward(quat, i, length, scale, lean, out):  # noqa: ANN001, ANN202
    """Turn what the axes gain from leaning into the gradient of a quaternion of any length.

    A turn by a small angle about axis 2 moves axis 0 towards 1 and 1 away from 0, so it gains
    (scale_0^2 - scale_1^2) lean_0. As differences of scales, round Gaussians lose no digits.
    """
    w, x, y, z = quat[i, 0] / length, quat[i, 1] / length, quat[i, 2] / length, quat[i, 3] / length
    a = (scale[1] - scale[2]) * (scale[1] + scale[2]) * lean[1]
    b = (scale[2] - scale[0]) * (scale[2] + scale[0]) * lean[2]
    c = (scale[0] - scale[1]) * (scale[0] + scale[1]) * lean[0]
    # The quaternion times the unit quaternions i, j, k, which half the turns are.
    factor = _TWO / length
    out[i, 0] = factor * (-a * x - b * y - c * z)
    out[i, 1] = factor * (a * w - b * z + c * y)
    out[i, 2] = factor * (a * z + b * w - c * x)
    out[i, 3] = factor * (-a * y + b * x + c * w)


@njit
def _in_camera(centre, i, camera):  # noqa: ANN001, ANN202
    a, b, c = centre[i, 0], centre[i, 1], centre[i, 2]
    x = camera[0] * a + camera[1] * b + camera[2] * c + camera[9]
    y = camera[3] * a + camera[4] * b + camera[5] * c + camera[10]
    z = camera[6] * a + camera[7] * b + camera[8] * c + camera[11]
    return x, y, z


@njit
def _linearise(camera, x, y, z, size_hw):  # noqa: ANN001, ANN202
    """Rows of the projection's Jacobian in the world; whether each still moves with the centre."""
    limit_x = _MARGIN * _HALF * _F(size_hw[1]) / camera[15]
    limit_y = _MARGIN * _HALF * _F(size_hw[0]) / camera[15]
    slope_x = min(max(x / z, -limit_x), limit_x)
    slope_y = min(max(y / z, -limit_y), limit_y)
    zoom = camera[15] / z
    across = (
        zoom * (camera[0] - slope_x * camera[6]),
        zoom * (camera[1] - slope_x * camera[7]),
        zoom * (camera[2] - slope_x * camera[8]),
    )
    down = (
        zoom * (camera[3] - slope_y * camera[6]),
        zoom * (camera[4] - slope_y * camera[7]),
        zoom * (camera[5] - slope_y * camera[8]),
    )
    return across, down, abs(slope_x) < limit_x, abs(slope_y) < limit_y


@njit
def _scale(log_scale, i):  # noqa: ANN001, ANN202
    return math.exp(log_scale[i, 0]), math.exp(log_scale[i, 1]), math.exp(log_scale[i, 2])


@njit
def _rotation(quat, i):  # noqa: ANN001, ANN202
    """The rotation matrix, row by row, and the length that the quaternion was divided by."""
    w, x, y, z = quat[i, 0], quat[i, 1], quat[i, 2], quat[i, 3]
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
    return turn, length


@njit
def _axes(across, down, turn):  # noqa: ANN001, ANN202
    """The Gaussian's unit axes in the picture: their x and their y."""
    x0 = across[0] * turn[0] + across[1] * turn[3] + across[2] * turn[6]
    x1 = across[0] * turn[1] + across[1] * turn[4] + across[2] * turn[7]
    x2 = across[0] * turn[2] + across[1] * turn[5] + across[2] * turn[8]
    y0 = down[0] * turn[0] + down[1] * turn[3] + down[2] * turn[6]
    y1 = down[0] * turn[1] + down[1] * turn[4] + down[2] * turn[7]
    y2 = down[0] * turn[2] + down[1] * turn[5] + down[2] * turn[8]
    return (x0, x1, x2), (y0, y1, y2)


@njit
def _covariance(axes_x, axes_y, scale):  # noqa: ANN001, ANN202
    """Blurred covariance xx, xy, yy, and its determinant as a sum of squares (Cauchy-Binet)."""
    x0, x1, x2 = axes_x[0] * scale[0], axes_x[1] * scale[1], axes_x[2] * scale[2]
    y0, y1, y2 = axes_y[0] * scale[0], axes_y[1] * scale[1], axes_y[2] * scale[2]
    xx, yy = x0 * x0 + x1 * x1 + x2 * x2, y0 * y0 + y1 * y1 + y2 * y2
    xy = x0 * y0 + x1 * y1 + x2 * y2
    a, b, c = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
    det = a * a + b * b + c * c + _BLUR * (xx + yy) + _BLUR * _BLUR
    return xx + _BLUR, xy, yy + _BLUR, det


@njit
def _colour(sh, i, channel, basis):  # noqa: ANN001, ANN202
    value = _HALF
    for k in range(sh.shape[1]):
        value += sh[i, k, channel] * basis[k, 0]
    return value


@njit
def _sh_basis(centre, i, camera, terms, basis):  # noqa: ANN001, ANN202
    """Fill rows of `basis` with value and derivatives by x, y and z at the viewing direction.

    Returns one over the distance to the camera.
    """
    basis[0, 0], basis[0, 1], basis[0, 2], basis[0, 3] = _C0, _ZERO, _ZERO, _ZERO
    if terms == 1:
        return _ZERO
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


@njit
def _put(basis, k, value, d_x, d_y, d_z):  # noqa: ANN001, ANN202
    basis[k, 0], basis[k, 1], basis[k, 2], basis[k, 3] = value, d_x, d_y, d_z


@njit
def _sh_second(x, y, z, basis):  # noqa: ANN001, ANN202
    a, b, c = _C2
    _put(basis, 4, a * x * y, a * y, a * x, _ZERO)
    _put(basis, 5, -a * y * z, _ZERO, -a * z, -a * y)
    _put(basis, 6, b * (_TWO * z * z - x * x - y * y), -_TWO * b * x, -_TWO * b * y, _F(4) * b * z)
    _put(basis, 7, -a * x * z, -a * z, _ZERO, -a * x)
    _put(basis, 8, c * (x * x - y * y), _TWO * c * x, -_TWO * c * y, _ZERO)


@njit
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
