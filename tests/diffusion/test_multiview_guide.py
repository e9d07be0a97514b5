"""A multi-view model, told of a subject once, guides renderings of it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.multiview import (
    SMALL,
    Autoencoder,
    MultiviewModel,
    ldm_views,
    small_autoencoder,
    tell_embedding,
)
from roundview.diffusion.multiview_guide import MultiviewGuide
from roundview.diffusion.small_shapes import small_multiview_shape
from roundview.diffusion.view_guide import ViewGuide
from roundview.image import Foreground
from roundview.models import OrbitModel

LATENTS = 4


class MeanColour:
    """Deep features of two numbers."""

    calls = 0

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.movedim(-1, 1)]

    def embedding(self, rgb: Tensor) -> Tensor:
        self.calls += 1
        return rgb.mean(dim=(1, 2))[:, :2]


def model(features: MeanColour) -> MultiviewModel:
    torch.manual_seed(0)
    shape = replace(small_multiview_shape(LATENTS, 2), width=32, heads=(1, 2))
    unet = LdmUNet(shape).eval().requires_grad_(False)
    size = AutoencoderSize(LATENTS, 8, (1, 1, 1), (1, 1, 1))
    net = LatentAutoencoder(size).eval().requires_grad_(False)
    return MultiviewModel(
        ldm_views(unet),
        small_autoencoder(net),
        tell_embedding(features),
        replace(SMALL, channels=LATENTS),
    )


def subject(level: float = 0.5) -> Foreground:
    alpha = torch.zeros(64, 64)
    alpha[16:48, 16:48] = 1
    return Foreground(torch.full((64, 64, 3), level), alpha)


def four() -> Cameras:
    return Cameras.orbit(
        [20.0 + 90 * k for k in range(4)],
        elevation_deg=10.0,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(64, 64),
    )


def test_it_is_told_of_the_subject_once() -> None:
    features = MeanColour()
    guide = MultiviewGuide(model(features), subject())
    assert isinstance(guide, ViewGuide)
    first, second = guide.told(four()), guide.told(four())
    assert features.calls == 1
    assert torch.equal(first.given.tokens, second.given.tokens)
    assert float(first.without.tokens.abs().max()) == 0
    assert torch.equal(first.given.camera, first.without.camera)
    assert first.scale == SMALL.guiding


def test_guidance_is_the_models_own_or_what_was_asked_for() -> None:
    drawing = model(MeanColour())
    assert MultiviewGuide(drawing, subject(), guidance=7.0).told(four()).scale == 7
    # A model that says nothing of guiding guides as it draws.
    drawing.settings = replace(drawing.settings, guidance=4.0, guiding=None, levels=None)
    guide = MultiviewGuide(drawing, subject())
    assert (guide.guidance, guide.levels) == (4.0, None)


def test_it_says_at_which_noise_levels_it_knows_anything() -> None:
    assert MultiviewGuide(model(MeanColour()), subject()).levels == SMALL.levels


def test_latents_keep_alpha_and_let_gradients_through() -> None:
    guide = MultiviewGuide(model(MeanColour()), subject())
    rgba = torch.rand(4, 4, 64, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    latents = guide.encode(rgba)
    assert latents.shape == (4, LATENTS, 8, 8)
    (slope,) = torch.autograd.grad(latents.square().sum(), rgba)
    assert float(slope[:, 3].abs().sum()) > 0


def test_without_alpha_only_colour_is_encoded() -> None:
    plain = model(MeanColour())
    plain.autoencoder = Autoencoder(lambda picture: picture, lambda latents: latents)
    rgba = torch.full((4, 4, 8, 8), 0.75)
    torch.testing.assert_close(
        MultiviewGuide(plain, subject()).encode(rgba), torch.full((4, 3, 8, 8), 0.5)
    )


def test_other_cameras_are_refused() -> None:
    with pytest.raises(ValueError, match="equal turns"):
        MultiviewGuide(model(MeanColour()), subject()).told(four()[[0, 2, 1, 3]])


def test_our_model_draws_with_alpha() -> None:
    drawing = model(MeanColour())
    assert isinstance(drawing, OrbitModel)
    rng = torch.Generator().manual_seed(2)
    views = drawing.draw(subject(), four(), rng, photo_elevation_deg=0.0, steps=2)
    assert views.rgb.shape == (4, 64, 64, 3)
    # Alpha is the autoencoder's, not what differs from white.
    assert not torch.allclose(views.alpha, (views.rgb.amin(dim=-1) < 1).float())
    again = drawing.redraw(subject(), views, rng, photo_elevation_deg=0.0, noise_level=0.1, steps=1)
    assert again.rgb.shape == views.rgb.shape
