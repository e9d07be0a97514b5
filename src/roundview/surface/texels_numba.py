"""CPU kernel of `texels`: find the triangle under or next to every texel."""

# numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np

from ..kernels import njit


@njit
def nearest_triangles_kernel(corner, size, margin):  # noqa: ANN001, ANN201, C901
    """Find the nearest triangle of each texel.

    Args:
        corner: f x 3 x 2 float32, texture coordinates in texels.
        size: Rows and columns of the texture.
        margin: Distance from a triangle, texels, up to which it may own a texel.

    Returns:
        face size x size int32 (-1: none), and the barycentrics of corners 1 and 2 of the nearest
        point of that triangle, size x size x 2 float32.
    """
    face_at = np.full((size, size), -1, np.int32)
    bary_at = np.zeros((size, size, 2), np.float32)
    distance_at = np.full((size, size), np.float32(margin * margin), np.float32)
    for f in range(corner.shape[0]):
        ax, ay = corner[f, 0, 0], corner[f, 0, 1]
        bx, by = corner[f, 1, 0], corner[f, 1, 1]
        cx, cy = corner[f, 2, 0], corner[f, 2, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-12:
            continue
        x0 = max(0, int(math.ceil(min(ax, min(bx, cx)) - margin - 0.5)))
        x1 = min(size - 1, int(math.floor(max(ax, max(bx, cx)) + margin - 0.5)))
        y0 = max(0, int(math.ceil(min(ay, min(by, cy)) - margin - 0.5)))
        y1 = min(size - 1, int(math.floor(max(ay, max(by, cy)) + margin - 0.5)))
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                px, py = np.float32(x + 0.5), np.float32(y + 0.5)
                b = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) / area
                c = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) / area
                square = np.float32(0.0)
                if b < 0.0 or c < 0.0 or b + c > 1.0:
                    t = _along(ax, ay, bx, by, px, py)
                    square, b, c = _square(ax, ay, bx, by, px, py, t), t, np.float32(0.0)
                    t = _along(ax, ay, cx, cy, px, py)
                    other = _square(ax, ay, cx, cy, px, py, t)
                    if other < square:
                        square, b, c = other, np.float32(0.0), t
                    t = _along(bx, by, cx, cy, px, py)
                    other = _square(bx, by, cx, cy, px, py, t)
                    if other < square:
                        square, b, c = other, np.float32(1.0) - t, t
                # Strictly nearer: of triangles that share a side, the first keeps its texels.
                if square < distance_at[y, x]:
                    distance_at[y, x] = square
                    face_at[y, x] = f
                    bary_at[y, x, 0] = b
                    bary_at[y, x, 1] = c
    return face_at, bary_at


@njit(inline="always")
def _along(ax, ay, bx, by, px, py):  # noqa: ANN001, ANN202
    """Give the share of the way from a to b at which a side is next to p."""
    dx, dy = bx - ax, by - ay
    t = ((px - ax) * dx + (py - ay) * dy) / max(dx * dx + dy * dy, np.float32(1e-12))
    return min(max(t, np.float32(0.0)), np.float32(1.0))


@njit(inline="always")
def _square(ax, ay, bx, by, px, py, t):  # noqa: ANN001, ANN202
    dx, dy = ax + t * (bx - ax) - px, ay + t * (by - ay) - py
    return dx * dx + dy * dy
