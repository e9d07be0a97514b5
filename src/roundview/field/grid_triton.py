"""GPU kernels of the hash grid: features, their slope, and the gradients of both.

Twins of those in `grid_numba.py`. No two programs write to one place and nothing is added up
atomically, so the same input gives the same bytes: what flows back into the table is sorted by
rows first, and each row is then summed in the order of the points.
"""

# Triton infers the types of kernels, takes arrays one by one, and writes constants in capitals.
# ruff: noqa: ANN001, ANN201, N803, PLR0913

import functools

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from ..kernels_triton import jit, launch_at
from .corners_triton import cell_of, pull_of, row_of, shares_of, signed, steepness, weight_of
from .grid import GridLayout

# Chosen by us without a GPU at hand, to be tuned.
_POINTS, _ROWS = 128, 32


def encode(
    points: Float[Tensor, "p 3"], table: Float[Tensor, "r f"], layout: GridLayout, active: int
) -> Float[Tensor, "p c"]:
    """Give the features of points; see `encode_reference`."""
    return _encoded(points, table, points, layout, active, pulled=False)


def encode_back(
    points: Float[Tensor, "p 3"],
    upstream: Float[Tensor, "p c"],
    rows: int,
    layout: GridLayout,
    active: int,
) -> Float[Tensor, "r f"]:
    """Give the gradient by the table."""
    return _gathered(points, upstream, points, rows, layout, active, pulled=False)


def slope(
    points: Float[Tensor, "p 3"],
    table: Float[Tensor, "r f"],
    upstream: Float[Tensor, "p c"],
    layout: GridLayout,
    active: int,
) -> Float[Tensor, "p 3"]:
    """Give the gradient of the features times `upstream` by the points."""
    points, table, upstream = points.contiguous(), table.contiguous(), upstream.contiguous()
    out = torch.empty_like(points)
    launch_at(
        slope_kernel,
        (triton.cdiv(len(points), _POINTS),),
        points.device,
        points,
        table,
        upstream,
        *_levels(layout, points.device),
        out,
        len(points),
        active,
        upstream.shape[1],
        F=table.shape[1],
        BLOCK=_POINTS,
    )
    return out


def slope_back(
    points: Float[Tensor, "p 3"],
    table: Float[Tensor, "r f"],
    upstream: Float[Tensor, "p c"],
    pull: Float[Tensor, "p 3"],
    layout: GridLayout,
    active: int,
) -> tuple[Float[Tensor, "r f"], Float[Tensor, "p c"]]:
    """Give the gradients of `slope` by the table and by `upstream`."""
    on_table = _gathered(points, upstream, pull, len(table), layout, active, pulled=True)
    return on_table, _encoded(points, table, pull, layout, active, pulled=True)


def _encoded(
    points: Tensor, table: Tensor, pull: Tensor, layout: GridLayout, active: int, *, pulled: bool
) -> Tensor:
    """Add up nodes by the weights of their corners, or by how these change when points are pulled.

    Sums are of the same kind in `encode` and in the gradient of `slope` by `upstream`.
    """
    points, table, pull = points.contiguous(), table.contiguous(), pull.contiguous()
    features = table.shape[1]
    out = table.new_zeros(len(points), len(layout.scale) * features)
    launch_at(
        encode_kernel,
        (triton.cdiv(len(points), _POINTS), active),
        points.device,
        points,
        table,
        pull,
        *_levels(layout, points.device),
        out,
        len(points),
        out.shape[1],
        F=features,
        PULLED=pulled,
        BLOCK=_POINTS,
    )
    return out


def _gathered(
    points: Tensor,
    upstream: Tensor,
    pull: Tensor,
    rows: int,
    layout: GridLayout,
    active: int,
    *,
    pulled: bool,
) -> Tensor:
    """Take `_encoded` back to the table, level by level, to bound the memory of the sorting."""
    points, upstream, pull = points.contiguous(), upstream.contiguous(), pull.contiguous()
    count, features = len(points), upstream.shape[1] // len(layout.scale)
    on_table = upstream.new_zeros(rows, features)
    row = torch.empty(count * 8, dtype=torch.int64, device=points.device)
    weight = upstream.new_empty(count * 8)
    for level in range(active if count else 0):
        launch_at(
            corner_kernel,
            (triton.cdiv(count, _POINTS),),
            points.device,
            points,
            pull,
            *_levels(layout, points.device),
            row,
            weight,
            count,
            level,
            PULLED=pulled,
            BLOCK=_POINTS,
        )
        sorted_row, order = row.sort(stable=True)
        first, last = int(layout.first[level]), int(layout.first[level + 1])
        edges = torch.searchsorted(sorted_row, torch.arange(first, last + 1, device=points.device))
        launch_at(
            sum_kernel,
            (triton.cdiv(last - first, _ROWS),),
            points.device,
            edges,
            order,
            weight,
            upstream,
            on_table,
            last - first,
            first,
            level * features,
            upstream.shape[1],
            F=features,
            BLOCK=_ROWS,
            num_warps=1,  # As long as its fullest row: it should not keep others waiting.
        )
    return on_table


@functools.lru_cache(maxsize=32)
def _levels(layout: GridLayout, place: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Give scale, nodes along a side, and first row of each level."""
    numbers = (layout.scale, layout.resolution, layout.first)
    scale, side, first = (torch.from_numpy(part).to(place) for part in numbers)
    return scale, side, first


@jit
def encode_kernel(
    points,
    table,
    pull,
    scales,
    sides,
    firsts,
    out,
    count,
    width,
    F: tl.constexpr,
    PULLED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the features of one level. A program is a block of points, on a level."""
    p = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    level = tl.program_id(1)
    here = p < count
    low, share = cell_of(points, scales, p, level, here)
    along = pull_of(points, pull, scales, p, level, here, PULLED)
    for k in tl.static_range(F):
        total = tl.zeros((BLOCK,), tl.float32)
        for corner in tl.static_range(8):
            weight = weight_of(share, along, corner, PULLED)
            at = row_of(low, sides, firsts, level, corner)
            total += weight * tl.load(table + at * F + k, mask=here, other=0.0)
        tl.store(out + p * width + level * F + k, total, mask=here)


@jit
def corner_kernel(
    points,
    pull,
    scales,
    sides,
    firsts,
    rows,
    weights,
    count,
    level,
    PULLED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the table's rows and the weights of the eight corners. A program is a block of points.

    Args:
        points: count x 3.
        pull: count x 3; not read unless PULLED.
        scales: Of each level, as the next two.
        sides: Nodes along a side.
        firsts: First row.
        rows: count x 8, written.
        weights: count x 8, written.
        count: Of points.
        level: Which one.
        PULLED: Weights say how those of the corners change when the points are pulled.
        BLOCK: Points of a program.
    """
    p = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    here = p < count
    low, share = cell_of(points, scales, p, level, here)
    along = pull_of(points, pull, scales, p, level, here, PULLED)
    for corner in tl.static_range(8):
        tl.store(rows + p * 8 + corner, row_of(low, sides, firsts, level, corner), mask=here)
        tl.store(weights + p * 8 + corner, weight_of(share, along, corner, PULLED), mask=here)


@jit
def sum_kernel(
    edges,
    order,
    weights,
    upstream,
    out,
    count,
    first,
    column,
    width,
    F: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Sum what flows to each row of the table. A program is a block of rows.

    Args:
        edges: Where the corners of each row begin in `order`, and one entry more.
        order: Corners (eight a point) sorted by row.
        weights: Of the corners.
        upstream: points x width.
        out: The table's gradient, written from row `first` on.
        count: Rows of the level.
        first: Row at which it begins.
        column: At which its features begin in `upstream`.
        width: Of `upstream`.
        F: Features of a row.
        BLOCK: Rows of a program.
    """
    r = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    here = r < count
    begin = tl.load(edges + r, mask=here, other=0)
    end = tl.load(edges + r + 1, mask=here, other=0)
    for k in tl.static_range(F):
        total = tl.zeros((BLOCK,), tl.float32)
        at = begin
        while tl.max(end - at) > 0:
            live = at < end
            corner = tl.load(order + at, mask=live, other=0)
            weight = tl.load(weights + corner, mask=live, other=0.0)
            value = tl.load(upstream + (corner // 8) * width + column + k, mask=live, other=0.0)
            total += weight * value
            at += 1
        tl.store(out + (first + r) * F + k, total, mask=here)


@jit
def slope_kernel(
    points,
    table,
    upstream,
    scales,
    sides,
    firsts,
    out,
    count,
    active,
    width,
    F: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write how the features times `upstream` change with the points. A program is a block."""
    p = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    here = p < count
    on_x = tl.zeros((BLOCK,), tl.float32)
    on_y = tl.zeros((BLOCK,), tl.float32)
    on_z = tl.zeros((BLOCK,), tl.float32)
    level = tl.program_id(0) * 0
    while level < active:
        low, share = cell_of(points, scales, p, level, here)
        steep = steepness(points, scales, p, level, here)
        for corner in tl.static_range(8):
            at = row_of(low, sides, firsts, level, corner)
            value = tl.zeros((BLOCK,), tl.float32)
            for k in tl.static_range(F):
                up = tl.load(upstream + p * width + level * F + k, mask=here, other=0.0)
                value += up * tl.load(table + at * F + k, mask=here, other=0.0)
            wx, wy, wz = shares_of(share, corner)
            on_x += signed(value, corner % 2) * wy * wz * steep[0]
            on_y += signed(value, corner // 2 % 2) * wx * wz * steep[1]
            on_z += signed(value, corner // 4) * wx * wy * steep[2]
        level += 1
    tl.store(out + 3 * p, on_x, mask=here)
    tl.store(out + 3 * p + 1, on_y, mask=here)
    tl.store(out + 3 * p + 2, on_z, mask=here)
