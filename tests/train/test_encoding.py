import pytest
import torch
from torch import Tensor

from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.clip import ClipShape, ClipTower
from roundview.diffusion.ddim import ScaledLinear
from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.diffusion.ldm_autoencoder import LATENT_SCALE, LdmAutoencoder
from roundview.train.encoding import (
    Encoders,
    coin,
    noisy_latents,
    public_encoders,
    random_steps,
    small_encoders,
    without,
)

CODEC = AutoencoderShape(width=32, widths=(1, 1, 1, 1), res_blocks=1)
TOWER = ClipShape(width=32, layers=1, heads=2, patch=14, side=28, out=24)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Mean:
    """Features: the mean colour."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.permute(0, 3, 1, 2)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


def test_public_latents_are_not_scaled_and_see_no_alpha() -> None:
    torch.manual_seed(0)
    codec, tower = LdmAutoencoder(CODEC), ClipTower(TOWER)
    encoders = public_encoders(codec, tower, antialias=True)
    rgba = torch.rand(2, 4, 16, 16, generator=seeded())
    latents = encoders.encode(rgba, None)
    torch.testing.assert_close(latents, codec.encode(rgba[:, :3] * 2 - 1))
    assert encoders.scale == LATENT_SCALE
    assert encoders.embed(rgba).shape == (2, 24)
    decoded = encoders.decode(latents)
    assert decoded.shape == (2, 4, 16, 16)
    assert bool((decoded[:, 3] == 1).all())
    assert not any(p.requires_grad for p in codec.parameters())


def test_a_drawn_latent_is_what_the_autoencoder_samples_with_that_noise() -> None:
    torch.manual_seed(0)
    codec = LdmAutoencoder(CODEC)
    encoders = public_encoders(codec, ClipTower(TOWER), antialias=False)
    rgba = torch.rand(1, 4, 16, 16, generator=seeded())
    noise = torch.randn(1, 4, 2, 2, generator=seeded(1))
    torch.testing.assert_close(
        encoders.encode(rgba, seeded(1)), codec.sample(rgba[:, :3] * 2 - 1, noise)
    )


def test_small_encoders_see_alpha_and_embed_by_features() -> None:
    autoencoder = LatentAutoencoder(AutoencoderSize(8, 8, (1, 1, 1), (1, 1, 1)))
    encoders = small_encoders(autoencoder, Mean())
    rgba = torch.rand(2, 4, 16, 16, generator=seeded())
    torch.testing.assert_close(encoders.encode(rgba, None), autoencoder.encode(rgba))
    torch.testing.assert_close(encoders.embed(rgba), rgba[:, :3].mean(dim=(2, 3)))
    assert encoders.decode(encoders.encode(rgba, None)).shape == rgba.shape


def test_distance_weighs_channels_and_keeps_samples_apart() -> None:
    weight = torch.tensor([0.5, 1.5])
    encoders = Encoders(lambda x, _: x, lambda x: x, lambda x: x, 1.0, weight)
    a, b = torch.zeros(2, 2, 1, 1), torch.zeros(2, 2, 1, 1)
    a[0, 0], a[1, 1] = 2.0, 2.0
    torch.testing.assert_close(encoders.distance(a, b), torch.tensor([1.0, 3.0]))


def test_noise_grows_as_stable_diffusions_schedule_says() -> None:
    share = ScaledLinear().alphas_cumprod()
    clean, noise = torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    noisy = noisy_latents(clean, noise, torch.tensor([0, 999]))
    torch.testing.assert_close(noisy.flatten(), share[[0, 999]].sqrt().float())
    # Signal and noise share the variance: 1 in all.
    only_noise = noisy_latents(noise, clean, torch.tensor([0, 999]))
    torch.testing.assert_close(noisy**2 + only_noise**2, torch.ones(2, 1, 1, 1))


def test_steps_reach_both_ends() -> None:
    steps = random_steps(20000, seeded())
    assert (int(steps.min()), int(steps.max())) == (0, 999)


def test_dropped_samples_are_zero_and_the_others_stay() -> None:
    value = torch.ones(2, 3, 1)
    out = without(torch.tensor([True, False]), value)
    assert out[:, 0, 0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_a_coin_falls_as_often_as_it_should(share: float) -> None:
    # Standard deviation of the share of 20,000 tosses: at most 0.0035.
    assert abs(float(coin(20000, share, seeded()).float().mean()) - share) < 0.015
