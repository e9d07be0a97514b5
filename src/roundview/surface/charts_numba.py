"""CPU kernel of `charts`: find faces that lie on other faces of their chart."""

# numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np

from ..kernels import njit


@njit
def overlapping_kernel(flat, chart):  # noqa: ANN001, ANN201
    """Mark faces that cover a texel centre which an earlier face of their chart covers.

    Args:
        flat: f x 3 x 2 float32, corners in texels; each chart's box begins at (0, 0).
        chart: f int64, ascending.

    Returns:
        f booleans.
    """
    count = flat.shape[0]
    bad = np.zeros(count, np.bool_)
    start = 0
    while start < count:
        end = start
        width, height = 0.0, 0.0
        while end < count and chart[end] == chart[start]:
            for corner in range(3):
                width = max(width, flat[end, corner, 0])
                height = max(height, flat[end, corner, 1])
            end += 1
        count_at = np.zeros((int(height) + 1, int(width) + 1), np.int32)
        for f in range(start, end):
            bad[f] = _cover(flat[f], count_at, 1) > 1
            if bad[f]:  # It leaves: what it covers is free for others.
                _cover(flat[f], count_at, -1)
        start = end
    return bad


@njit
def _cover(corner, count_at, change):  # noqa: ANN001, ANN202
    """Change the count of each texel whose centre a triangle covers; give the largest count."""
    ax, ay, bx, by, cx, cy = (
        corner[0, 0], corner[0, 1], corner[1, 0], corner[1, 1], corner[2, 0], corner[2, 1],
    )  # fmt: skip
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if abs(area) < 1e-9:
        return 0
    rows, columns = count_at.shape
    x0 = max(0, int(math.ceil(min(ax, min(bx, cx)) - 0.5)))
    x1 = min(columns - 1, int(math.floor(max(ax, max(bx, cx)) - 0.5)))
    y0 = max(0, int(math.ceil(min(ay, min(by, cy)) - 0.5)))
    y1 = min(rows - 1, int(math.floor(max(ay, max(by, cy)) - 0.5)))
    most = 0
    for y in range(y0, y1 + 1):
        for x in range(x0, x1 + 1):
            px, py = x + 0.5, y + 0.5
            b = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) / area
            c = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) / area
            # Inside by a margin: a centre on a common side belongs to both neighbours.
            if b > 1e-3 and c > 1e-3 and b + c < 0.999:
                count_at[y, x] += change
                most = max(most, count_at[y, x])
    return most


@njit
def coverage_kernel(corner, size):  # noqa: ANN001, ANN201
    """Count the triangles over each texel centre, those apart that only touch it with a side.

    Args:
        corner: f x 3 x 2 float32, texels.
        size: Rows and columns.

    Returns:
        size x size int32.
    """
    count_at = np.zeros((size, size), np.int32)
    for f in range(corner.shape[0]):
        _cover(corner[f], count_at, 1)
    return count_at
