"""What the GPU kernels of the hash grid share: cells, their corners, and where these are kept."""

# Triton infers the types of kernels, takes arrays one by one, and writes constants in capitals.
# ruff: noqa: ANN001, ANN201, ANN202, N803

import triton.language as tl

from ..kernels_triton import jit

_PRIME_Y, _PRIME_Z = tl.constexpr(2654435761), tl.constexpr(805459861)


@jit
def cell_of(points, scales, p, level, here):
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
def steepness(points, scales, p, level, here):
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
def pull_of(points, pull, scales, p, level, here, PULLED: tl.constexpr):
    """How far the places in the grid are pulled, in cells; 0 if they are not."""
    if PULLED:
        steep = steepness(points, scales, p, level, here)
        x = steep[0] * tl.load(pull + 3 * p, mask=here, other=0.0)
        y = steep[1] * tl.load(pull + 3 * p + 1, mask=here, other=0.0)
        z = steep[2] * tl.load(pull + 3 * p + 2, mask=here, other=0.0)
        result = x, y, z
    else:
        zero = p.to(tl.float32) * 0.0
        result = zero, zero, zero
    return result


@jit
def row_of(low, sides, firsts, level, CORNER: tl.constexpr):
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
def weight_of(share, along, CORNER: tl.constexpr, PULLED: tl.constexpr):
    """Weight of a corner, or how it changes when the point is pulled."""
    wx, wy, wz = shares_of(share, CORNER)
    if PULLED:
        result = signed(along[0], CORNER % 2) * wy * wz
        result += signed(along[1], CORNER // 2 % 2) * wx * wz
        result += signed(along[2], CORNER // 4) * wx * wy
    else:
        result = wx * wy * wz
    return result


@jit
def shares_of(share, CORNER: tl.constexpr):
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
def signed(value, UPPER: tl.constexpr):
    """The value at the upper corner of an axis, its negative at the lower one."""
    return value if UPPER else -value
