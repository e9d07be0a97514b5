import math

import torch
from torch import Tensor

from roundview.diffusion.elevation import ElevationHead, FeatureElevation, frame_features
from roundview.models import Elevation


class MeanColour:
    """Features that are the mean colour: enough to follow the numbers by hand."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.permute(0, 3, 1, 2)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


def constant_frames(*values: float) -> Tensor:
    return torch.stack([torch.full((16, 16, 3), value) for value in values])


def test_frames_of_any_size_give_features() -> None:
    found = frame_features(MeanColour(), constant_frames(0.2, 0.6))
    torch.testing.assert_close(found, torch.tensor([[0.2] * 3, [0.6] * 3]))


def test_the_head_sees_the_mean_over_frames_and_answers_degrees() -> None:
    head = ElevationHead(3, width=4)
    estimate = FeatureElevation(MeanColour(), head)
    expected = float(head(torch.full((1, 3), 0.4))[0]) * 180 / math.pi
    assert abs(estimate(constant_frames(0.2, 0.6)) - expected) < 1e-4
    assert isinstance(estimate, Elevation)
