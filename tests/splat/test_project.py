"""The projection kernel, worked by hand; `test_render_numba.py` holds it against the reference."""

import math

import numpy as np
import pytest

from roundview.splat import ellipse_numba as ellipse
from roundview.splat import project_numba as project

FOCAL, DISTANCE = 10.0, 2.0


def fields(count: int, opacity: float = 0.8) -> tuple[np.ndarray, ...]:
    """Round Gaussians of deviation 0.4 in the world's origin, mid-grey."""
    quat = np.zeros((count, 4), np.float32)
    quat[:, 0] = 3.0
    return (
        np.zeros((count, 3), np.float32),
        np.full((count, 3), 0.4, np.float32),
        quat,
        np.full(count, opacity, np.float32),
        np.full(count, math.log(255 * opacity), np.float32),
        np.zeros((count, 1, 3), np.float32),
    )


def cameras() -> np.ndarray:
    """One camera that sees the origin straight ahead, with its axes along the world's."""
    row = np.zeros((1, 16), np.float32)
    row[0, [0, 4, 8]] = 1.0
    row[0, 11], row[0, 14], row[0, 15] = DISTANCE, -DISTANCE, FOCAL
    return row


def records(values: tuple[np.ndarray, ...], size_hw: tuple[int, int] = (8, 12)) -> np.ndarray:
    count = len(values[0])
    out = np.full((1, count, project.RECORD), np.nan, np.float32)
    project.project_kernel(0, -(-count // project.BLOCK), values, cameras(), size_hw, out)
    return out[0]


# One, a whole block of lanes, one more than that, and one more than a job.
@pytest.mark.parametrize("count", [1, 16, 17, project.BLOCK + 1])
def test_the_record_of_a_gaussian_on_the_axis(count: int) -> None:
    found = records(fields(count))
    # 0.4 world units at distance 2 and focal length 10 are 2 px; the blur adds 0.3 px^2.
    variance = 4.3
    expected = {
        project.MIDDLE_X: 6.0,
        project.MIDDLE_Y: 4.0,
        project.SHEAR: 0.0,
        project.SHARP_X: 1 / math.sqrt(2 * variance),
        project.SHARP_Y: 1 / math.sqrt(2 * variance),
        project.OPACITY: 0.8,
        project.RED: 0.5,
        project.DEPTH: DISTANCE,
        project.POWER_MAX: math.log(255 * 0.8),
        project.REACH_X: math.sqrt(2 * math.log(255 * 0.8) * variance),
    }
    for at, value in expected.items():
        np.testing.assert_allclose(found[:, at], value, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_seen_has_no_depth() -> None:
    behind, beside, faint = fields(1), fields(1), fields(1, opacity=0.003)
    behind[0][0, 2] = -3.0
    beside[0][0, 0] = 30.0
    for unseen in (behind, beside, faint):
        assert records(unseen)[0, project.DEPTH] == np.inf


def test_the_gradient_of_depth_moves_the_centre_along_the_axis() -> None:
    count = 20
    values = fields(count)
    slots = np.zeros((count, project.SLOT), np.float32)
    slots[:, ellipse.SLOT_DEPTH] = np.arange(count)
    slotted = (slots, np.arange(count)[None], np.ones((1, count), np.int64))
    gradients = tuple(np.full_like(values[k], np.nan) for k in (0, 1, 2, 3, 5))
    out = (*gradients, np.empty((0, 1, 16), np.float32))
    project.project_backward_kernel(0, 1, values, cameras(), (8, 12), slotted, out)
    np.testing.assert_allclose(gradients[0][:, 2], np.arange(count))
    assert not gradients[0][:, :2].any()
    assert not any(gradient.any() for gradient in gradients[1:])


def test_an_ellipse_without_slots_has_no_gradient() -> None:
    values = fields(3)
    values[0][1, 2] = -DISTANCE  # In the focal plane, where the projection divides by zero.
    slotted = (
        np.ones((2, project.SLOT), np.float32),
        np.array([[0, 0, 1]]),
        np.array([[1, 0, 1]]),
    )
    gradients = tuple(np.full_like(values[k], np.nan) for k in (0, 1, 2, 3, 5))
    out = (*gradients, np.empty((0, 1, 16), np.float32))
    project.project_backward_kernel(0, 1, values, cameras(), (8, 12), slotted, out)
    assert not any(gradient[1].any() for gradient in gradients)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert gradients[0][0].any()
