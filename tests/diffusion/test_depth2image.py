"""Reference-guided enhancement of views."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from roundview.diffusion.attention import AttentionLayers, Memory, self_attentions
from roundview.diffusion.ddim import ddim
from roundview.diffusion.depth2image import (
    PAPER,
    PAPER_RGSD,
    RELEASED_CODE,
    DepthDenoiser,
    Prompts,
    Rgnv,
    SharedDepthUNet,
    depth_map,
    enhance,
    enhancing_predictor,
    remember_reference,
    source_predictor,
)
from roundview.diffusion.invert import invert, plan_from_zero, steps_of

CONFIG = {
    "sample_size": 8,
    "in_channels": 5,
    "out_channels": 4,
    "block_out_channels": [8, 8],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": [2, 2],
    "cross_attention_dim": 6,
    "norm_num_groups": 4,
    "use_linear_projection": True,
}


@pytest.fixture(scope="module")
def net() -> SharedDepthUNet:
    torch.manual_seed(0)
    return SharedDepthUNet.from_config(CONFIG).eval().requires_grad_(False)


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


PHOTO, VIEWS = randn(1, 4, 8, 8, seed=1), randn(2, 4, 8, 8, seed=2)
PHOTO_DEPTH, VIEW_DEPTH = randn(1, 1, 8, 8, seed=3), randn(2, 1, 8, 8, seed=4)
EMPTY, TARGET = randn(1, 3, 6, seed=5), randn(1, 3, 6, seed=6)
PROMPTS = Prompts(EMPTY, TARGET, EMPTY)
SMALL = Rgnv(steps=5, kept_steps=3)


class SideBySide:
    """All in one batch, as the released program does: [photo, views] twice, without and with."""

    def __init__(self, net: SharedDepthUNet, first_layer: int) -> None:
        self.net, self.first_layer = net, first_layer

    def __call__(self, x: Tensor, t: Tensor, depth: Tensor, tokens: Tensor) -> Tensor:
        layers: list[AttentionLayers] = list(self_attentions(self.net.unet))
        kept = [layer.processor for layer in layers]
        half = len(x) // 2
        for layer in layers[self.first_layer :]:
            layer.processor = FirstOfHalf(half)
        out = self.net(x, t, depth, tokens)
        for layer, processor in zip(layers, kept, strict=True):
            layer.processor = processor
        return out


class FirstOfHalf:
    def __init__(self, half: int) -> None:
        self.half = half

    def __call__(self, attn: AttentionLayers, hidden_states: Tensor, **_: object) -> Tensor:
        shown = hidden_states.clone()
        for start in (0, self.half):
            shown[start : start + self.half] = hidden_states[start : start + 1]
        q, k, v = (
            part.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for part in (attn.to_q(hidden_states), attn.to_k(shown), attn.to_v(shown))
        )
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
        return attn.to_out[0]((weights @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("source", [EMPTY, randn(1, 3, 6, seed=7)], ids=["empty", "told"])
@torch.no_grad()
def test_a_cached_reference_is_as_good_as_one_drawn_alongside(
    net: SharedDepthUNet, source: Tensor
) -> None:
    settings = replace(SMALL, first_layer=1, guidance=2.0)
    prompts = Prompts(source, TARGET, EMPTY)
    reference = remember_reference(net, PHOTO, PHOTO_DEPTH, prompts, settings)
    ours = enhance(net, reference, VIEWS, VIEW_DEPTH, prompts)
    side = SideBySide(net, 1)
    depth = torch.cat([PHOTO_DEPTH, VIEW_DEPTH])
    tokens = torch.cat([EMPTY.expand(3, -1, -1), source, TARGET.expand(2, -1, -1)])

    def predict(x: Tensor, t: Tensor) -> Tensor:
        both = side(torch.cat([x, x]), torch.cat([t, t]), torch.cat([depth, depth]), tokens)
        without, given = both.chunk(2)
        return without + 2 * (given - without)

    plan = plan_from_zero(5)
    start = [
        invert(source_predictor(net, d, prompts, settings), x, plan, steps=3)[-1]
        for x, d in ((PHOTO, PHOTO_DEPTH), (VIEWS, VIEW_DEPTH))
    ]
    together = ddim(predict, torch.cat(start), steps_of(plan, 2))
    torch.testing.assert_close(reference.drawn, together[:1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours, together[1:], rtol=1e-4, atol=1e-4)


def test_a_view_that_is_the_photograph_comes_out_as_it_was_drawn_again(
    net: SharedDepthUNet,
) -> None:
    prompts = Prompts(EMPTY, EMPTY, EMPTY)
    reference = remember_reference(net, PHOTO, PHOTO_DEPTH, prompts, SMALL)
    again = enhance(net, reference, PHOTO, PHOTO_DEPTH, prompts)
    torch.testing.assert_close(again, reference.drawn, rtol=1e-4, atol=1e-4)


def test_views_borrow_only_where_and_when_they_are_told(net: SharedDepthUNet) -> None:
    def drawn(settings: Rgnv) -> Tensor:
        reference = remember_reference(net, PHOTO, PHOTO_DEPTH, PROMPTS, settings)
        return enhance(net, reference, VIEWS, VIEW_DEPTH, PROMPTS)

    never = drawn(replace(SMALL, first_layer=4))
    torch.testing.assert_close(drawn(replace(SMALL, first_injection=5)), never)
    assert float((drawn(SMALL) - never).abs().max()) > 1e-3
    assert float((drawn(replace(SMALL, first_layer=3)) - never).abs().max()) > 1e-4


def test_outside_the_mask_the_released_code_draws_from_the_photographs_noise(
    net: SharedDepthUNet,
) -> None:
    settings = replace(SMALL, from_reference_noise=True, first_layer=4)
    reference = remember_reference(net, PHOTO, PHOTO_DEPTH, PROMPTS, settings)
    nowhere = enhance(net, reference, VIEWS, VIEW_DEPTH, PROMPTS, mask=torch.zeros_like(VIEW_DEPTH))
    draw = enhancing_predictor(net, reference, VIEW_DEPTH, PROMPTS)
    with torch.no_grad():
        plain = ddim(draw, reference.inverted[-1].expand(2, -1, -1, -1), reference.plan)
    torch.testing.assert_close(nowhere, plain)
    everywhere = enhance(net, reference, VIEWS, VIEW_DEPTH, PROMPTS)
    assert float((everywhere - plain).abs().max()) > 1e-3


def test_the_photographs_record_begins_when_views_borrow(net: SharedDepthUNet) -> None:
    settings = replace(SMALL, from_reference_noise=True, first_injection=3, first_layer=2)
    reference = remember_reference(net, PHOTO, PHOTO_DEPTH, PROMPTS, settings)
    assert sorted(reference.memories) == [0, 200]
    assert {tuple(m.held) for m in reference.memories.values()} == {(2, 3)}
    # The prompt is empty on both sides: one row serves both.
    assert {len(each) for m in reference.memories.values() for each in m.held.values()} == {1}
    assert isinstance(reference.memories[0], Memory)


def test_presets_are_the_papers_and_the_codes() -> None:
    assert (PAPER.steps, PAPER.kept_steps, PAPER.first_step, PAPER.first_layer) == (50, 30, 20, 0)
    assert (PAPER_RGSD.steps, PAPER_RGSD.kept_steps, PAPER_RGSD.guidance) == (20, 12, 7.5)
    assert (RELEASED_CODE.first_step, RELEASED_CODE.first_injection) == (0, 4)
    assert (RELEASED_CODE.first_layer, RELEASED_CODE.guidance) == (12, 9.0)
    with pytest.raises(ValueError, match=r"kept_steps must lie in 1\.\.5, got 6"):
        replace(SMALL, kept_steps=6)
    with pytest.raises(ValueError, match=r"1\.\.4, got 5"):
        replace(SMALL, kept_steps=5, from_reference_noise=True)


def test_progress_is_told_to_the_end(net: SharedDepthUNet) -> None:
    for settings in (SMALL, replace(SMALL, from_reference_noise=True)):
        told: list[float] = []
        reference = remember_reference(
            net, PHOTO, PHOTO_DEPTH, PROMPTS, settings, report=told.append
        )
        assert told == sorted(told)
        assert told[-1] == 1
        told.clear()
        enhance(net, reference, VIEWS, VIEW_DEPTH, PROMPTS, report=told.append)
        assert told == sorted(told)
        assert told[-1] == 1


def test_depth_fills_its_range_in_each_picture() -> None:
    depth = torch.stack([torch.linspace(0, 5, 64).reshape(8, 8), torch.full((8, 8), 3.0)])
    even = depth_map(depth, (8, 8))
    assert float(even[0].min()) == pytest.approx(-1)
    assert float(even[0].max()) == pytest.approx(1, abs=1e-3)
    assert float(even[1].abs().max()) == 1
    assert depth_map(depth, (4, 4)).shape == (2, 1, 4, 4)


def test_the_network_is_a_depth_denoiser(net: SharedDepthUNet) -> None:
    assert isinstance(net, DepthDenoiser)
