"""CPU kernels that compare one drawn picture with its target, and the gradient of that.

Twin of `photometric`, `mask_loss` and `ms_ssim` in `losses.py`. Pictures are taken apart into
planes, one a channel. A row of a plane begins and ends with 16 zeros and is padded with zeros to
whole registers, so that a window may reach over its ends. Sums run along a row first, then over the
rows in their order: they come out the same however many threads there are.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

from functools import lru_cache

import numpy as np

from ..kernels import njit
from ..losses import (
    _C1,  # pyright: ignore[reportPrivateUsage]  the constants of the twin
    _C2,  # pyright: ignore[reportPrivateUsage]  the constants of the twin
    _WINDOW,  # pyright: ignore[reportPrivateUsage]  the constants of the twin
    _blur_matrix,  # pyright: ignore[reportPrivateUsage]  the window of the twin
)
from .lanes_numba import WIDTH, evens, load, odds, pick, spread, store, total, zipped

_F, _U = np.float32, np.uint64
_ZERO, _ONE, _TWO, _QUARTER = _F(0), _F(1), _F(2), _F(0.25)
_STEP, _TAPS, _HALF_WINDOW = _U(WIDTH), _U(_WINDOW), _WINDOW // 2
_SSIM_C1, _SSIM_C2 = _F(_C1), _F(_C2)
MIDDLE = _F(0.5)
"""Taken off all colours in planes: variances of small numbers lose fewer digits."""


def padded(width: int) -> int:
    """Length of a row of `width` pixels, without the 16 zeros before it and after it."""
    return -(-width // WIDTH) * WIDTH


@lru_cache
def window_taps(side_px: int, *, back: bool) -> np.ndarray:
    """Weights that blur a line of pixels, or carry its gradient back: 11 for each pixel."""
    matrix = _blur_matrix(side_px).numpy()
    matrix = matrix.T if back else matrix
    taps = np.zeros((side_px, _WINDOW), np.float32)
    for k in range(_WINDOW):
        here = np.arange(max(0, _HALF_WINDOW - k), min(side_px, side_px + _HALF_WINDOW - k))
        taps[here, k] = matrix[here, here + k - _HALF_WINDOW]
    return taps


@lru_cache
def window_columns(side_px: int, *, back: bool) -> np.ndarray:
    """Lay the weights of a row out tap by tap, padded."""
    columns = np.zeros((_WINDOW, padded(side_px)), np.float32)
    columns[:, :side_px] = window_taps(side_px, back=back).T
    return columns.ravel()


@njit
def compare_kernel(first_job, last_job, drawn, target, exposure, factors, out):  # noqa: ANN001, ANN201
    """Compare colour and alpha pixel by pixel, and lay the colours out in planes. A job is a row.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        drawn: rgb, h x w x 3, and alpha, h x w.
        target: The same.
        exposure: 3 x 4, an affine map of the drawn colour.
        factors: Of the absolute and the squared difference of colour and the squared one of alpha;
            weights of the terms over the numbers of their values.
        out: Written: three planes of the drawn colour and three of the target's, less `MIDDLE`;
            three planes of the gradient by colour; that by alpha, h x w; and the loss of each row,
            colour and alpha.
    """
    planes, d, d_alpha, sums = out
    (rgb, alpha), (goal_rgb, goal_alpha) = drawn, target
    h, w = alpha.shape
    length = (w + WIDTH - 1) // WIDTH * WIDTH + 2 * WIDTH
    for i in range(first_job, last_job):
        sums[i, 0] = sums[i, 1] = 0.0
        for channel in range(3):
            a, b, c = exposure[channel, 0], exposure[channel, 1], exposure[channel, 2]
            at, goal_at = (channel * h + i) * length, ((3 + channel) * h + i) * length
            for j in range(length):
                planes[at + j] = planes[goal_at + j] = d[at + j] = _ZERO
            at, goal_at, loss = at + WIDTH, goal_at + WIDTH, _ZERO
            for j in range(w):
                value = a * rgb[i, j, 0] + b * rgb[i, j, 1] + c * rgb[i, j, 2]
                value += exposure[channel, 3]
                goal = goal_rgb[i, j, channel]
                difference = value - goal
                sign = _ONE if difference > _ZERO else (-_ONE if difference < _ZERO else _ZERO)
                planes[at + j], planes[goal_at + j] = value - MIDDLE, goal - MIDDLE
                d[at + j] = factors[0] * sign + _TWO * factors[1] * difference
                loss += factors[0] * abs(difference) + factors[1] * difference * difference
            sums[i, 0] += loss
        for j in range(w):
            difference = alpha[i, j] - goal_alpha[i, j]
            d_alpha[i, j] = _TWO * factors[2] * difference
            sums[i, 1] += factors[2] * difference * difference


@njit
def halve_kernel(first_job, last_job, fine, fine_hw, coarse, coarse_hw):  # noqa: ANN001, ANN201
    """Average blocks of 2 x 2 pixels. A job is a row of one of the coarse planes."""
    h, w = coarse_hw
    fine_length = _U((fine_hw[1] + WIDTH - 1) // WIDTH * WIDTH + 2 * WIDTH)
    width = _U((w + WIDTH - 1) // WIDTH * WIDTH)
    length, zero = width + _U(2 * WIDTH), spread(_ZERO)
    for job in range(first_job, last_job):
        plane, i = job // h, job % h
        at = _U(job) * length + _STEP
        above = _U(plane * fine_hw[0] + 2 * i) * fine_length + _STEP
        below = above + fine_length
        store(coarse, at - _STEP, zero)
        store(coarse, at + width, zero)
        for j in range(_U(0), width, _STEP):
            left = load(fine, above + _TWICE * j) + load(fine, below + _TWICE * j)
            right = load(fine, above + _TWICE * j + _STEP) + load(fine, below + _TWICE * j + _STEP)
            store(coarse, at + j, spread(_QUARTER) * (evens(left, right) + odds(left, right)))
        for j in range(_U(w), width):
            coarse[at + j] = _ZERO


_TWICE = _U(2)


@njit
def similarity_kernel(first_job, last_job, planes, size_hw, taps, coarsest, slopes, sums):  # noqa: ANN001, ANN201
    """Compare the structure of two pictures at one scale. A job is a row of one channel.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        planes: Of both pictures, as above.
        size_hw: Their height and width.
        taps: `window_taps` of the height and `window_columns` of the width.
        coarsest: Whether luminance and borders count.
        slopes: 3 x 3 planes, written: by the blurred colour, its blurred square, and the blurred
            product, of the sum of all pixels.
        sums: Of each row, written.
    """
    h, w = size_hw
    width = _U((w + WIDTH - 1) // WIDTH * WIDTH)
    length = width + _U(2 * WIDTH)
    margin = 0 if coarsest else _HALF_WINDOW
    counted = np.zeros(width, np.float32)
    counted[margin : w - margin] = _ONE
    blurred, rows = np.zeros(_U(5) * length, np.float32), np.empty(_TAPS, np.uint64)
    for job in range(first_job, last_job):
        channel, i = job // h, job % h
        _find_rows(i, h, rows)
        x_at, y_at = _U(channel * h) * length + _STEP, _U((3 + channel) * h) * length + _STEP
        _blur_statistics_down(planes, x_at, y_at, rows, taps[0][i], blurred, length)
        row_counted = margin <= i < h - margin
        sums[job] = _similarity_row(
            blurred, taps[1], counted, row_counted, coarsest, slopes, _U(job) * length + _STEP
        )


@njit(forceinline=True)
def _find_rows(i, h, rows):  # noqa: ANN001, ANN202
    """Say which rows a window around row i covers; where it reaches over, its taps are 0."""
    for k in range(_WINDOW):
        rows[k] = min(max(i + k - _HALF_WINDOW, 0), h - 1)


@njit(forceinline=True)
def _blur_statistics_down(planes, x_at, y_at, rows, taps, blurred, length):  # noqa: ANN001, ANN202
    """Blur x, x^2, xy, y and y^2 along the columns."""
    for j in range(_U(0), length - _U(2 * WIDTH), _STEP):
        x = y = xx = xy = yy = spread(_ZERO)
        for k in range(_TAPS):
            a, b = (
                load(planes, x_at + rows[k] * length + j),
                load(planes, y_at + rows[k] * length + j),
            )
            tap = spread(taps[k])
            x_here, y_here = tap * a, tap * b
            x, y = x + x_here, y + y_here
            xx, xy, yy = xx + x_here * a, xy + x_here * b, yy + y_here * b
        at = j + _STEP
        store(blurred, at, x)
        store(blurred, at + length, xx)
        store(blurred, at + _U(2) * length, xy)
        store(blurred, at + _U(3) * length, y)
        store(blurred, at + _U(4) * length, yy)


@njit(forceinline=True)
def _similarity_row(blurred, taps, counted, row_counted, coarsest, slopes, at):  # noqa: ANN001, ANN202
    """Blur along the row; give the sum of its similarities, and their slopes (Wang et al. 2004)."""
    width = _U(len(counted))
    length = width + _U(2 * WIDTH)
    plane = _U(len(slopes)) // _U(3)
    zero, one, two = spread(_ZERO), spread(_ONE), spread(_TWO)
    c1, c2, middle = spread(_SSIM_C1), spread(_SSIM_C2), spread(MIDDLE)
    summed = zero
    for j in range(_U(0), width, _STEP):
        mean_x = mean_y = xx = xy = yy = zero
        for k in range(_TAPS):
            tap, from_ = load(taps, k * width + j), j + k + _U(WIDTH - _HALF_WINDOW)
            mean_x += tap * load(blurred, from_)
            xx += tap * load(blurred, from_ + length)
            xy += tap * load(blurred, from_ + _U(2) * length)
            mean_y += tap * load(blurred, from_ + _U(3) * length)
            yy += tap * load(blurred, from_ + _U(4) * length)
        product, spread_x, spread_y = mean_x * mean_y, xx - mean_x * mean_x, yy - mean_y * mean_y
        free = pick(spread_x >= zero, one, zero)
        inverse = one / (free * spread_x + pick(spread_y >= zero, spread_y, zero) + c2)
        structure = (two * (xy - product) + c2) * inverse
        by_square = -structure * inverse * free
        by_product = two * inverse
        by_mean = -mean_y * by_product - two * mean_x * by_square
        if coarsest:
            mean_x, mean_y = mean_x + middle, mean_y + middle
            inverse = one / (mean_x * mean_x + mean_y * mean_y + c1)
            luminance = (two * mean_x * mean_y + c1) * inverse
            by_mean = luminance * by_mean + two * structure * inverse * (
                mean_y - mean_x * luminance
            )
            by_square, by_product = luminance * by_square, luminance * by_product
            structure *= luminance
        here = load(counted, j) if row_counted else zero
        summed += here * structure
        store(slopes, at + j, here * by_mean)
        store(slopes, at + plane + j, here * by_square)
        store(slopes, at + plane + plane + j, here * by_product)
    return total(summed)


@njit
def similarity_backward_kernel(first_job, last_job, planes, size_hw, taps, found, coarse, d):  # noqa: ANN001, ANN201
    """Carry the slopes back to the drawn picture. A job is a row of one channel.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        planes: As for `similarity_kernel`.
        size_hw: See there.
        taps: `window_taps` and `window_columns` of the way back.
        found: The slope of the loss by the sum of all similarities, and the slopes of that, as
            `similarity_kernel` left them.
        coarse: Gradient by the picture of half the size, three planes and their height and width.
        d: Three planes, added to.
    """
    (h, w), (factor, slopes) = size_hw, found
    width = _U((w + WIDTH - 1) // WIDTH * WIDTH)
    length, plane = width + _U(2 * WIDTH), _U(len(slopes)) // _U(3)
    blurred, rows = np.zeros(_U(3) * length, np.float32), np.empty(_TAPS, np.uint64)
    for job in range(first_job, last_job):
        channel, i = job // h, job % h
        _find_rows(i, h, rows)
        at, x_at = _U(channel * h) * length + _STEP, _U(job) * length + _STEP
        y_at = x_at + _U(3 * h) * length
        for j in range(_U(0), width, _STEP):
            a = b = c = spread(_ZERO)
            for k in range(_TAPS):
                tap, from_ = spread(taps[0][i, k]), at + rows[k] * length + j
                a += tap * load(slopes, from_)
                b += tap * load(slopes, from_ + plane)
                c += tap * load(slopes, from_ + plane + plane)
            store(blurred, j + _STEP, a)
            store(blurred, j + _STEP + length, b)
            store(blurred, j + _STEP + length + length, c)
        _backward_row(blurred, taps[1], planes, (x_at, y_at), factor, d)
        half_h, half_w = coarse[1]
        if i // 2 < half_h:
            _spread_row(coarse[0], channel * half_h + i // 2, half_w, d, x_at, width)


@njit(forceinline=True)
def _backward_row(blurred, taps, planes, where, factor, d):  # noqa: ANN001, ANN202
    width = _U(len(taps)) // _TAPS
    length = width + _U(2 * WIDTH)
    x_at, y_at = where
    for j in range(_U(0), width, _STEP):
        a = b = c = spread(_ZERO)
        for k in range(_TAPS):
            tap, from_ = load(taps, k * width + j), j + k + _U(WIDTH - _HALF_WINDOW)
            a += tap * load(blurred, from_)
            b += tap * load(blurred, from_ + length)
            c += tap * load(blurred, from_ + length + length)
        x, y = load(planes, x_at + j), load(planes, y_at + j)
        slope = a + spread(_TWO) * x * b + y * c
        store(d, x_at + j, load(d, x_at + j) + spread(factor) * slope)


@njit(forceinline=True)
def _spread_row(coarse, row, half_w, d, at, width):  # noqa: ANN001, ANN202
    """Add a quarter of the coarse gradient to the pixels that were averaged."""
    half_width = _U((half_w + WIDTH - 1) // WIDTH * WIDTH)
    coarse_at = _U(row) * (half_width + _U(2 * WIDTH)) + _STEP
    for j in range(_U(0), width, _STEP):
        half = spread(_QUARTER) * load(coarse, coarse_at + j // _TWICE)
        store(d, at + j, load(d, at + j) + zipped(half, half))


@njit
def collect_kernel(first_job, last_job, planes, rgb, exposure, d_rgb, d_exposure):  # noqa: ANN001, ANN201
    """Carry the gradient by the exposed colour back to the drawn one. A job is a row.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        planes: Three, the gradient.
        rgb: The drawn colour, h x w x 3.
        exposure: 3 x 4.
        d_rgb: h x w x 3, added to.
        d_exposure: h x 3 x 4, written: each row's part.
    """
    h, w = rgb.shape[:2]
    length = (w + WIDTH - 1) // WIDTH * WIDTH + 2 * WIDTH
    for i in range(first_job, last_job):
        for channel in range(3):
            at = (channel * h + i) * length + WIDTH
            red = green = blue = one = _ZERO
            for j in range(w):
                slope = planes[at + j]
                red += slope * rgb[i, j, 0]
                green += slope * rgb[i, j, 1]
                blue += slope * rgb[i, j, 2]
                one += slope
                d_rgb[i, j, 0] += exposure[channel, 0] * slope
                d_rgb[i, j, 1] += exposure[channel, 1] * slope
                d_rgb[i, j, 2] += exposure[channel, 2] * slope
            d_exposure[i, channel, 0], d_exposure[i, channel, 1] = red, green
            d_exposure[i, channel, 2], d_exposure[i, channel, 3] = blue, one
