"""CPU kernels of the hash grid: features, their slope, and the gradients of both.

What writes to points is cut by points; what writes to the table is cut by levels, so that no two
threads meet and sums keep their order. Features go two by two, in registers.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..kernels import njit, run_jobs
from .grid import GridLayout

_F, _U = np.float32, np.uint32
_ONE, _HALF, _ZERO = _F(1), _F(0.5), _F(0)
_PRIME_Y, _PRIME_Z = _U(2654435761), _U(805459861)
_BLOCK = 256
"""Points that one job takes."""


def encode(
    points: Float[Tensor, "p 3"], table: Float[Tensor, "r f"], layout: GridLayout, active: int
) -> Float[Tensor, "p c"]:
    """Give the features of points; see `encode_reference`."""
    at, numbers = _array(points), _array(table)
    out = np.zeros((len(at), len(layout.scale) * numbers.shape[1]), np.float32)
    run_jobs(_encode_kernel, _blocks(at), at, numbers, *_levels(layout), active, out, at_least=2)
    return torch.from_numpy(out)


def encode_back(
    points: Float[Tensor, "p 3"],
    upstream: Float[Tensor, "p c"],
    rows: int,
    layout: GridLayout,
    active: int,
) -> Float[Tensor, "r f"]:
    """Give the gradient by the table, of so many rows."""
    out = np.zeros((rows, upstream.shape[1] // len(layout.scale)), np.float32)
    run_jobs(_encode_back_kernel, active, _array(points), _array(upstream), *_levels(layout), out)
    return torch.from_numpy(out)


def slope(
    points: Float[Tensor, "p 3"],
    table: Float[Tensor, "r f"],
    upstream: Float[Tensor, "p c"],
    layout: GridLayout,
    active: int,
) -> Float[Tensor, "p 3"]:
    """Give the gradient of the features times `upstream` by the points."""
    at = _array(points)
    out = np.empty((len(at), 3), np.float32)
    inputs = (at, _array(table), _array(upstream))
    run_jobs(_slope_kernel, _blocks(at), *inputs, *_levels(layout), active, out, at_least=2)
    return torch.from_numpy(out)


def slope_back(
    points: Float[Tensor, "p 3"],
    table: Float[Tensor, "r f"],
    upstream: Float[Tensor, "p c"],
    pull: Float[Tensor, "p 3"],
    layout: GridLayout,
    active: int,
) -> tuple[Float[Tensor, "r f"], Float[Tensor, "p c"]]:
    """Give the gradients of `slope` by the table and by `upstream`."""
    at, numbers, along, levels = _array(points), _array(table), _array(pull), _levels(layout)
    on_table, on_upstream = np.zeros_like(numbers), np.zeros(upstream.shape, np.float32)
    run_jobs(_slope_back_table_kernel, active, at, _array(upstream), along, *levels, on_table)
    run_jobs(
        _slope_back_upstream_kernel,
        _blocks(at),
        at,
        numbers,
        along,
        *levels,
        active,
        on_upstream,
        at_least=2,
    )
    return torch.from_numpy(on_table), torch.from_numpy(on_upstream)


def _levels(layout: GridLayout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return layout.scale, layout.resolution, layout.first


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.numpy())


def _blocks(points: NDArray[np.float32]) -> int:
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
