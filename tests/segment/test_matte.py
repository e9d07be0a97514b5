"""The network's matte, the choice between mattes, and what each refuses."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_inputs import write_all

from roundview import segment
from roundview.image import Foreground, Image, composite
from roundview.photo import PhotoError, load_image
from roundview.segment import (
    NoObjectError,
    PhotoMatte,
    U2NetMatte,
    matte_from_alpha,
    matte_from_mask,
    whole_picture,
)
from roundview.segment.matte import look_twice

SHIPPED = Path(segment.__file__).parents[1] / "shipped" / "u2netp.onnx"


@pytest.fixture(scope="module")
def network() -> U2NetMatte:
    return U2NetMatte(SHIPPED)


def vase(side: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Colour and alpha of a shaded vase with a handle."""
    y, x = torch.meshgrid(*[torch.arange(side) / side - 0.5] * 2, indexing="ij")
    body = (x.abs() < 0.16 + 0.08 * torch.cos(9 * y)) & (y.abs() < 0.36)
    handle = (((x - 0.2) ** 2 + (y + 0.1) ** 2).sqrt() - 0.11).abs() < 0.025
    alpha = (body | handle).to(torch.float32)
    light = (0.75 - 1.6 * (x + 0.08).abs())[..., None].clamp(0.15)
    return light * torch.tensor([0.3, 0.75, 1.0]) + 0.1 * light**4, alpha


def overlap(a: torch.Tensor, b: torch.Tensor) -> float:
    inside = (a > 0.5) & (b > 0.5)
    return float(inside.sum() / ((a > 0.5) | (b > 0.5)).sum())


@pytest.mark.parametrize("background", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.5)])
def test_the_network_cuts_out_a_vase_with_its_handle_open(
    network: U2NetMatte, background: tuple[float, float, float]
) -> None:
    rgb, alpha = vase()
    cut = network(Image(composite(rgb, alpha, background)))
    assert overlap(cut.alpha, alpha) > 0.96
    assert cut.alpha[80, 150] == 0  # through the handle
    assert float((cut.over() - composite(rgb, alpha, (1.0, 1.0, 1.0))).abs().mean()) < 0.01


def test_the_networks_matte_is_repeatable(network: U2NetMatte) -> None:
    rgb, alpha = vase()
    photo = Image(composite(rgb, alpha, (0.9, 0.8, 0.7)))
    first, second = network(photo), U2NetMatte(SHIPPED)(photo)
    torch.testing.assert_close(first.alpha, second.alpha, atol=0, rtol=0)
    torch.testing.assert_close(first.rgb, second.rgb, atol=0, rtol=0)


def test_every_bad_input_is_refused_somewhere(network: U2NetMatte, tmp_path: Path) -> None:
    matte = PhotoMatte(network)
    for path in write_all(tmp_path):
        with pytest.raises((PhotoError, NoObjectError)) as caught:
            matte(load_image(path))
        assert "\n" not in str(caught.value), path.name


def test_saliency_is_asked_twice_the_second_time_closer() -> None:
    truth = torch.zeros(100, 100)
    truth[40:60, 45:65] = 1.0
    rgb = truth[..., None].repeat(1, 1, 3) * 0.6 + 0.2
    asked: list[tuple[int, int]] = []

    def saliency(seen: torch.Tensor) -> torch.Tensor:
        asked.append((int(seen.shape[0]), int(seen.shape[1])))
        return (seen[..., 0] > 0.5).to(torch.float32)

    found, blur_px = look_twice(saliency, rgb)
    torch.testing.assert_close(found, truth)
    # 20 pixels and a margin of a fifth on either side; the first look has a tenth.
    assert asked == [(120, 120), (28, 28)]
    assert blur_px == pytest.approx(28 / 320)


def test_a_second_look_that_contradicts_the_first_is_dropped() -> None:
    rgb = torch.rand(100, 100, 3, generator=torch.Generator().manual_seed(0))
    truth = torch.zeros(100, 100)
    truth[20:80, 20:80] = 1.0
    answers = [truth, torch.zeros(84, 84)]
    found, _ = look_twice(lambda _: answers.pop(0), rgb)
    torch.testing.assert_close(found, truth)


@pytest.mark.parametrize("answer", [0.0, 0.4, 0.6])
def test_faint_and_unsure_answers_are_no_object(answer: float) -> None:
    rgb = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(NoObjectError, match="stands out"):
        look_twice(lambda seen: torch.full(seen.shape[:2], answer), rgb)


def test_a_wall_that_is_found_itself_is_no_backdrop() -> None:
    rgb = torch.full((96, 96, 3), 0.5)
    rgb[30:34] = 0.8

    def everything(seen: torch.Tensor) -> torch.Tensor:
        return torch.ones(seen.shape[:2])

    found, _ = look_twice(everything, rgb)
    assert float(found.min()) == 1  # nothing was painted out as backdrop


def test_mask_goes_before_alpha_before_network_before_colour(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rgb, alpha = vase()
    plain = Image(composite(rgb, alpha, (1.0, 1.0, 1.0)))
    with_alpha = Image(plain.rgb, alpha)
    mask = torch.zeros(200, 200)
    mask[50:150, 50:150] = 1.0

    def network(photo: Image) -> Foreground:
        return Foreground(photo.rgb, torch.full(photo.size_hw, 0.25))

    torch.testing.assert_close(PhotoMatte(network, mask)(with_alpha).alpha, mask)
    torch.testing.assert_close(PhotoMatte(network)(with_alpha).alpha, alpha)
    assert PhotoMatte(network)(plain).alpha.unique().tolist() == [0.25]
    with caplog.at_level(logging.WARNING):
        fallback = PhotoMatte()(plain)
    assert "cutting out by colour" in caplog.text
    assert overlap(fallback.alpha, alpha) > 0.95


def test_alpha_and_whole_pictures_are_taken_as_they_are() -> None:
    rgb, alpha = vase()
    taken = matte_from_alpha(Image(rgb, alpha))
    torch.testing.assert_close(taken.alpha, alpha)
    torch.testing.assert_close(taken.rgb[alpha > 0], rgb[alpha > 0])
    torch.testing.assert_close(whole_picture(Image(rgb, alpha)).alpha, alpha)
    whole = whole_picture(Image(rgb))
    assert np.all(whole.alpha.numpy() == 1)
    torch.testing.assert_close(whole.rgb, rgb)
    with pytest.raises(NoObjectError, match="no alpha"):
        matte_from_alpha(Image(rgb))


def test_masks_must_be_of_the_photos_size() -> None:
    rgb, alpha = vase()
    with pytest.raises(ValueError, match="mask is"):
        matte_from_mask(Image(rgb), alpha[:100])
    with pytest.raises(NoObjectError):
        matte_from_mask(Image(rgb), torch.zeros(200, 200))
