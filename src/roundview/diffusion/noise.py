"""Noise schedules, and what networks are asked to predict.

Everywhere a noisy sample is x_t = alpha_t x_0 + sigma_t eps with alpha^2 + sigma^2 = 1, and time
runs from 0 (clean) to 1 (pure noise).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""denoise(x_t, t) -> estimate of x_0; t has one entry a sample."""


@dataclass(frozen=True)
class CosineSchedule:
    """alpha_t = cos(pi t / 2): Nichol and Dhariwal, "Improved DDPM", 2021, without their offset.

    At t = 1 the signal is exactly 0, as Lin et al., "Common Diffusion Noise Schedules and Sample
    Steps are Flawed", 2024, ask, so that the first step of a sampler knows nothing but the photo.
    """

    def alpha(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Share of the signal; exactly 0 at t = 1."""
        return torch.where(t >= 1, torch.zeros_like(t), (t * math.pi / 2).cos())

    def sigma(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Share of the noise."""
        return (t * math.pi / 2).sin()

    def noised(self, clean: Tensor, noise: Tensor, t: Float[Tensor, " n"]) -> Tensor:
        """Mix clean samples with noise; t has one entry a sample (first axis)."""
        return _like(self.alpha(t), clean) * clean + _like(self.sigma(t), clean) * noise


def v_from_clean(
    schedule: CosineSchedule, clean: Tensor, noise: Tensor, t: Float[Tensor, " n"]
) -> Tensor:
    """Give the velocity v = alpha eps - sigma x_0 (Salimans and Ho 2022, appendix D)."""
    return _like(schedule.alpha(t), clean) * noise - _like(schedule.sigma(t), clean) * clean


def clean_from_v(
    schedule: CosineSchedule, noisy: Tensor, v: Tensor, t: Float[Tensor, " n"]
) -> Tensor:
    """Give x_0 = alpha x_t - sigma v."""
    return _like(schedule.alpha(t), noisy) * noisy - _like(schedule.sigma(t), noisy) * v


def randn(shape: tuple[int, ...], rng: Generator) -> Tensor:
    """Draw unit noise from a CPU generator, so that every device sees the same numbers."""
    return torch.randn(shape, generator=rng)


def _like(per_sample: Float[Tensor, " n"], sample: Tensor) -> Tensor:
    return per_sample.reshape(-1, *[1] * (sample.ndim - 1)).to(sample)
