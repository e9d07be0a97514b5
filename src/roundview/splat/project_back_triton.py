"""GPU kernel that carries the gradients of ellipses back to the Gaussians and the cameras.

The way back through `project_triton.py`, with the sum over cameras inside.
"""

# Triton infers the types of kernels, takes arrays one by one, and writes constants in capitals.
# ruff: noqa: ANN001, ANN201, ANN202, N803, PLR0913

import triton.language as tl

from ..kernels_triton import jit
from .colour_triton import centre_gradient_of_colour, colour_gradient, direction_towards
from .project_triton import (
    axes_in_picture,
    covariance_of,
    in_camera,
    linearise,
    load_camera,
    load_centre,
    load_rotation,
    load_scale,
    sigmoid,
)


@jit
def project_backward_kernel(
    centres,
    log_scales,
    quats,
    opacity_logits,
    sh,
    cameras,
    counts,
    records,
    d_records,
    d_centres,
    d_log_scales,
    d_quats,
    d_opacity_logits,
    d_cameras,
    n,
    g,
    height,
    width,
    TERMS: tl.constexpr,
    CAMERAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the gradients of all fields but the harmonics. A program is a block of Gaussians.

    Args:
        centres: See `project_kernel`; and so on.
        log_scales: See there.
        quats: See there.
        opacity_logits: See there.
        sh: See there.
        cameras: See there.
        counts: n x g, int32: 0 for what is not drawn.
        records: See there.
        d_records: See `sum_slots_kernel`.
        d_centres: Shaped like the fields, written; and so on.
        d_log_scales: See there.
        d_quats: See there.
        d_opacity_logits: See there.
        d_cameras: blocks x n x 16, written: what each block of Gaussians adds to the gradients of
            the cameras' numbers.
        n: Number of cameras.
        g: Number of Gaussians.
        height: Rows of the pictures.
        width: Columns of the pictures.
        TERMS: Coefficients of a colour.
        CAMERAS: Whether the gradients of the cameras are wanted.
        BLOCK: Gaussians of a program.
    """
    i = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    here = i < g
    a, b, c = load_centre(centres, i, here)
    scale = load_scale(log_scales, i, here)
    turn, unit, length = load_rotation(quats, i, here)
    opacity = sigmoid(tl.load(opacity_logits + i, mask=here, other=0.0))
    zero = tl.zeros((BLOCK,), tl.float32)
    d_a, d_b, d_c, d_logit = zero, zero, zero, zero
    d_scale_0, d_scale_1, d_scale_2 = zero, zero, zero
    lean_0, lean_1, lean_2 = zero, zero, zero
    n_at = tl.program_id(0) * 0
    while n_at < n:
        e = n_at * g + i
        drawn = here & (tl.load(counts + e, mask=here, other=0) > 0)
        row = cameras + n_at * 16
        cam = load_camera(row)
        x, y, z = in_camera(cam, a, b, c)
        # The zero gradient of what is not drawn would be lost at a depth of 0.
        x, y, z = tl.where(drawn, x, 0.0), tl.where(drawn, y, 0.0), tl.where(drawn, z, 1.0)
        across, down, slope_x, slope_y = linearise(cam, x, y, z, height, width)
        axes_x, axes_y = axes_in_picture(across, down, turn)
        _, xy, yy, det = covariance_of(axes_x, axes_y, scale)
        d_x, d_y, d_xx, d_xy, d_yy = _unwhiten(d_records, e, drawn, xy, yy, det)
        x0, y0 = _pull(axes_x[0], axes_y[0], d_xx, d_xy, d_yy)
        x1, y1 = _pull(axes_x[1], axes_y[1], d_xx, d_xy, d_yy)
        x2, y2 = _pull(axes_x[2], axes_y[2], d_xx, d_xy, d_yy)
        # What axis 0 gains when 0 and 1 lean towards each other, 1 with 2, 2 with 0.
        lean_0 += _kept(x1 * axes_x[0] + y1 * axes_y[0], drawn)
        lean_1 += _kept(x2 * axes_x[1] + y2 * axes_y[1], drawn)
        lean_2 += _kept(x0 * axes_x[2] + y0 * axes_y[2], drawn)
        x0, y0 = x0 * scale[0] * scale[0], y0 * scale[0] * scale[0]
        x1, y1 = x1 * scale[1] * scale[1], y1 * scale[1] * scale[1]
        x2, y2 = x2 * scale[2] * scale[2], y2 * scale[2] * scale[2]
        d_scale_0 += _kept(x0 * axes_x[0] + y0 * axes_y[0], drawn)
        d_scale_1 += _kept(x1 * axes_x[1] + y1 * axes_y[1], drawn)
        d_scale_2 += _kept(x2 * axes_x[2] + y2 * axes_y[2], drawn)
        d_across, d_down = _turned(turn, x0, x1, x2), _turned(turn, y0, y1, y2)
        zoom = cam[15] / z
        d_slope_x = -zoom * (d_across[0] * cam[6] + d_across[1] * cam[7] + d_across[2] * cam[8])
        d_slope_y = -zoom * (d_down[0] * cam[6] + d_down[1] * cam[7] + d_down[2] * cam[8])
        # A slope at the margin no longer moves with the centre.
        free_x, free_y = slope_x == x / z, slope_y == y / z
        d_u = tl.where(free_x, d_slope_x, 0.0) / z + d_x * zoom
        d_v = tl.where(free_y, d_slope_y, 0.0) / z + d_y * zoom
        d_zoom = _dot(d_across, across) + _dot(d_down, down)
        d_w = tl.load(d_records + 16 * e + 9, mask=drawn, other=0.0)
        d_w -= (d_u * x + d_v * y + d_zoom) / z
        d_rgb = colour_gradient(records, d_records, e, drawn)
        direction = direction_towards(a, b, c, row)
        turned = centre_gradient_of_colour(sh, i, drawn, direction, d_rgb, TERMS)
        d_a += _kept(d_u * cam[0] + d_v * cam[3] + d_w * cam[6] + turned[0], drawn)
        d_b += _kept(d_u * cam[1] + d_v * cam[4] + d_w * cam[7] + turned[1], drawn)
        d_c += _kept(d_u * cam[2] + d_v * cam[5] + d_w * cam[8] + turned[2], drawn)
        d_power = tl.load(d_records + 16 * e, mask=drawn, other=0.0)
        # An opacity o moves the power by 1 / o, and the logit moves o by o (1 - o).
        d_logit -= d_power * (1.0 - opacity)
        if CAMERAS:
            out = d_cameras + (tl.program_id(0).to(tl.int64) * n + n_at) * 16
            # At the margin the slope is that of the picture's corner, which the focal length moves.
            d_focal = d_x * x / z + d_y * y / z + d_zoom / cam[15]
            d_focal -= tl.where(free_x, 0.0, d_slope_x * slope_x / cam[15])
            d_focal -= tl.where(free_y, 0.0, d_slope_y * slope_y / cam[15])
            _add_up(out + 15, d_focal, drawn)
            along = _combined(d_across, slope_x, d_down, slope_y)
            _add_up(out, d_u * a + zoom * d_across[0], drawn)
            _add_up(out + 1, d_u * b + zoom * d_across[1], drawn)
            _add_up(out + 2, d_u * c + zoom * d_across[2], drawn)
            _add_up(out + 3, d_v * a + zoom * d_down[0], drawn)
            _add_up(out + 4, d_v * b + zoom * d_down[1], drawn)
            _add_up(out + 5, d_v * c + zoom * d_down[2], drawn)
            _add_up(out + 6, d_w * a - zoom * along[0], drawn)
            _add_up(out + 7, d_w * b - zoom * along[1], drawn)
            _add_up(out + 8, d_w * c - zoom * along[2], drawn)
            _add_up(out + 9, d_u, drawn)
            _add_up(out + 10, d_v, drawn)
            _add_up(out + 11, d_w, drawn)
            _add_up(out + 12, -turned[0], drawn)
            _add_up(out + 13, -turned[1], drawn)
            _add_up(out + 14, -turned[2], drawn)
        n_at += 1
    tl.store(d_centres + 3 * i, d_a, mask=here)
    tl.store(d_centres + 3 * i + 1, d_b, mask=here)
    tl.store(d_centres + 3 * i + 2, d_c, mask=here)
    tl.store(d_log_scales + 3 * i, d_scale_0, mask=here)
    tl.store(d_log_scales + 3 * i + 1, d_scale_1, mask=here)
    tl.store(d_log_scales + 3 * i + 2, d_scale_2, mask=here)
    tl.store(d_opacity_logits + i, d_logit, mask=here)
    w, qx, qy, qz = _quaternion_gradient(scale, unit, length, lean_0, lean_1, lean_2)
    tl.store(d_quats + 4 * i, w, mask=here)
    tl.store(d_quats + 4 * i + 1, qx, mask=here)
    tl.store(d_quats + 4 * i + 2, qy, mask=here)
    tl.store(d_quats + 4 * i + 3, qz, mask=here)


@jit
def _unwhiten(d_records, e, drawn, xy, yy, det):
    """Turn the moments into the gradients of the middle and of xx, xy and yy.

    With v = det / yy, the spread of x given y: p = (dx - xy / yy dy) / sqrt(2 v) and
    q = dy / sqrt(2 yy). So the moments give the gradients of xy / yy, v and yy first.
    """
    at = d_records + 16 * e
    sum_p, sum_q = tl.load(at + 1, mask=drawn, other=0.0), tl.load(at + 2, mask=drawn, other=0.0)
    sum_pp, sum_pq = tl.load(at + 3, mask=drawn, other=0.0), tl.load(at + 4, mask=drawn, other=0.0)
    sum_qq = tl.load(at + 5, mask=drawn, other=0.0)
    v, shear = det / yy, xy / yy
    sharp_x, sharp_y = tl.sqrt(0.5 / v), tl.sqrt(0.5 / yy)
    d_shear = -2.0 * tl.sqrt(yy / v) * sum_pq
    d_xx = -sum_pp / v
    d_xy = d_shear / yy - 2.0 * shear * d_xx
    d_yy = shear * shear * d_xx - (sum_qq + d_shear * shear) / yy
    d_middle_y = 2.0 * (sharp_x * shear * sum_p - sharp_y * sum_q)
    return -2.0 * sharp_x * sum_p, d_middle_y, d_xx, d_xy, d_yy


@jit
def _pull(axis_x, axis_y, d_xx, d_xy, d_yy):
    return 2.0 * d_xx * axis_x + d_xy * axis_y, d_xy * axis_x + 2.0 * d_yy * axis_y


@jit
def _kept(value, drawn):
    return tl.where(drawn, value, 0.0)


@jit
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@jit
def _turned(turn, a, b, c):
    return (
        turn[0] * a + turn[1] * b + turn[2] * c,
        turn[3] * a + turn[4] * b + turn[5] * c,
        turn[6] * a + turn[7] * b + turn[8] * c,
    )


@jit
def _combined(a, of_a, b, of_b):
    return a[0] * of_a + b[0] * of_b, a[1] * of_a + b[1] * of_b, a[2] * of_a + b[2] * of_b


@jit
def _add_up(at, value, drawn):
    tl.store(at, tl.sum(tl.where(drawn, value, 0.0)))


@jit
def _quaternion_gradient(scale, unit, length, lean_0, lean_1, lean_2):
    """Turn what the axes gain from leaning into the gradient of the quaternion.

    A turn by a small angle about axis 2 moves axis 0 towards 1 and 1 away from 0, so it gains
    (scale_0^2 - scale_1^2) lean_0. As differences of scales, round Gaussians lose no digits.
    """
    w, x, y, z = unit
    a = (scale[1] - scale[2]) * (scale[1] + scale[2]) * lean_1
    b = (scale[2] - scale[0]) * (scale[2] + scale[0]) * lean_2
    c = (scale[0] - scale[1]) * (scale[0] + scale[1]) * lean_0
    # The quaternion times the unit quaternions i, j, k, which half the turns are.
    factor = 2.0 / length
    return (
        factor * (-a * x - b * y - c * z),
        factor * (a * w - b * z + c * y),
        factor * (a * z + b * w - c * x),
        factor * (-a * y + b * x + c * w),
    )
