"""Placing more samples where a surface is likely: NeuS without an occupancy grid.

Wang et al., "NeuS", 2021, section 3.3: after 64 even samples a ray, four rounds of 16 more, for
which the sigmoid gets steeper from 64 to 512, whatever the field's own steepness.
"""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

STEEPNESS = (64.0, 128.0, 256.0, 512.0)
"""inv_s of the rounds (NeuS)."""


def sample_distribution(
    edges: Float[Tensor, "r k1"],
    weight: Float[Tensor, "r k"],
    count: int,
    rng: Generator | None = None,
) -> Float[Tensor, "r count"]:
    """Draw distances along rays from a density that is constant between edges.

    Mildenhall et al., "NeRF", 2020, section 5.2, by inverting the distribution function.

    Args:
        edges: Ends of the k stretches of each ray, growing.
        weight: Of the stretches, of any sum, none negative.
        count: How many to draw.
        rng: Draws them; without it they lie at even steps of the distribution.
    """
    share = weight + 1e-5  # so that a ray without weight is sampled evenly
    share = share / share.sum(dim=1, keepdim=True)
    reached = torch.cat([torch.zeros_like(share[:, :1]), share.cumsum(dim=1)], dim=1)
    if rng is None:
        wanted = torch.linspace(0.5 / count, 1 - 0.5 / count, count).to(edges)
        wanted = wanted.expand(len(edges), count)
    else:
        wanted = torch.rand(len(edges), count, generator=rng, device=rng.device).to(edges)
    above = torch.searchsorted(reached, wanted.contiguous(), right=True)
    above = above.clamp(1, edges.shape[1] - 1)
    low, high = reached.gather(1, above - 1), reached.gather(1, above)
    start, end = edges.gather(1, above - 1), edges.gather(1, above)
    rise = high - low
    part = (wanted - low) / torch.where(rise < 1e-5, torch.ones_like(rise), rise)
    return start + part * (end - start)


def samples_near_surface(
    distance: Float[Tensor, "r k"],
    signed: Float[Tensor, "r k"],
    inside: Float[Tensor, "r k"],
    count: int,
    *,
    inv_s: float,
    rng: Generator | None = None,
) -> Float[Tensor, "r count"]:
    """Draw further distances along rays where the signed distance crosses 0 (one round of NeuS).

    Args:
        distance: Of the samples so far, growing along each ray.
        signed: Signed distance of the field there.
        inside: 1 where a sample lies in the region that has a field, else 0.
        count: How many to draw for each ray.
        inv_s: Steepness of the sigmoid.
        rng: As for `sample_distribution`.
    """
    length = distance.diff(dim=1)
    middle = 0.5 * (signed[:, 1:] + signed[:, :-1])
    slope = signed.diff(dim=1) / (length + 1e-5)
    # The steeper fall of this stretch and the one before is taken: more robust where a ray grazes.
    earlier = torch.cat([torch.zeros_like(slope[:, :1]), slope[:, :-1]], dim=1)
    known = torch.maximum(inside[:, 1:], inside[:, :-1])
    slope = torch.minimum(slope, earlier).clamp(-1e3, 0) * known
    half = 0.5 * slope * length
    before, after = ((middle - half) * inv_s).sigmoid(), ((middle + half) * inv_s).sigmoid()
    alpha = (before - after + 1e-5) / (before + 1e-5)
    through = torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha[:, :-1] + 1e-7], dim=1)
    return sample_distribution(distance, alpha * through.cumprod(dim=1), count, rng)
