"""Stable Diffusion judges renderings by words that say from which side the subject is seen."""

from collections.abc import Sequence

import pytest
import torch
from checkpoints_tiny import CODEC, PICTURE
from torch import Tensor

from roundview.camera import Cameras
from roundview.diffusion.ddim import ScaledLinear
from roundview.diffusion.ldm_autoencoder import LATENT_SCALE, LdmAutoencoder
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.text_guide import TextGuide, picture_noise
from roundview.diffusion.view_guide import ViewGuide


class Told:
    """Gives each new text a number, and remembers them."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: Sequence[str]) -> Tensor:
        self.texts += texts
        first = len(self.texts) - len(texts)
        return torch.arange(first, len(self.texts)).float()[:, None, None].expand(-1, 8, 64)


def guide(told: Told, *, velocity: bool = False) -> TextGuide:
    torch.manual_seed(0)
    unet, autoencoder = LdmUNet(PICTURE), LdmAutoencoder(CODEC)
    return TextGuide(unet, autoencoder, told, "a chair", size_px=32, velocity=velocity, scale=2.0)


def test_each_view_is_told_its_side() -> None:
    told = Told()
    made = guide(told)
    assert isinstance(made, ViewGuide)
    assert told.texts == [
        "",
        *(f"a chair, {s} view" for s in ("front", "side", "back", "overhead")),
    ]
    sides = {
        "front": (20.0, 10.0),
        "side": (-90.0, 0.0),
        "back": (180.0, 0.0),
        "overhead": (0.0, 75.0),
    }
    for name, (azimuth, elevation) in sides.items():
        camera = Cameras.orbit(
            [azimuth], elevation_deg=elevation, radius=2.0, fov_deg=40.0, size_hw=(8, 8)
        )
        given = made.told(camera)
        assert told.texts[int(given.given[0, 0, 0])] == f"a chair, {name} view"
        assert float(given.without.abs().max()) == 0  # the first text, the empty one


@torch.no_grad()
def test_guidance_starts_from_the_prediction_with_the_words() -> None:
    made = guide(Told())
    camera = Cameras.orbit([0.0], elevation_deg=0.0, radius=2.0, fov_deg=40.0, size_hw=(8, 8))
    told, x, t = made.told(camera), torch.randn(1, 4, 4, 4), torch.tensor([300])
    with_words, without = told.parts(x, t)
    wanted = with_words + 2.0 * (with_words - without)
    torch.testing.assert_close(told(x, t), wanted)


@torch.no_grad()
def test_velocities_become_noise() -> None:
    torch.manual_seed(1)
    unet = LdmUNet(PICTURE).eval()
    x, t, tokens = torch.randn(2, 4, 4, 4), torch.tensor([100, 900]), torch.randn(2, 8, 64)
    plain = picture_noise(unet)(x, t, tokens)
    share = ScaledLinear().alphas_cumprod()[t].float()[:, None, None, None]
    # Worked by hand: x = sqrt(a) x_0 + sqrt(1 - a) e and v = sqrt(a) e - sqrt(1 - a) x_0.
    clean = share.sqrt() * x - (1 - share).sqrt() * plain
    noise = (x - share.sqrt() * clean) / (1 - share).sqrt()
    found = picture_noise(unet, velocity=True)(x, t, tokens)
    torch.testing.assert_close(found, noise, atol=1e-4, rtol=1e-4)


def test_renderings_become_scaled_latents_with_a_gradient() -> None:
    made = guide(Told())
    rgba = torch.rand(1, 4, 32, 32, requires_grad=True)
    latents = made.encode(rgba)
    plain = made.autoencoder.encode(rgba[:, :3] * 2 - 1)
    torch.testing.assert_close(latents, plain * LATENT_SCALE)
    (gradient,) = torch.autograd.grad(latents.sum(), rgba)
    assert bool(gradient[:, :3].any())
    assert float(gradient[:, 3].abs().max()) == pytest.approx(0)
