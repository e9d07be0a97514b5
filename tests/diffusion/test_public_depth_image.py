import torch
from checkpoints_tiny import CODEC, DEPTH, TEXT
from hifi_tiny import Dome
from torch import Tensor

from roundview.diffusion.attention import Memory
from roundview.diffusion.clip_text import ClipText, empty_prompts
from roundview.diffusion.ldm_autoencoder import LATENT_SCALE, LdmAutoencoder
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.public_depth_image import (
    PlacedDepthUNet,
    public_enhancing_models,
    text_prompts,
)
from roundview.diffusion.rgnv_views import EnhancingModels


def networks() -> tuple[LdmUNet, LdmAutoencoder]:
    torch.manual_seed(0)
    return LdmUNet(DEPTH), LdmAutoencoder(CODEC)


def models(*, as_estimated: bool = False, at_once: int = 4) -> EnhancingModels:
    unet, codec = networks()
    return public_enhancing_models(
        unet, codec, Dome(), size_px=32, as_estimated=as_estimated, at_once=at_once
    )


def pictures(count: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    alpha = torch.zeros(count, 32, 32)
    alpha[:, 8:24, 8:24] = 1.0
    return torch.rand(count, 32, 32, 3, generator=rng), alpha


@torch.no_grad()
def test_latents_are_the_scaled_mean_of_the_subject_over_grey() -> None:
    rgb, alpha = pictures(1)
    _, codec = networks()
    shown = rgb * alpha[..., None] + (1 - alpha[..., None]) * torch.tensor([126, 129, 127]) / 255
    expected = codec.encode(shown.movedim(-1, 1) * 2 - 1) * LATENT_SCALE
    torch.testing.assert_close(models().encode(rgb, alpha), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_pictures_a_few_at_a_time_are_the_same_as_together() -> None:
    rgb, alpha = pictures(3)
    one, all_ = models(at_once=1), models(at_once=8)
    latents = all_.encode(rgb, alpha)
    torch.testing.assert_close(one.encode(rgb, alpha), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one.decode(latents), all_.decode(latents), atol=1e-5, rtol=1e-5)


def test_depth_is_taken_as_it_is_or_spread_over_the_subject() -> None:
    rgb, alpha = pictures(1)
    raw = models(as_estimated=True).depth(rgb, alpha)
    torch.testing.assert_close(raw, Dome()(rgb)[0])
    spread = models().depth(rgb, alpha)
    assert float(spread.max()) == 1.0
    assert float(spread[:, 0, 0]) == 0.0


@torch.no_grad()
def test_a_network_in_half_precision_answers_in_that_of_the_question() -> None:
    unet, _ = networks()
    placed = PlacedDepthUNet(unet)
    x, t, depth = torch.randn(2, 4, 4, 4), torch.tensor([500, 20]), torch.zeros(2, 1, 4, 4)
    tokens, record = torch.randn(2, 3, 64), Memory()
    whole = placed(x, t, depth, tokens, record=record)
    assert record.held
    half = PlacedDepthUNet(unet.bfloat16())(x, t, depth, tokens)
    assert half.dtype == torch.float32
    # Half precision, 8 bits of it through a whole network.
    torch.testing.assert_close(half, whole, atol=0.1, rtol=0.1)


def test_only_the_wanted_view_has_words() -> None:
    torch.manual_seed(0)
    tower = ClipText(TEXT)
    asked: list[str] = []

    def tell(texts: list[str]) -> Tensor:
        asked.extend(texts)
        return empty_prompts(tower, "")([""] * len(texts))

    prompts = text_prompts(tell, "a parrot")  # pyright: ignore[reportArgumentType]  a list is asked
    assert asked == ["", "a parrot"]
    assert prompts.target.shape == (1, TEXT.length, TEXT.width)
    assert torch.equal(prompts.source, prompts.negative)
