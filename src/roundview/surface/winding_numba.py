"""CPU kernel of `winding`: sum solid angles over a hierarchy, piece by piece of the points."""

# numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..kernels import njit, run_jobs

if TYPE_CHECKING:
    from .winding import Hierarchy

_DEPTH = 64
"""Nodes that wait at most; a hierarchy is never that deep."""


def sum_angles(points: NDArray[np.float64], hierarchy: "Hierarchy") -> NDArray[np.float64]:
    """Sum solid angles as `winding.winding_numbers_reference` says.

    Args:
        points: World points, (p, 3).
        hierarchy: The surface, see `winding.hierarchy_of`.

    Returns:
        Winding numbers, (p,).
    """
    found = np.zeros(len(points))
    if len(hierarchy.corner):
        run_jobs(_sum, len(points), np.ascontiguousarray(points), *hierarchy, found, at_least=16)
    return found


@njit
def _sum(begin, end, points, corner, first, box, rim, rim_first, found):  # noqa: ANN001, ANN202, PLR0913
    waiting = np.empty(_DEPTH, np.int64)
    for k in range(begin, end):
        p = points[k]
        # The angle so far is that of (x, y), plus so many whole turns. A product of complex
        # numbers adds their angles, at a tenth of what an arc tangent for each would cost.
        x, y, turns = 1.0, 0.0, 0
        waiting[0] = 0
        count = 1
        while count > 0:
            count -= 1
            node = waiting[count]
            faces = first[node, 1] - first[node, 0]
            sides = rim_first[node, 1] - rim_first[node, 0]
            if sides <= faces and _outside(p, box[node]):
                apex = 0.5 * (box[node, 0] + box[node, 1])
                for side in range(rim_first[node, 0], rim_first[node, 1]):
                    # The rim runs backwards, so its fan, turned, faces the way the patch does.
                    x, y, turns = _turned(x, y, turns, p, rim[side, 1], rim[side, 0], apex)
            elif 2 * node + 1 < len(first):
                waiting[count] = 2 * node + 1
                waiting[count + 1] = 2 * node + 2
                count += 2
            else:
                for face in range(first[node, 0], first[node, 1]):
                    a, b, c = corner[face, 0], corner[face, 1], corner[face, 2]
                    x, y, turns = _turned(x, y, turns, p, a, b, c)
        found[k] = math.atan2(y, x) / (2 * math.pi) + turns


@njit(inline="always")
def _outside(p, box):  # noqa: ANN001, ANN202
    return (
        (p[0] < box[0, 0] or p[0] > box[1, 0])
        or (p[1] < box[0, 1] or p[1] > box[1, 1])
        or (p[2] < box[0, 2] or p[2] > box[1, 2])
    )


@njit(inline="always")
def _turned(x, y, turns, p, a, b, c):  # noqa: ANN001, ANN202
    """Add the angle that a face covers (Van Oosterom and Strackee, 1983, eq. 8)."""
    ax, ay, az = a[0] - p[0], a[1] - p[1], a[2] - p[2]
    bx, by, bz = b[0] - p[0], b[1] - p[1], b[2] - p[2]
    cx, cy, cz = c[0] - p[0], c[1] - p[1], c[2] - p[2]
    la = math.sqrt(ax * ax + ay * ay + az * az)
    lb = math.sqrt(bx * bx + by * by + bz * bz)
    lc = math.sqrt(cx * cx + cy * cy + cz * cz)
    above = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    below = (
        la * lb * lc
        + (ax * bx + ay * by + az * bz) * lc
        + (bx * cx + by * cy + bz * cz) * la
        + (cx * ax + cy * ay + cz * az) * lb
    )
    size = abs(above) + abs(below)
    if size < 1e-300:  # The point is a corner.
        return x, y, turns
    above, below = above / size, below / size
    nx, ny = x * below - y * above, x * above + y * below
    # Half a turn is passed where both angles have one sign and their sum the other.
    if y >= 0 and above > 0 and ny < 0:
        turns += 1
    elif y < 0 and above < 0 and ny >= 0:
        turns -= 1
    size = abs(nx) + abs(ny)
    return nx / size, ny / size, turns
