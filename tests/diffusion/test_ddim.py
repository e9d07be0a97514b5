import pytest
import torch

from roundview.diffusion.ddim import ScaledLinear, ddim, ddim_plan


def test_the_schedule_is_stable_diffusions() -> None:
    share = ScaledLinear().alphas_cumprod()
    assert len(share) == 1000
    assert float(share[0]) == pytest.approx(1 - 0.00085)
    # Published of Stable Diffusion: 0.0047 of the signal is left at the end.
    assert float(share[-1]) == pytest.approx(0.00466, abs=1e-5)


def test_steps_are_spread_evenly_and_the_noisiest_may_be_dropped() -> None:
    assert ddim_plan(50).times.tolist() == [*range(981, 0, -20)]
    assert ddim_plan(50, drop_first=True).times.tolist() == [*range(961, 0, -20)]
    assert ddim_plan(5).times.tolist() == [801, 601, 401, 201, 1]
    for steps, drop in ((0, False), (1, True), (1001, False)):
        with pytest.raises(ValueError, match="steps must lie"):
            ddim_plan(steps, drop_first=drop)


def test_a_network_that_knows_the_noise_finds_the_clean_sample() -> None:
    rng = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(1, 4, generator=rng), torch.randn(1, 4, generator=rng)
    plan = ddim_plan(10)
    start = plan.alpha[0].sqrt() * clean + (1 - plan.alpha[0]).sqrt() * noise
    out = ddim(lambda *_: noise, start.float(), plan)
    left = ScaledLinear().alphas_cumprod()[0]
    torch.testing.assert_close(out, (left.sqrt() * clean + (1 - left).sqrt() * noise).float())


def test_fresh_noise_needs_a_generator_and_is_the_same_for_the_same_seed() -> None:
    plan = ddim_plan(4, eta=1.0)
    start = torch.ones(1, 3)
    with pytest.raises(ValueError, match="hand in rng"):
        ddim(lambda x, _: x, start, plan)
    drawn = [
        ddim(lambda x, _: 0.1 * x, start, plan, rng=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
