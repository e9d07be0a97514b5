"""GPU kernels that find outlines and smooth them, and take slopes back through the smoothing.

Twin of `antialias.py`, with the same tests. Each edge of each view that is an outline is cut into
the lines of pixel centres that it meets, and every piece claims its pair of pixels by an atomic
maximum of 64 bits, reach above number: a maximum does not depend on the order. The smoothing and
its way back only gather: a pixel asks the four pairs that it belongs to. So the same input gives
the same bytes.
"""

# Triton infers the types of kernels, takes arrays one by one, and writes constants in capitals.
# ruff: noqa: ANN001, ANN201, ANN202, N803, PLR0913

from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from ..kernels_triton import jit, on
from .antialias import Crossings, Edges, listed
from .raster import NEAR

_NEAR = tl.constexpr(NEAR)
_NOTHING = -(2**63)
_LAST = tl.constexpr(0xFFFFFFFF)
# Chosen by us without a GPU at hand, to be tuned.
_EDGES, _PIECES, _PIXELS = 128, 128, 64


def find_crossings_triton(
    face_at: Int[Tensor, "n h w"],
    depth: Float[Tensor, "n h w"],
    pixel: Float[Tensor, "n v 2"],
    away: Float[Tensor, "n v"],
    edges: Edges,
) -> Crossings:
    """Find the outlines between pixels of a picture, on a GPU; see `antialias.find_crossings`.

    Raises:
        ValueError: If there are too many edges and views.
    """
    (n, h, w), count = face_at.shape, len(edges.ends)
    if n * count >= 2**31:
        raise ValueError(f"{n} views times {count} edges must be below 2^31; draw fewer at a time")
    device = face_at.device
    keys = torch.full((n, 2, h, w), _NOTHING, dtype=torch.int64, device=device)
    places = (pixel.detach().float().contiguous(), away.detach().float().contiguous())
    ends, opposite = (part.to(device).contiguous() for part in edges)
    sizes = (pixel.shape[1], count, h, w)
    if n * count > 0 and h * w > 0:
        with on(device):
            lines = torch.zeros(n * count, dtype=torch.int64, device=device)
            grid = (triton.cdiv(n * count, _EDGES),)
            count_kernel[grid](*places, ends, opposite, lines, n, *sizes, BLOCK=_EDGES)
            last = lines.cumsum(0)
            total = int(last[-1])  # Here the processor waits for the GPU.
            if total > 0:
                owners = torch.repeat_interleave(lines, output_size=total)
                maps = (face_at.int().contiguous(), depth.detach().float().contiguous())
                grid = (triton.cdiv(total, _PIECES),)
                cross_kernel[grid](
                    *places, ends, opposite, *maps, owners, last - lines, keys, total, *sizes,
                    BLOCK=_PIECES,
                )  # fmt: skip
    number = 0xFFFFFFFF - (keys & 0xFFFFFFFF)
    edge_at = torch.where(keys == _NOTHING, -1, number).int()
    return listed(edge_at, Edges(ends, opposite), pixel)


def antialiased_triton(
    picture: Float[Tensor, "n h w c"], pixel: Float[Tensor, "n v 2"], crossings: Crossings
) -> Float[Tensor, "n h w c"]:
    """Blend the pixels on the two sides of outlines, on a GPU; see `antialias.antialiased`.

    Of every pair of pixels there must be one crossing at most, as `find_crossings` gives them.
    """
    if picture.numel() == 0:
        return picture
    place = pixel.float().reshape(-1, 2)[crossings.ends]
    return _Blended.apply(picture.float(), place, crossings)


class _Blended(torch.autograd.Function):
    """The blend as a function of colours and of the ends (k, 2, 2) of the crossing edges."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:  # noqa: ANN401
        picture, place, crossings = inputs
        n, h, w, c = picture.shape
        beyond = picture.new_zeros(n, 2, h, w)
        # Where in the maps of pairs a crossing stands: those to the right first, by view.
        view, at = crossings.first // (h * w), crossings.first % (h * w)
        slot = (2 * view + crossings.down) * (h * w) + at
        settings = (crossings.down, crossings.line.float(), crossings.border.float(), slot)
        parts = [part.contiguous() for part in (place, *settings)]
        picture, out = picture.contiguous(), torch.empty_like(picture)
        share = picture.new_empty(n, h, w)
        wide = triton.next_power_of_2(c)
        with on(picture.device):
            if len(slot):
                grid = (triton.cdiv(len(slot), _PIECES),)
                reach_kernel[grid](*parts, beyond, len(slot), BLOCK=_PIECES)
            grid = (triton.cdiv(n * h * w, _PIXELS),)
            blend_kernel[grid](
                picture, beyond, out, share, n * h * w, h, w, c, WIDE=wide, BLOCK=_PIXELS
            )
        ctx.save_for_backward(picture, beyond, share, *parts)
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        picture, beyond, share, *parts = ctx.saved_tensors
        n, h, w, c = picture.shape
        given = upstream[0].float().contiguous()
        on_picture, on_beyond = torch.empty_like(picture), torch.zeros_like(beyond)
        on_place = torch.zeros_like(parts[0])
        with on(picture.device):
            grid, wide = (triton.cdiv(n * h * w, _PIXELS),), triton.next_power_of_2(c)
            blend_back_kernel[grid](
                picture, beyond, share, given, on_picture, on_beyond, n * h * w, h, w, c,
                WIDE=wide, BLOCK=_PIXELS,
            )  # fmt: skip
            if len(on_place):
                grid = (triton.cdiv(len(on_place), _PIECES),)
                place, down, line, _, slot = parts
                out = (on_beyond, on_place, len(on_place))
                reach_back_kernel[grid](place, down, line, slot, *out, BLOCK=_PIECES)
        return on_picture, on_place, None


@jit
def count_kernel(pixel, away, ends, opposite, lines, n, v, edges, h, w, BLOCK: tl.constexpr):
    """Count the lines that each outline meets: n x edges, 0 for what is none."""
    e = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    here = e < n * edges
    side, _, begin, end, _, _, _, _, _, _ = _outline(
        pixel, away, ends, opposite, e, here, v, edges, h, w
    )
    tl.store(
        lines + e, tl.where(side != 0.0, tl.maximum(end - begin, 0), 0).to(tl.int64), mask=here
    )


@jit
def cross_kernel(
    pixel, away, ends, opposite, face_at, depths, owners, starts, keys, total, v, edges, h, w,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Let pieces of outlines claim the pairs of pixels that they pass between."""
    j = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = j < total
    e = tl.load(owners + j, mask=here, other=0)
    side, down, begin, _, along0, along1, across0, across1, away0, away1 = _outline(
        pixel, away, ends, opposite, e, here, v, edges, h, w
    )
    line = begin + (j - tl.load(starts + e, mask=here, other=0)).to(tl.int32)
    share = (line.to(tl.float32) + 0.5 - along0) / tl.where(here, along1 - along0, 1.0)
    at = across0 + share * (across1 - across0)
    length = tl.where(down, h, w)
    # Far outside, the number of the pixel would not fit.
    framed = here & (at >= 0.5) & (at < length.to(tl.float32) - 0.5)
    i = tl.floor(tl.where(framed, at, 0.5) - 0.5).to(tl.int32)
    framed &= i < length - 1
    y, x = tl.where(down, i, line), tl.where(down, line, i)
    step = tl.where(down, w, 1)
    # Whether the faces beside the edge lie towards the first pixel of a pair.
    backwards = (((along1 - along0) > 0.0) == (side > 0.0)) != down
    view = e // edges
    first = (view * h + y) * w + x
    near = tl.where(backwards, first, first + step)
    far = tl.where(backwards, first + step, first)
    near_face = tl.load(face_at + near, mask=framed, other=-1)
    far_face = tl.load(face_at + far, mask=framed, other=-1)
    framed &= (near_face >= 0) & (near_face != far_face)
    inverse = (1.0 - share) / away0 + share / away1
    near_inverse = 1.0 / tl.load(depths + near, mask=framed, other=1.0)
    covered = framed & (far_face >= 0)
    far_inverse = 1.0 / tl.load(depths + far, mask=covered, other=1.0)
    framed &= (far_face < 0) | (tl.minimum(near_inverse, inverse) > far_inverse)
    reach = tl.where(backwards, at, -at)
    bits = reach.to(tl.int32, bitcast=True)
    # Floats are ordered as their bits are; below 0 the other way round.
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    key = (ordered.to(tl.int64) << 32) | (_LAST - e % edges)
    pair = ((2 * view + down.to(tl.int64)) * h + y) * w + x
    tl.atomic_max(keys + pair, key, mask=framed, sem="relaxed")


@jit
def reach_kernel(place, down, line, border, slot, beyond, count, BLOCK: tl.constexpr):
    """Say how far beyond the border of its pair each crossing passes."""
    k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = k < count
    along0, along1, across0, across1 = _piece(place, down, k, here)
    share = (tl.load(line + k, mask=here, other=0.0) - along0) / (along1 - along0)
    at = across0 + share * (across1 - across0)
    to = beyond + tl.load(slot + k, mask=here, other=0)
    tl.store(to, at - tl.load(border + k, mask=here, other=0.0), mask=here)


@jit
def reach_back_kernel(place, down, line, slot, on_beyond, on_place, count, BLOCK: tl.constexpr):
    """Take the slopes of `reach_kernel` back to the ends of the edges."""
    k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = k < count
    along0, along1, across0, across1 = _piece(place, down, k, here)
    slope = tl.load(on_beyond + tl.load(slot + k, mask=here, other=0), mask=here, other=0.0)
    span = along1 - along0
    share = (tl.load(line + k, mask=here, other=0.0) - along0) / span
    on_share = slope * (across1 - across0) / span
    turned = tl.load(down + k, mask=here, other=0).to(tl.int32)
    at = on_place + 4 * k
    tl.store(at + turned, slope * (1.0 - share), mask=here)
    tl.store(at + 1 - turned, on_share * (share - 1.0), mask=here)
    tl.store(at + 2 + turned, slope * share, mask=here)
    tl.store(at + 3 - turned, -on_share * share, mask=here)


@jit
def blend_kernel(
    picture, beyond, out, shares, pixels, h, w, c, WIDE: tl.constexpr, BLOCK: tl.constexpr
):
    """Give each pixel its neighbours' parts, and keep what its parts were divided by."""
    p = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    here = p < pixels
    take = _taken(beyond, p, here, h, w)
    total = take[0] + take[1] + take[2] + take[3]
    share = 1.0 / tl.maximum(total, 1.0)
    channel = tl.arange(0, WIDE)[None, :]
    there = here[:, None] & (channel < c)
    own = tl.load(picture + p[:, None] * c + channel, mask=there, other=0.0)
    sum = own
    for k in tl.static_range(4):
        q = p + _step(k, w)
        some = there & (take[k] > 0.0)[:, None]
        other = tl.load(picture + q[:, None] * c + channel, mask=some, other=0.0)
        sum += tl.where(some, (take[k] * share)[:, None] * (other - own), 0.0)
    tl.store(out + p[:, None] * c + channel, sum, mask=there)
    tl.store(shares + p, share, mask=here)


@jit
def blend_back_kernel(
    picture, beyond, shares, given, on_picture, on_beyond, pixels, h, w, c,
    WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Take slopes back to the colours, and to the reach of what a pixel takes from.

    With parts w_k, their total T and a_k = slope . (colour_k - own): where T < 1 the slope of w_k
    is a_k, else (a_k - sum_j a_j w_j / T) / T.
    """
    p = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    here = p < pixels
    channel = tl.arange(0, WIDE)[None, :]
    there = here[:, None] & (channel < c)
    take, give = _taken(beyond, p, here, h, w), _given(beyond, p, here, h, w)
    share = tl.load(shares + p, mask=here, other=1.0)
    own = tl.load(picture + p[:, None] * c + channel, mask=there, other=0.0)
    slope = tl.load(given + p[:, None] * c + channel, mask=there, other=0.0)
    total = take[0] + take[1] + take[2] + take[3]
    back = slope * (1.0 - total * share)[:, None]
    mean = tl.zeros_like(share)
    for k in tl.static_range(4):
        q = p + _step(k, w)
        some = there & (give[k] > 0.0)[:, None]
        theirs = tl.load(given + q[:, None] * c + channel, mask=some, other=0.0)
        scale = give[k] * tl.load(shares + q, mask=here & (give[k] > 0.0), other=0.0)
        back += theirs * scale[:, None]
        mean += _agreement(picture, own, slope, q, take[k] > 0.0, there, channel, c) * take[k]
    tl.store(on_picture + p[:, None] * c + channel, back, mask=there)
    mean = tl.where(total >= 1.0, mean * share, 0.0)
    for k in tl.static_range(4):
        takes = here & (take[k] > 0.0)
        to = beyond + _pair(k, p, h, w)
        reach = tl.load(to, mask=takes, other=0.0)
        # Beyond a half a part stays a half.
        takes &= tl.abs(reach) <= 0.5
        agreed = _agreement(picture, own, slope, p + _step(k, w), takes, there, channel, c)
        sign = tl.where(reach > 0.0, 1.0, -1.0)
        tl.store(on_beyond + _pair(k, p, h, w), (agreed - mean) * share * sign, mask=takes)


@jit
def _agreement(picture, own, slope, q, some, there, channel, c):
    """Slope times how much another pixel differs, summed over the channels."""
    there = there & some[:, None]
    other = tl.load(picture + q[:, None] * c + channel, mask=there, other=0.0)
    return tl.sum(tl.where(there, slope * (other - own), 0.0), axis=1)


@jit
def _step(k, w):
    """From a pixel to its neighbour: right, left, below, above."""
    if k == 0:
        step = 1
    elif k == 1:
        step = -1
    elif k == 2:
        step = w
    else:
        step = -w
    return step


@jit
def _pair(k, p, h, w):
    """Where the maps of pairs keep what lies between a pixel and its neighbour."""
    view = p // (h * w)
    first = p if k % 2 == 0 else p - (1 if k == 1 else w)
    return first + (view + k // 2) * (h * w)


@jit
def _taken(beyond, p, here, h, w):
    """What a pixel takes of its neighbours, before it is divided."""
    return _parts(beyond, p, here, h, w, True)


@jit
def _given(beyond, p, here, h, w):
    """What the neighbours take of a pixel, before it is divided."""
    return _parts(beyond, p, here, h, w, False)


@jit
def _parts(beyond, p, here, h, w, TAKES: tl.constexpr):
    x, y = p % w, p // w % h
    right = tl.load(beyond + _pair(0, p, h, w), mask=here & (x < w - 1), other=0.0)
    left = tl.load(beyond + _pair(1, p, h, w), mask=here & (x > 0), other=0.0)
    below = tl.load(beyond + _pair(2, p, h, w), mask=here & (y < h - 1), other=0.0)
    above = tl.load(beyond + _pair(3, p, h, w), mask=here & (y > 0), other=0.0)
    # An outline beyond the border lies in the second pixel of the pair, which then takes.
    sign = -1.0 if TAKES else 1.0
    return (
        tl.minimum(tl.maximum(sign * right, 0.0), 0.5),
        tl.minimum(tl.maximum(-sign * left, 0.0), 0.5),
        tl.minimum(tl.maximum(sign * below, 0.0), 0.5),
        tl.minimum(tl.maximum(-sign * above, 0.0), 0.5),
    )


@jit
def _piece(place, down, k, here):
    """Where the edges of crossings begin and end: along the line of their pair, and across."""
    turned = tl.load(down + k, mask=here, other=0).to(tl.int32)
    at = place + 4 * k
    return (
        tl.load(at + 1 - turned, mask=here, other=0.0),
        tl.load(at + 3 - turned, mask=here, other=1.0),
        tl.load(at + turned, mask=here, other=0.0),
        tl.load(at + 2 + turned, mask=here, other=0.0),
    )


@jit
def _outline(pixel, away, ends, opposite, e, here, v, edges, h, w):
    """Say of edges to which side their faces lie (0: no outline), and which lines they meet."""
    number, view = e % edges, e // edges
    start = view * v + tl.load(ends + 2 * number, mask=here, other=0)
    stop = view * v + tl.load(ends + 2 * number + 1, mask=here, other=0)
    one = tl.load(opposite + 2 * number, mask=here, other=0)
    other = tl.load(opposite + 2 * number + 1, mask=here, other=-1)
    x0 = tl.load(pixel + 2 * start, mask=here, other=0.0)
    y0 = tl.load(pixel + 2 * start + 1, mask=here, other=0.0)
    x1 = tl.load(pixel + 2 * stop, mask=here, other=0.0)
    y1 = tl.load(pixel + 2 * stop + 1, mask=here, other=0.0)
    away0 = tl.load(away + start, mask=here, other=0.0)
    away1 = tl.load(away + stop, mask=here, other=0.0)
    dx, dy = x1 - x0, y1 - y0
    turn = _turn(pixel, view * v + one, x0, y0, dx, dy, here)
    paired = here & (other >= 0)
    second = _turn(pixel, view * v + tl.where(paired, other, 0), x0, y0, dx, dy, paired)
    side = tl.where(paired & (tl.abs(turn) <= tl.abs(second)), second, turn)
    side = tl.where(paired & (turn * second < 0.0), 0.0, side)
    side = tl.where(here & (away0 > _NEAR) & (away1 > _NEAR), side, 0.0)
    down = tl.abs(dx) > tl.abs(dy)
    along0, along1 = tl.where(down, x0, y0), tl.where(down, x1, y1)
    across0, across1 = tl.where(down, y0, x0), tl.where(down, y1, x1)
    lines = tl.where(down, w, h).to(tl.float32)
    low, high = tl.minimum(along0, along1), tl.maximum(along0, along1)
    # Clamped as floats: what lies far outside has no whole number of this size.
    begin = tl.ceil(tl.minimum(tl.maximum(low - 0.5, 0.0), lines)).to(tl.int32)
    end = tl.ceil(tl.minimum(tl.maximum(high - 0.5, 0.0), lines)).to(tl.int32)
    return side, down, begin, end, along0, along1, across0, across1, away0, away1


@jit
def _turn(pixel, at, x0, y0, dx, dy, here):
    """Say to which side of an edge a vertex lies."""
    x = tl.load(pixel + 2 * at, mask=here, other=0.0)
    y = tl.load(pixel + 2 * at + 1, mask=here, other=0.0)
    return dx * (y - y0) - dy * (x - x0)
