"""GPU kernels that find the tiles that each ellipse reaches.

A visit of an ellipse to a tile is a pair. In each row of tiles the outline of the ellipse, where
its alpha is ALPHA_MIN, spans an interval of columns; only those are paired, about half of what the
box round the ellipse would give.
"""

# Triton infers the types of kernels, takes arrays one by one, and writes constants in capitals.
# ruff: noqa: ANN001, ANN201, ANN202, N803, PLR0913

import triton.language as tl

from ..kernels_triton import jit

# Widens the ellipse against rounding: a pair too many costs little, a pixel too few is an error.
_SLACK = tl.constexpr(1e-3)
_RELATIVE_SLACK = tl.constexpr(1e-6)


@jit
def count_kernel(
    records, depths, counts, total, height, width, TILE: tl.constexpr, BLOCK: tl.constexpr
):
    """Count the tiles of each ellipse. A program is a block of ellipses, of all cameras.

    Args:
        records: total x 16, see `project_triton.py`.
        depths: total, infinite for what cannot be seen.
        counts: total, int32, written.
        total: Number of ellipses, n * g.
        height: Rows of the pictures.
        width: Columns of the pictures.
        TILE: Side of a tile, pixels.
        BLOCK: Ellipses of a program.
    """
    e = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    here = e < total
    seen = tl.load(depths + e, mask=here, other=float("inf")) < float("inf")
    outline = _load_outline(records, e, seen)
    row, last_row = _rows(outline, seen, height, TILE)
    count = row * 0
    while tl.max(last_row - row) > 0:
        first, last = _columns(outline, row, width, TILE)
        count += tl.where(row < last_row, last - first, 0)
        row += 1
    tl.store(counts + e, count, mask=here)


@jit
def pair_kernel(
    records,
    order,
    ends,
    counts,
    keys,
    owners,
    total,
    g,
    height,
    width,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the pairs, nearest ellipses first. A program is a block of ellipses, of all cameras.

    Args:
        records: See `count_kernel`.
        order: total, int64: the ellipses by depth.
        ends: total, int64: where the pairs of each end, in this order.
        counts: total, int32, of `count_kernel`.
        keys: Number of the tile of each pair, counted through all cameras; written. Must be
            filled with a number beyond the last tile: should the compiler round here otherwise
            than in `count_kernel`, a pair too many was counted and keeps it.
        owners: Ellipse of each pair, written.
        total: Number of ellipses, n * g.
        g: Number of Gaussians.
        height: Rows of the pictures.
        width: Columns of the pictures.
        TILE: Side of a tile, pixels.
        BLOCK: Ellipses of a program.
    """
    j = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    here = j < total
    e = tl.load(order + j, mask=here, other=0)
    left = tl.load(counts + e, mask=here, other=0)
    at = tl.load(ends + j, mask=here, other=0) - left
    outline = _load_outline(records, e, left > 0)
    row, last_row = _rows(outline, left > 0, height, TILE)
    column, last = _columns(outline, row, width, TILE)
    across = (width + TILE - 1) // TILE
    first_tile = e // g * ((height + TILE - 1) // TILE * across)
    while tl.max(tl.where(row < last_row, left, 0)) > 0:
        live = (left > 0) & (row < last_row) & (column < last)
        key = first_tile + row * across + column
        tl.store(keys + at, key.to(keys.dtype.element_ty), mask=live)
        tl.store(owners + at, e.to(tl.int32), mask=live)
        at += live.to(tl.int64)
        left -= live.to(tl.int32)
        column += 1
        row += (column >= last).to(tl.int32)
        first, next_last = _columns(outline, row, width, TILE)
        column = tl.where(column >= last, first, column)
        last = next_last


@jit
def _load_outline(records, e, seen):
    """Middle, shear, one over sharp_x, sharp_y, reaches, power and tip of ellipses."""
    at = records + 16 * e
    x, y = tl.load(at, mask=seen, other=0.0), tl.load(at + 1, mask=seen, other=0.0)
    shear = tl.load(at + 2, mask=seen, other=0.0)
    thick = 1.0 / tl.load(at + 3, mask=seen, other=1.0)
    sharp = tl.load(at + 4, mask=seen, other=1.0)
    reach_x, reach_y = (
        tl.load(at + 10, mask=seen, other=0.0),
        tl.load(at + 11, mask=seen, other=0.0),
    )
    power, tip = tl.load(at + 12, mask=seen, other=0.0), tl.load(at + 13, mask=seen, other=0.0)
    return x, y, shear, thick, sharp, reach_x, reach_y, power, tip


@jit
def _rows(outline, seen, height, TILE: tl.constexpr):
    """The first row of tiles that an ellipse reaches, and the one after the last."""
    y = outline[1]
    reach = outline[6] + _SLACK + _RELATIVE_SLACK * (tl.abs(y) + outline[6])
    low = tl.maximum(tl.ceil(y - reach - 0.5), 0.0)
    high = tl.minimum(tl.floor(y + reach - 0.5), height - 1.0)
    first = tl.where(seen, low, 0.0).to(tl.int32) // TILE
    last = tl.where(seen & (low <= high), high, -1.0 * TILE).to(tl.int32) // TILE + 1
    return first, last


@jit
def _columns(outline, row, width, TILE: tl.constexpr):
    """The first tile that an ellipse reaches in a row of tiles, and the one after the last."""
    x, y, shear, thick, sharp, reach_x, _, power, tip = outline
    top = row * TILE + 0.5 - y
    bottom = top + (TILE - 1.0)
    # The edge of an ellipse bulges most at the tip, or as near to it as the row allows.
    right_y = tl.minimum(tl.maximum(tip, top), bottom)
    left_y = tl.minimum(tl.maximum(-tip, top), bottom)
    slack = _SLACK + _RELATIVE_SLACK * (tl.abs(x) + reach_x)
    right = x + shear * right_y + thick * _half_chord(right_y * sharp, power) + slack
    left = x + shear * left_y - thick * _half_chord(left_y * sharp, power) - slack
    low = tl.maximum(tl.ceil(left - 0.5), 0.0)
    high = tl.minimum(tl.floor(right - 0.5), width - 1.0)
    reached = low <= high
    first = tl.where(reached, low, 0.0).to(tl.int32) // TILE
    last = tl.where(reached, high + TILE, 0.0).to(tl.int32) // TILE
    return first, last


@jit
def _half_chord(q, power):
    return tl.sqrt(tl.maximum(power - q * q, 0.0))
