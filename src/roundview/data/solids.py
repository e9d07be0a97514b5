"""What of space an object fills, on a grid, and in which colours: the truth of shape estimators."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from ..mesh import Mesh
from ..metrics.surface import sample_surface
from ..surface.raster import surface_rgb

CELLS = 64
"""Cells along a side of the cube in which an object of longest side 1 fits exactly."""
COLOUR_CELLS = 32
"""Cells of the coarser grid of colours."""
_POINTS = 200_000
"""Points on the surface. A surface of 64 x 64 cells on all six sides has 25,000: each is hit by
eight."""


@dataclass(frozen=True, eq=False)
class Solid:
    """An object in a grid over [-0.5, 0.5]^3, axes x, y (up), z.

    Attributes:
        fill: 64 x 64 x 64 uint8: 2 inside, 1 where the surface of something solid passes through,
            0 outside. A sheet, which has no inside, is 2.
        rgb: 32 x 32 x 32 x 3 uint8 sRGB of the nearest surface.
    """

    fill: NDArray[np.uint8]
    rgb: NDArray[np.uint8]


def solid_of(mesh: Mesh, rng: Generator) -> Solid:
    """Fill an object: what cannot be reached from outside, and what is open only from below.

    Models are drawn to be seen: many have holes, and furniture often has no underside. What every
    other axis finds closed counts as solid then. A bowl, which is open above, stays hollow.

    Args:
        mesh: Centred, longest side 1; need not be closed.
        rng: Of the points on the surface.
    """
    from scipy import ndimage  # noqa: PLC0415  slow to import

    sample = sample_surface(mesh, _POINTS, rng)
    at = _cells(sample.points, CELLS)
    surface = np.zeros((CELLS,) * 3, bool)
    surface[tuple(at.T)] = True
    free = _labelled(np.pad(~surface, 1, constant_values=True))
    outside = (free == free[0, 0, 0])[1:-1, 1:-1, 1:-1]
    inside = ~surface & (~outside | _covered(surface))
    beside: Any = ndimage.binary_dilation(inside, np.ones((3, 3, 3), bool))
    fill = np.where(inside | (surface & ~beside), 2, surface).astype(np.uint8)

    coarse = _cells(sample.points, COLOUR_CELLS)
    flat = np.ravel_multi_index(tuple(coarse.T), (COLOUR_CELLS,) * 3)
    count = np.bincount(flat, minlength=COLOUR_CELLS**3)
    seen = surface_rgb(mesh, sample.points, sample.face).numpy()
    total = np.stack([np.bincount(flat, seen[:, c], COLOUR_CELLS**3) for c in range(3)], axis=-1)
    mean = (total / np.maximum(count, 1)[:, None]).reshape(*(COLOUR_CELLS,) * 3, 3)
    near: Any = ndimage.distance_transform_edt(
        (count == 0).reshape((COLOUR_CELLS,) * 3), return_distances=False, return_indices=True
    )
    rgb = mean[tuple(near)]
    return Solid(fill, (rgb.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def _labelled(free: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number what hangs together."""
    from scipy import ndimage  # noqa: PLC0415  slow to import

    found: Any = ndimage.label(free)
    return found[0]


def _cells(position: torch.Tensor, cells: int) -> NDArray[np.int64]:
    return ((position.numpy() + 0.5) * cells).astype(np.int64).clip(0, cells - 1)


def _covered(surface: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell the cells that see surface in all five directions but down."""
    covered = np.ones_like(surface)
    for axis, up_only in ((0, False), (1, True), (2, False)):
        onward = np.logical_or.accumulate(np.flip(surface, axis), axis=axis)
        covered &= np.flip(onward, axis)
        if not up_only:
            covered &= np.logical_or.accumulate(surface, axis=axis)
    return covered
