"""Euler's method with fresh noise at every step, in terms of sigma, for networks of velocity.

Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022; the split
of a step into a longer way down and noise on top is Crowson's "ancestral" sampler (k-diffusion),
which Zero123++ and many others of Stable Diffusion's kind are drawn with.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from ..models import Report, silent
from .noise import randn


@dataclass(frozen=True, eq=False)
class SigmaPlan:
    """The steps of a sampler.

    Attributes:
        times: Training step of each, falling.
        sigmas: Noise over signal at each, and 0 at the end.
    """

    times: Int[Tensor, " steps"]
    sigmas: Float[Tensor, " levels"]


def linear_sigmas(
    *, first: float = 0.00085, last: float = 0.012, steps: int = 1000
) -> Float[Tensor, " steps"]:
    """Give noise over signal after each training step where variances grow evenly.

    Zero123++ changed Stable Diffusion's schedule, whose square roots grow evenly, to this one,
    which is longer in high noise (Shi et al. 2023, section 2.2).
    """
    kept = (1 - torch.linspace(first, last, steps, dtype=torch.float64)).cumprod(dim=0)
    return ((1 - kept) / kept).sqrt().float()


def trailing_plan(sigmas: Float[Tensor, " n"], steps: int) -> SigmaPlan:
    """Take steps evenly from the noisiest one down, which is always among them.

    Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", 2024, table 2.

    Raises:
        ValueError: If there is no step, or more than were trained.
    """
    count = len(sigmas)
    if not 1 <= steps <= count:
        raise ValueError(f"steps must lie in 1..{count}, got {steps}")
    place = count - torch.arange(steps, dtype=torch.float64) * count / steps
    times = place.round().long() - 1
    return SigmaPlan(times, torch.cat([sigmas[times], torch.zeros(1)]))


def ancestral_split(sigma: float, following: float) -> tuple[float, float]:
    """Say how far a step goes down, and how much noise it adds to be at the following level.

    sigma_up^2 = s'^2 (s^2 - s'^2) / s^2 and sigma_down^2 = s'^2 - sigma_up^2.
    """
    up = (following**2 * (sigma**2 - following**2) / sigma**2) ** 0.5
    return (following**2 - up**2) ** 0.5, up


def euler_ancestral(
    velocity: Callable[[Tensor, int, float], Tensor],
    start: Tensor,
    plan: SigmaPlan,
    rng: Generator,
    *,
    report: Report = silent,
) -> Tensor:
    """Draw a sample.

    Args:
        velocity: velocity(x / sqrt(sigma^2 + 1), time, sigma), guidance included.
        start: At the plan's first level: the clean sample with noise of deviation sigma on it.
        plan: The steps.
        rng: CPU generator of the fresh noise.
        report: Called with the fraction done.
    """
    x = start
    for k, time in enumerate(plan.times.tolist()):
        sigma, following = float(plan.sigmas[k]), float(plan.sigmas[k + 1])
        scale = (sigma**2 + 1) ** -0.5
        clean = x * scale**2 - sigma * scale * velocity(x * scale, time, sigma)
        down, up = ancestral_split(sigma, following)
        x = x + (x - clean) / sigma * (down - sigma)
        # Drawn in the last step as well, as diffusers does, so that its seeds mean the same.
        x = x + up * randn(tuple(x.shape), rng).to(x)
        report((k + 1) / len(plan.times))
    return x
