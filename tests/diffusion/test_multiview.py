"""Models of four views draw and guide."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.clip import ClipShape, ClipTower
from roundview.diffusion.ddim import ScaledLinear
from roundview.diffusion.guide import reconstruction_gradient
from roundview.diffusion.imagedream import ImageDreamUNet, ResamplerShape
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.multiview import (
    Autoencoder,
    MultiviewModel,
    MultiviewSettings,
    Told,
    ViewsTold,
    camera_vectors,
    imagedream_views,
    ldm_views,
    tell_isotropic3d,
)
from roundview.frames import mvdream_from_cameras
from roundview.image import Foreground
from roundview.models import OrbitModel

MORE = Path(os.environ.get("ROUNDVIEW_FIXTURES", "nowhere"))
TINY = UNetShape(
    in_channels=4,
    out_channels=4,
    width=32,
    widths=(1, 1),
    res_blocks=1,
    attends=(True, False),
    heads=(2, 2),
    context=8,
    camera=16,
)
SETTINGS = MultiviewSettings(size_px=16, latent_px=8, guidance=2.0)


def four(elevation_deg: float = 10.0, start_deg: float = 0.0) -> Cameras:
    return Cameras.orbit(
        [start_deg + 90.0 * k for k in range(4)],
        elevation_deg=elevation_deg,
        radius=2.0,
        fov_deg=40.0,
        size_hw=(16, 16),
    )


def autoencoder() -> Autoencoder:
    """Two pictures' pixels a latent; the fourth channel is empty."""

    def encode(picture: Tensor) -> Tensor:
        small = torch.nn.functional.avg_pool2d(picture, 2)
        return torch.cat([small, torch.zeros_like(small[:, :1])], dim=1)

    return Autoencoder(
        encode, lambda latents: torch.nn.functional.interpolate(latents[:, :3], scale_factor=2)
    )


def subject(level: float = 0.5) -> Foreground:
    alpha = torch.zeros(16, 16)
    alpha[4:12, 4:12] = 1
    return Foreground(torch.full((16, 16, 3), level), alpha)


def told_for(cameras: Cameras) -> ViewsTold:
    tokens = torch.randn(1, 1, 8, generator=torch.Generator().manual_seed(0))
    return ViewsTold(tokens.expand(len(cameras), -1, -1), camera_vectors(cameras, "twice"))


@pytest.fixture(scope="module")
def unet() -> LdmUNet:
    torch.manual_seed(0)
    return LdmUNet(TINY).eval().requires_grad_(False)


@pytest.fixture
def model(unet: LdmUNet) -> MultiviewModel:
    def tell(subject: Foreground) -> Told:
        level = subject.rgb.mean()

        def told(cameras: Cameras) -> tuple[ViewsTold, ViewsTold]:
            plain = told_for(cameras)
            return replace(plain, tokens=plain.tokens * level), plain.without_picture()

        return told

    return MultiviewModel(ldm_views(unet), autoencoder(), tell, SETTINGS)


def test_views_are_drawn_over_white_and_follow_the_seed(model: MultiviewModel) -> None:
    assert isinstance(model, OrbitModel)

    def drawn(seed: int) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        views = model.draw(subject(), four(), rng, photo_elevation_deg=0.0, steps=2)
        assert views.rgb.shape == (4, 16, 16, 3)
        assert views.alpha.shape == (4, 16, 16)
        return views.rgb

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_little_noise_leaves_views_much_as_they_were(model: MultiviewModel) -> None:
    rng = torch.Generator().manual_seed(3)
    views = model.draw(subject(), four(), rng, photo_elevation_deg=0.0, steps=2)
    smooth = replace(views, rgb=torch.full_like(views.rgb, 0.5))

    def off(noise_level: float) -> float:
        again = model.redraw(
            subject(),
            smooth,
            torch.Generator().manual_seed(4),
            photo_elevation_deg=0.0,
            noise_level=noise_level,
            steps=2,
        )
        return float((again.rgb - 0.5).abs().mean())

    assert off(0.02) < 0.1 < off(0.9)
    with pytest.raises(ValueError, match="noise_level must lie in"):
        off(0.0)


def test_renderings_of_other_rings_are_refused(model: MultiviewModel) -> None:
    told = model.tell(subject())
    with pytest.raises(ValueError, match="4 views at a time, got 3"):
        model.guided(told, four()[:3])
    with pytest.raises(ValueError, match="equal turns and one elevation"):
        model.guided(told, four()[[0, 2, 1, 3]])


def test_views_can_be_drawn_from_any_side(model: MultiviewModel) -> None:
    views = model.draw(
        subject(), four()[[1]], torch.Generator().manual_seed(1), photo_elevation_deg=0.0, steps=1
    )
    assert views.rgb.shape == (1, 16, 16, 3)


def test_the_model_guides_what_is_rendered(model: MultiviewModel) -> None:
    cameras = four(start_deg=30.0)
    rng = torch.Generator().manual_seed(5)
    clean, noise = torch.randn(2, 4, 4, 8, 8, generator=rng)
    gradient = reconstruction_gradient(
        model.guided(model.tell(subject()), cameras),
        clean,
        torch.full((4,), 500),
        noise,
        shares=ScaledLinear().alphas_cumprod(),
        frames=4,
    )
    assert gradient.shape == clean.shape
    assert bool(torch.isfinite(gradient).all())
    other = reconstruction_gradient(
        model.guided(model.tell(subject(0.9)), cameras),
        clean,
        torch.full((4,), 500),
        noise,
        shares=ScaledLinear().alphas_cumprod(),
        frames=4,
    )
    assert not torch.allclose(gradient, other)


def test_views_of_an_object_see_each_other_and_no_other(unet: LdmUNet) -> None:
    predict = ldm_views(unet)
    cameras = four()
    told = told_for(cameras)
    two = ViewsTold(told.tokens.repeat(2, 1, 1), told.camera.repeat(2, 1))
    rng = torch.Generator().manual_seed(6)
    x, t = torch.randn(8, 4, 8, 8, generator=rng), torch.full((8,), 300)
    before = predict(x, t, two)
    changed = x.clone()
    changed[0] += 1
    after = predict(changed, t, two)
    assert all(not torch.equal(before[k], after[k]) for k in range(4))
    torch.testing.assert_close(before[4:], after[4:])


def test_imagedream_drops_the_noise_of_its_picture() -> None:
    torch.manual_seed(1)
    sizes = ResamplerShape(
        features=6, width=8, depth=1, heads=2, head_width=4, tokens=2, context=8, widening=2
    )
    unet = ImageDreamUNet(TINY, sizes).eval().requires_grad_(False)
    told = replace(
        told_for(four()),
        features=torch.randn(1, 3, 6).expand(4, -1, -1),
        picture=torch.randn(1, 4, 8, 8),
    )
    x, t = torch.randn(4, 4, 8, 8), torch.full((4,), 300)
    predict = imagedream_views(unet)
    pixel = predict(x, t, told)
    local = predict(x, t, replace(told, picture=None))
    assert pixel.shape == local.shape == x.shape
    assert not torch.allclose(pixel, local)
    assert told.features is not None
    assert told.picture is not None
    whole = unet(
        torch.cat([x, x[:1]]),
        torch.full((5,), 300),
        told.tokens[:1].expand(5, -1, -1),
        torch.cat([told.camera, torch.zeros(1, 16)]),
        told.features[:1].expand(5, -1, -1),
        frames=5,
        picture=told.picture,
    )
    torch.testing.assert_close(pixel, whole[:4])
    nothing = told.without_picture()
    assert not any(
        bool(part.any())
        for part in (nothing.tokens, nothing.features, nothing.picture)
        if part is not None
    )
    with pytest.raises(ValueError, match="wants features"):
        predict(x, t, told_for(four()))


def test_isotropic3d_is_told_one_embedding_and_the_cameras() -> None:
    torch.manual_seed(2)
    shape = ClipShape(side=28, patch=14, width=16, layers=1, heads=2, out=8, quick=False)
    tell = tell_isotropic3d(ClipTower(shape).eval())
    given, without = tell(subject())(four())
    assert given.tokens.shape == (4, 1, 8)
    torch.testing.assert_close(given.tokens, given.tokens[:1].expand(4, -1, -1))
    assert not bool(without.tokens.any())
    torch.testing.assert_close(given.camera, camera_vectors(four(), "twice"))
    torch.testing.assert_close(without.camera, given.camera)


def test_angles_turned_once_are_mvdreams() -> None:
    cameras = four(30.0, 15.0)
    assert torch.equal(camera_vectors(cameras, "once"), mvdream_from_cameras(cameras))


def test_angles_turned_twice_hardly_turn() -> None:
    vectors = camera_vectors(four(30.0), "twice").unflatten(1, (4, 4))
    # 90 degrees became 1.57: all four stand within 4.8 degrees of the front.
    cosines = vectors[:, :3, 3] @ vectors[0, :3, 3]
    assert float(cosines.min()) > 0.996


def test_in_the_loop_elevations_shrink_view_by_view() -> None:
    twice, loop = (camera_vectors(four(30.0), kind) for kind in ("twice", "in_a_loop"))
    torch.testing.assert_close(loop[0], twice[0])
    # In the Blender world the height is the third coordinate of the centre.
    heights = loop.unflatten(1, (4, 4))[:, 2, 3]
    ratio = heights[1] / heights[0]
    torch.testing.assert_close(ratio, torch.tensor(np.pi / 180).to(ratio), rtol=1e-3, atol=0)


@pytest.mark.skipif(not (MORE / "isotropic3d_cameras.npz").exists(), reason="no fixture at hand")
@pytest.mark.parametrize(("count", "elevation_deg"), [(4, 15), (4, 5), (8, 30), (1, 0)])
def test_isotropic3ds_demo_cameras_are_met(count: int, elevation_deg: int) -> None:
    ring = Cameras.orbit(
        [360.0 * k / count for k in range(count)],
        elevation_deg=float(elevation_deg),
        radius=1.5,
        fov_deg=50.0,
        size_hw=(8, 8),
    )
    with np.load(MORE / "isotropic3d_cameras.npz") as file:
        truth = torch.from_numpy(file[f"get_camera_n{count}_el{elevation_deg}"])
    torch.testing.assert_close(camera_vectors(ring, "in_a_loop"), truth, rtol=0, atol=1e-5)


@pytest.mark.skipif(not (MORE / "isotropic3d_cameras.npz").exists(), reason="no fixture at hand")
def test_isotropic3ds_guidance_cameras_are_met() -> None:
    with np.load(MORE / "isotropic3d_cameras.npz") as file:
        told = {n: torch.from_numpy(file[n]).float() for n in ("cond_az", "cond_el", "cond_camera")}
    keep = (told["cond_az"] >= 0).nonzero()[:, 0].tolist()
    cameras = Cameras.orbit(
        told["cond_az"][keep].tolist(),
        elevation_deg=told["cond_el"][keep].tolist(),
        radius=1.0,
        fov_deg=50.0,
        size_hw=(8, 8),
    )
    ours = camera_vectors(cameras, "twice")
    torch.testing.assert_close(ours, told["cond_camera"][keep], rtol=0, atol=1e-5)
