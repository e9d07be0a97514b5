"""CPU kernels of the hash grid: features, their slope, and the gradients of both.

What writes to points is cut by points; what writes to the table is cut by levels, so that no two
threads meet and sums keep their order. Features go two by two, in registers.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import numpy as np
from numpy.typing import NDArray

from ..kernels import njit, run_jobs

_F, _U = np.float32, np.uint32
_ONE, _HALF, _ZERO = _F(1), _F(0.5), _F(0)
_PRIME_Y, _PRIME_Z = _U(2654435761), _U(805459861)
_BLOCK = 256
"""Points that one job takes."""
Floats = NDArray[np.float32]
Levels = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]


def encode(points: Floats, table: Floats, levels: Levels, active: int) -> Floats:
    """Give the features of points; see `encode_reference`."""
    out = np.zeros((len(points), len(levels[0]) * table.shape[1]), np.float32)
    run_jobs(_encode_kernel, _blocks(points), points, table, *levels, active, out, at_least=2)
    return out


def encode_back(
    points: Floats, upstream: Floats, shape: tuple[int, ...], levels: Levels, active: int
) -> Floats:
    """Give the gradient by the table."""
    out = np.zeros(tuple(shape), np.float32)
    run_jobs(_encode_back_kernel, active, points, upstream, *levels, out)
    return out


def slope(points: Floats, table: Floats, upstream: Floats, levels: Levels, active: int) -> Floats:
    """Give the gradient of the features times `upstream` by the points."""
    out = np.empty((len(points), 3), np.float32)
    run_jobs(
        _slope_kernel, _blocks(points), points, table, upstream, *levels, active, out, at_least=2
    )
    return out


def slope_back(
    inputs: tuple[Floats, Floats, Floats], pull: Floats, levels: Levels, active: int
) -> tuple[Floats, Floats]:
    """Give the gradients of `slope` by the table and by `upstream`."""
    points, table, upstream = inputs
    on_table = np.zeros_like(table)
    on_upstream = np.zeros_like(upstream)
    run_jobs(_slope_back_table_kernel, active, points, upstream, pull, *levels, on_table)
    run_jobs(
        _slope_back_upstream_kernel,
        _blocks(points),
        points,
        table,
        pull,
        *levels,
        active,
        on_upstream,
        at_least=2,
    )
    return on_table, on_upstream


def _blocks(points: Floats) -> int:
    return -(-len(points) // _BLOCK)


@njit(forceinline=True)
def _row(x, y, z, side, rows):  # noqa: ANN001, ANN202
    """Find a node's row within its level."""
    if side * side * side <= rows:
        at = x + side * (y + side * z)
        return at - rows if at >= rows else at
    # A hashed level is full, and so has a power of two of rows.
    mixed = _U(x) ^ _U(_U(y) * _PRIME_Y) ^ _U(_U(z) * _PRIME_Z)
    return np.int64(mixed) & (rows - 1)


@njit(forceinline=True)
def _cell(value, scale):  # noqa: ANN001, ANN202
    """Give the lower node on one axis, and the share of the upper."""
    place = min(max(value, _ZERO), _ONE) * scale + _HALF
    low = np.int64(place)
    return low, place - _F(low)


@njit(forceinline=True)
def _pull_of(value, scale):  # noqa: ANN001, ANN202
    """Say how fast the place in the grid grows: not at all beyond its border."""
    return scale if _ZERO <= value <= _ONE else _ZERO


@njit
def _encode_kernel(first_job, last_job, points, table, scale, resolution, first, active, out):  # noqa: ANN001, ANN202, PLR0913
    count = table.shape[1]
    for p in range(first_job * _BLOCK, min(last_job * _BLOCK, len(points))):
        for level in range(active):
            s, side, begin = scale[level], resolution[level], first[level]
            rows = first[level + 1] - begin
            x, fx = _cell(points[p, 0], s)
            y, fy = _cell(points[p, 1], s)
            z, fz = _cell(points[p, 2], s)
            for k in range(0, count, 2):
                one = other = _ZERO
                for corner in range(8):
                    dx, dy, dz = corner & 1, (corner >> 1) & 1, corner >> 2
                    weight = (fx if dx else _ONE - fx) * (fy if dy else _ONE - fy)
                    weight *= fz if dz else _ONE - fz
                    row = begin + _row(x + dx, y + dy, z + dz, side, rows)
                    one += weight * table[row, k]
                    other += weight * table[row, k + 1]
                out[p, level * count + k] = one
                out[p, level * count + k + 1] = other


@njit
def _encode_back_kernel(first_job, last_job, points, upstream, scale, resolution, first, out):  # noqa: ANN001, ANN202
    count = out.shape[1]
    for level in range(first_job, last_job):
        s, side, begin = scale[level], resolution[level], first[level]
        rows = first[level + 1] - begin
        for p in range(len(points)):
            x, fx = _cell(points[p, 0], s)
            y, fy = _cell(points[p, 1], s)
            z, fz = _cell(points[p, 2], s)
            for k in range(0, count, 2):
                one, other = upstream[p, level * count + k], upstream[p, level * count + k + 1]
                for corner in range(8):
                    dx, dy, dz = corner & 1, (corner >> 1) & 1, corner >> 2
                    weight = (fx if dx else _ONE - fx) * (fy if dy else _ONE - fy)
                    weight *= fz if dz else _ONE - fz
                    row = begin + _row(x + dx, y + dy, z + dz, side, rows)
                    out[row, k] += weight * one
                    out[row, k + 1] += weight * other


@njit
def _slope_kernel(  # noqa: ANN202, PLR0913
    first_job,  # noqa: ANN001
    last_job,  # noqa: ANN001
    points,  # noqa: ANN001
    table,  # noqa: ANN001
    upstream,  # noqa: ANN001
    scale,  # noqa: ANN001
    resolution,  # noqa: ANN001
    first,  # noqa: ANN001
    active,  # noqa: ANN001
    out,  # noqa: ANN001
):
    count = table.shape[1]
    for p in range(first_job * _BLOCK, min(last_job * _BLOCK, len(points))):
        on_x = on_y = on_z = _ZERO
        for level in range(active):
            s, side, begin = scale[level], resolution[level], first[level]
            rows = first[level + 1] - begin
            x, fx = _cell(points[p, 0], s)
            y, fy = _cell(points[p, 1], s)
            z, fz = _cell(points[p, 2], s)
            sum_x = sum_y = sum_z = _ZERO
            for k in range(0, count, 2):
                one, other = upstream[p, level * count + k], upstream[p, level * count + k + 1]
                for corner in range(8):
                    dx, dy, dz = corner & 1, (corner >> 1) & 1, corner >> 2
                    wx = fx if dx else _ONE - fx
                    wy = fy if dy else _ONE - fy
                    wz = fz if dz else _ONE - fz
                    row = begin + _row(x + dx, y + dy, z + dz, side, rows)
                    value = table[row, k] * one + table[row, k + 1] * other
                    sum_x += (value if dx else -value) * wy * wz
                    sum_y += (value if dy else -value) * wx * wz
                    sum_z += (value if dz else -value) * wx * wy
            on_x += sum_x * s
            on_y += sum_y * s
            on_z += sum_z * s
        out[p, 0] = on_x * _pull_of(points[p, 0], _ONE)
        out[p, 1] = on_y * _pull_of(points[p, 1], _ONE)
        out[p, 2] = on_z * _pull_of(points[p, 2], _ONE)


@njit(forceinline=True)
def _change(corner, share, pull):  # noqa: ANN001, ANN202
    """Say how fast the weight of a corner grows when the point is pulled, in cells."""
    dx, dy, dz = corner & 1, (corner >> 1) & 1, corner >> 2
    wx = share[0] if dx else _ONE - share[0]
    wy = share[1] if dy else _ONE - share[1]
    wz = share[2] if dz else _ONE - share[2]
    along = (pull[0] if dx else -pull[0]) * wy * wz
    along += (pull[1] if dy else -pull[1]) * wx * wz
    return along + (pull[2] if dz else -pull[2]) * wx * wy


@njit
def _slope_back_table_kernel(  # noqa: ANN202, PLR0913
    first_job,  # noqa: ANN001
    last_job,  # noqa: ANN001
    points,  # noqa: ANN001
    upstream,  # noqa: ANN001
    pull,  # noqa: ANN001
    scale,  # noqa: ANN001
    resolution,  # noqa: ANN001
    first,  # noqa: ANN001
    out,  # noqa: ANN001
):
    count = out.shape[1]
    for level in range(first_job, last_job):
        s, side, begin = scale[level], resolution[level], first[level]
        rows = first[level + 1] - begin
        for p in range(len(points)):
            x, fx = _cell(points[p, 0], s)
            y, fy = _cell(points[p, 1], s)
            z, fz = _cell(points[p, 2], s)
            px = pull[p, 0] * _pull_of(points[p, 0], s)
            py = pull[p, 1] * _pull_of(points[p, 1], s)
            pz = pull[p, 2] * _pull_of(points[p, 2], s)
            for k in range(0, count, 2):
                one, other = upstream[p, level * count + k], upstream[p, level * count + k + 1]
                for corner in range(8):
                    change = _change(corner, (fx, fy, fz), (px, py, pz))
                    dx, dy, dz = corner & 1, (corner >> 1) & 1, corner >> 2
                    row = begin + _row(x + dx, y + dy, z + dz, side, rows)
                    out[row, k] += change * one
                    out[row, k + 1] += change * other


@njit
def _slope_back_upstream_kernel(  # noqa: ANN202, PLR0913
    first_job,  # noqa: ANN001
    last_job,  # noqa: ANN001
    points,  # noqa: ANN001
    table,  # noqa: ANN001
    pull,  # noqa: ANN001
    scale,  # noqa: ANN001
    resolution,  # noqa: ANN001
    first,  # noqa: ANN001
    active,  # noqa: ANN001
    out,  # noqa: ANN001
):
    count = table.shape[1]
    for p in range(first_job * _BLOCK, min(last_job * _BLOCK, len(points))):
        for level in range(active):
            s, side, begin = scale[level], resolution[level], first[level]
            rows = first[level + 1] - begin
            x, fx = _cell(points[p, 0], s)
            y, fy = _cell(points[p, 1], s)
            z, fz = _cell(points[p, 2], s)
            px = pull[p, 0] * _pull_of(points[p, 0], s)
            py = pull[p, 1] * _pull_of(points[p, 1], s)
            pz = pull[p, 2] * _pull_of(points[p, 2], s)
            for k in range(0, count, 2):
                one = other = _ZERO
                for corner in range(8):
                    change = _change(corner, (fx, fy, fz), (px, py, pz))
                    dx, dy, dz = corner & 1, (corner >> 1) & 1, corner >> 2
                    row = begin + _row(x + dx, y + dy, z + dz, side, rows)
                    one += change * table[row, k]
                    other += change * table[row, k + 1]
                out[p, level * count + k] = one
                out[p, level * count + k + 1] = other
