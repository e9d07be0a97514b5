import pytest
import torch
from torch import Tensor

from roundview.diffusion.noise import CosineSchedule
from roundview.diffusion.sample import dpmpp_2m, noise_part_way

MEAN, STD = 3.0, 0.5


def denoise_gaussian(noisy: Tensor, t: Tensor) -> Tensor:
    """The exact E[x_0 | x_t] when x_0 ~ N(MEAN, STD^2)."""
    schedule = CosineSchedule()
    alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return MEAN + gain * (noisy - alpha * MEAN)


def test_a_gaussian_comes_out_with_its_own_mean_and_spread() -> None:
    start = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0)).double()
    times = torch.linspace(1, 0, 41, dtype=torch.float64)[:-1]
    drawn = dpmpp_2m(denoise_gaussian, start, times)
    # The flow of a Gaussian is linear: x_0 = MEAN + STD * noise, up to the solver's error.
    torch.testing.assert_close(drawn, MEAN + STD * start, rtol=0, atol=0.02)


def test_the_second_order_solver_beats_the_first_order_one() -> None:
    start = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    truth = MEAN + STD * start
    errors = [
        float((dpmpp_2m(denoise_gaussian, start, _times(n)) - truth).abs().max()) for n in (10, 40)
    ]
    assert errors[1] < errors[0] / 8  # First order would gain 4.


def test_one_step_from_pure_noise_gives_the_mean() -> None:
    drawn = dpmpp_2m(denoise_gaussian, torch.tensor([[5.0]]), torch.ones(1))
    torch.testing.assert_close(drawn, torch.tensor([[MEAN]]))


@pytest.mark.parametrize("times", [[], [0.5, 0.5], [0.2, 0.6], [1.2, 0.5], [0.5, 0.0]])
def test_times_that_do_not_fall_are_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match="times"):
        dpmpp_2m(denoise_gaussian, torch.zeros(1, 1), torch.tensor(times))


def test_noise_part_way_keeps_the_share_of_the_signal() -> None:
    rng = torch.Generator().manual_seed(1)
    noisy = noise_part_way(torch.full((20000, 1), 2.0), 0.5, rng)
    assert abs(float(noisy.mean()) - 2 * 0.5**0.5) < 0.02
    assert abs(float(noisy.std()) - 0.5**0.5) < 0.02


def _times(steps: int) -> Tensor:
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1]
