"""CPU kernel that finds where outlines pass between pixels.

Twin of the reference in `antialias.py`. Views are jobs of their own, so the result does
not depend on the number of threads.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np

from ..kernels import njit
from .raster import NEAR


@njit
def find_crossings_kernel(first, last, face_at, depth, pixel, away, ends, opposite, edge_at):  # noqa: ANN001, ANN201, PLR0913
    """Find the edge that passes to the right of each pixel's centre, and below it.

    Args:
        first: View to begin with.
        last: View to end before.
        face_at: n x h x w int32, -1 for none.
        depth: n x h x w float32, along the axis.
        pixel: n x v x 2 float32, (u, v) of the vertices.
        away: n x v float32, depth of the vertices.
        ends: e x 2 int64, the vertices of the edges.
        opposite: e x 2 int64, the third corners of the faces beside them, -1 for none.
        edge_at: n x 2 x h x w int32, all -1; takes the edges, those to the right first.
    """
    _, h, w = face_at.shape
    reach_at = np.empty((2, h, w), np.float32)
    for view in range(first, last):
        for e in range(ends.shape[0]):
            p, q = ends[e, 0], ends[e, 1]
            if away[view, p] <= NEAR or away[view, q] <= NEAR:
                continue
            side = _outline_side(pixel[view], p, q, opposite[e, 0], opposite[e, 1])
            if side != 0.0:
                _walk(
                    e, pixel[view, p], pixel[view, q], away[view, p], away[view, q], side,
                    face_at[view], depth[view], edge_at[view], reach_at,
                )  # fmt: skip


@njit(forceinline=True)
def _outline_side(place, p, q, one, other):  # noqa: ANN001, ANN202
    """Say to which side of an edge its faces lie: above or below 0; 0 if one lies on each."""
    turn = _turn(place, p, q, one)
    if other < 0:
        return turn
    second = _turn(place, p, q, other)
    if turn * second < 0.0:
        return np.float32(0.0)
    return turn if abs(turn) > abs(second) else second


@njit(forceinline=True)
def _turn(place, p, q, at):  # noqa: ANN001, ANN202
    dx, dy = place[q, 0] - place[p, 0], place[q, 1] - place[p, 1]
    return dx * (place[at, 1] - place[p, 1]) - dy * (place[at, 0] - place[p, 0])


@njit(forceinline=True)
def _walk(e, start, end, away0, away1, side, face_at, depth, edge_at, reach_at):  # noqa: ANN001, ANN202, PLR0913
    """Visit the pairs of pixels that an edge passes between."""
    h, w = face_at.shape
    down = 1 if abs(end[0] - start[0]) > abs(end[1] - start[1]) else 0
    along0, along1 = start[1 - down], end[1 - down]
    across0, across1 = start[down], end[down]
    lines, length = (w, h) if down == 1 else (h, w)
    # Whether the faces beside the edge lie towards the first pixel of a pair.
    backwards = ((along1 - along0) > 0.0) == (side > 0.0)
    if down == 1:
        backwards = not backwards
    low, high = min(along0, along1), max(along0, along1)
    begin = max(0, int(math.ceil(low - np.float32(0.5))))
    for line in range(begin, min(lines, int(math.ceil(high - np.float32(0.5))))):
        share = (np.float32(line + 0.5) - along0) / (along1 - along0)
        at = across0 + share * (across1 - across0)
        i = int(math.floor(at - np.float32(0.5)))
        if i < 0 or i >= length - 1:
            continue
        y, x = (i, line) if down == 1 else (line, i)
        near_y, near_x, far_y, far_x = y, x, y + down, x + 1 - down
        if not backwards:
            near_y, near_x, far_y, far_x = far_y, far_x, y, x
        near, far = face_at[near_y, near_x], face_at[far_y, far_x]
        if near < 0 or near == far:
            continue
        inverse = (np.float32(1.0) - share) / away0 + share / away1
        if far >= 0 and min(1.0 / depth[near_y, near_x], inverse) <= 1.0 / depth[far_y, far_x]:
            continue
        reach = at if backwards else -at
        if edge_at[down, y, x] < 0 or reach > reach_at[down, y, x]:
            edge_at[down, y, x] = e
            reach_at[down, y, x] = reach
