import math

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from roundview.metrics import PSNR_OF_EQUALS_DB, deep_feature_distance, ms_ssim, psnr, ssim


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_tenth_off_everywhere_is_twenty_db() -> None:
    truth = torch.full((2, 2, 2, 3), 0.5)
    off = truth.clone()
    off[0] += 0.1
    off[1] -= 0.01
    torch.testing.assert_close(psnr(off, truth), torch.tensor([20.0, 40.0]), rtol=1e-4, atol=0)


def test_psnr_of_one_wrong_pixel_of_four() -> None:
    truth = torch.zeros(1, 2, 2, 1)
    wrong = truth.clone()
    wrong[0, 0, 0, 0] = 1.0
    assert psnr(wrong, truth).item() == pytest.approx(10 * math.log10(4))


def test_psnr_of_equal_pictures_is_finite() -> None:
    truth = pictures(1, 3, 3, 3)
    assert psnr(truth, truth).item() == pytest.approx(PSNR_OF_EQUALS_DB)


def test_metrics_agree_with_torchmetrics() -> None:
    a, b = pictures(1, 24, 31, 3), pictures(1, 24, 31, 3, seed=1)
    x, y = a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2)
    theirs = peak_signal_noise_ratio(x, y, data_range=1.0)
    torch.testing.assert_close(psnr(a, b)[0], theirs, rtol=1e-5, atol=0)
    theirs = structural_similarity_index_measure(x, y, data_range=1.0)
    assert isinstance(theirs, Tensor)
    torch.testing.assert_close(ssim(a, b)[0], theirs, rtol=1e-5, atol=1e-6)


class MeanColour:
    """Features that can be worked by hand: the picture itself."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.permute(0, 3, 1, 2)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


def test_deep_feature_distance_of_opposite_directions_is_two() -> None:
    red = torch.tensor([1.0, 0, 0]).expand(1, 2, 2, 3).clone().requires_grad_()
    green = torch.tensor([0, 0.5, 0]).expand(1, 2, 2, 3)
    # Unit vectors along two axes: the squared difference is 2 at every pixel.
    distance = deep_feature_distance(MeanColour(), red, green)
    torch.testing.assert_close(distance, torch.tensor([2.0]))
    assert not distance.requires_grad


def test_ms_ssim_is_one_for_equal_pictures_and_less_for_others() -> None:
    truth = pictures(1, 48, 48, 3)
    assert ms_ssim(truth, truth).item() == pytest.approx(1.0)
    assert ms_ssim(pictures(1, 48, 48, 3, seed=1), truth).item() < 0.5
