import pytest
import torch

from roundview.camera import Cameras, concatenate_cameras
from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.diffusion.known_views import (
    RefinerModel,
    SmallViewModel,
    nearby_cameras,
    target_velocity,
)
from roundview.diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from roundview.models import ViewModel
from roundview.views import Views

SIZE = AutoencoderSize(
    latent_channels=8, width=8, encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
)


def model(together: int = 8) -> SmallViewModel:
    torch.manual_seed(0)
    autoencoder = LatentAutoencoder(SIZE)
    autoencoder.start_from_components(torch.rand(4, 4, 16, 16))
    network = ViewTransformer(ViewTransformerSize(8, latent_px=2, width=16, blocks=2, heads=2))
    for layer in (network.to_velocity, network.modulation[1], network.last_modulation[1]):
        assert isinstance(layer, torch.nn.Linear)
        torch.nn.init.normal_(layer.weight, std=0.2)  # The zeros of a fresh network hide all paths.
    return SmallViewModel(network, autoencoder, together=together)


def cameras(*azimuth_deg: float, elevation_deg: float = 10.0) -> Cameras:
    return Cameras.orbit(
        list(azimuth_deg), elevation_deg=elevation_deg, radius=1.5, fov_deg=49.13, size_hw=(16, 16)
    )


def views(at: Cameras, seed: int = 1) -> Views:
    made = torch.rand(len(at), 16, 16, 4, generator=torch.Generator().manual_seed(seed))
    return Views(made[..., :3].contiguous(), made[..., 3].contiguous(), at)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_small_model_is_both_a_base_and_a_refiner() -> None:
    assert isinstance(model(), ViewModel)
    assert isinstance(model(), RefinerModel)


def test_nearby_views_stand_to_both_sides_and_above() -> None:
    photos = concatenate_cameras([cameras(0.0, elevation_deg=10.0), cameras(90.0)])
    found = nearby_cameras(photos)
    turns = [45.0, 315.0, 0.0, 135.0, 45.0, 90.0]
    torch.testing.assert_close(found.azimuth_deg % 360, torch.tensor(turns), atol=1e-3, rtol=0)
    heights = torch.tensor([10.0, 10.0, 40.0] * 2)
    torch.testing.assert_close(found.elevation_deg, heights, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.origin.norm(dim=-1), torch.full((6,), 1.5))
    torch.testing.assert_close(found.focal_px, photos.focal_px[:1].expand(6))


def test_nearby_views_beyond_the_pole_are_refused() -> None:
    with pytest.raises(ValueError, match="elevation"):
        nearby_cameras(cameras(0.0, elevation_deg=65.0))


def test_the_network_is_told_photo_draft_others_and_target_in_this_order() -> None:
    made, targets = model(), cameras(60.0, 200.0)
    known = views(cameras(0.0, 45.0, 315.0))
    told = made.tell(made.look_at(known), targets, views(targets, seed=2))
    turns = torch.tensor([[0.0, 60.0, 45.0, 315.0, 60.0], [0.0, 200.0, 45.0, 315.0, 200.0]])
    centre = told.world_from_camera[..., :3, 3]
    azimuth = torch.rad2deg(torch.atan2(centre[..., 0], centre[..., 2])) % 360
    torch.testing.assert_close(azimuth, turns, atol=1e-3, rtol=0)
    encoded = made.look_at(known).latents
    torch.testing.assert_close(told.photo_latent, encoded[:1].expand(2, -1, -1, -1))
    torch.testing.assert_close(told.beside[:, 1:], encoded[1:].expand(2, -1, -1, -1, -1))
    drafts = made.look_at(views(targets, seed=2)).latents
    torch.testing.assert_close(told.beside[:, 0], drafts)


def test_with_the_photo_alone_it_is_the_orbit_network_asked_for_one_view() -> None:
    made = model()
    told = made.tell(made.look_at(views(cameras(0.0))), cameras(60.0, 120.0))
    noisy, t = torch.randn(2, 8, 2, 2, generator=seeded()), torch.tensor([0.3, 0.8])
    by_orbit = made.network(
        noisy[:, None],
        t,
        told.photo_latent,
        told.photo_rgba,
        told.world_from_camera,
        told.focal_ratio,
    )[:, 0]
    torch.testing.assert_close(target_velocity(made.network, noisy, t, told), by_orbit)


def test_targets_do_not_see_one_another() -> None:
    known, targets = views(cameras(0.0, 45.0)), cameras(60.0, 120.0, 200.0)
    at_once = model(3).draw(known, targets, seeded(), steps=2)
    in_turn = model(1).draw(known, targets, seeded(), steps=2)
    torch.testing.assert_close(at_once.rgb, in_turn.rgb, atol=1e-5, rtol=1e-4)


def test_every_known_view_and_the_draft_matter() -> None:
    known, target = views(cameras(0.0, 45.0)), cameras(60.0)
    before = model().draw(known, target, seeded(), steps=1).rgb
    for k in range(2):
        rgb = known.rgb.clone()
        rgb[k] = 1 - rgb[k]
        changed = Views(rgb, known.alpha, known.cameras)
        assert not torch.allclose(model().draw(changed, target, seeded(), steps=1).rgb, before)
    drafted = model().draw(known, target, seeded(), steps=1, coarse=views(target, 3)).rgb
    assert not torch.allclose(drafted, before)


def test_views_come_at_the_cameras_size_and_progress_is_told() -> None:
    heard: list[float] = []
    wide = cameras(10.0, 20.0, 30.0).resized((24, 24))
    drawn = model(2).draw(views(cameras(0.0)), wide, seeded(), steps=1, report=heard.append)
    assert drawn.rgb.shape == (3, 24, 24, 3)
    assert heard == [2 / 3, 1.0]


def test_cameras_elsewhere_are_refused() -> None:
    far = Cameras.orbit([0.0], elevation_deg=0.0, radius=3.0, fov_deg=49.13, size_hw=(16, 16))
    with pytest.raises(ValueError, match="distance"):
        model().draw(views(cameras(0.0)), far, seeded(), steps=1)
