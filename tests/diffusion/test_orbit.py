from dataclasses import replace

import pytest
import torch

from roundview.camera import Cameras
from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.diffusion.orbit import LatentOrbitModel, load_orbit_network
from roundview.diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from roundview.image import Foreground
from roundview.models import OrbitModel

SIZE = AutoencoderSize(
    latent_channels=8, width=8, encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
)


def model() -> LatentOrbitModel:
    torch.manual_seed(0)
    autoencoder = LatentAutoencoder(SIZE)
    pictures = torch.rand(4, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    autoencoder.start_from_components(pictures)
    network = ViewTransformer(ViewTransformerSize(8, latent_px=2, width=16, blocks=1, heads=1))
    torch.nn.init.normal_(network.to_velocity.weight, std=0.1)
    return LatentOrbitModel(network, autoencoder)


def subject() -> Foreground:
    rng = torch.Generator().manual_seed(3)
    return Foreground(torch.rand(20, 20, 3, generator=rng), torch.ones(20, 20))


def cameras(count: int = 3, size: int = 16) -> Cameras:
    return Cameras.orbit(
        [30.0 * k for k in range(count)],
        elevation_deg=10.0, radius=1.5, fov_deg=49.13, size_hw=(size, size),
    )  # fmt: skip


def draw(made: LatentOrbitModel, where: Cameras, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return made.draw(subject(), where, rng, photo_elevation_deg=10.0, steps=3).rgb


def test_it_is_an_orbit_model() -> None:
    assert isinstance(model(), OrbitModel)


def test_views_come_at_the_size_of_the_cameras() -> None:
    assert draw(model(), cameras(size=24)).shape == (3, 24, 24, 3)


def test_the_same_seed_draws_the_same_views_and_another_seed_others() -> None:
    made = model()
    assert torch.equal(draw(made, cameras()), draw(made, cameras()))
    assert not torch.equal(draw(made, cameras()), draw(made, cameras(), seed=1))


def test_cameras_it_was_not_trained_for_are_refused() -> None:
    nearer = Cameras.orbit([0.0], elevation_deg=0.0, radius=1.2, fov_deg=49.13, size_hw=(16, 16))
    with pytest.raises(ValueError, match=r"distance 1\.5"):
        draw(model(), nearer)
    wider = replace(cameras(1), focal_px=torch.tensor([10.0]))
    with pytest.raises(ValueError, match="field of view"):
        draw(model(), wider)


def test_little_noise_changes_views_little() -> None:
    made = model()
    rng = torch.Generator().manual_seed(0)
    views = made.draw(subject(), cameras(), rng, photo_elevation_deg=10.0, steps=2)

    def change(noise_level: float) -> float:
        again = made.redraw(
            subject(), views, torch.Generator().manual_seed(1),
            photo_elevation_deg=10.0, noise_level=noise_level, steps=2,
        )  # fmt: skip
        return float((again.rgb - views.rgb).abs().mean())

    assert change(0.02) < change(0.9)
    with pytest.raises(ValueError, match="noise_level"):
        change(0.0)


def test_weights_are_loaded_strictly() -> None:
    made = model().network
    state = {k: v.half() for k, v in made.state_dict().items()}
    load_orbit_network(made, state)
    state.pop("is_photo")
    with pytest.raises(RuntimeError, match="is_photo"):
        load_orbit_network(made, state)
