"""GPU kernel that turns Gaussians into ellipses in the picture; `project_back_triton.py` goes back.

Twin of `_ellipses` in `render.py`. An ellipse is a row of 16 float32 (64 bytes, two sectors of the
memory), because the tiles take ellipses one at a time:

     0, 1  middle, pixels
     2..4  shear, sharp_x, sharp_y: at (dx, dy) pixels from the middle the power is p^2 + q^2 with
           p = (dx - shear dy) sharp_x and q = dy sharp_y, the distance of x given y, and of y
        5  opacity
     6..8  colour before it is clamped at 0
        9  depth
    10,11  half the box in which alpha reaches ALPHA_MIN, pixels
       12  the power where it does
       13  how far below the middle the rightmost point of that outline lies, pixels
"""

# Triton infers the types of kernels, takes arrays one by one, and writes constants in capitals.
# ruff: noqa: ANN001, ANN201, N803, PLR0913

import math

import triton.language as tl

from ..kernels_triton import jit
from .colour_triton import colour_of, direction_towards
from .render import ALPHA_MIN, BLUR_PX2, FRUSTUM_MARGIN, NEAR

_NEAR, _BLUR = tl.constexpr(NEAR), tl.constexpr(BLUR_PX2)
_HALF_MARGIN = tl.constexpr(0.5 * FRUSTUM_MARGIN)
_LOG_ALPHA_MIN = tl.constexpr(math.log(ALPHA_MIN))


@jit
def project_kernel(
    centres,
    log_scales,
    quats,
    opacity_logits,
    sh,
    cameras,
    records,
    depths,
    g,
    height,
    width,
    TERMS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Fill the records. A program is a block of Gaussians for one camera.

    Args:
        centres: g x 3, and so on as in `Gaussians`, float32.
        log_scales: See there.
        quats: See there.
        opacity_logits: See there.
        sh: See there.
        cameras: n x 16: camera_from_world rotation (9) and shift (3), origin (3), focal length.
        records: n x g x 16, written for what can be seen.
        depths: n x g, written; infinite for what cannot be seen.
        g: Number of Gaussians.
        height: Rows of the pictures.
        width: Columns of the pictures.
        TERMS: Coefficients of a colour.
        BLOCK: Gaussians of a program.
    """
    i = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    n_at, here = tl.program_id(1), i < g
    row = cameras + n_at * 16
    cam = load_camera(row)
    a, b, c = load_centre(centres, i, here)
    x, y, z = in_camera(cam, a, b, c)
    near = (z > _NEAR) & here
    # What is behind gets any depth that divides well.
    z = tl.where(near, z, 1.0)
    across, down, _, _ = linearise(cam, x, y, z, height, width)
    turn, _, _ = load_rotation(quats, i, here)
    axes_x, axes_y = axes_in_picture(across, down, turn)
    xx, xy, yy, det = covariance_of(axes_x, axes_y, load_scale(log_scales, i, here))
    logit = tl.load(opacity_logits + i, mask=here, other=0.0)
    opacity = sigmoid(logit)
    # The logarithm of opacity / ALPHA_MIN, which for a faint one would be that of 0.
    power = tl.log(tl.maximum(opacity, 1e-30)) - _LOG_ALPHA_MIN
    middle_x, middle_y = cam[15] * x / z + 0.5 * width, cam[15] * y / z + 0.5 * height
    reach_x = tl.sqrt(2.0 * tl.maximum(power, 0.0) * xx)
    reach_y = tl.sqrt(2.0 * tl.maximum(power, 0.0) * yy)
    inside = (middle_x + reach_x > 0) & (middle_x - reach_x < width)
    inside &= (middle_y + reach_y > 0) & (middle_y - reach_y < height)
    seen = inside & near & (power >= 0.0) & (det < float("inf"))
    tl.store(depths + n_at.to(tl.int64) * g + i, tl.where(seen, z, float("inf")), mask=here)
    at = records + (n_at.to(tl.int64) * g + i) * 16
    tl.store(at, middle_x, mask=seen)
    tl.store(at + 1, middle_y, mask=seen)
    tl.store(at + 2, xy / yy, mask=seen)
    tl.store(at + 3, tl.sqrt(0.5 * yy / det), mask=seen)
    tl.store(at + 4, tl.sqrt(0.5 / yy), mask=seen)
    tl.store(at + 5, opacity, mask=seen)
    red, green, blue = colour_of(sh, i, seen, direction_towards(a, b, c, row), TERMS)
    tl.store(at + 6, red, mask=seen)
    tl.store(at + 7, green, mask=seen)
    tl.store(at + 8, blue, mask=seen)
    tl.store(at + 9, z, mask=seen)
    tl.store(at + 10, reach_x, mask=seen)
    tl.store(at + 11, reach_y, mask=seen)
    tl.store(at + 12, power, mask=seen)
    tl.store(at + 13, xy / xx * reach_x, mask=seen)


@jit
def sigmoid(logit):
    """The logistic function, without overflow."""
    e = tl.exp(-tl.abs(logit))
    return tl.where(logit >= 0.0, 1.0, e) / (1.0 + e)


@jit
def load_camera(row):
    """The 16 numbers of a camera."""
    return (
        tl.load(row),
        tl.load(row + 1),
        tl.load(row + 2),
        tl.load(row + 3),
        tl.load(row + 4),
        tl.load(row + 5),
        tl.load(row + 6),
        tl.load(row + 7),
        tl.load(row + 8),
        tl.load(row + 9),
        tl.load(row + 10),
        tl.load(row + 11),
        tl.load(row + 12),
        tl.load(row + 13),
        tl.load(row + 14),
        tl.load(row + 15),
    )


@jit
def load_centre(centres, i, here):
    """Three blocks of coordinates."""
    x = tl.load(centres + 3 * i, mask=here, other=0.0)
    y = tl.load(centres + 3 * i + 1, mask=here, other=0.0)
    z = tl.load(centres + 3 * i + 2, mask=here, other=0.0)
    return x, y, z


@jit
def load_scale(log_scales, i, here):
    """Three blocks of standard deviations."""
    a = tl.exp(tl.load(log_scales + 3 * i, mask=here, other=0.0))
    b = tl.exp(tl.load(log_scales + 3 * i + 1, mask=here, other=0.0))
    c = tl.exp(tl.load(log_scales + 3 * i + 2, mask=here, other=0.0))
    return a, b, c


@jit
def load_rotation(quats, i, here):
    """The rotation matrix row by row, the unit quaternion, and the length it was divided by."""
    w = tl.load(quats + 4 * i, mask=here, other=1.0)
    x = tl.load(quats + 4 * i + 1, mask=here, other=0.0)
    y = tl.load(quats + 4 * i + 2, mask=here, other=0.0)
    z = tl.load(quats + 4 * i + 3, mask=here, other=0.0)
    length = tl.maximum(tl.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    w, x, y, z = w / length, x / length, y / length, z / length
    turn = (
        1.0 - 2.0 * (y * y + z * z),
        2.0 * (x * y - w * z),
        2.0 * (x * z + w * y),
        2.0 * (x * y + w * z),
        1.0 - 2.0 * (x * x + z * z),
        2.0 * (y * z - w * x),
        2.0 * (x * z - w * y),
        2.0 * (y * z + w * x),
        1.0 - 2.0 * (x * x + y * y),
    )
    return turn, (w, x, y, z), length


@jit
def in_camera(cam, a, b, c):
    """Turn world coordinates into the camera's."""
    x = cam[0] * a + cam[1] * b + cam[2] * c + cam[9]
    y = cam[3] * a + cam[4] * b + cam[5] * c + cam[10]
    z = cam[6] * a + cam[7] * b + cam[8] * c + cam[11]
    return x, y, z


@jit
def linearise(cam, x, y, z, height, width):
    """Rows of the projection's Jacobian in the world, and the slopes it was taken at."""
    limit_x, limit_y = _HALF_MARGIN * width / cam[15], _HALF_MARGIN * height / cam[15]
    slope_x = tl.minimum(tl.maximum(x / z, -limit_x), limit_x)
    slope_y = tl.minimum(tl.maximum(y / z, -limit_y), limit_y)
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
    return across, down, slope_x, slope_y


@jit
def axes_in_picture(across, down, turn):
    """The Gaussian's unit axes in the picture: their x and their y."""
    x0 = across[0] * turn[0] + across[1] * turn[3] + across[2] * turn[6]
    x1 = across[0] * turn[1] + across[1] * turn[4] + across[2] * turn[7]
    x2 = across[0] * turn[2] + across[1] * turn[5] + across[2] * turn[8]
    y0 = down[0] * turn[0] + down[1] * turn[3] + down[2] * turn[6]
    y1 = down[0] * turn[1] + down[1] * turn[4] + down[2] * turn[7]
    y2 = down[0] * turn[2] + down[1] * turn[5] + down[2] * turn[8]
    return (x0, x1, x2), (y0, y1, y2)


@jit
def covariance_of(axes_x, axes_y, scale):
    """Blurred covariance xx, xy, yy, and its determinant as a sum of squares (Cauchy-Binet)."""
    x0, x1, x2 = axes_x[0] * scale[0], axes_x[1] * scale[1], axes_x[2] * scale[2]
    y0, y1, y2 = axes_y[0] * scale[0], axes_y[1] * scale[1], axes_y[2] * scale[2]
    xx, yy = x0 * x0 + x1 * x1 + x2 * x2, y0 * y0 + y1 * y1 + y2 * y2
    xy = x0 * y0 + x1 * y1 + x2 * y2
    a, b, c = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0
    det = a * a + b * b + c * c + _BLUR * (xx + yy) + _BLUR * _BLUR
    return xx + _BLUR, xy, yy + _BLUR, det
