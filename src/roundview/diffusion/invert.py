"""DDIM backwards: from a clean sample to the noise that it would be drawn from.

Song et al., "Denoising Diffusion Implicit Models", 2021, section 4.3, in the form of HiFi-123 (Yu
et al., "HiFi-123: Towards High-fidelity One Image to 3D Content Generation", 2024, equation 4).
"""

from dataclasses import replace

import torch
from torch import Tensor

from ..models import Report, silent
from .ddim import DdimPlan, Predictor, ScaledLinear


def plan_from_zero(
    steps: int,
    *,
    schedule: ScaledLinear = ScaledLinear(),  # noqa: B008  frozen
) -> DdimPlan:
    """Spread steps evenly from training step 0: 980, 960, ..., 20, 0 for 50 of them.

    This is diffusers' DDIM without an offset, as HiFi-123's code sets it; `ddim_plan`'s begin at 1.
    The last step goes from training step 0 to itself, which changes nothing.

    Raises:
        ValueError: If there are too few or too many steps.
    """
    if not 1 <= steps <= schedule.steps:
        raise ValueError(f"steps must lie in 1..{schedule.steps}, got {steps}")
    share = schedule.alphas_cumprod()
    times = torch.arange(steps) * (schedule.steps // steps)
    alpha = share[times]
    after = torch.cat([share[:1], alpha[:-1]])
    parts = (times, alpha, after, torch.zeros_like(alpha))
    return DdimPlan(*(part.flip(0) for part in parts))


def steps_of(plan: DdimPlan, first: int, last: int | None = None) -> DdimPlan:
    """Take some steps of a plan, by their place in it."""
    at = slice(first, last)
    return replace(
        plan,
        times=plan.times[at],
        alpha=plan.alpha[at],
        alpha_after=plan.alpha_after[at],
        sigma=plan.sigma[at],
    )


def invert(
    predict: Predictor,
    clean: Tensor,
    plan: DdimPlan,
    *,
    steps: int | None = None,
    report: Report = silent,
) -> Tensor:
    """Walk a plan backwards: x_t = (a_t / a_s) (x_s - sigma_s eps(x_s, t)) + sigma_t eps(x_s, t).

    s is one step cleaner than t; a and sigma are the amplitudes of signal and noise. The network is
    asked at the time t it goes to, about the sample x_s that it has, as HiFi-123's code does.

    Args:
        predict: Estimates the noise, guidance included.
        clean: Samples along the first axis.
        plan: Of the sampler, from noise to clean.
        steps: How many to go; None for all.
        report: Called with the fraction done.

    Returns:
        The sample before the first step and after each: steps + 1 levels, cleanest first.

    Raises:
        ValueError: If the plan has fewer steps.
    """
    count = len(plan.times) if steps is None else steps
    if not 0 <= count <= len(plan.times):
        raise ValueError(f"steps must lie in 0..{len(plan.times)}, got {steps}")
    x, levels = clean, [clean]
    for k in range(count):
        at = len(plan.times) - 1 - k
        time, cleaner, noisier = plan.times[at], float(plan.alpha_after[at]), float(plan.alpha[at])
        eps = predict(x, torch.full((len(x),), int(time), device=x.device))
        x = (x - (1 - cleaner) ** 0.5 * eps) * (noisier / cleaner) ** 0.5
        x = x + (1 - noisier) ** 0.5 * eps
        levels.append(x)
        report((k + 1) / count)
    return torch.stack(levels)
