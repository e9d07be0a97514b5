"""CPU kernels of `photo_hull`: silhouettes, depth of a set of nodes, agreement of its colours.

A job writes what no other job writes, so results do not depend on the number of threads.
"""

# numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np

from ..kernels import njit
from .photo_hull import FAR, MANY


@njit
def silhouette_kernel(  # noqa: ANN201
    first_job,  # noqa: ANN001
    last_job,  # noqa: ANN001
    covered,  # noqa: ANN001
    pose,  # noqa: ANN001
    focal_px,  # noqa: ANN001
    grid,  # noqa: ANN001
    agreement,  # noqa: ANN001
    inside,  # noqa: ANN001
):
    """Find the nodes in the silhouettes of the pictures that they are in. A job is a slab of x.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        covered: Silhouettes, n x h x w.
        pose: World to camera, n x 4 x 4.
        focal_px: Focal lengths, n.
        grid: The first node's coordinate and the step.
        agreement: Share of those pictures that must cover a node.
        inside: r x r x r, written.
    """
    r, n_views = inside.shape[1], len(covered)
    h, w = covered.shape[1:]
    for x in range(first_job, last_job):
        for y in range(r):
            for z in range(r):
                framed, missed = 0, 0
                for n in range(n_views):
                    u, v, away = _pixel(x, y, z, grid, pose[n], focal_px[n], h, w)
                    if away > 1e-6 and 0 <= u < w and 0 <= v < h:
                        framed += 1
                        missed += not covered[n, int(v), int(u)]
                        if missed > (1 - agreement) * n_views:
                            break
                inside[x, y, z] = missed <= (1 - agreement) * framed and 2 * framed >= n_views


@njit
def skin_of(inside, nodes):  # noqa: ANN001, ANN201
    """List the full nodes with an empty neighbour among the six; write them, say how many."""
    r, count = len(inside), 0
    for x in range(r):
        for y in range(r):
            for z in range(r):
                if inside[x, y, z] and not (
                    0 < x < r - 1
                    and 0 < y < r - 1
                    and 0 < z < r - 1
                    and inside[x - 1, y, z]
                    and inside[x + 1, y, z]
                    and inside[x, y - 1, z]
                    and inside[x, y + 1, z]
                    and inside[x, y, z - 1]
                    and inside[x, y, z + 1]
                ):
                    if count == len(nodes):
                        return count
                    nodes[count, 0], nodes[count, 1], nodes[count, 2] = x, y, z
                    count += 1
    return count


@njit
def depth_kernel(first_job, last_job, nodes, pose, focal_px, grid, wide, depth):  # noqa: ANN001, ANN201
    """Draw nodes as squares, the nearest wins. A job is a picture.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        nodes: Indices, k x 3.
        pose: World to camera, n x 4 x 4.
        focal_px: Focal lengths, n.
        grid: The first node's coordinate and the step.
        wide: Half a square's side, steps.
        depth: n x h x w, written; `FAR` where there is nothing.
    """
    h, w = depth.shape[1:]
    for n in range(first_job, last_job):
        depth[n] = FAR
        for k in range(len(nodes)):
            x, y, z = nodes[k]
            u, v, away = _pixel(x, y, z, grid, pose[n], focal_px[n], h, w)
            if away <= 1e-6:
                continue
            reach = wide * grid[1] * focal_px[n] / away
            top, bottom = max(0, math.ceil(v - 0.5 - reach)), min(h, math.floor(v + 0.5 + reach))
            left, right = max(0, math.ceil(u - 0.5 - reach)), min(w, math.floor(u + 0.5 + reach))
            for row in range(top, bottom):
                for column in range(left, right):
                    depth[n, row, column] = min(depth[n, row, column], away)


@njit
def gap_kernel(  # noqa: ANN201, PLR0913
    first_job,  # noqa: ANN001
    last_job,  # noqa: ANN001
    nodes,  # noqa: ANN001
    inside,  # noqa: ANN001
    depth,  # noqa: ANN001
    low,  # noqa: ANN001
    high,  # noqa: ANN001
    pose,  # noqa: ANN001
    origin,  # noqa: ANN001
    focal_px,  # noqa: ANN001
    grid,  # noqa: ANN001
    least_cosine,  # noqa: ANN001
    gap,  # noqa: ANN001
):
    """Say by how much the views of nodes disagree about their colours. A job is a node.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        nodes: Indices, k x 3.
        inside: The set that they are the skin of.
        depth: What `depth_kernel` has drawn of it.
        low: Least of each channel round each pixel, n x h x w x 3.
        high: Most of it.
        pose: World to camera, n x 4 x 4.
        origin: Of the cameras, n x 3.
        focal_px: Focal lengths, n.
        grid: The first node's coordinate and the step.
        least_cosine: Between the outward direction and the ray of views that are asked.
        gap: k, written: 0 or more, or -1 where fewer than two views see the node.
    """
    h, w = depth.shape[1:]
    for k in range(first_job, last_job):
        x, y, z = nodes[k]
        out = _outward(inside, x, y, z)
        p = (grid[0] + x * grid[1], grid[0] + y * grid[1], grid[0] + z * grid[1])
        # The two highest and the two lowest, of each channel.
        most, least = np.full((2, 3), -1e9, np.float32), np.full((2, 3), 1e9, np.float32)
        seen = 0
        for n in range(len(depth)):
            ray = (origin[n, 0] - p[0], origin[n, 1] - p[1], origin[n, 2] - p[2])
            length = math.sqrt(ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2)
            along = ray[0] * out[0] + ray[1] * out[1] + ray[2] * out[2]
            if along <= least_cosine * length:
                continue
            u, v, away = _pixel(x, y, z, grid, pose[n], focal_px[n], h, w)
            if away <= 1e-6 or u < 0 or v < 0 or u >= w or v >= h:
                continue
            row, column = int(v), int(u)
            if away > depth[n, row, column] + grid[1]:
                continue
            seen += 1
            _told(most, least, low[n, row, column], high[n, row, column])
        gap[k] = _disagreement(most, least, seen)


@njit(forceinline=True)
def _told(most, least, low, high):  # noqa: ANN001, ANN202
    for c in range(3):
        most[1, c] = max(most[1, c], min(most[0, c], low[c]))
        most[0, c] = max(most[0, c], low[c])
        least[1, c] = min(least[1, c], max(least[0, c], high[c]))
        least[0, c] = min(least[0, c], high[c])


@njit(forceinline=True)
def _disagreement(most, least, seen):  # noqa: ANN001, ANN202
    if seen < 2:
        return -1.0
    gap = 0.0
    for c in range(3):
        apart = most[0, c] - least[0, c]
        if seen >= MANY:
            apart = min(most[1, c] - least[0, c], most[0, c] - least[1, c])
        gap = max(gap, apart)
    return gap


@njit(forceinline=True)
def _pixel(x, y, z, grid, pose, focal_px, h, w):  # noqa: ANN001, ANN202
    a, b, c = grid[0] + x * grid[1], grid[0] + y * grid[1], grid[0] + z * grid[1]
    away = pose[2, 0] * a + pose[2, 1] * b + pose[2, 2] * c + pose[2, 3]
    across = pose[0, 0] * a + pose[0, 1] * b + pose[0, 2] * c + pose[0, 3]
    down = pose[1, 0] * a + pose[1, 1] * b + pose[1, 2] * c + pose[1, 3]
    scale = focal_px / away if away > 1e-6 else 0.0
    return across * scale + w / 2, down * scale + h / 2, away


@njit(forceinline=True)
def _outward(inside, x, y, z):  # noqa: ANN001, ANN202
    """Point to the empty nodes among the 125 round a node; 0 where they are all round it."""
    r = len(inside)
    a, b, c = 0.0, 0.0, 0.0
    for i in range(-2, 3):
        for j in range(-2, 3):
            for k in range(-2, 3):
                p, q, s = x + i, y + j, z + k
                within = 0 <= p < r and 0 <= q < r and 0 <= s < r
                if not (within and inside[p, q, s]):
                    a, b, c = a + i, b + j, c + k
    length = math.sqrt(a * a + b * b + c * c)
    if length == 0:
        return 0.0, 0.0, 0.0
    return a / length, b / length, c / length
