"""CPU kernel of `packing`: charts as bitmaps, 64 cells a word, put where they first fit."""

# numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np

from ..kernels import njit

_EXACT, _COARSE = 16, 6
"""Charts do not look again where one of their kind found no room. A kind is a size in cells, up to
the first of these a side, and beyond that a range of sizes as wide as the second."""


@njit
def place_kernel(flat, start, extent, order, rule, grid):  # noqa: ANN001, ANN201, C901
    """Put charts on a grid one by one, each as high up as it fits, in the best quarter turn.

    Args:
        flat: f x 3 x 2 float32, corners in texels, charts after one another, boxes at (0, 0).
        start: First face of each chart, and the end of the last.
        extent: Width and height of each chart, texels.
        order: Charts in the order in which they are placed.
        rule: Texels along a cell, and the distance that charts keep from their cells' border.
        grid: Cells along a side.

    Returns:
        Offset in texels and number of quarter turns of each chart, c x 3 float32, and whether all
        fitted.
    """
    cell, keep = rule
    place = np.zeros((len(start) - 1, 3), np.float32)
    words = (grid + 63) // 64 + 1
    taken = np.zeros((grid, words), np.uint64)
    kinds = _kind(grid) + 1
    hint = np.zeros((kinds, kinds), np.int64)
    for chart in order:
        best_x, best_y, best_turn = -1, grid, 0
        best_mask, best_corner = np.zeros((1, 1), np.bool_), (0, 0)
        for turn in range(4):
            mask, corner = _mask(
                flat[start[chart] : start[chart + 1]], extent[chart], turn, cell, keep
            )
            rows, columns = mask.shape
            if rows > grid or columns > grid:
                continue
            high, wide = _kind(rows), _kind(columns)
            x, y = _first_fit(mask, taken, grid, hint[high, wide], best_y)
            if x >= 0:
                hint[high, wide] = y
            if x >= 0 and y < best_y:
                best_x, best_y, best_turn = x, y, turn
                best_mask, best_corner = mask, corner
        if best_x < 0:
            return place, False
        for row in range(best_mask.shape[0]):
            for column in range(best_mask.shape[1]):
                if best_mask[row, column]:
                    at = best_x + column
                    taken[best_y + row, at // 64] |= np.uint64(1) << np.uint64(at % 64)
        place[chart, 0] = (best_x - best_corner[0]) * cell
        place[chart, 1] = (best_y - best_corner[1]) * cell
        place[chart, 2] = best_turn
    return place, True


@njit(inline="always")
def _kind(cells):  # noqa: ANN001, ANN202
    return cells if cells <= _EXACT else _EXACT + (cells - _EXACT) // _COARSE


@njit
def _first_fit(mask, taken, grid, first, below):  # noqa: ANN001, ANN202
    """Find the highest place above row `below`, and there the one farthest left; else (-1, -1)."""
    rows, columns = mask.shape
    words = (columns + 63) // 64 + 1
    found_x, found_y = -1, min(below, grid - rows + 1)
    shifted = np.zeros((rows, words), np.uint64)
    for shift in range(min(64, grid - columns + 1)):
        shifted[:] = 0
        for row in range(rows):
            for column in range(columns):
                if mask[row, column]:
                    at = column + shift
                    shifted[row, at // 64] |= np.uint64(1) << np.uint64(at % 64)
        for base in range((grid - columns - shift) // 64 + 1):
            x = 64 * base + shift
            guilty = 0
            for y in range(first, found_y + 1 if x < found_x else found_y):
                hit = _collides(shifted, taken, y, base, guilty)
                if hit < 0:
                    found_x, found_y = x, y
                    break
                guilty = hit
    return (found_x, found_y) if found_x >= 0 else (-1, -1)


@njit(inline="always")
def _collides(shifted, taken, y, base, guilty):  # noqa: ANN001, ANN202
    """Give a row in which a chart meets another, or -1; tries last time's row first."""
    rows, words = shifted.shape
    last = min(words, taken.shape[1] - base)
    for k in range(rows):
        row = k + guilty
        row = row - rows if row >= rows else row
        for word in range(last):
            if shifted[row, word] & taken[y + row, base + word]:
                return row
    return -1


@njit
def _mask(flat, extent, turn, cell, keep):  # noqa: ANN001, ANN202, C901
    """Draw the cells that a chart needs; give the trimmed bitmap and where it begins."""
    pad = int(math.ceil(keep / cell)) + 1
    width, height = (extent[0], extent[1]) if turn % 2 == 0 else (extent[1], extent[0])
    mask = np.zeros((int(height / cell) + 1 + 2 * pad, int(width / cell) + 1 + 2 * pad), np.bool_)
    reach = keep + 0.71 * cell
    turned = np.empty((3, 2), np.float64)
    for f in range(flat.shape[0]):
        for k in range(3):
            x, y = flat[f, k, 0], flat[f, k, 1]
            if turn == 1:
                x, y = y, extent[0] - x
            elif turn == 2:
                x, y = extent[0] - x, extent[1] - y
            elif turn == 3:
                x, y = extent[1] - y, x
            turned[k, 0], turned[k, 1] = x + pad * cell, y + pad * cell
        x0 = max(0, int((turned[:, 0].min() - reach) / cell))
        x1 = min(mask.shape[1] - 1, int((turned[:, 0].max() + reach) / cell))
        y0 = max(0, int((turned[:, 1].min() - reach) / cell))
        y1 = min(mask.shape[0] - 1, int((turned[:, 1].max() + reach) / cell))
        for row in range(y0, y1 + 1):
            for column in range(x0, x1 + 1):
                if not mask[row, column]:
                    mask[row, column] = _near(
                        turned, (column + 0.5) * cell, (row + 0.5) * cell, reach
                    )
    top, left, low, right = mask.shape[0], mask.shape[1], 0, 0
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            if mask[row, column]:
                top, low = min(top, row), max(low, row + 1)
                left, right = min(left, column), max(right, column + 1)
    return mask[top:low, left:right].copy(), (left - pad, top - pad)


@njit
def _near(corner, px, py, reach):  # noqa: ANN001, ANN202
    """Say whether a point lies in a triangle or within `reach` of it."""
    turns = 0
    for k in range(3):
        ax, ay = corner[k, 0], corner[k, 1]
        dx, dy = corner[(k + 1) % 3, 0] - ax, corner[(k + 1) % 3, 1] - ay
        turns += 1 if dx * (py - ay) - dy * (px - ax) > 0 else -1
        t = ((px - ax) * dx + (py - ay) * dy) / max(dx * dx + dy * dy, 1e-12)
        t = min(max(t, 0.0), 1.0)
        away_x, away_y = ax + t * dx - px, ay + t * dy - py
        if away_x * away_x + away_y * away_y <= reach * reach:
            return True
    return abs(turns) == 3
