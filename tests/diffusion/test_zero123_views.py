"""Zero123 and its cascade draw with tiny networks of the original's layout."""

from typing import Literal

import torch

from roundview.camera import Cameras
from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.clip import ClipShape, ClipTower
from roundview.diffusion.known_views import RefinerModel
from roundview.diffusion.ldm_autoencoder import LATENT_SCALE, LdmAutoencoder
from roundview.diffusion.zero123 import Zero123Net, pose_from_degrees
from roundview.diffusion.zero123_views import Zero123Options, Zero123Views
from roundview.models import ViewModel
from roundview.views import Views


def model(**options: object) -> Zero123Views:
    torch.manual_seed(0)
    net = Zero123Net(UNetShape(8, 4, 32, (1, 1), 1, (True, False), (2, 2), 8))
    tower = ClipTower(ClipShape(16, 1, 2, 14, 28, 8))
    autoencoder = LdmAutoencoder(AutoencoderShape(width=32, widths=(1, 1), res_blocks=1))
    told: dict[str, object] = {"size_px": 16, **options}
    return Zero123Views(net, autoencoder, tower, Zero123Options(**told))  # pyright: ignore[reportArgumentType] any field


def cameras(*azimuth_deg: float, elevation_deg: float = 10.0) -> Cameras:
    return Cameras.orbit(
        list(azimuth_deg), elevation_deg=elevation_deg, radius=1.5, fov_deg=49.13, size_hw=(24, 24)
    )


def views(at: Cameras, seed: int = 1) -> Views:
    made = torch.rand(len(at), 24, 24, 4, generator=seeded(seed))
    return Views(made[..., :3].contiguous(), made[..., 3].contiguous(), at)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def poses_told(made: Zero123Views, known: Views, at: Cameras, coarse: Views | None) -> torch.Tensor:
    """The four numbers of each token, read off a projection that passes them through."""
    with torch.no_grad():
        made.net.cc_projection.weight.zero_()
        made.net.cc_projection.bias.zero_()
        made.net.cc_projection.weight[:4, -4:] = torch.eye(4)
    return made.tell(made.look_at(known), at, coarse).tokens[..., :4]


def test_it_is_a_view_model_and_a_refiner() -> None:
    assert isinstance(model(), ViewModel)
    assert isinstance(model(), RefinerModel)


def test_tokens_are_photo_draft_and_nearby_views_with_ways_to_the_target() -> None:
    made, target = model(), cameras(60.0, elevation_deg=20.0)
    found = poses_told(made, views(cameras(0.0, 45.0, 315.0)), target, views(target, 2))
    ways = [[-10.0, 60.0, 0.0], [0.0, 0.0, 0.0], [-10.0, 15.0, 0.0], [-10.0, 105.0, 0.0]]
    wanted = pose_from_degrees(torch.tensor(ways))
    wanted[1] = 0.0  # Not the embedding of no motion, which has a cosine of 1.
    torch.testing.assert_close(found[0], wanted, atol=1e-5, rtol=1e-5)


def test_the_papers_pose_of_the_draft_is_the_embedding_of_no_motion() -> None:
    paper: Literal["paper"] = "paper"
    made, target = model(coarse_pose=paper), cameras(60.0)
    found = poses_told(made, views(cameras(0.0)), target, views(target, 2))
    assert found[0, 1].tolist() == [0.0, 0.0, 1.0, 0.0]


def test_stable_zero123_is_told_the_photographs_polar_angle() -> None:
    found = poses_told(model(stable=True), views(cameras(0.0)), cameras(60.0), None)
    torch.testing.assert_close(found[0, 0, 3], torch.deg2rad(torch.tensor(80.0)))


def test_only_the_photograph_lies_beside_the_noise() -> None:
    made, known = model(), views(cameras(0.0, 45.0))
    told = made.tell(made.look_at(known), cameras(60.0), None)
    photo = made.look_at(known[0]).beside
    torch.testing.assert_close(told.beside, photo)
    other = Views(1 - known.rgb, known.alpha, known.cameras)
    assert not torch.allclose(made.look_at(other).beside, photo)


def test_views_come_at_the_cameras_size_in_colour_range() -> None:
    heard: list[float] = []
    drawn = model(together=2).draw(
        views(cameras(0.0)), cameras(10.0, 20.0, 30.0), seeded(), steps=3, report=heard.append
    )
    assert drawn.rgb.shape == (3, 24, 24, 3)
    assert 0 <= float(drawn.rgb.min()) <= float(drawn.rgb.max()) <= 1
    assert heard == [2 / 3, 1.0]


def test_the_same_seed_draws_the_same_views() -> None:
    known, target = views(cameras(0.0)), cameras(60.0)
    first, again = (model().draw(known, target, seeded(3), steps=3) for _ in range(2))
    assert torch.equal(first.rgb, again.rgb)


def test_renderings_are_encoded_as_the_drawn_latents_are_scaled() -> None:
    made = model()
    rgba = torch.rand(1, 4, 16, 16, generator=seeded()).requires_grad_()
    encoded = made.encode(rgba)
    torch.testing.assert_close(encoded, made.autoencoder.encode(rgba[:, :3] * 2 - 1) * LATENT_SCALE)
    encoded.sum().backward()
    assert rgba.grad is not None
    assert bool(rgba.grad[:, :3].any())
