"""CPU kernels of `isosurface`: splat Gaussians into a grid, fuse depth maps into a grid.

Each thread owns slabs of the grid, so there are no atomics and the sums keep their order.
"""

# numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numba
import numpy as np
from numpy.typing import NDArray

from ..kernels import launching, njit

_SLAB = 4
_REACH = 3.0
"""Standard deviations after which a Gaussian counts as 0; exp(-9 / 2) = 0.011."""
_UNFRAMED = 9.0
"""Stands for "outside this picture" among bounds that lie in [-1, 1]."""


def splat_density(
    centre: NDArray[np.float32],
    precision: NDArray[np.float32],
    deviation: NDArray[np.float32],
    opacity: NDArray[np.float32],
    grid: tuple[float, float, int],
) -> NDArray[np.float32]:
    """Sum Gaussians at the nodes of a cubic grid.

    Args:
        centre: Means, (g, 3), world units.
        precision: Inverse covariances as xx, xy, xz, yy, yz, zz; (g, 6).
        deviation: Standard deviations along the world axes, (g, 3).
        opacity: Peak values, (g,).
        grid: Coordinate of the first node, step between nodes, and node count along each axis.

    Returns:
        Density indexed [x, y, z].
    """
    first, step, count = grid
    density = np.zeros((count, count, count), np.float32)
    with launching():
        _splat(centre, precision, deviation, opacity, first, step, density)
    return density


@njit(parallel=True)
def _splat(centre, precision, deviation, opacity, first, step, density):  # noqa: ANN001, ANN202
    count = density.shape[0]
    for slab in numba.prange((count + _SLAB - 1) // _SLAB):
        lowest, highest = slab * _SLAB, min(slab * _SLAB + _SLAB, count) - 1
        for g in range(centre.shape[0]):
            reach = _REACH * deviation[g]
            x0 = max(lowest, math.ceil((centre[g, 0] - reach[0] - first) / step))
            x1 = min(highest, math.floor((centre[g, 0] + reach[0] - first) / step))
            y0 = max(0, math.ceil((centre[g, 1] - reach[1] - first) / step))
            y1 = min(count - 1, math.floor((centre[g, 1] + reach[1] - first) / step))
            z0 = max(0, math.ceil((centre[g, 2] - reach[2] - first) / step))
            z1 = min(count - 1, math.floor((centre[g, 2] + reach[2] - first) / step))
            for x in range(x0, x1 + 1):
                dx = first + x * step - centre[g, 0]
                for y in range(y0, y1 + 1):
                    dy = first + y * step - centre[g, 1]
                    for z in range(z0, z1 + 1):
                        dz = first + z * step - centre[g, 2]
                        square = (
                            precision[g, 0] * dx * dx
                            + precision[g, 3] * dy * dy
                            + precision[g, 5] * dz * dz
                            + 2 * dx * (precision[g, 1] * dy + precision[g, 2] * dz)
                            + 2 * precision[g, 4] * dy * dz
                        )
                        if square < _REACH * _REACH:
                            density[x, y, z] += opacity[g] * math.exp(-0.5 * square)


def fuse_depth(
    depth: NDArray[np.float32],
    trust: NDArray[np.float32],
    inside_px: NDArray[np.float32],
    camera_from_world: NDArray[np.float32],
    focal_px: NDArray[np.float32],
    rule: tuple[float, float, float],
    grid: tuple[float, float, int],
) -> NDArray[np.float32]:
    """Fuse maps as `isosurface.fuse_depth_reference` says.

    Args:
        depth: Depth maps, (n, h, w), 0 where unknown.
        trust: Weight of each depth, (n, h, w), 0 where unknown.
        inside_px: Signed distance to the silhouette, pixels, positive inside; (n, h, w).
        camera_from_world: Poses, (n, 4, 4).
        focal_px: Focal lengths, (n,).
        rule: Truncation in world units, the weight of "hidden behind the surface", and the power
            with which votes fade towards it.
        grid: Coordinate of the first node, step between nodes, and node count along each axis.

    Returns:
        Field indexed [x, y, z], in truncations, positive inside.
    """
    first, step, count = grid
    field = np.empty((count, count, count), np.float32)
    with launching():
        _fuse(depth, trust, inside_px, camera_from_world, focal_px, *rule, first, step, field)
    return field


@njit(parallel=True)
def _fuse(  # noqa: ANN202, PLR0913
    depth,  # noqa: ANN001
    trust,  # noqa: ANN001
    inside_px,  # noqa: ANN001
    pose,  # noqa: ANN001
    focal_px,  # noqa: ANN001
    truncation,  # noqa: ANN001
    hidden_weight,  # noqa: ANN001
    fading,  # noqa: ANN001
    first,  # noqa: ANN001
    step,  # noqa: ANN001
    field,  # noqa: ANN001
):
    count = field.shape[0]
    for x in numba.prange(count):
        for y in range(count):
            for z in range(count):
                p = (first + x * step, first + y * step, first + z * step)
                hull = np.float32(1.0)
                framed = False
                total = np.float32(0.0)
                weight = np.float32(0.0)
                for n in range(depth.shape[0]):
                    bound, value, trusted = _evidence(
                        p, depth[n], trust[n], inside_px[n], pose[n], focal_px[n], truncation
                    )
                    if bound == _UNFRAMED:
                        continue
                    framed = True
                    hull = min(hull, bound)
                    if hull <= -1.0:  # Carved away: no later view can bring it back.
                        break
                    trusted = _vote(value, trusted, hidden_weight, fading)
                    total += trusted * value
                    weight += trusted
                mean = total / weight if weight > 0 else np.float32(1.0)
                field[x, y, z] = min(hull, mean) if framed else np.float32(-1.0)


@njit(inline="always")
def _vote(value, trusted, hidden_weight, fading):  # noqa: ANN001, ANN202
    """Say how much a view's word counts; below 0 it cannot see the point."""
    if trusted < 0:
        return np.float32(hidden_weight)
    if value > 0 and trusted > hidden_weight and fading > 0:
        rest = (1 - value) ** fading
        return np.float32(hidden_weight + (trusted - hidden_weight) * rest)
    return np.float32(trusted)


@njit(inline="always")
def _evidence(p, depth, trust, inside_px, pose, focal_px, truncation):  # noqa: ANN001, ANN202
    """Say how far inside the silhouette and the surface one view holds a point to be."""
    h, w = depth.shape
    z = pose[2, 0] * p[0] + pose[2, 1] * p[1] + pose[2, 2] * p[2] + pose[2, 3]
    if z <= 1e-6:
        return np.float32(_UNFRAMED), np.float32(0.0), np.float32(0.0)
    u = (pose[0, 0] * p[0] + pose[0, 1] * p[1] + pose[0, 2] * p[2] + pose[0, 3]) / z * focal_px
    v = (pose[1, 0] * p[0] + pose[1, 1] * p[1] + pose[1, 2] * p[2] + pose[1, 3]) / z * focal_px
    u, v = u + w / 2 - 0.5, v + h / 2 - 0.5
    if u < -0.5 or v < -0.5 or u >= w - 0.5 or v >= h - 0.5:
        return np.float32(_UNFRAMED), np.float32(0.0), np.float32(0.0)
    left = min(max(int(math.floor(u)), 0), max(w - 2, 0))
    top = min(max(int(math.floor(v)), 0), max(h - 2, 0))
    right, bottom = min(left + 1, w - 1), min(top + 1, h - 1)
    a, b = min(max(u - left, 0.0), 1.0), min(max(v - top, 0.0), 1.0)
    bound = (1 - b) * ((1 - a) * inside_px[top, left] + a * inside_px[top, right]) + b * (
        (1 - a) * inside_px[bottom, left] + a * inside_px[bottom, right]
    )
    bound = min(max(bound * z / focal_px / truncation, -1.0), 1.0)
    seen, trusted = _depth_at(depth, trust, top, bottom, left, right, a, b, truncation)
    if trusted <= 0:
        return np.float32(bound), np.float32(0.0), np.float32(0.0)
    behind = (z - seen) / truncation
    if behind > 1:
        return np.float32(bound), np.float32(1.0), np.float32(-1.0)
    return np.float32(bound), np.float32(max(behind, -1.0)), np.float32(trusted)


@njit(inline="always")
def _depth_at(depth, trust, top, bottom, left, right, a, b, truncation):  # noqa: ANN001, ANN202, PLR0913
    """Look a depth up: bilinear within a surface, the nearest pixel across an edge.

    A blend across an edge would be a surface that nobody saw.
    """
    d00, d01 = depth[top, left], depth[top, right]
    d10, d11 = depth[bottom, left], depth[bottom, right]
    t00, t01 = trust[top, left], trust[top, right]
    t10, t11 = trust[bottom, left], trust[bottom, right]
    known = min(min(t00, t01), min(t10, t11)) > 0
    spread = max(max(d00, d01), max(d10, d11)) - min(min(d00, d01), min(d10, d11))
    if known and spread < truncation:
        seen = (1 - b) * ((1 - a) * d00 + a * d01) + b * ((1 - a) * d10 + a * d11)
        return seen, (1 - b) * ((1 - a) * t00 + a * t01) + b * ((1 - a) * t10 + a * t11)
    row, column = bottom if b > 0.5 else top, right if a > 0.5 else left
    return depth[row, column], trust[row, column]
