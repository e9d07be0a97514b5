from collections.abc import Callable

import numpy as np
import pytest

from roundview.data import shapes
from roundview.data.shapes import random_parts, random_surface

KINDS = [
    *(shapes._superquadric, shapes._lathe, shapes._torus, shapes._box),  # pyright: ignore[reportPrivateUsage]  each kind by itself
    *(shapes._extrusion, shapes._solid, shapes._displaced),  # pyright: ignore[reportPrivateUsage]  each kind by itself
]


def volume(grid: np.ndarray) -> float:
    """Signed volume of the grid's faces: positive if they point outward."""
    a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]
    first = (a * np.cross(b, c)).sum()
    return float(first + (a * np.cross(c, d)).sum()) / 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_surfaces_are_closed_and_point_outward(
    kind: Callable[[np.random.Generator], np.ndarray], seed: int
) -> None:
    grid = kind(np.random.default_rng(seed))
    np.testing.assert_allclose(grid[:, 0], grid[:, -1], atol=1e-9)
    assert np.isfinite(grid).all()
    assert np.abs(grid).max() < 3
    assert volume(grid) > 0.01


def test_copies_keep_their_points_and_face_outward() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        parts = random_parts(rng)
        assert 1 <= len(parts) <= 9
        for first, *others in parts:
            assert volume(first) > 0
            # A mirror image is cut into triangles along the other diagonals: another volume.
            assert all(volume(other) > 0 for other in others)
            heights = [np.sort(copy[..., 1], axis=None) for copy in (first, *others)]
            assert all(np.allclose(heights[0], other) for other in heights)


def test_creatures_are_the_same_on_both_sides() -> None:
    parts = shapes._creature(np.random.default_rng(1))  # pyright: ignore[reportPrivateUsage]  one plan
    points = np.concatenate([copy.reshape(-1, 3) for part in parts for copy in part])
    np.testing.assert_allclose(points[:, 0].max(), -points[:, 0].min(), rtol=1e-9)


def test_surfaces_differ() -> None:
    rng = np.random.default_rng(0)
    volumes = {round(volume(random_surface(rng)), 6) for _ in range(30)}
    assert len(volumes) == 30
