"""DDIM over the 1,000 noise levels that Stable Diffusion's family is trained with.

Song et al., "Denoising Diffusion Implicit Models", 2021, equations 12 and 16.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from ..models import Report, silent
from .noise import randn

Predictor = Callable[[Tensor, Int[Tensor, " b"]], Tensor]
"""predict(x_t, t) -> noise; t is a training step, one entry a sample."""


@dataclass(frozen=True)
class ScaledLinear:
    """Stable Diffusion's noise: square roots of the variances grow evenly ("scaled linear").

    Attributes:
        steps: Training steps.
        first: Variance of the first.
        last: Variance of the last.
    """

    steps: int = 1000
    first: float = 0.00085
    last: float = 0.0120

    def alphas_cumprod(self) -> Float[Tensor, " steps"]:
        """Share of the signal's variance that is left after each step; float64."""
        ends = self.first**0.5, self.last**0.5
        betas = torch.linspace(*ends, self.steps, dtype=torch.float64) ** 2
        return (1 - betas).cumprod(dim=0)


@dataclass(frozen=True, eq=False)
class DdimPlan:
    """The steps of a sampler, from noise to clean.

    Attributes:
        times: Training steps at which the network is asked, falling.
        alpha: alphas_cumprod at these.
        alpha_after: alphas_cumprod after each step.
        sigma: Fresh noise of each step.
    """

    times: Int[Tensor, " s"]
    alpha: Float[Tensor, " s"]
    alpha_after: Float[Tensor, " s"]
    sigma: Float[Tensor, " s"]


def ddim_plan(
    steps: int,
    *,
    eta: float = 0.0,
    drop_first: bool = False,
    schedule: ScaledLinear = ScaledLinear(),
) -> DdimPlan:
    """Spread a sampler's steps evenly over the training steps: 1, 1 + 1000 / steps, ...

    Args:
        steps: How many.
        eta: Share of DDPM's fresh noise, 0 for none.
        drop_first: Leave out the noisiest step, as Zero123's sampler does: it then asks the network
            steps - 1 times, and gives pure noise to the second-noisiest.
        schedule: The noise the network was trained with.

    Raises:
        ValueError: If there are too few or too many steps.
    """
    least = 2 if drop_first else 1
    if not least <= steps <= schedule.steps:
        raise ValueError(f"steps must lie in {least}..{schedule.steps}, got {steps}")
    share = schedule.alphas_cumprod()
    times = torch.arange(0, schedule.steps, schedule.steps // steps) + 1
    times = times.clamp(max=schedule.steps - 1)
    alpha = share[times]
    after = torch.cat([share[:1], alpha[:-1]])
    sigma = eta * ((1 - after) / (1 - alpha) * (1 - alpha / after)).sqrt()
    kept = len(times) - (1 if drop_first else 0)
    return DdimPlan(*(part[:kept].flip(0) for part in (times, alpha, after, sigma)))


def ddim(
    predict: Predictor,
    start: Tensor,
    plan: DdimPlan,
    *,
    rng: Generator | None = None,
    report: Report = silent,
) -> Tensor:
    """Sample: x' = sqrt(a') x_0 + sqrt(1 - a' - s^2) eps + s noise.

    Where x_0 = (x - sqrt(1 - a) eps) / sqrt(a); a and a' are the signal's shares before and after.

    Args:
        predict: Estimates the noise, guidance included.
        start: x at plan.times[0], samples along the first axis.
        plan: From `ddim_plan`.
        rng: Draws the fresh noise of a plan with eta > 0.
        report: Called with the fraction done.

    Raises:
        ValueError: If the plan needs noise and there is no generator.
    """
    if rng is None and bool((plan.sigma > 0).any()):
        raise ValueError("a plan with eta > 0 draws noise: hand in rng")
    x = start
    for i, time in enumerate(plan.times.tolist()):
        eps = predict(x, torch.full((len(x),), time, device=x.device))
        a, after, s = (float(v[i]) for v in (plan.alpha, plan.alpha_after, plan.sigma))
        clean = (x - (1 - a) ** 0.5 * eps) / a**0.5
        x = after**0.5 * clean + (1 - after - s**2) ** 0.5 * eps
        if rng is not None and s > 0:
            x = x + s * randn(tuple(x.shape), rng).to(x)
        report((i + 1) / len(plan.times))
    return x
