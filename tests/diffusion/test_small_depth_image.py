"""The small image model that knows depth: what goes in, what comes out."""

import pytest
import torch
from hifi_tiny import CONTEXT, SIDE, Dome, tiny_autoencoder, tiny_enhancer, tiny_network
from torch import Tensor

from roundview.camera import Cameras
from roundview.diffusion.ddim import ScaledLinear
from roundview.diffusion.depth2image import Prompts
from roundview.diffusion.small_depth_image import (
    ImageGuide,
    no_depth,
    picture_prompts,
    small_depth_image_shape,
    small_enhancing_models,
)
from roundview.diffusion.view_guide import ViewGuide
from roundview.image import Foreground

CAMERAS = Cameras.orbit([0.0, 90.0], elevation_deg=0.0, radius=1.5, fov_deg=49.0, size_hw=(32, 32))


class Colours:
    """Embeds a picture as its mean colour, and keeps the size it had."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def embedding(self, rgb: Tensor) -> Tensor:
        self.size_hw = rgb.shape[1:3]
        return rgb.mean(dim=(1, 2))


def test_depth_is_one_channel_beside_the_latents() -> None:
    shape = small_depth_image_shape(24, 1280)
    assert (shape.in_channels, shape.out_channels, shape.camera, shape.vector) == (25, 24, 0, 0)


def test_latents_have_a_slope_and_come_back_as_colours() -> None:
    models = small_enhancing_models(tiny_network(), tiny_autoencoder(), Dome(), size_px=SIDE)
    rgb = torch.rand(2, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    latents = models.encode(rgb.requires_grad_(), torch.ones(2, SIDE, SIDE))
    assert latents.shape == (2, 4, 4, 4)
    assert latents.requires_grad
    assert models.decode(latents).shape == (2, SIDE, SIDE, 3)


def test_estimated_depth_is_that_of_the_subject_alone() -> None:
    models = small_enhancing_models(tiny_network(), tiny_autoencoder(), Dome(), size_px=SIDE)
    alpha = torch.zeros(1, SIDE, SIDE)
    alpha[:, 8:24, 8:24] = 1
    depth = models.depth(torch.ones(1, SIDE, SIDE, 3), alpha)
    assert float(depth[alpha == 0].max()) == 0
    assert float(depth[0, 16, 16]) == pytest.approx(1, abs=0.02)
    assert float(depth[alpha == 1].min()) == pytest.approx(0.25)


def test_the_photograph_is_the_prompt_and_nothing_the_empty_one() -> None:
    features = Colours()
    rgb = torch.tensor([0.2, 0.5, 0.8]).expand(8, 8, 3)
    prompts = picture_prompts(features, Foreground(rgb, torch.ones(8, 8)), size_px=4)
    assert features.size_hw == (4, 4)
    torch.testing.assert_close(prompts.target[0, 0], rgb[0, 0])
    assert not bool(prompts.source.any())
    assert not bool(prompts.negative.any())


def test_the_guide_is_told_no_depth_and_needs_no_cameras() -> None:
    seen: list[Tensor] = []
    models = tiny_enhancer().models
    models.denoiser.register_forward_pre_hook(lambda _, given: seen.append(given[2]))  # pyright: ignore[reportAttributeAccessIssue]  it is a module
    token = torch.ones(1, 1, CONTEXT)
    guide = ImageGuide(models, Prompts(0 * token, token, 0 * token), scale=2.0)
    assert isinstance(guide, ViewGuide)
    latents = guide.encode(torch.rand(2, 4, SIDE, SIDE))
    guided = guide.told(CAMERAS)
    given, without = guided.parts(latents, torch.tensor([10, 500]))
    assert given.shape == latents.shape
    assert not torch.equal(given, without)
    assert bool((torch.cat(seen) == -1).all())
    torch.testing.assert_close(guide.shares, ScaledLinear().alphas_cumprod())
    assert float(no_depth(latents).mean()) == -1
