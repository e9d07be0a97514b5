"""CPU kernel of `texture`: look every texel up in every picture and add the colours."""

# numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np
from numba import prange

from ..kernels import njit


@njit(parallel=True)
def blend_kernel(  # noqa: ANN201, C901, PLR0913
    position,  # noqa: ANN001
    normal,  # noqa: ANN001
    rgba,  # noqa: ANN001
    depth,  # noqa: ANN001
    margin_px,  # noqa: ANN001
    pose,  # noqa: ANN001
    origin,  # noqa: ANN001
    focal,  # noqa: ANN001
    view_weight,  # noqa: ANN001
    visible,  # noqa: ANN001
    rule,  # noqa: ANN001
    total,  # noqa: ANN001
):
    """Add n pictures to `total` as `texture_views.blend_reference` says.

    Args:
        position: p x 3, world.
        normal: p x 3, unit.
        rgba: n x h x w x 4, premultiplied.
        depth: n x H x W, of the mesh itself, 0 where it is not.
        margin_px: n x H x W, distance to the next edge in pixels of the picture.
        pose: n x 4 x 4, camera_from_world.
        origin: n x 3.
        focal: n, pixels of the picture.
        view_weight: n.
        visible: n x p booleans that decide what is hidden, or 0 x 0: then depth decides.
        rule: Depth tolerance, sharpness, edge_px, grazing.
        total: p x 5, in and out: weighted colour, weight, and the best confidence so far.
    """
    n, h, w = rgba.shape[:3]
    rows, columns = depth.shape[1:]
    tolerance, sharpness, edge_px, grazing = rule
    for p in prange(position.shape[0]):
        for view in range(n):
            x, y, z = position[p, 0], position[p, 1], position[p, 2]
            m = pose[view]
            away = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
            dx, dy, dz = origin[view, 0] - x, origin[view, 1] - y, origin[view, 2] - z
            length = math.sqrt(dx * dx + dy * dy + dz * dz)
            cosine = (normal[p, 0] * dx + normal[p, 1] * dy + normal[p, 2] * dz) / length
            if away < 1e-6 or cosine <= 0.05:
                continue
            across = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
            down = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
            u = across / away * focal[view] + 0.5 * w
            v = down / away * focal[view] + 0.5 * h
            if u < 0.0 or v < 0.0 or u >= w or v >= h:
                continue
            row = min(int(v * rows / h), rows - 1)
            column = min(int(u * columns / w), columns - 1)
            slope = math.sqrt(1.0 - min(cosine * cosine, 1.0)) / cosine
            fine_px = away / focal[view] * h / rows
            if visible.shape[0] > 0:
                if not visible[view, p]:
                    continue
            elif away > depth[view, row, column] + tolerance + fine_px * slope:
                continue
            r, g, b, alpha = _bilinear(rgba[view], u - 0.5, v - 0.5)
            if alpha <= 0.5:
                continue
            sure = _smoothstep(0.0, edge_px, margin_px[view, row, column])
            sure *= _smoothstep(0.5, 1.0, alpha) * _smoothstep(0.0, grazing, cosine)
            sure = max(sure, 1e-4)
            weight = view_weight[view] * sure * (focal[view] / away / 256.0) ** 4
            weight *= cosine ** (2.0 * sharpness)
            total[p, 0] += weight * r / alpha
            total[p, 1] += weight * g / alpha
            total[p, 2] += weight * b / alpha
            total[p, 3] += weight
            total[p, 4] = max(total[p, 4], sure)


@njit(inline="always")
def _smoothstep(low, high, value):  # noqa: ANN001, ANN202
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@njit(inline="always")
def _bilinear(rgba, u, v):  # noqa: ANN001, ANN202
    h, w = rgba.shape[:2]
    u, v = min(max(u, 0.0), w - 1.0), min(max(v, 0.0), h - 1.0)
    left, top = int(u), int(v)
    right, low = min(left + 1, w - 1), min(top + 1, h - 1)
    a, b = np.float32(u - left), np.float32(v - top)
    k00, k01 = (1 - a) * (1 - b), a * (1 - b)
    k10, k11 = (1 - a) * b, a * b
    p, q, r, s = rgba[top, left], rgba[top, right], rgba[low, left], rgba[low, right]
    return (
        k00 * p[0] + k01 * q[0] + k10 * r[0] + k11 * s[0],
        k00 * p[1] + k01 * q[1] + k10 * r[1] + k11 * s[1],
        k00 * p[2] + k01 * q[2] + k10 * r[2] + k11 * s[2],
        k00 * p[3] + k01 * q[3] + k10 * r[3] + k11 * s[3],
    )
