"""The tile kernels, worked by hand; `test_render_numba.py` holds them against the reference."""

import numpy as np

from roundview.splat import ellipse_numba as ellipse
from roundview.splat import pairs_numba as pairs
from roundview.splat import project_numba as project
from roundview.splat import tiles_numba as tiles

WHOLE_TILE = int(4 << pairs.LAST_SHIFT)
BACKGROUND = np.array([1.0, 1.0, 1.0], np.float32)


def flat_ellipses(opacity: list[float]) -> np.ndarray:
    """Ellipses so wide that they are of one opacity all over the tile; red, depth 1, 2, ..."""
    count = len(opacity)
    records = np.zeros((1, count, project.RECORD), np.float32)
    records[0, :, project.OPACITY] = opacity
    records[0, :, project.SHARP_X] = records[0, :, project.SHARP_Y] = 1e-6
    records[0, :, project.RED] = 1.0
    records[0, :, project.DEPTH] = np.arange(1, count + 1)
    return records


def draw(
    opacity: list[float], size_hw: tuple[int, int] = (8, 8)
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """One tile, with a slot for each ellipse."""
    count = len(opacity)
    listed = np.zeros((count, 2), np.uint32)
    listed[:, 0] = np.arange(count)
    listed[:, 1] = (np.arange(count) << pairs.ELLIPSE_SHIFT) | pairs.OPENS | WHOLE_TILE
    bounds = np.array([[[0, count]]], np.int64)
    light = np.zeros((1, 1, tiles.PLANES * 64), np.float32)
    drawn = (flat_ellipses(opacity), bounds, listed, BACKGROUND, light)
    shape = (1, *size_hw)
    pictures = tuple(np.full(s, np.nan, np.float32) for s in ((*shape, 3), shape, shape))
    tiles.draw_kernel(0, 1, drawn, pictures)
    return drawn, pictures


def test_two_flat_ellipses_are_laid_over_one_another() -> None:
    _, (rgb, alpha, depth) = draw([0.5, 0.4], (3, 5))
    np.testing.assert_allclose(alpha, 0.7, rtol=1e-5)
    np.testing.assert_allclose(rgb[..., 0], 1.0, rtol=1e-5)
    np.testing.assert_allclose(rgb[..., 1:], 0.3, rtol=1e-5)
    np.testing.assert_allclose(depth, (0.5 * 1 + 0.2 * 2) / 0.7, rtol=1e-5)


def test_an_empty_list_shows_the_background() -> None:
    _, (rgb, alpha, depth) = draw([])
    assert (rgb == 1).all()
    assert not alpha.any()
    assert not depth.any()


def test_the_gradient_of_alpha_by_each_opacity() -> None:
    opacity = [0.5, 0.4]
    drawn, pictures = draw(opacity)
    gradients = tuple(np.zeros_like(picture) for picture in pictures)
    gradients[1][:] = 1.0
    slots = np.full((2, project.SLOT), np.nan, np.float32)
    tiles.draw_backward_kernel(0, 1, drawn, gradients, slots)
    # alpha = 1 - (1 - a)(1 - b) at 64 pixels; the sum is that of -opacity times the gradient.
    expected = [-64 * 0.5 * 0.6, -64 * 0.4 * 0.5]
    np.testing.assert_allclose(slots[:, ellipse.SUM], expected, rtol=1e-4)
    np.testing.assert_allclose(slots[:, ellipse.SLOT_RGB : ellipse.SLOT_DEPTH], 0, atol=1e-6)


def test_what_lies_behind_the_last_light_gets_a_gradient_of_zero() -> None:
    opacity = [0.95] * 40
    drawn, pictures = draw(opacity)
    gradients = tuple(np.ones_like(picture) for picture in pictures)
    slots = np.full((len(opacity), project.SLOT), np.nan, np.float32)
    tiles.draw_backward_kernel(0, 1, drawn, gradients, slots)
    # 0.05^3 is the last light above 1e-4, so three ellipses are seen.
    assert slots[:3, ellipse.SLOT_RGB].all()
    assert not slots[3:, : ellipse.SLOT_USED].any()
