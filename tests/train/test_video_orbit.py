import json
from pathlib import Path

import pytest
import torch
from families_tiny import WIDTH, losses_while_trained, seeded, squares
from render_tiny import tiny_set
from torch import Tensor

from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.video_orbit import hi3d_numbers
from roundview.diffusion.video_unet import VideoUNet
from roundview.train.loop import LoopSettings
from roundview.train.rings import RingBatch, RingSampler
from roundview.train.video_orbit import (
    VideoTraining,
    augmented,
    clip_numbers,
    edm_weight,
    log_normal,
    train_video_orbit,
    video_orbit_loss,
)

SHAPE = UNetShape(8, 4, 32, (1,), 1, (True,), (2,), WIDTH, linear=True, vector=768)


class Watched(VideoUNet):
    """Keeps what it was shown and predicts zeros."""

    def forward(
        self, x: Tensor, c_noise: Tensor, context: Tensor, vector: Tensor, *, still: bool = False
    ) -> Tensor:
        assert not still
        self.x, self.c_noise, self.context, self.vector = x, c_noise, context, vector
        return torch.zeros_like(x[:, :, :4])


def rings(clips: int = 2, frames: int = 4) -> RingBatch:
    rgba = torch.rand(clips, frames, 4, 16, 16, generator=seeded())
    return RingBatch(rgba, torch.linspace(-10, 40, clips))


def test_the_noise_is_spread_as_the_paper_says() -> None:
    logs = log_normal(40000, (1.0, 1.6), seeded()).log()
    assert abs(float(logs.mean()) - 1.0) < 0.03
    assert abs(float(logs.std()) - 1.6) < 0.03


def test_weights_by_hand() -> None:
    torch.testing.assert_close(
        edm_weight(torch.tensor([0.5, 1.0, 2.0])), torch.tensor([5.0, 2.0, 1.25])
    )


def test_every_frame_has_the_photos_latents_beside_it_and_one_noise_level() -> None:
    network, encoders, batch = Watched(SHAPE), squares(), rings()
    plain = VideoTraining(log_augment=(-30.0, 0.0), no_embedding=0.0, no_latents=0.0)
    video_orbit_loss(network, encoders, batch, seeded(), plain)
    beside = encoders.encode(batch.rgba[:, 0], None)
    for frame in range(4):
        torch.testing.assert_close(network.x[:, frame, 4:], beside)
    torch.testing.assert_close(network.context[:, 0], encoders.embed(batch.rgba[:, 0]))
    assert network.c_noise.shape == (2,)


def test_the_vector_tells_whole_degrees_of_elevation_and_the_noise_on_the_photo() -> None:
    told = clip_numbers(hi3d_numbers, 3, torch.tensor([20.7, -10.0]), torch.tensor([0.02, 0.05]))
    assert told.shape == (2, 3, 768)
    torch.testing.assert_close(told[0], hi3d_numbers(3, 20.0, 0.02))
    torch.testing.assert_close(told[1], hi3d_numbers(3, -10.0, 0.05))


def test_one_in_ten_lacks_the_embedding_and_one_in_ten_the_latents() -> None:
    network = Watched(SHAPE)
    rgba = torch.rand(3000, 1, 4, 2, 8, generator=seeded())
    batch = RingBatch(rgba, torch.zeros(3000))
    video_orbit_loss(network, squares(), batch, seeded())
    untold = ~network.context.flatten(1).any(dim=1)
    unseen = ~network.x[:, 0, 4:].flatten(1).any(dim=1)
    # Standard deviation 0.0055; both at once 0.01.
    assert abs(float(untold.float().mean()) - 0.1) < 0.02
    assert abs(float(unseen.float().mean()) - 0.1) < 0.02
    assert abs(float((untold & unseen).float().mean()) - 0.01) < 0.01


def test_predicting_no_velocity_costs_the_velocitys_power() -> None:
    # v = (noise - s x_0) / sqrt(s^2 + 1), here with x_0 = 1: (1 + s^2) / (s^2 + 1) = 1.
    batch = RingBatch(torch.ones(200, 2, 4, 8, 8), torch.zeros(200))
    value = video_orbit_loss(Watched(SHAPE), squares(), batch, seeded())
    # 25,600 unit normals at small s, none at large ones: deviation below 0.02.
    assert abs(float(value) - 1) < 0.06


def test_noise_on_the_photo_leaves_its_alpha() -> None:
    rgba = torch.full((2, 4, 64, 64), 0.5)
    out = augmented(rgba, torch.tensor([0.0, 0.2]), seeded())
    torch.testing.assert_close(out[0], rgba[0])
    torch.testing.assert_close(out[1, 3], rgba[1, 3])
    # 12,288 normals: 0.1 +- 0.0007 in [0, 1], which is 0.2 in [-1, 1].
    assert float(out[1, :3].std()) == pytest.approx(0.1, abs=0.004)


def test_the_loss_falls_on_one_object(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, encoders = VideoUNet(SHAPE), squares()
    batch = RingSampler([tiny_set(tmp_path, objects=1)]).rings(1, 4, seeded())
    found = losses_while_trained(
        network, lambda rng: video_orbit_loss(network, encoders, batch, rng), steps=15
    )
    assert found[-1] < 0.7 * found[0]


def test_training_leaves_a_log(tmp_path: Path) -> None:
    sampler = RingSampler([tiny_set(tmp_path / "set", objects=1)])
    train_video_orbit(
        VideoUNet(SHAPE),
        sampler,
        squares(),
        tmp_path,
        training=VideoTraining(frames=4),
        settings=LoopSettings(steps=1, warmup=1),
    )
    rows = [json.loads(row) for row in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 1
