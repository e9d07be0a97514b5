import math

import pytest
import torch
from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
    EulerAncestralDiscreteScheduler,
)
from torch import Tensor

from roundview.diffusion.ancestral import (
    SigmaPlan,
    ancestral_split,
    euler_ancestral,
    linear_sigmas,
    trailing_plan,
)

# Of numpy 2, about diffusers' schedulers.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear"}


def theirs(steps: int) -> EulerAncestralDiscreteScheduler:
    scheduler = EulerAncestralDiscreteScheduler(
        **TABLE, prediction_type="v_prediction", timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps)
    return scheduler


def nothing(x: Tensor, time: int, sigma: float) -> Tensor:
    """The best there is for unit normal data, whose mean given x is x / (1 + sigma^2)."""
    del time, sigma
    return torch.zeros_like(x)


@pytest.mark.parametrize("steps", [1, 7, 28, 75])
def test_steps_trail_as_diffusers_does(steps: int) -> None:
    plan, scheduler = trailing_plan(linear_sigmas(), steps), theirs(steps)
    assert plan.times[0] == 999
    assert plan.times.tolist() == scheduler.timesteps.long().tolist()
    torch.testing.assert_close(plan.sigmas, scheduler.sigmas, rtol=1e-5, atol=1e-5)


def test_a_step_s_two_parts_make_the_following_level() -> None:
    down, up = ancestral_split(4.0, 1.0)
    assert math.hypot(down, up) == pytest.approx(1.0)
    assert up == pytest.approx(math.sqrt(15) / 4)
    assert ancestral_split(4.0, 0.0) == (0.0, 0.0)


def test_the_way_is_diffusers_own_with_the_same_noise() -> None:
    def velocity(x: Tensor, time: int, sigma: float) -> Tensor:
        del sigma
        return torch.sin(3 * x) + time / 1000

    plan, scheduler = trailing_plan(linear_sigmas(), 6), theirs(6)
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 3, generator=rng)
    x = noise * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        model = velocity(scheduler.scale_model_input(x, time), int(time), 0.0)
        x = scheduler.step(model, time, x, generator=rng, return_dict=False)[0]
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 3, generator=rng)
    ours = euler_ancestral(velocity, noise * float(plan.sigmas[0]), plan, rng)
    # Their sigmas are of single precision throughout.
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


def test_a_sample_of_a_known_gaussian_has_its_deviation() -> None:
    plan = trailing_plan(linear_sigmas(), 100)
    rng = torch.Generator().manual_seed(1)
    start = torch.randn(20000, generator=rng) * math.hypot(float(plan.sigmas[0]), 1.0)
    drawn = euler_ancestral(nothing, start, plan, rng)
    # 20,000 samples, 100 steps of a first-order method.
    assert float(drawn.std()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("steps", [0, 1001])
def test_too_few_and_too_many_steps_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=r"steps must lie in 1\.\.1000"):
        trailing_plan(linear_sigmas(), steps)


def test_the_last_step_ends_at_no_noise() -> None:
    plan = SigmaPlan(torch.tensor([0]), torch.tensor([0.1, 0.0]))
    rng = torch.Generator().manual_seed(0)
    out = euler_ancestral(nothing, torch.ones(2), plan, rng)
    torch.testing.assert_close(out, torch.full((2,), 1 / 1.01))
