"""Inversion goes back the way that sampling came."""

import pytest
import torch

from roundview.diffusion.ddim import ScaledLinear, ddim
from roundview.diffusion.invert import invert, plan_from_zero, steps_of


def test_steps_are_hifi123s() -> None:
    plan = plan_from_zero(50)
    assert plan.times.tolist() == list(range(980, -1, -20))
    shares = ScaledLinear().alphas_cumprod()
    torch.testing.assert_close(plan.alpha, shares[plan.times])
    torch.testing.assert_close(plan.alpha_after[:-1], plan.alpha[1:])
    # The last step goes nowhere.
    assert plan.alpha_after[-1] == plan.alpha[-1] == shares[0]


@pytest.mark.parametrize("steps", [0, 1001])
def test_too_few_or_too_many_steps_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=r"steps must lie in 1\.\.1000"):
        plan_from_zero(steps)


def test_a_model_that_knows_the_noise_is_inverted_exactly() -> None:
    rng = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 2, 3, 4, generator=rng, dtype=torch.float64)
    plan = plan_from_zero(20)
    levels = invert(lambda _x, _t: noise, clean, plan)
    assert len(levels) == 21
    back = ddim(lambda _x, _t: noise, levels[-1], plan)
    torch.testing.assert_close(back, clean)
    # One level up from the cleanest step by hand; the step before that changed nothing.
    torch.testing.assert_close(levels[1], levels[0])
    first, second = plan.alpha[-1], plan.alpha[-2]
    x_0 = (clean - (1 - first).sqrt() * noise) / first.sqrt()
    torch.testing.assert_close(levels[2], second.sqrt() * x_0 + (1 - second).sqrt() * noise)


def test_the_network_is_asked_at_the_time_it_goes_to() -> None:
    asked: list[int] = []

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        asked.append(int(t[0]))
        return torch.zeros_like(x)

    invert(predict, torch.zeros(1, 2), plan_from_zero(50), steps=3)
    assert asked == [0, 20, 40]


def test_for_a_gaussian_the_way_there_and_back_closes_with_more_steps() -> None:
    # Of data with deviation 0.5 the best prediction of the noise is linear in x.
    shares = ScaledLinear().alphas_cumprod()

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a = shares[t][:, None]
        return (1 - a).sqrt() * x / (0.25 * a + 1 - a)

    clean = torch.linspace(-1, 1, 5, dtype=torch.float64)[None]
    errors = []
    for steps in (10, 50, 250):
        plan = plan_from_zero(steps)
        errors.append(float((ddim(predict, invert(predict, clean, plan)[-1], plan) - clean).norm()))
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_plans_are_cut_by_place() -> None:
    plan = plan_from_zero(10)
    assert steps_of(plan, 7).times.tolist() == [200, 100, 0]
    assert steps_of(plan, 0, 2).times.tolist() == [900, 800]
    with pytest.raises(ValueError, match=r"steps must lie in 0\.\.3"):
        invert(lambda x, _t: x, torch.zeros(1, 1), steps_of(plan, 7), steps=4)
