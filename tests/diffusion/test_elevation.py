import pytest
import torch
from torch import Tensor, nn

from roundview.diffusion.elevation import (
    ElevationHead,
    ElevationNetwork,
    ElevationSize,
    FeatureElevation,
    levels_deg,
    median_deg,
)
from roundview.models import Elevation

TINY = ElevationSize(seen=3, width=8, hidden=4)


class Sixteenth:
    """One map: the picture at a sixteenth of its size."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [nn.functional.avg_pool2d(rgb.permute(0, 3, 1, 2), 16)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


class Told(ElevationHead):
    """Says what the mean red of a picture, in tenths, chooses."""

    def __init__(self, *said: dict[float, float]) -> None:
        super().__init__(TINY)
        self.said = [certain(about) for about in said]

    def forward(self, seen: Tensor) -> Tensor:
        which = (seen[:, 0].mean(dim=(1, 2)) * 10).round().long()
        return torch.stack([self.said[k] for k in which])


def certain(about: dict[float, float]) -> Tensor:
    """Log-likelihoods of the levels; those not named have none."""
    return torch.tensor([about.get(float(level), 0.0) for level in levels_deg()]).log()


def frames(*red: float) -> Tensor:
    return torch.stack([torch.full((32, 32, 3), value) for value in red])


def test_levels_go_from_45_below_to_75_above() -> None:
    assert levels_deg().tolist() == [float(k) for k in range(-45, 80, 5)]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({20.0: 1.0}, 20.0),
        ({10.0: 0.5, 15.0: 0.5}, 12.5),
        # Half of the likelihood is reached a third of the way through 0's 5 degrees.
        ({-45.0: 0.4, 0.0: 0.3, 75.0: 0.3}, -2.5 + 5 / 3),
        (dict.fromkeys([float(k) for k in range(-45, 80, 5)], 1.0), 15.0),
    ],
)
def test_the_median_is_worked_by_hand(said: dict[float, float], expected: float) -> None:
    assert float(median_deg(certain(said)[None])) == pytest.approx(expected, abs=1e-4)


def test_frames_are_multiplied() -> None:
    head = Told({0.0: 0.5, 20.0: 0.5}, {20.0: 0.5, 40.0: 0.5})
    estimate = FeatureElevation(ElevationNetwork(Sixteenth(), head))
    assert isinstance(estimate, Elevation)
    assert estimate(frames(0.0)) == pytest.approx(2.5)  # Between the two, at 0's end.
    assert estimate(frames(0.0, 0.1)) == pytest.approx(20.0)  # What both allow.


def test_likelihoods_sum_to_one_for_frames_of_any_size() -> None:
    torch.manual_seed(0)
    network = ElevationNetwork(Sixteenth(), ElevationHead(TINY)).eval()
    said = network(torch.rand(3, 96, 96, 3))
    torch.testing.assert_close(said.exp().sum(dim=1), torch.ones(3))
    estimate = FeatureElevation(network)
    assert all(-47.5 <= estimate(torch.rand(2, side, side, 3)) <= 77.5 for side in (40, 64, 200))


def test_where_a_feature_is_matters() -> None:
    torch.manual_seed(0)
    head = ElevationHead(TINY).eval()
    seen = torch.zeros(1, 3, 6, 6)
    seen[:, :, 0] = 1
    assert not torch.allclose(head(seen), head(seen.flip(2)))


def test_the_shipped_size_is_under_four_megabytes_in_half_precision() -> None:
    assert sum(p.numel() for p in ElevationHead().parameters()) < 1.0e6
