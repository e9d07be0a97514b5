"""GPU kernels that composite ellipses in the tiles of the picture, and the way back.

Twin of `_composite_tile` in `render.py`. A program is a tile of one camera. It takes its ellipses
one by one, nearest first; their ten numbers are the same for all threads and come out of the cache.
So few warps with several pixels a thread are best: they share the loads, and on the way back most
of the sum over a tile happens within a thread.

On the way back each pair of ellipse and tile has a slot of its own for its gradient. There are no
atomics, and the sums come out the same each time; it costs 40 bytes a pair.
"""

# Triton infers the types of kernels, takes arrays one by one, and writes constants in capitals.
# ruff: noqa: ANN001, ANN201, ANN202, N803, PLR0913

import triton.language as tl

from ..kernels_triton import jit
from .render import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

SLOT = 10
"""What a slot holds: moments of the gradient with respect to the power (of 1, p, q, p p, p q, q q
in the record's p and q); then the gradients of colour and depth."""

_ALPHA_MAX, _ALPHA_MIN = tl.constexpr(ALPHA_MAX), tl.constexpr(ALPHA_MIN)
_T_MIN, _SLOT = tl.constexpr(TRANSMITTANCE_MIN), tl.constexpr(SLOT)


@jit
def draw_kernel(
    records,
    listed,
    bounds,
    background,
    rgb,
    alpha,
    depth,
    light,
    height,
    width,
    TILE: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Composite a tile.

    Args:
        records: n x g x 16, see `project_triton.py`.
        listed: The ellipse of each pair, by tile and then by depth.
        bounds: One more than there are tiles: where the pairs of each begin.
        background: Three colour values.
        rgb: n x h x w x 3, written.
        alpha: n x h x w, written.
        depth: n x h x w, written.
        light: n x h x w x 4: sums of rgb and depth, written; kept for the way back.
        height: Rows of the pictures.
        width: Columns of the pictures.
        TILE: Side of a tile, pixels.
        CHUNK: Ellipses between two looks at whether any light is left.
    """
    tile = tl.program_id(0)
    x, y, pixel, inside = _pixels(tile, height, width, TILE)
    left = tl.where(inside, 1.0, 0.0)
    red, green, blue, far = x * 0.0, x * 0.0, x * 0.0, x * 0.0
    seen = x * 0.0
    at, end = tl.load(bounds + tile), tl.load(bounds + tile + 1)
    while at < end:
        stop = tl.minimum(at + CHUNK, end)
        while at < stop:
            e = records + tl.load(listed + at).to(tl.int64) * 16
            raw, _, _ = _opacity_at(e, x, y)
            a = tl.minimum(raw, _ALPHA_MAX)
            a = tl.where(a >= _ALPHA_MIN, a, 0.0)
            share = a * left
            left -= share
            share = tl.where(left >= _T_MIN, share, 0.0)
            red += share * tl.maximum(tl.load(e + 6), 0.0)
            green += share * tl.maximum(tl.load(e + 7), 0.0)
            blue += share * tl.maximum(tl.load(e + 8), 0.0)
            far += share * tl.load(e + 9)
            # Summed up, because 1 - left has few correct digits where the picture is faint.
            seen += share
            at += 1
        at = tl.where(tl.max(left) >= _T_MIN, at, end)
    tl.store(rgb + 3 * pixel, red + (1.0 - seen) * tl.load(background), mask=inside)
    tl.store(rgb + 3 * pixel + 1, green + (1.0 - seen) * tl.load(background + 1), mask=inside)
    tl.store(rgb + 3 * pixel + 2, blue + (1.0 - seen) * tl.load(background + 2), mask=inside)
    tl.store(alpha + pixel, seen, mask=inside)
    tl.store(depth + pixel, far / tl.where(seen > 0.0, seen, 1.0), mask=inside)
    tl.store(light + 4 * pixel, red, mask=inside)
    tl.store(light + 4 * pixel + 1, green, mask=inside)
    tl.store(light + 4 * pixel + 2, blue, mask=inside)
    tl.store(light + 4 * pixel + 3, far, mask=inside)


@jit
def draw_backward_kernel(
    records,
    listed,
    slot_of,
    bounds,
    background,
    alpha,
    light,
    d_rgb,
    d_alpha,
    d_depth,
    slots,
    height,
    width,
    TILE: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Go through a tile front to back again, with the loss still to come from behind.

    An ellipse of opacity a gains T v from its own light, where T is the light before it and v what
    the loss gains from light of its colour; and it takes from all behind it R / (1 - a), where R
    is what they give.

    Args:
        records: See `draw_kernel`.
        listed: See there.
        slot_of: The slot of each pair, int64.
        bounds: See there.
        background: See there.
        alpha: As `draw_kernel` left it.
        light: As `draw_kernel` left it.
        d_rgb: Gradient of rgb; and so on.
        d_alpha: See there.
        d_depth: See there.
        slots: pairs x SLOT, zeros; written.
        height: Rows of the pictures.
        width: Columns of the pictures.
        TILE: Side of a tile, pixels.
        CHUNK: Ellipses between two looks at whether any light is left.
    """
    tile = tl.program_id(0)
    x, y, pixel, inside = _pixels(tile, height, width, TILE)
    d_red = tl.load(d_rgb + 3 * pixel, mask=inside, other=0.0)
    d_green = tl.load(d_rgb + 3 * pixel + 1, mask=inside, other=0.0)
    d_blue = tl.load(d_rgb + 3 * pixel + 2, mask=inside, other=0.0)
    seen = tl.load(alpha + pixel, mask=inside, other=0.0)
    far = tl.load(light + 4 * pixel + 3, mask=inside, other=0.0)
    # What the loss gains from the depth's sum, and from alpha: the background it hides, and the
    # depth's divisor.
    some = tl.where(seen > 0.0, seen, 1.0)
    d_far = tl.load(d_depth + pixel, mask=inside, other=0.0) / some
    d_far = tl.where(seen > 0.0, d_far, 0.0)
    d_seen = tl.load(d_alpha + pixel, mask=inside, other=0.0) - d_far * far / some
    d_seen -= d_red * tl.load(background)
    d_seen -= d_green * tl.load(background + 1)
    d_seen -= d_blue * tl.load(background + 2)
    coming = d_seen * seen + d_far * far
    coming += d_red * tl.load(light + 4 * pixel, mask=inside, other=0.0)
    coming += d_green * tl.load(light + 4 * pixel + 1, mask=inside, other=0.0)
    coming += d_blue * tl.load(light + 4 * pixel + 2, mask=inside, other=0.0)
    left = tl.where(inside, 1.0, 0.0)
    at, end = tl.load(bounds + tile), tl.load(bounds + tile + 1)
    while at < end:
        stop = tl.minimum(at + CHUNK, end)
        while at < stop:
            e = records + tl.load(listed + at).to(tl.int64) * 16
            raw, p, q = _opacity_at(e, x, y)
            a = tl.minimum(raw, _ALPHA_MAX)
            a = tl.where(a >= _ALPHA_MIN, a, 0.0)
            share = a * left
            left -= share
            live = left >= _T_MIN
            share = tl.where(live, share, 0.0)
            gain = d_red * tl.maximum(tl.load(e + 6), 0.0) + d_seen
            gain += d_green * tl.maximum(tl.load(e + 7), 0.0)
            gain += d_blue * tl.maximum(tl.load(e + 8), 0.0)
            gain += d_far * tl.load(e + 9)
            own = share * gain
            coming -= own
            d_power = a * coming / (1.0 - a) - own
            d_power = tl.where(live & (raw <= _ALPHA_MAX), d_power, 0.0)
            d_p, d_q = d_power * p, d_power * q
            k = tl.arange(0, 16)
            slot = tl.where(k == 0, tl.sum(d_power), 0.0)
            slot = tl.where(k == 1, tl.sum(d_p), slot)
            slot = tl.where(k == 2, tl.sum(d_q), slot)
            slot = tl.where(k == 3, tl.sum(d_p * p), slot)
            slot = tl.where(k == 4, tl.sum(d_p * q), slot)
            slot = tl.where(k == 5, tl.sum(d_q * q), slot)
            slot = tl.where(k == 6, tl.sum(share * d_red), slot)
            slot = tl.where(k == 7, tl.sum(share * d_green), slot)
            slot = tl.where(k == 8, tl.sum(share * d_blue), slot)
            slot = tl.where(k == 9, tl.sum(share * d_far), slot)
            # One store of 40 bytes: ten of 4 would each be a transaction.
            tl.store(slots + tl.load(slot_of + at) * _SLOT + k, slot, mask=k < _SLOT)
            at += 1
        at = tl.where(tl.max(left) >= _T_MIN, at, end)


@jit
def _pixels(tile, height, width, TILE: tl.constexpr):
    """Centres of a tile's pixels, their places in the pictures, and which are inside."""
    across = (width + TILE - 1) // TILE
    tiles = (height + TILE - 1) // TILE * across
    within = tile % tiles
    k = tl.arange(0, TILE * TILE)
    column = within % across * TILE + k % TILE
    row = within // across * TILE + k // TILE
    pixel = ((tile // tiles).to(tl.int64) * height + row) * width + column
    inside = (row < height) & (column < width)
    return column.to(tl.float32) + 0.5, row.to(tl.float32) + 0.5, pixel, inside


@jit
def _opacity_at(e, x, y):
    """Opacity of an ellipse (its record) at pixels, before the threshold and the cap; p and q."""
    dy = y - tl.load(e + 1)
    p = (x - tl.load(e) - tl.load(e + 2) * dy) * tl.load(e + 3)
    q = dy * tl.load(e + 4)
    return tl.load(e + 5) * tl.exp(-(p * p + q * q)), p, q


@jit
def sum_slots_kernel(
    slots, starts, counts, d_records, total, BLOCK: tl.constexpr, CHUNK: tl.constexpr
):
    """Add up the slots of each ellipse. A program is a block of ellipses, of all cameras.

    Args:
        slots: See `draw_backward_kernel`.
        starts: total, int64: the first slot of each ellipse.
        counts: total, int32: how many slots it has.
        d_records: total x 16, written: the sums, then zeros.
        total: Number of ellipses, n * g.
        BLOCK: Ellipses of a program.
        CHUNK: Slots of each that are loaded at once.
    """
    e = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    here = e < total
    start = tl.load(starts + e, mask=here, other=0)
    count = tl.load(counts + e, mask=here, other=0)
    k = tl.arange(0, 16)
    total_of = tl.zeros((BLOCK, 16), tl.float32)
    most = tl.max(count)
    done = most * 0
    while done < most:
        some = done + tl.arange(0, CHUNK)
        at = (start[:, None] + some[None, :])[:, :, None] * _SLOT + k[None, None, :]
        mask = (some[None, :] < count[:, None])[:, :, None] & (k < _SLOT)[None, None, :]
        total_of += tl.sum(tl.load(slots + at, mask=mask, other=0.0), axis=1)
        done += CHUNK
    tl.store(d_records + e[:, None] * 16 + k[None, :], total_of, mask=here[:, None])
