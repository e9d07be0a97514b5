"""Samplers: from noise to a sample in few steps, and from a sample part-way back and again."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..models import Report, silent
from .noise import CosineSchedule, Denoiser, randn


def dpmpp_2m(
    denoise: Denoiser,
    start: Tensor,
    times: Float[Tensor, " steps"],
    *,
    schedule: CosineSchedule = CosineSchedule(),  # noqa: B008  frozen
    report: Report = silent,
) -> Tensor:
    """Solve the probability-flow equation with DPM-Solver++(2M).

    Lu et al., "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
    2022, algorithm 2. A step from pure noise (t = 1), where the log-SNR is infinite, is taken at
    first order, and so is the one after it; the last step goes to t = 0 at first order.

    Args:
        denoise: Estimates x_0 from x_t and t.
        start: x at times[0], samples along the first axis.
        times: Falling times in (0, 1]; 0 is appended.
        schedule: alpha and sigma of a time.
        report: Called with the fraction done.

    Returns:
        x_0.

    Raises:
        ValueError: If the times do not fall or leave (0, 1].
    """
    falls = bool((times[1:] < times[:-1]).all())
    if not len(times) or not falls or not 0 < float(times[-1]) <= float(times[0]) <= 1:
        raise ValueError(f"times must fall and lie in (0, 1], got {times.tolist()}")
    path = torch.cat([times.double(), torch.zeros(1, dtype=torch.float64)])
    alpha, sigma = schedule.alpha(path), schedule.sigma(path)
    log_snr = (alpha / sigma).log()  # -inf at t = 1, +inf at t = 0.
    x, before = start, torch.empty(0)
    for i in range(len(times)):
        clean = denoise(x, torch.full((len(x),), float(path[i])).to(x))
        estimate = clean
        step, last = log_snr[i + 1] - log_snr[i], log_snr[i] - log_snr[max(i - 1, 0)]
        if i > 0 and bool(torch.isfinite(step)) and bool(torch.isfinite(last)):
            ratio = float(last / step)
            estimate = (1 + 0.5 / ratio) * clean - 0.5 / ratio * before
        # exp(-h) = alpha_i sigma_next / (sigma_i alpha_next), multiplied out: t = 1 is then exact.
        keep = float(sigma[i + 1] / sigma[i])
        x = keep * x + float(alpha[i + 1] - alpha[i] * sigma[i + 1] / sigma[i]) * estimate
        before = clean
        report((i + 1) / len(times))
    return x


def noise_part_way(
    clean: Tensor,
    time: float,
    rng: Generator,
    *,
    schedule: CosineSchedule = CosineSchedule(),  # noqa: B008  frozen
) -> Tensor:
    """Bring a clean sample to `time` with fresh noise (SDEdit: Meng et al. 2022)."""
    noise = randn(tuple(clean.shape), rng).to(clean)
    return schedule.noised(clean, noise, torch.full((len(clean),), time).to(clean))
