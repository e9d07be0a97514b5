"""Zero123 and our orbit model guide."""

import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.clip import ClipShape, ClipTower
from roundview.diffusion.ddim import ScaledLinear
from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.diffusion.guide import sds_gradient, shares_at
from roundview.diffusion.guide_models import (
    SmallViewGuide,
    Zero123Guide,
    cosine_shares,
    orbit_noise,
    zero123_noise,
)
from roundview.diffusion.known_views import SmallViewModel, target_velocity
from roundview.diffusion.ldm_autoencoder import LdmAutoencoder
from roundview.diffusion.orbit import LatentOrbitModel, tell_orbit
from roundview.diffusion.view_guide import ViewGuide
from roundview.diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from roundview.diffusion.zero123 import Zero123Net
from roundview.diffusion.zero123_views import Zero123Options, Zero123Views
from roundview.image import Foreground
from roundview.views import Views

SIZE = AutoencoderSize(
    latent_channels=8, width=8, encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
)


def cameras(*azimuth_deg: float) -> Cameras:
    return Cameras.orbit(
        list(azimuth_deg), elevation_deg=10.0, radius=1.5, fov_deg=49.13, size_hw=(16, 16)
    )


def subject(level: float = 0.5) -> Foreground:
    return Foreground(torch.full((16, 16, 3), level), torch.ones(16, 16))


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_zero123_guides_by_the_way_from_the_photograph() -> None:
    torch.manual_seed(0)
    shape = UNetShape(8, 4, 32, (1, 1), 1, (True, False), (2, 2), 8)
    net = Zero123Net(shape).eval().requires_grad_(False)
    tower = ClipTower(ClipShape(16, 1, 2, 14, 28, 8)).eval()
    autoencoder = LdmAutoencoder(AutoencoderShape(width=32, widths=(1, 1), res_blocks=1)).eval()
    model = Zero123Views(net, autoencoder, tower, Zero123Options(size_px=16))
    guide = Zero123Guide(model, photo(), scale=5.0)
    assert isinstance(guide, ViewGuide)
    guided = guide.told(cameras(30.0, 90.0))
    assert guided.scale == 5
    assert not bool(guided.without.tokens.any())
    assert not bool(guided.without.beside.any())
    # The views differ in the way from the photograph alone.
    torch.testing.assert_close(guided.given.beside[0], guided.given.beside[1])
    assert not torch.allclose(guided.given.tokens[0], guided.given.tokens[1])
    clean, noise = randn(2, 4, 8, 8, seed=1), randn(2, 4, 8, 8, seed=2)
    t, shares = torch.tensor([200, 500]), ScaledLinear().alphas_cumprod()
    gradient = sds_gradient(guided, clean, t, noise, shares=shares)
    share = shares_at(shares, t, clean)
    noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
    known = net.guided(noisy, t, guided.given.beside, guided.given.tokens, scale=5.0)
    torch.testing.assert_close(gradient, (1 - share) * (known - noise), rtol=1e-4, atol=1e-5)
    assert zero123_noise(net)(noisy, t, guided.given).shape == clean.shape


def orbit_model() -> LatentOrbitModel:
    torch.manual_seed(0)
    autoencoder = LatentAutoencoder(SIZE)
    autoencoder.start_from_components(torch.rand(4, 4, 16, 16))
    network = ViewTransformer(ViewTransformerSize(8, latent_px=2, width=16, blocks=1, heads=1))
    torch.nn.init.normal_(network.to_velocity.weight, std=0.1)
    return LatentOrbitModel(network, autoencoder)


def test_the_orbit_model_guides_as_it_draws() -> None:
    model = orbit_model()
    told = tell_orbit(model, subject(), cameras(0.0, 40.0), photo_elevation_deg=10.0)
    assert told.world_from_camera.shape == (1, 3, 4, 4)
    # The photograph's camera and the first view's are one.
    torch.testing.assert_close(told.world_from_camera[0, 0], told.world_from_camera[0, 1])
    predict, shares = orbit_noise(model.network), cosine_shares()
    x, t = randn(2, 8, 2, 2, seed=3), torch.full((2,), 400)
    noise = predict(x, t, told)
    velocity = model.network(
        x[None],
        torch.tensor([0.4005]),
        told.photo_latent,
        told.photo_rgba,
        told.world_from_camera,
        told.focal_ratio,
    )[0]
    # What the model takes for clean follows from either: alpha x - sigma v = (x - sigma e) / alpha.
    share = shares_at(shares, t, x)
    clean = share.sqrt() * x - (1 - share).sqrt() * velocity
    torch.testing.assert_close(
        (x - (1 - share).sqrt() * noise) / share.sqrt(), clean, rtol=1e-4, atol=1e-5
    )
    gradient = sds_gradient(
        lambda y, s: predict(y, s, told), x, t, randn(2, 8, 2, 2, seed=4), shares=shares
    )
    assert bool(torch.isfinite(gradient).all())


def test_views_at_different_noise_levels_are_refused() -> None:
    model = orbit_model()
    told = tell_orbit(model, subject(), cameras(0.0, 40.0), photo_elevation_deg=10.0)
    with pytest.raises(ValueError, match="one noise level"):
        orbit_noise(model.network)(torch.zeros(2, 8, 2, 2), torch.tensor([1, 2]), told)


def test_the_orbit_models_shares_fall_from_nearly_one_to_nearly_nothing() -> None:
    shares = cosine_shares()
    assert bool((shares[1:] < shares[:-1]).all())
    assert float(shares[0]) > 0.999999
    assert 0 < float(shares[-1]) < 1e-6
    assert float(shares[499] + shares[500]) == pytest.approx(1)


def photo() -> Views:
    return Views(torch.full((1, 16, 16, 3), 0.4), torch.ones(1, 16, 16), cameras(0.0))


def small_guide() -> SmallViewGuide:
    orbit = orbit_model()
    return SmallViewGuide(SmallViewModel(orbit.network, orbit.autoencoder), photo())


def test_the_small_guide_predicts_the_noise_of_each_view_at_its_own_level() -> None:
    guide = small_guide()
    assert isinstance(guide, ViewGuide)
    assert (guide.together, guide.size_px) == (1, 16)
    guided = guide.told(cameras(30.0, 90.0))
    x, t = randn(2, 8, 2, 2, seed=5), torch.tensor([200, 700])
    assert guided.given is not None
    velocity = target_velocity(guide.model.network, x, torch.tensor([0.2005, 0.7005]), guided.given)
    # e = sigma x + alpha v.
    share = shares_at(guide.shares, t, x)
    wanted = (1 - share).sqrt() * x + share.sqrt() * velocity
    torch.testing.assert_close(guided(x, t), wanted, rtol=1e-4, atol=1e-5)


def test_the_small_guide_carries_its_gradient_back_to_the_picture() -> None:
    picture = torch.rand(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    small_guide().encode(picture).square().sum().backward()
    assert picture.grad is not None
    assert bool(picture.grad.any())
