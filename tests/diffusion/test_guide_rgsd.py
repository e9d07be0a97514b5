"""Distillation towards the enhanced view."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from roundview.diffusion.attention import Memory
from roundview.diffusion.depth2image import PAPER_RGSD, Prompts, Rgnv, enhance, remember_reference
from roundview.diffusion.guide_rgsd import (
    Enhanced,
    draw_level,
    enhanced_state,
    fixed_view,
    rgsd_loss,
)
from roundview.diffusion.invert import plan_from_zero

SMALL = Rgnv(steps=6, kept_steps=4, guidance=2.0)
TOKENS = torch.zeros(1, 1, 2)
PROMPTS = Prompts(TOKENS, TOKENS + 1, TOKENS)


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PHOTO, VIEW, DEPTH = (randn(1, c, 4, 4, seed=k) for k, c in enumerate((4, 4, 1)))


class KnowsOne:
    """Takes every noisy sample for the same picture, which it leaves in the memory as well."""

    def __init__(self, picture: Tensor) -> None:
        self.picture = picture

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        depth: Tensor,
        tokens: Tensor,
        *,
        record: Memory | None = None,
        borrow: Memory | None = None,
    ) -> Tensor:
        if record is not None:
            record.held[0] = self.picture
        shown = self.picture if borrow is None else borrow.held[0] + 0 * depth
        share = plan_share(t)
        return (x - share.sqrt() * shown) / (1 - share).sqrt() + 0 * tokens.sum()


def plan_share(t: Tensor) -> Tensor:
    plan = plan_from_zero(SMALL.steps)
    at = torch.stack([(plan.times == each).nonzero()[0, 0] for each in t])
    return plan.alpha[at].reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_the_gradient_points_at_what_the_enhanced_state_is_taken_for(level: int) -> None:
    model = KnowsOne(PHOTO)
    reference = remember_reference(model, PHOTO, DEPTH, PROMPTS, SMALL)
    enhanced = enhanced_state(model, reference, VIEW, DEPTH, PROMPTS, level=level)
    x_0 = VIEW.clone().requires_grad_()
    loss = rgsd_loss(x_0, enhanced)
    (slope,) = torch.autograd.grad(loss, x_0)
    expected = 2 * enhanced.share * (VIEW - enhanced.clean) / VIEW.numel()
    torch.testing.assert_close(slope, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        loss.detach(), enhanced.share * (VIEW - enhanced.clean).square().mean(), rtol=1e-6, atol=0
    )


def test_a_model_that_knows_the_picture_draws_towards_it() -> None:
    model = KnowsOne(PHOTO)
    reference = remember_reference(model, PHOTO, DEPTH, PROMPTS, SMALL)
    enhanced = enhanced_state(model, reference, VIEW, DEPTH, PROMPTS, level=2)
    torch.testing.assert_close(enhanced.clean, PHOTO, rtol=1e-5, atol=1e-5)


def test_at_the_clean_level_the_target_is_the_enhanced_view_itself() -> None:
    model = KnowsOne(PHOTO)
    reference = remember_reference(model, PHOTO, DEPTH, PROMPTS, SMALL)
    enhanced = enhanced_state(model, reference, VIEW, DEPTH, PROMPTS, level=0)
    torch.testing.assert_close(enhanced.state, enhance(model, reference, VIEW, DEPTH, PROMPTS))
    assert enhanced.share == 1
    assert float(rgsd_loss(enhanced.state, enhanced)) == 0
    assert float(rgsd_loss(enhanced.state + 2, enhanced)) == pytest.approx(4)


def test_each_level_is_one_step_further_down() -> None:
    model = KnowsOne(PHOTO)
    reference = remember_reference(model, PHOTO, DEPTH, PROMPTS, SMALL)
    shares = [
        enhanced_state(model, reference, VIEW, DEPTH, PROMPTS, level=level).share
        for level in range(5)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[1:] == plan_from_zero(6).alpha.flip(0)[:4].tolist()


def test_levels_and_settings_that_make_no_sense_are_refused() -> None:
    model = KnowsOne(PHOTO)
    reference = remember_reference(model, PHOTO, DEPTH, PROMPTS, SMALL)
    with pytest.raises(ValueError, match=r"level must lie in 0\.\.4, got 5"):
        enhanced_state(model, reference, VIEW, DEPTH, PROMPTS, level=5)
    strange = replace(reference, settings=replace(SMALL, from_reference_noise=True))
    with pytest.raises(ValueError, match="from their own noise"):
        enhanced_state(model, strange, VIEW, DEPTH, PROMPTS, level=1)


def test_two_fixed_views_take_turns_with_random_ones() -> None:
    assert [fixed_view(step, 2) for step in range(6)] == [0, None, 1, None, 0, None]
    assert [fixed_view(step, 0) for step in range(2)] == [None, None]


def test_random_views_get_levels_between_clean_and_l() -> None:
    rng = torch.Generator().manual_seed(0)
    assert {draw_level(PAPER_RGSD, rng) for _ in range(300)} == set(range(1, 12))


def test_enhanced_states_carry_no_graph() -> None:
    model = KnowsOne(PHOTO)
    reference = remember_reference(model, PHOTO, DEPTH, PROMPTS, SMALL)
    x_0 = VIEW.clone().requires_grad_()
    enhanced = enhanced_state(model, reference, x_0, DEPTH, PROMPTS, level=1)
    assert isinstance(enhanced, Enhanced)
    assert not enhanced.state.requires_grad
    assert not enhanced.noise.requires_grad
