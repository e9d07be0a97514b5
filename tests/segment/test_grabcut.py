"""Without a network, colour alone finds what stands before a plain or simple background."""

import numpy as np
import pytest
import torch

from roundview.image import Image
from roundview.segment import NoObjectError, grabcut_matte


def shape(kind: str, h: int = 120, w: int = 160) -> np.ndarray:
    y, x = np.mgrid[0:h, 0:w] + 0.5
    if kind == "disc":
        return np.hypot(y - 60, x - 80) < 40
    if kind == "ring":
        return np.abs(np.hypot(y - 60, x - 80) - 35) < 10
    return (np.abs(y - 60) < 12) & (np.abs(x - 80) < 60) | (np.abs(x - 50) < 10) & (
        np.abs(y - 60) < 45
    )


def photo_of(subject: np.ndarray, background: np.ndarray, *, grain: float = 0.02) -> Image:
    noise = np.random.default_rng(0).normal(0, grain, (*subject.shape, 3))
    stripes = np.where(np.indices(subject.shape)[1] // 8 % 2, 0.75, 0.5)[..., None]
    rgb = np.where(subject[..., None], stripes * (1.0, 0.3, 0.2), background) + noise
    return Image(torch.from_numpy(rgb.clip(0, 1).astype(np.float32)))


def overlap(alpha: torch.Tensor, subject: np.ndarray) -> float:
    found = alpha.numpy() > 0.5
    return float((found & subject).sum() / (found | subject).sum())


@pytest.mark.parametrize("kind", ["disc", "ring", "cross"])
def test_shapes_before_a_plain_wall_are_cut_out(kind: str) -> None:
    subject = shape(kind)
    cut = grabcut_matte(photo_of(subject, np.full((120, 160, 3), 0.8)))
    assert overlap(cut.alpha, subject) > 0.95


def test_a_wall_and_a_floor_are_both_background() -> None:
    scene = np.full((120, 160, 3), (0.55, 0.65, 0.9))
    scene[75:] = (0.35, 0.5, 0.25)
    subject = shape("disc")
    assert overlap(grabcut_matte(photo_of(subject, scene)).alpha, subject) > 0.95


def test_a_subject_that_reaches_the_rim_of_a_plain_picture_is_kept_whole() -> None:
    subject = np.zeros((120, 160), bool)
    subject[40:, 60:100] = True
    cut = grabcut_matte(photo_of(subject, np.full((120, 160, 3), 0.9), grain=0.005))
    assert overlap(cut.alpha, subject) > 0.95
    assert cut.alpha[119, 80] == 1


def test_the_same_photo_gives_the_same_matte() -> None:
    photo = photo_of(shape("cross"), np.full((120, 160, 3), 0.8))
    torch.testing.assert_close(
        grabcut_matte(photo).alpha, grabcut_matte(photo).alpha, atol=0, rtol=0
    )


def test_pictures_of_nothing_are_refused() -> None:
    noise = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0))
    for rgb in (torch.full((64, 64, 3), 0.3), noise):
        with pytest.raises(NoObjectError, match="no object found"):
            grabcut_matte(Image(rgb))
