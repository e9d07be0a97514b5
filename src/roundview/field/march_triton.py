"""GPU kernels of ray marching: placing samples, compositing them, and the gradient of that.

Twins of those in `march_numba.py`. A ray belongs to one lane, from its first sample to its last, so
the same input gives the same bytes.
"""

# Triton infers the types of kernels, takes arrays one by one, and writes constants in capitals.
# ruff: noqa: ANN001, ANN201, ANN202, N803, PLR0913

import math

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..kernels_triton import jit, launch_at

_TINY = tl.constexpr(1e-9)
# Chosen by us without a GPU at hand, to be tuned. The loops of a program go on until all its rays
# are done: one warp waits for no other.
_RAYS = 32
_WARPS = 1


def march(
    origin: Float[Tensor, "r 3"],
    direction: Float[Tensor, "r 3"],
    shift: Float[Tensor, " r"],
    full: Bool[Tensor, "c c c"],
    half_width: float,
    step: float,
) -> tuple[Float[Tensor, " p"], Int[Tensor, " p"], Int[Tensor, " r1"]]:
    """Give distances, ray numbers and first samples; see `march_reference`."""
    rays = (origin.contiguous(), direction.contiguous(), shift.contiguous())
    count, place = len(origin), origin.device
    programs = (triton.cdiv(count, _RAYS),)
    cells = full.contiguous().view(torch.uint8)
    most = math.ceil(2 * math.sqrt(3) * half_width / step)
    found = torch.zeros(count + 1, dtype=torch.int64, device=place)
    none = origin.new_empty(0)
    sizes = (count, full.shape[0], most, half_width, step)
    # Twice the same walk: what is found must be counted before there is a place to put it.
    launch_at(
        march_kernel,
        programs,
        place,
        *rays,
        cells,
        found,
        found,
        none,
        found,
        *sizes,
        WRITE=False,
        BLOCK=_RAYS,
        num_warps=_WARPS,
    )
    first = found.cumsum(0)
    # The one moment at which the processor waits for the GPU.
    total = int(first[-1])
    distance = origin.new_empty(total)
    ray = torch.empty(total, dtype=torch.int64, device=place)
    launch_at(
        march_kernel,
        programs,
        place,
        *rays,
        cells,
        found,
        first,
        distance,
        ray,
        *sizes,
        WRITE=True,
        BLOCK=_RAYS,
        num_warps=_WARPS,
    )
    return distance, ray, first


def composite(
    alpha: Float[Tensor, " p"], values: Float[Tensor, "p c"], first: Int[Tensor, " r1"]
) -> tuple[Float[Tensor, "r c"], Float[Tensor, " p"]]:
    """Give sums over rays and weights of samples."""
    alpha, values, first = alpha.contiguous(), values.contiguous(), first.contiguous()
    rays, channels = len(first) - 1, values.shape[1]
    out, weight = values.new_zeros(rays, channels), torch.empty_like(alpha)
    launch_at(
        composite_kernel,
        (triton.cdiv(rays, _RAYS),),
        alpha.device,
        alpha,
        values,
        first,
        out,
        weight,
        rays,
        channels,
        C=triton.next_power_of_2(channels),
        BLOCK=_RAYS,
        num_warps=_WARPS,
    )
    return out, weight


def composite_back(
    alpha: Float[Tensor, " p"],
    values: Float[Tensor, "p c"],
    first: Int[Tensor, " r1"],
    on_out: Float[Tensor, "r c"],
    on_weight: Float[Tensor, " p"],
) -> tuple[Float[Tensor, " p"], Float[Tensor, "p c"]]:
    """Give the gradients by alpha and values."""
    alpha, values, first = alpha.contiguous(), values.contiguous(), first.contiguous()
    rays, channels = len(first) - 1, values.shape[1]
    on_alpha, on_values = torch.empty_like(alpha), torch.empty_like(values)
    launch_at(
        composite_back_kernel,
        (triton.cdiv(rays, _RAYS),),
        alpha.device,
        alpha,
        values,
        first,
        on_out.contiguous(),
        on_weight.contiguous(),
        on_alpha,
        on_values,
        rays,
        channels,
        C=triton.next_power_of_2(channels),
        BLOCK=_RAYS,
        num_warps=_WARPS,
    )
    return on_alpha, on_values


@jit
def march_kernel(
    origin,
    direction,
    shift,
    full,
    found,
    first,
    distance,
    ray,
    count,
    side,
    most,
    half,
    step,
    WRITE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Walk along rays. A program is a block of rays.

    Args:
        origin: count x 3.
        direction: count x 3.
        shift: Of each ray, in steps.
        full: side^3 bytes.
        found: count + 1; without WRITE the samples of ray r are counted at r + 1.
        first: First sample of each ray; read with WRITE.
        distance: Of the samples; with WRITE, written, as the next.
        ray: Of the samples.
        count: Of rays.
        side: Cells along a side.
        most: Steps that fit into the cube.
        half: Half its side.
        step: From sample to sample.
        WRITE: Write the samples; else count them.
        BLOCK: Rays of a program.
    """
    r = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    here = r < count
    ox = tl.load(origin + 3 * r, mask=here, other=0.0)
    oy = tl.load(origin + 3 * r + 1, mask=here, other=0.0)
    oz = tl.load(origin + 3 * r + 2, mask=here, other=0.0)
    dx = tl.load(direction + 3 * r, mask=here, other=1.0)
    dy = tl.load(direction + 3 * r + 1, mask=here, other=1.0)
    dz = tl.load(direction + 3 * r + 2, mask=here, other=1.0)
    near_x, far_x = _between(ox, dx, half)
    near_y, far_y = _between(oy, dy, half)
    near_z, far_z = _between(oz, dz, half)
    near = tl.maximum(tl.maximum(near_x, near_y), tl.maximum(near_z, 0.0))
    far = tl.minimum(tl.minimum(far_x, far_y), far_z)
    begin = near + tl.load(shift + r, mask=here, other=0.0) * step
    cells = side / (half + half)
    place = r * 0
    if WRITE:
        place += tl.load(first + r, mask=here, other=0)
    number = tl.program_id(0) * 0
    alive = here & (begin < far)
    while (number < most) & (tl.max(alive.to(tl.int32)) > 0):
        t = begin + number.to(tl.float32) * step
        alive = here & (t < far)
        x = _cell_at(ox + t * dx, half, cells, side)
        y = _cell_at(oy + t * dy, half, cells, side)
        z = _cell_at(oz + t * dz, half, cells, side)
        kept = alive & (tl.load(full + (x * side + y) * side + z, mask=alive, other=0) != 0)
        if WRITE:
            tl.store(distance + place, t, mask=kept)
            tl.store(ray + place, r, mask=kept)
        place += kept.to(tl.int64)
        number += 1
    if not WRITE:
        tl.store(found + r + 1, place, mask=here)


@jit
def composite_kernel(
    alpha, values, first, out, weight, rays, channels, C: tl.constexpr, BLOCK: tl.constexpr
):
    """Add up samples along rays. A program is a block of rays; C is a power of two."""
    r = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    c = tl.arange(0, C)
    here = r < rays
    at = tl.load(first + r, mask=here, other=0)
    end = tl.load(first + r + 1, mask=here, other=0)
    through = tl.full((BLOCK,), 1.0, tl.float32)
    total = tl.zeros((BLOCK, C), tl.float32)
    while tl.max(end - at) > 0:
        live = at < end
        opacity = tl.load(alpha + at, mask=live, other=0.0)
        share = through * opacity
        tl.store(weight + at, share, mask=live)
        both = live[:, None] & (c < channels)[None, :]
        shown = tl.load(values + at[:, None] * channels + c[None, :], mask=both, other=0.0)
        total += share[:, None] * shown
        through *= 1.0 - opacity
        at += 1
    both = here[:, None] & (c < channels)[None, :]
    tl.store(out + r[:, None] * channels + c[None, :], total, mask=both)


@jit
def composite_back_kernel(
    alpha,
    values,
    first,
    on_out,
    on_weight,
    on_alpha,
    on_values,
    rays,
    channels,
    C: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the gradients of `composite_kernel`. A program is a block of rays."""
    r = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    c = tl.arange(0, C)
    here = r < rays
    begin = tl.load(first + r, mask=here, other=0)
    end = tl.load(first + r + 1, mask=here, other=0)
    asked = here[:, None] & (c < channels)[None, :]
    pull = tl.load(on_out + r[:, None] * channels + c[None, :], mask=asked, other=0.0)
    through = tl.full((BLOCK,), 1.0, tl.float32)
    at = begin
    while tl.max(end - at) > 0:
        live = at < end
        opacity = tl.load(alpha + at, mask=live, other=0.0)
        tl.store(on_alpha + at, through, mask=live)  # kept here until the way back
        through *= 1.0 - opacity
        at += 1
    # What the samples behind add, were they not hidden by this one and those before it. No
    # division by 1 - alpha: it is 0 at opaque samples.
    behind = tl.zeros((BLOCK,), tl.float32)
    at = end - 1
    while tl.max(at - begin) >= 0:
        live = at >= begin
        opacity = tl.load(alpha + at, mask=live, other=0.0)
        before = tl.load(on_alpha + at, mask=live, other=0.0)
        both = live[:, None] & (c < channels)[None, :]
        shown = tl.load(values + at[:, None] * channels + c[None, :], mask=both, other=0.0)
        own = tl.load(on_weight + at, mask=live, other=0.0) + tl.sum(pull * shown, axis=1)
        to_values = (before * opacity)[:, None] * pull
        tl.store(on_values + at[:, None] * channels + c[None, :], to_values, mask=both)
        tl.store(on_alpha + at, before * (own - behind), mask=live)
        behind = tl.where(live, opacity * own + (1.0 - opacity) * behind, behind)
        at -= 1


@jit
def _between(origin, direction, half):
    """Where a ray enters and leaves the slab of one axis."""
    safe = tl.where(tl.abs(direction) < _TINY, _TINY, direction)
    one, other = (-half - origin) / safe, (half - origin) / safe
    return tl.minimum(one, other), tl.maximum(one, other)


@jit
def _cell_at(place, half, cells, side):
    # Cut before it becomes a whole number: what lies beyond the border may be anything.
    inside = tl.minimum(tl.maximum((place + half) * cells, 0.0), side - 1.0)
    return inside.to(tl.int32)
