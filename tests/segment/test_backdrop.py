"""Plain backdrops are told from scenes, and repair what a network gets wrong before them."""

import numpy as np
import pytest

from roundview.segment.backdrop import correct_by_backdrop, find_backdrop, looks_like


def studio(side: int = 96) -> np.ndarray:
    """A grey backdrop that brightens to one corner, with a little noise."""
    y, x = np.mgrid[0:side, 0:side] / side
    noise = np.random.default_rng(0).normal(0, 0.004, (side, side, 3))
    return (0.5 + 0.2 * x * y + 0.1 * y**2)[..., None].repeat(3, 2).astype(np.float32) + noise


def ring(side: int = 96) -> np.ndarray:
    at = np.arange(side) + 0.5 - side / 2
    distance = np.hypot(at[:, None], at[None, :])
    return (distance > side * 0.2) & (distance < side * 0.4)


def pictured(subject: np.ndarray) -> np.ndarray:
    rgb = studio(len(subject))
    rgb[subject] = (0.7, 0.1, 0.1)
    return rgb.astype(np.float32)


def test_a_smooth_backdrop_is_found_behind_the_subject_too() -> None:
    backdrop = find_backdrop(pictured(ring()))
    assert backdrop is not None
    np.testing.assert_allclose(backdrop.rgb, studio(), atol=0.03)


def test_a_subject_that_is_cut_off_does_not_pull_the_backdrop() -> None:
    subject = np.zeros((96, 96), bool)
    subject[70:, 20:80] = True
    backdrop = find_backdrop(pictured(subject))
    assert backdrop is not None
    np.testing.assert_allclose(backdrop.rgb[:60], studio()[:60], atol=0.05)


@pytest.mark.parametrize("kind", ["noise", "texture", "sky and grass"])
def test_scenes_have_no_plain_backdrop(kind: str) -> None:
    rng = np.random.default_rng(1)
    if kind == "noise":
        rgb = rng.random((80, 80, 3))
    elif kind == "texture":
        rgb = 0.5 + rng.normal(0, 0.03, (80, 80, 1)).repeat(3, 2)
    else:
        rgb = np.full((80, 80, 3), (0.4, 0.6, 0.9))
        rgb[40:] = np.array((0.3, 0.5, 0.1)) + rng.normal(0, 0.05, (40, 80, 1))
    assert find_backdrop(rgb.astype(np.float32)) is None


def test_the_opening_of_a_ring_that_the_network_filled_is_opened() -> None:
    subject = ring()
    rgb = pictured(subject)
    backdrop = find_backdrop(rgb)
    assert backdrop is not None
    at = np.arange(96) + 0.5 - 48
    disc = np.hypot(at[:, None], at[None, :]) < 0.4 * 96
    saliency = np.where(subject, 1.0, np.where(disc, 0.85, 0.0)).astype(np.float32)
    corrected = correct_by_backdrop(saliency, rgb, backdrop)
    np.testing.assert_array_equal(corrected > 0.5, subject)


def test_a_part_that_the_network_lost_joins_but_a_shadow_does_not() -> None:
    body, arm = np.zeros((96, 96), bool), np.zeros((96, 96), bool)
    body[40:70, 20:50] = True
    arm[50:55, 50:80] = True
    shadow = np.zeros((96, 96), bool)
    shadow[70:78, 20:60] = True
    rgb = pictured(body | arm)
    rgb[shadow] *= 0.7
    backdrop = find_backdrop(rgb)
    assert backdrop is not None
    corrected = correct_by_backdrop(body.astype(np.float32), rgb, backdrop)
    np.testing.assert_array_equal(corrected > 0.5, body | arm)


def test_what_the_network_is_sure_of_stays_even_in_the_backdrops_colour() -> None:
    rgb = pictured(ring())
    backdrop = find_backdrop(rgb)
    assert backdrop is not None
    label = ~ring() & (np.hypot(*(np.mgrid[0:96, 0:96] - 47.5)) < 30)
    assert looks_like(rgb, backdrop)[label].mean() > 0.95
    saliency = (ring() | label).astype(np.float32)
    corrected = correct_by_backdrop(saliency, rgb, backdrop)
    assert corrected[label].min() > 0.5
