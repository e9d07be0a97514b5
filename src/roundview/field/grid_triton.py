"""GPU kernels of the hash grid: features, their slope, and the gradients of both.

Twins of those in `grid_numba.py`. No two programs write to one place and nothing is added up
atomically, so the same input gives the same bytes: what flows back into the table is sorted by
rows first, and each row is then summed in the order of the points.
"""

# Triton infers the types of kernels, takes arrays one by one, and writes constants in capitals.
# ruff: noqa: ANN001, ANN201, ANN202, N803, PLR0913

import functools

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from .grid import GridLayout
from .jit_triton import jit, launch

_PRIME_Y, _PRIME_Z = tl.constexpr(2654435761), tl.constexpr(805459861)
# Chosen by us without a GPU at hand, to be tuned.
_POINTS, _ROWS = 128, 64


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
    launch(
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
    launch(
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
        launch(
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
        launch(
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
    low, share = _cell(points, scales, p, level, here)
    along = _pull(points, pull, scales, p, level, here, PULLED)
    for k in tl.static_range(F):
        total = tl.zeros((BLOCK,), tl.float32)
        for corner in tl.static_range(8):
            weight = _weight(share, along, corner, PULLED)
            at = _row(low, sides, firsts, level, corner)
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
    low, share = _cell(points, scales, p, level, here)
    along = _pull(points, pull, scales, p, level, here, PULLED)
    for corner in tl.static_range(8):
        tl.store(rows + p * 8 + corner, _row(low, sides, firsts, level, corner), mask=here)
        tl.store(weights + p * 8 + corner, _weight(share, along, corner, PULLED), mask=here)


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
        low, share = _cell(points, scales, p, level, here)
        steep = _steep(points, scales, p, level, here)
        for corner in tl.static_range(8):
            at = _row(low, sides, firsts, level, corner)
            value = tl.zeros((BLOCK,), tl.float32)
            for k in tl.static_range(F):
                up = tl.load(upstream + p * width + level * F + k, mask=here, other=0.0)
                value += up * tl.load(table + at * F + k, mask=here, other=0.0)
            wx, wy, wz = _shares(share, corner)
            on_x += _signed(value, corner % 2) * wy * wz * steep[0]
            on_y += _signed(value, corner // 2 % 2) * wx * wz * steep[1]
            on_z += _signed(value, corner // 4) * wx * wy * steep[2]
        level += 1
    tl.store(out + 3 * p, on_x, mask=here)
    tl.store(out + 3 * p + 1, on_y, mask=here)
    tl.store(out + 3 * p + 2, on_z, mask=here)


@jit
def _cell(points, scales, p, level, here):
    """Lowest node of the cell that points lie in, and how near they are to the opposite one."""
    scale = tl.load(scales + level)
    x = _placed(tl.load(points + 3 * p, mask=here, other=0.0), scale)
    y = _placed(tl.load(points + 3 * p + 1, mask=here, other=0.0), scale)
    z = _placed(tl.load(points + 3 * p + 2, mask=here, other=0.0), scale)
    low_x, low_y, low_z = tl.floor(x), tl.floor(y), tl.floor(z)
    low = low_x.to(tl.int64), low_y.to(tl.int64), low_z.to(tl.int64)
    return low, (x - low_x, y - low_y, z - low_z)


@jit
def _placed(value, scale):
    return tl.minimum(tl.maximum(value, 0.0), 1.0) * scale + 0.5


@jit
def _steep(points, scales, p, level, here):
    """How fast the place in the grid grows with the point: not at all beyond the border."""
    scale = tl.load(scales + level)
    x = tl.load(points + 3 * p, mask=here, other=0.0)
    y = tl.load(points + 3 * p + 1, mask=here, other=0.0)
    z = tl.load(points + 3 * p + 2, mask=here, other=0.0)
    return (
        tl.where((x >= 0.0) & (x <= 1.0), scale, 0.0),
        tl.where((y >= 0.0) & (y <= 1.0), scale, 0.0),
        tl.where((z >= 0.0) & (z <= 1.0), scale, 0.0),
    )


@jit
def _pull(points, pull, scales, p, level, here, PULLED: tl.constexpr):
    """How far the places in the grid are pulled, in cells; 0 if they are not."""
    if PULLED:
        steep = _steep(points, scales, p, level, here)
        x = steep[0] * tl.load(pull + 3 * p, mask=here, other=0.0)
        y = steep[1] * tl.load(pull + 3 * p + 1, mask=here, other=0.0)
        z = steep[2] * tl.load(pull + 3 * p + 2, mask=here, other=0.0)
        result = x, y, z
    else:
        zero = p.to(tl.float32) * 0.0
        result = zero, zero, zero
    return result


@jit
def _row(low, sides, firsts, level, CORNER: tl.constexpr):
    """Row of a corner in the table: in order where all nodes of the level fit, else by the hash."""
    side = tl.load(sides + level)
    first = tl.load(firsts + level)
    rows = tl.load(firsts + level + 1) - first
    x = low[0] + CORNER % 2
    y = low[1] + CORNER // 2 % 2
    z = low[2] + CORNER // 4
    ordered = (x + side * (y + side * z)) % rows
    # A hashed level is full and has a power of two of rows, so the higher bits do not count.
    hashed = (x ^ (y * _PRIME_Y) ^ (z * _PRIME_Z)) & (rows - 1)
    return first + tl.where(side * side * side <= rows, ordered, hashed)


@jit
def _weight(share, along, CORNER: tl.constexpr, PULLED: tl.constexpr):
    """Weight of a corner, or how it changes when the point is pulled."""
    wx, wy, wz = _shares(share, CORNER)
    if PULLED:
        result = _signed(along[0], CORNER % 2) * wy * wz
        result += _signed(along[1], CORNER // 2 % 2) * wx * wz
        result += _signed(along[2], CORNER // 4) * wx * wy
    else:
        result = wx * wy * wz
    return result


@jit
def _shares(share, CORNER: tl.constexpr):
    """Weights of a corner along the three axes."""
    return (
        _share(share[0], CORNER % 2),
        _share(share[1], CORNER // 2 % 2),
        _share(share[2], CORNER // 4),
    )


@jit
def _share(share, UPPER: tl.constexpr):
    return share if UPPER else 1.0 - share


@jit
def _signed(value, UPPER: tl.constexpr):
    return value if UPPER else -value
