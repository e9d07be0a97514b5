"""CPU kernels on the rows of a cloud: a step of Adam, and gathering the gradient of one."""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np

from ..kernels import njit
from .cloud import CENTRE, LOG_SCALE, OPACITY, QUAT, SH
from .lanes_numba import WIDTH, load, root, spread, store

_F, _U = np.float32, np.uint64
_ONE, _STEP = _F(1), _U(WIDTH)
_MEAN, _SQUARE = _F(0.9), _F(0.999)
_MEAN_REST, _SQUARE_REST = _F(1 - 0.9), _F(1 - 0.999)
_CENTRE, _SCALE, _QUAT = CENTRE.start, LOG_SCALE.start, QUAT.start
BLOCK = 512
"""Numbers, or Gaussians, that one job takes."""


@njit
def adam_kernel(first_job, last_job, rows, gradient, moments, rates, small):  # noqa: ANN001, ANN201
    """Take one step of Adam. A job is `BLOCK` numbers of the cloud's.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        rows: All numbers of the cloud in one line; moved.
        gradient: Like rows.
        moments: Mean and mean square, like rows; moved on.
        rates: Of the columns, over and over again for at least a column more than `BLOCK` numbers.
        small: Added to the roots of the mean squares.
    """
    columns = len(rates) - BLOCK
    for job in range(first_job, last_job):
        first, last = job * BLOCK, min(job * BLOCK + BLOCK, len(rows))
        whole = first + (last - first) // WIDTH * WIDTH
        _adam_lanes(rows, gradient, moments, rates, small, (first, whole, columns))
        for at in range(whole, last):
            slope = gradient[at]
            moments[0][at] += _MEAN_REST * (slope - moments[0][at])
            moments[1][at] = _SQUARE * moments[1][at] + _SQUARE_REST * slope * slope
            rate = rates[first % columns + at - first]
            rows[at] -= rate * moments[0][at] / (math.sqrt(moments[1][at]) + small)


@njit(forceinline=True)
def _adam_lanes(rows, gradient, moments, rates, small, span):  # noqa: ANN001, ANN202
    first, last, columns = _U(span[0]), _U(span[1]), _U(span[2])
    rest, kept = spread(_MEAN_REST), spread(_SQUARE)
    square_rest, tiny = spread(_SQUARE_REST), spread(small)
    offset = first % columns
    for at in range(first, last, _STEP):
        slope, mean = load(gradient, at), load(moments[0], at)
        mean += rest * (slope - mean)
        square = kept * load(moments[1], at) + square_rest * slope * slope
        store(moments[0], at, mean)
        store(moments[1], at, square)
        rate = load(rates, offset + at - first)
        store(rows, at, load(rows, at) - rate * mean / (root(square) + tiny))


@njit
def gather_kernel(first_job, last_job, fields, gradients, regular, camera, rows, pull):  # noqa: ANN001, ANN201
    """Put the gradients of the fields into rows. A job is a block of Gaussians.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        fields: As for `project_kernel`.
        gradients: Of the five tensors of `Gaussians`.
        regular: Slopes of the loss by the sum of all opacities and of all scales.
        camera: Its row of 16 numbers, and half the image's width in pixels over the focal length.
        rows: Written.
        pull: Written, see `FitGradient`.
    """
    centre, scale, _, opacity, _, _ = fields
    d_centre, d_log_scale, d_quat, d_logit, d_sh = gradients
    pose, half_width = camera
    for i in range(first_job * BLOCK, min(last_job * BLOCK, len(rows))):
        for k in range(3):
            rows[i, _CENTRE + k] = d_centre[i, k]
            rows[i, _SCALE + k] = d_log_scale[i, k] + regular[1] * scale[i, k]
        for k in range(4):
            rows[i, _QUAT + k] = d_quat[i, k]
        rows[i, OPACITY] = d_logit[i] + regular[0] * opacity[i] * (_ONE - opacity[i])
        for k in range(d_sh.shape[1]):
            for channel in range(3):
                rows[i, SH + 3 * k + channel] = d_sh[i, k, channel]
        x, y, z = d_centre[i, 0], d_centre[i, 1], d_centre[i, 2]
        depth = pose[6] * centre[i, 0] + pose[7] * centre[i, 1] + pose[8] * centre[i, 2] + pose[11]
        pull[i] = math.sqrt(x * x + y * y + z * z) * depth * half_width
