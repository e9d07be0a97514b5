import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from roundview.losses import (
    MS_SSIM_EXPONENTS,
    mask_loss,
    ms_ssim,
    ms_ssim_exponents,
    perceptual_distance,
    photometric,
    ssim,
)


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def planes(picture: Tensor) -> Tensor:
    return picture.permute(0, 3, 1, 2)


class Picture:
    """Features that can be worked by hand: the picture itself, at two sizes."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        fine = planes(rgb)
        return [fine, torch.nn.functional.avg_pool2d(fine, 2)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


class WeighedPicture(Picture):
    """The same, with weights for each channel."""

    channel_weights = (torch.tensor([1.0, 0, 4]), torch.tensor([0.5, 0.5, 0.5]))


def test_photometric_averages_each_picture_by_itself() -> None:
    a = torch.zeros(2, 1, 2, 1)
    b = torch.tensor([[[[0.5], [0.0]]], [[[1.0], [1.0]]]])
    torch.testing.assert_close(photometric(a, b), torch.tensor([0.25, 1.0]))
    torch.testing.assert_close(photometric(a, b, power=2), torch.tensor([0.125, 1.0]))


def test_photometric_refuses_other_powers() -> None:
    with pytest.raises(ValueError, match="power must be 1 or 2, got 3"):
        photometric(torch.zeros(1, 1, 1, 3), torch.zeros(1, 1, 1, 3), power=3)


def test_mask_loss_is_the_mean_square() -> None:
    full, none = torch.ones(1, 2, 2), torch.zeros(1, 2, 2)
    none[0, 0, 0] = 0.5
    torch.testing.assert_close(mask_loss(full, none), torch.tensor([3.25 / 4]))


def test_equal_pictures_are_perfectly_similar() -> None:
    a = pictures(2, 40, 33, 3)
    torch.testing.assert_close(ssim(a, a), torch.ones(2))
    torch.testing.assert_close(ms_ssim(a, a), torch.ones(2))


def test_ssim_of_two_plain_colours_is_their_luminance_term() -> None:
    # float64: a variance that should be 0 comes out as the rounding error of a square.
    a, b = (torch.full((1, 16, 16, 1), grey, dtype=torch.float64) for grey in (0.2, 0.6))
    # Nothing varies, so only (2 m n + C1) / (m^2 + n^2 + C1) is left, C1 = 0.0001.
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4)
    assert ssim(a, b).item() == pytest.approx(expected, rel=1e-9)
    # Contrast and structure are 1, and luminance counts at the coarsest scale only.
    assert ms_ssim(a, b).item() == pytest.approx(expected ** ms_ssim_exponents(16)[-1], rel=1e-9)


@pytest.mark.parametrize("size_hw", [(11, 11), (16, 37), (128, 128)])
def test_ssim_agrees_with_torchmetrics(size_hw: tuple[int, int]) -> None:
    a, noise = pictures(2, *size_hw, 3), pictures(2, *size_hw, 3, seed=1)
    b = 0.7 * a + 0.3 * noise
    theirs = structural_similarity_index_measure(
        planes(a), planes(b), data_range=1.0, reduction="none"
    )
    assert isinstance(theirs, Tensor)
    torch.testing.assert_close(ssim(a, b), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("side", "scales"), [(176, 5), (128, 4), (64, 3), (32, 2), (21, 1)])
def test_ms_ssim_agrees_with_torchmetrics(side: int, scales: int) -> None:
    a, noise = pictures(2, side, side + 3, 3), pictures(2, side, side + 3, 3, seed=1)
    b = 0.7 * a + 0.3 * noise
    exponents = ms_ssim_exponents(side)
    assert len(exponents) == scales
    theirs = multiscale_structural_similarity_index_measure(
        planes(a), planes(b), data_range=1.0, reduction="none", betas=exponents
    )
    torch.testing.assert_close(ms_ssim(a, b), theirs, rtol=1e-5, atol=1e-6)


def test_ms_ssim_exponents_sum_to_one_and_keep_the_paper_order() -> None:
    assert ms_ssim_exponents(512) == pytest.approx(MS_SSIM_EXPONENTS, rel=1e-3)
    for side in (1, 21, 64, 128):
        exponents = ms_ssim_exponents(side)
        assert sum(exponents) == pytest.approx(1)
        ratios = [e / p for e, p in zip(exponents, MS_SSIM_EXPONENTS, strict=False)]
        assert max(ratios) == pytest.approx(min(ratios))


@pytest.mark.parametrize("side", [1, 2, 5])
def test_tiny_pictures_have_a_similarity(side: int) -> None:
    a, b = pictures(1, side, side, 3), pictures(1, side, side, 3, seed=1)
    assert -1 <= ssim(a, b).item() < 1
    assert 0 < ms_ssim(a, b).item() < 1


def test_ms_ssim_is_finite_with_a_finite_slope_for_a_negative() -> None:
    a = pictures(1, 32, 32, 3).requires_grad_()
    value = ms_ssim(a, 1 - a.detach())
    value.sum().backward()
    assert a.grad is not None
    assert 0 < value.item() < 0.1
    assert bool(a.grad.isfinite().all())


@pytest.mark.parametrize("measure", [ssim, ms_ssim])
def test_similarities_match_finite_differences(
    measure: Callable[[Tensor, Tensor], Tensor],
) -> None:
    a = pictures(1, 24, 24, 1).double().requires_grad_()
    b = (0.8 * a.detach() + 0.2 * pictures(1, 24, 24, 1, seed=1)).double()
    at = [(0, row, column, 0) for row, column in itertools.product((0, 7, 23), (3, 12))]
    (slope,) = torch.autograd.grad(measure(a, b).sum(), a)
    for index in at:
        step = torch.zeros_like(b)
        step[index] = 1e-6
        with torch.no_grad():
            rise = (measure(a + step, b) - measure(a - step, b)).item() / 2e-6
        assert slope[index].item() == pytest.approx(rise, rel=1e-5, abs=1e-10)


def test_perceptual_distance_worked_by_hand() -> None:
    # Unit vectors: x against y is a squared difference of 2, equal directions are 0.
    a = torch.tensor([1.0, 0, 0]).expand(1, 2, 2, 3).clone()
    b = a.clone()
    b[0, 0, 0] = torch.tensor([0, 3.0, 0])
    fine = 2 / 4
    # The coarse map of b is the mean (3/4, 3/4, 0), at 45 degrees to a's.
    coarse = 2 - 2 * 0.5**0.5
    distance = perceptual_distance(Picture(), a, b)
    torch.testing.assert_close(distance, torch.tensor([fine + coarse]), rtol=1e-5, atol=1e-6)


def test_channel_weights_weigh_the_squared_differences() -> None:
    a = torch.tensor([1.0, 0, 0]).expand(1, 2, 2, 3)
    b = torch.tensor([0, 0, 2.0]).expand(1, 2, 2, 3)
    # Differences of 1 in channels 0 and 2: weights 1 + 4, then 0.5 + 0.5.
    distance = perceptual_distance(WeighedPicture(), a, b)
    torch.testing.assert_close(distance, torch.tensor([6.0]))


def test_perceptual_distance_of_black_has_a_finite_slope() -> None:
    a = torch.zeros(1, 4, 4, 3, requires_grad=True)
    perceptual_distance(Picture(), a, torch.ones(1, 4, 4, 3)).sum().backward()
    assert a.grad is not None
    assert bool(a.grad.isfinite().all())
