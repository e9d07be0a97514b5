from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from roundview.diffusion.elevation import ElevationHead, ElevationNetwork, ElevationSize, median_deg
from roundview.train.depth import DepthSet, EstimatorTraining, draw
from roundview.train.elevation import ElevationTraining, elevation_loss, train_elevation
from roundview.train.loop import LoopSettings


class Sixteenth(nn.Module):
    """One map: the picture at a sixteenth of its size, each channel times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def maps(self, rgb: Tensor) -> list[Tensor]:
        x = nn.functional.avg_pool2d(rgb.permute(0, 3, 1, 2), 16)
        return [x * self.weight[:, None, None]]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


def bars(elevation_deg: list[float]) -> DepthSet:
    """Pictures of a grey bar that is as thick as the elevation is high."""
    count = len(elevation_deg)
    rgba = np.full((count, 96, 96, 4), 255, np.uint8)
    for picture, height in zip(rgba, elevation_deg, strict=True):
        picture[48 - round(height) : 48 + round(height), 16:80, :3] = 90
    nothing = np.zeros((count, 96, 96), np.float16)
    normal = np.zeros((count, 96, 96, 3), np.int8)
    return DepthSet(rgba, nothing, normal, np.array(elevation_deg, np.float32))


def test_the_loss_is_least_where_the_truth_is() -> None:
    level = torch.arange(-45.0, 80.0, 5.0)

    def bell(centre_deg: float) -> Tensor:
        return (-0.5 * ((level - centre_deg) / 4).square()).log_softmax(dim=0)[None]

    truth = torch.tensor([22.0])
    losses = [float(elevation_loss(bell(at), truth, 4.0)) for at in (12.0, 22.0, 32.0)]
    assert losses[1] < min(losses[0], losses[2])
    # The cross-entropy of a bell with itself is its entropy.
    assert losses[1] == pytest.approx(float(-(bell(22.0).exp() * bell(22.0)).sum()), rel=1e-5)


def test_pictures_are_drawn_with_their_elevation() -> None:
    data = bars([4.0, 24.0])
    plain = EstimatorTraining(zoom=(1.0, 1.0), blurred=0.0)
    batch = draw(data, plain, Generator().manual_seed(0), count=10)
    ink = (batch.rgb < 1).any(dim=-1).flatten(1).sum(dim=1)
    assert len(batch.elevation_deg) == 10
    assert bool(((ink > 2000) == (batch.elevation_deg > 10)).all())


def test_the_head_learns_elevations_and_its_features_with_it(tmp_path: Path) -> None:
    data = bars([5.0, 15.0, 25.0, 35.0])
    torch.manual_seed(0)
    head = ElevationHead(ElevationSize(seen=3, width=8, hidden=16))
    features = Sixteenth()
    network = ElevationNetwork(features, head)
    drawn = EstimatorTraining(zoom=(1.0, 1.0), blurred=0.0)
    training = ElevationTraining(batch=8, drawn=drawn)
    settings = LoopSettings(steps=50, learning_rate=1e-2, warmup=2, ema=0.9)
    train_elevation(network, data, tmp_path, training=training, settings=settings)
    batch = draw(data, drawn, Generator().manual_seed(9), count=16)
    with torch.no_grad():
        error = (median_deg(network(batch.rgb)) - batch.elevation_deg).abs().mean()
    assert float(error) < 5.0  # Always saying 20 is 10 off.
    assert not torch.equal(features.weight, torch.ones(3))
