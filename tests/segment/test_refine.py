"""Edges become sharp, specks and pinholes go, and the rim keeps the subject's own colour."""

import numpy as np
import pytest
import torch

from roundview.image import Image, composite
from roundview.segment import refine
from roundview.segment.refine import (
    cut_out,
    guided_filter,
    main_parts,
    refine_matte,
    spread_colours,
    subject_colours,
)


def disc(side: int, radius: float, *, softness: float = 1.0) -> torch.Tensor:
    """Coverage of a disc in the middle, its edge `softness` pixels wide."""
    at = torch.arange(side) + 0.5 - side / 2
    distance = (at[:, None] ** 2 + at[None, :] ** 2).sqrt()
    return ((radius - distance) / softness + 0.5).clamp(0, 1)


def picture_of(alpha: torch.Tensor) -> torch.Tensor:
    """A red subject over blue."""
    red = torch.tensor([0.8, 0.1, 0.1]).expand(*alpha.shape, 3)
    return composite(red, alpha, (0.1, 0.2, 0.9))


def test_a_blurred_matte_follows_the_edge_of_the_picture() -> None:
    truth = disc(128, 40)
    coarse = disc(128, 43, softness=12)  # too wide and too soft
    refined = refine_matte(picture_of(truth), coarse, blur_px=6.0)
    assert float((refined - truth).abs().mean()) < 0.125 * float((coarse - truth).abs().mean())
    assert float((refined - truth).abs().max()) < 0.35


def test_the_guided_filter_of_the_guide_itself_gives_it_back() -> None:
    guide = np.random.default_rng(0).random((24, 20, 3)).astype(np.float32)
    values = guide @ np.array([0.5, -0.2, 0.7], np.float32) + 0.1
    filtered = guided_filter(guide, values, radius=3, smoothness=1e-8)
    np.testing.assert_allclose(filtered, values, atol=1e-4)


def test_the_guided_filter_on_a_flat_guide_is_a_mean() -> None:
    values = np.random.default_rng(0).random((15, 15)).astype(np.float32)
    flat = np.full((15, 15, 3), 0.4, np.float32)
    filtered = guided_filter(flat, values, radius=1)
    # A mean of means: the window's five by five pixels, the nearer ones counted more often.
    weights = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1]) / 81
    np.testing.assert_allclose(filtered[7, 7], (values[5:10, 5:10] * weights).sum(), rtol=1e-4)


def test_specks_go_and_large_parts_stay() -> None:
    subject = np.zeros((60, 60), bool)
    subject[5:35, 5:35] = True
    subject[40:50, 40:50] = True  # a ninth of the first
    subject[55:57, 5:7] = True  # a speck
    kept = main_parts(subject)
    assert kept[45, 45]
    assert not kept[55, 5]
    assert kept.sum() == 900 + 100


def test_pinholes_are_filled_and_handles_are_not() -> None:
    subject = np.zeros((100, 100), bool)
    subject[5:95, 5:95] = True
    subject[20, 20:24] = False
    subject[60:70, 60:70] = False
    kept = main_parts(subject)
    assert kept[20, 20:24].all()
    assert not kept[60:70, 60:70].any()
    assert not kept[0, 0]
    assert not main_parts(np.zeros((5, 5), bool)).any()


def test_colours_at_a_soft_edge_are_unmixed() -> None:
    alpha = disc(128, 40, softness=6)
    colours = subject_colours(picture_of(alpha), alpha)
    red = torch.tensor([0.8, 0.1, 0.1])
    # The picture itself is off by up to 0.8 there.
    assert float((colours - red).abs().max()) < 0.06


def test_colours_inside_are_the_pictures_own() -> None:
    alpha = disc(96, 40)
    texture = torch.rand(96, 96, 3, generator=torch.Generator().manual_seed(0))
    colours = subject_colours(texture, alpha)
    inside = disc(96, 36) > 0.5
    torch.testing.assert_close(colours[inside], texture[inside], atol=0, rtol=0)


def test_a_matte_that_runs_wide_bakes_no_fringe() -> None:
    truth = disc(200, 60)
    wide = disc(200, 61)
    colours = subject_colours(picture_of(truth), wide)
    blue = colours[wide > 0.2][:, 2]
    assert float(picture_of(truth)[wide > 0.2][:, 2].max()) > 0.6  # the fringe in the picture
    assert float(blue.max()) < 0.3


def test_colours_spread_to_the_nearest_pixel() -> None:
    rgb = torch.zeros(1, 5, 3)
    rgb[0, 1], rgb[0, 4] = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    alpha = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.5]])
    spread = spread_colours(rgb, alpha)
    assert spread[0, :, 0].tolist() == [1, 1, 1, 0, 0]
    nothing = torch.zeros(1, 5)
    torch.testing.assert_close(spread_colours(rgb, nothing), rgb)


def test_large_photographs_keep_their_own_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "WORK_PX", 128)
    side = 200
    alpha = disc(side, 60, softness=2)
    texture = 0.5 + 0.3 * torch.rand(side, side, 3, generator=torch.Generator().manual_seed(0))
    photo = Image(texture * alpha[..., None])

    def find(rgb: torch.Tensor) -> tuple[torch.Tensor, float]:
        assert tuple(rgb.shape) == (128, 128, 3)
        return disc(128, 60 * 128 / side, softness=3), 2.0

    cut = cut_out(find, photo)
    assert cut.size_hw == (side, side)
    inside = disc(side, 50) > 0.5
    torch.testing.assert_close(cut.rgb[inside], photo.rgb[inside])
    assert float((cut.alpha - alpha).abs().mean()) < 0.01
