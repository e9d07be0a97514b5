"""The noise of Stable Video Diffusion: sigma from 0.002 to 700, v-prediction, Euler, guidance.

Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022 ("EDM");
Blattmann et al., "Stable Video Diffusion", 2023.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ..models import Report, silent

Network = Callable[[Tensor, Float[Tensor, " b"]], Tensor]
"""network(scaled x, c_noise) -> velocity; samples along the first axis."""


def denoised(network: Network, x: Tensor, sigma: Float[Tensor, " b"]) -> Tensor:
    """Estimate the clean sample: c_skip x + c_out network(c_in x, c_noise), with sigma_data = 1.

    c_skip = 1 / (s^2 + 1), c_out = -s / sqrt(s^2 + 1), c_in = 1 / sqrt(s^2 + 1),
    c_noise = ln(s) / 4.
    """
    s = sigma.reshape(-1, *[1] * (x.ndim - 1)).to(x)
    scale = (s**2 + 1).rsqrt()
    return x * scale**2 - s * scale * network(x * scale, 0.25 * sigma.log())


def karras_sigmas(
    steps: int, *, low: float = 0.002, high: float = 700.0, rho: float = 7.0
) -> Float[Tensor, " levels"]:
    """Give the noise levels of a sampler, falling, with a 0 at the end (Karras et al., eq. 5).

    Raises:
        ValueError: If there is no step.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    ramp = torch.linspace(0, 1, steps)
    sigmas = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return torch.cat([sigmas, torch.zeros(1)])


def guidance_ramp(first: float, last: float, frames: int) -> Float[Tensor, " frames"]:
    """Guidance that grows along a clip, away from the frame that is known (SVD, Hi3D)."""
    return torch.linspace(first, last, frames)


def guidance_triangle(low: float, high: float, frames: int) -> Float[Tensor, " frames"]:
    """Guidance that is highest in the middle of a closed orbit (SV3D).

    Voleti et al., "SV3D: Novel Multi-view Synthesis and 3D Generation from a Single Image", 2024.
    """
    place = 2 * torch.arange(frames) / max(frames - 1, 1)
    return low + (high - low) * torch.minimum(place, 2 - place)


def euler(
    denoise: Callable[[Tensor, float], Tensor],
    noise: Tensor,
    sigmas: Float[Tensor, " levels"],
    *,
    before_step: Callable[[int, Tensor], Tensor] | None = None,
    report: Report = silent,
) -> Tensor:
    """Solve the probability-flow equation by Euler's method (Karras et al., algorithm 1).

    Args:
        denoise: Estimates the clean sample from x and sigma, guidance included.
        noise: Unit normal; scaled here by sqrt(1 + sigma_0^2).
        sigmas: Falling noise levels, 0 last.
        before_step: May change x before each step (Hi3D mixes coarse latents in).
        report: Called with the fraction done.
    """
    x = noise * float((1 + sigmas[0] ** 2).sqrt())
    for i in range(len(sigmas) - 1):
        if before_step is not None:
            x = before_step(i, x)
        sigma, following = float(sigmas[i]), float(sigmas[i + 1])
        slope = (x - denoise(x, sigma)) / sigma
        x = x + slope * (following - sigma)
        report((i + 1) / (len(sigmas) - 1))
    return x


def guided(
    with_condition: Tensor, without: Tensor, scale: Float[Tensor, " t"]
) -> Float[Tensor, "b t *shape"]:
    """Push estimates of each frame away from those without the condition (Ho and Salimans 2022)."""
    per_frame = scale.reshape(1, -1, *[1] * (with_condition.ndim - 2)).to(with_condition)
    return without + per_frame * (with_condition - without)
