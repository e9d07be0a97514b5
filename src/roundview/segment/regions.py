"""Regions, distances and means of pictures: scipy's image tools with the types that we need."""

from typing import cast

import numpy as np
from jaxtyping import Bool, Float, Int


def label(
    region: Bool[np.ndarray, "h w"], *, corners: bool = False
) -> tuple[Int[np.ndarray, "h w"], int]:
    """Number the connected parts of a region from 1, and count them; 0 is outside.

    Args:
        region: The pixels to be told apart.
        corners: Whether pixels that only touch at a corner are connected.
    """
    from scipy import ndimage  # noqa: PLC0415  heavy, and only mattes need it

    structure = np.ones((3, 3)) if corners else None
    return cast("tuple[np.ndarray, int]", ndimage.label(region, structure=structure))


def nearest(
    region: Bool[np.ndarray, "h w"],
) -> tuple[Float[np.ndarray, "h w"], Int[np.ndarray, "h w"], Int[np.ndarray, "h w"]]:
    """Find the nearest pixel of a region: how far, in which row, in which column."""
    from scipy import ndimage  # noqa: PLC0415

    found = ndimage.distance_transform_edt(~region, return_indices=True)
    distance, (rows, columns) = cast("tuple[np.ndarray, np.ndarray]", found)
    return distance, rows, columns


def box_mean(picture: Float[np.ndarray, "h w *c"], radius: int) -> Float[np.ndarray, "h w *c"]:
    """Average over squares of side 2 radius + 1; beyond the picture its rim goes on."""
    from scipy import ndimage  # noqa: PLC0415

    for axis in (0, 1):
        picture = cast(
            "np.ndarray",
            ndimage.uniform_filter1d(picture, 2 * radius + 1, axis=axis, mode="nearest"),
        )
    return picture
