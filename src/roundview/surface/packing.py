"""Pack flat charts into a square texture."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

_FINEST = 512
"""Most cells along the side of the grid that charts are placed on: they decide the time."""
_FULLEST = 0.9
"""Share of the texture that no packing is expected to fill."""
_ROUNDS = 6
"""Halvings of the interval of the filled share: the last step is about a hundredth."""


def packed(flat: Floats, chart: Ints, *, size: int, gutter_px: int) -> Floats:
    """Scale all charts alike, then turn and move each, so that they fill a texture well.

    Largest first, each chart goes as high up as it fits, in the best of four quarter turns, so
    small ones land in the hollows of large ones. The scale is found by bisection.

    Args:
        flat: Corners of each face, (f, 3, 2), any unit; each chart's box begins at (0, 0).
        chart: Chart of each face, 0 and up.
        size: Side of the texture, texels.
        gutter_px: Least distance between charts, texels; half of it at the texture's rim.

    Returns:
        Corners in texels, (f, 3, 2).

    Raises:
        ValueError: If there are more charts than the texture can hold apart.
    """
    area = max(float(np.abs(_cross(flat)).sum() / 2), 1e-20)
    least, most, best = 0.0, _FULLEST, None
    for round_ in range(4 * _ROUNDS):
        share = (least + most) / 2
        moved = _placed(flat * (size * np.sqrt(share / area)), chart, size, gutter_px)
        if moved is None:
            most = share
        else:
            least, best = share, moved
        if best is not None and round_ >= _ROUNDS:
            return best
    if best is None:
        raise ValueError(
            f"{int(chart.max()) + 1} charts do not fit a texture of {size} texels: take a larger "
            "one, or a smoother mesh"
        )
    return best


def _cross(flat: Floats) -> Floats:
    first, second = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]


def _placed(flat: Floats, chart: Ints, size: int, gutter_px: int) -> Floats | None:
    from .packing_numba import place_kernel  # noqa: PLC0415  numba is slow to import

    count = int(chart.max()) + 1
    extent = np.zeros((count, 2))
    np.maximum.at(extent, chart, flat.max(axis=1))
    if extent.max() + gutter_px > size:
        return None
    cell = -(-size // _FINEST)
    by_chart = np.argsort(chart, kind="stable")
    start = np.searchsorted(chart[by_chart], np.arange(count + 1))
    order = np.lexsort((np.arange(count), -extent.max(axis=1) - 0.5 * extent.min(axis=1)))
    place, fits = place_kernel(
        flat[by_chart].astype(np.float32), start, extent, order, (cell, gutter_px / 2), size // cell
    )
    if not fits:
        return None
    return _turned(flat, extent[chart], place[chart, 2].astype(np.int64)) + place[chart, None, :2]


def _turned(flat: Floats, extent: Floats, turns: Ints) -> Floats:
    """Turn charts by quarters inside their boxes, as the kernel does."""
    x, y = flat[..., 0], flat[..., 1]
    wide, high = extent[:, :1], extent[:, 1:]
    options = [(x, y), (y, wide - x), (wide - x, high - y), (high - y, x)]
    stacked = np.stack([np.stack(option, axis=-1) for option in options])
    return stacked[turns, np.arange(len(flat))]
