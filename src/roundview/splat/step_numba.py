"""One step of a fit on the CPU: twin of `fit_gradient_reference` in `step.py`, without a graph."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..kernels import Memory, run_jobs
from ..losses import (
    _LEAST_STRUCTURE,  # pyright: ignore[reportPrivateUsage]  a constant of the twin
    _WINDOW,  # pyright: ignore[reportPrivateUsage]  a constant of the twin
    ms_ssim_exponents,
)
from ..views import Views
from . import adam_numba as adam
from . import loss_numba as loss
from .cloud import CloudAdam, unpack
from .render_numba import Scene, activated, arrays, camera_rows, draw, draw_backward
from .step import FitGradient, LossWeights, MoreLoss

_ROWS_WORTH_A_THREAD = 32


def fit_gradient_numba(
    cloud: CloudAdam,
    target: Views,
    weights: LossWeights,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    exposure: Float[Tensor, "3 4"] | None = None,
    more: MoreLoss | None = None,
) -> FitGradient:
    """Do as `fit_gradient` does, on the CPU in float32.

    The result does not depend on the number of threads, to the last bit.
    """
    with torch.no_grad():
        fields = arrays(*activated(unpack(cloud.rows)))
        camera = camera_rows(target.cameras).numpy()
    scene = Scene(camera, target.cameras.size_hw, np.array(background, np.float32))
    drawn, (rgb, alpha, _) = draw(fields, scene)
    map_ = np.eye(3, 4, dtype=np.float32) if exposure is None else arrays(exposure)[0]
    goal_rgb, goal_alpha = arrays(target.rgb[0], target.alpha[0])
    compared = compare_pictures((rgb[0], alpha[0]), (goal_rgb, goal_alpha), map_, weights)
    value = compared.value
    if more is not None:
        more_value, more_slope = more(torch.from_numpy(rgb))
        value += float(more_value)
        compared.d_rgb[:] += arrays(more_slope[0])[0]
    d_pictures = (compared.d_rgb[None], compared.d_alpha[None], np.zeros_like(alpha))
    gradients = draw_backward(fields, scene, drawn, d_pictures)[:5]
    count = max(len(cloud.rows), 1)
    value += weights.opacity / count * float(fields[3].sum(dtype=np.float64))
    value += weights.scale / (3 * count) * float(fields[1].sum(dtype=np.float64))
    rows, pull = np.empty(cloud.rows.shape, np.float32), np.empty(len(cloud.rows), np.float32)
    regular = (np.float32(weights.opacity / count), np.float32(weights.scale / (3 * count)))
    view = (camera[0], np.float32(target.cameras.size_hw[1] / 2 / camera[0, 15]))
    blocks = -(-len(rows) // adam.BLOCK)
    run_jobs(adam.gather_kernel, blocks, fields, gradients, regular, view, rows, pull, at_least=8)
    cloud.rows.grad = torch.from_numpy(rows)
    return FitGradient(
        value,
        Views(torch.from_numpy(rgb), torch.from_numpy(alpha), target.cameras),
        None if exposure is None else torch.from_numpy(compared.d_exposure),
        torch.from_numpy(pull),
    )


@dataclass(frozen=True, eq=False)
class Compared:
    """The loss of one picture, and its gradient by the drawn colour, alpha and the exposure."""

    value: float
    d_rgb: np.ndarray
    d_alpha: np.ndarray
    d_exposure: np.ndarray


def compare_pictures(
    drawn: tuple[np.ndarray, np.ndarray],
    goal: tuple[np.ndarray, np.ndarray],
    exposure: np.ndarray,
    weights: LossWeights,
) -> Compared:
    """Compare colour (h x w x 3) and alpha (h x w) with the target's."""
    memory = Memory()
    h, w = drawn[1].shape
    planes, slopes = _planes(memory, 6, h, w), _planes(memory, 3, h, w)
    d_alpha, sums = np.empty((h, w), np.float32), np.empty((h, 2))
    colour = weights.photometric / (3 * h * w)
    factors = (
        np.float32(colour if weights.photometric_power == 1 else 0),
        np.float32(colour if weights.photometric_power == 2 else 0),
        np.float32(weights.mask / (h * w)),
    )
    out = (planes, slopes, d_alpha, sums)
    inputs = (drawn, goal, exposure, factors, out)
    run_jobs(loss.compare_kernel, h, *inputs, at_least=_ROWS_WORTH_A_THREAD)
    value = float(sums.sum())
    if weights.structure > 0:
        similarity = _add_structure(planes, (h, w), slopes, weights.structure, memory)
        value += weights.structure * (1 - similarity)
    d_rgb, d_exposure = np.zeros((h, w, 3), np.float32), np.empty((h, 3, 4), np.float32)
    inputs = (slopes, drawn[0], exposure, d_rgb, d_exposure)
    run_jobs(loss.collect_kernel, h, *inputs, at_least=_ROWS_WORTH_A_THREAD)
    summed = d_exposure.sum(axis=0, dtype=np.float64).astype(np.float32)
    return Compared(value, d_rgb, d_alpha, summed)


@dataclass(frozen=True, eq=False)
class _Scale:
    """One scale of MS-SSIM: planes of both pictures, mean similarity over how many values."""

    planes: np.ndarray
    size_hw: tuple[int, int]
    slopes: np.ndarray
    mean: float
    count: int


def _add_structure(
    planes: np.ndarray, size_hw: tuple[int, int], d: np.ndarray, weight: float, memory: Memory
) -> float:
    """Give the MS-SSIM of the planes, and add the gradient of weight * (1 - it) to `d`."""
    exponents = ms_ssim_exponents(min(size_hw))
    scales = [_similarity(planes, size_hw, len(exponents) == 1, memory)]
    while len(scales) < len(exponents):
        planes, size_hw = _halved(scales[-1], memory)
        scales.append(_similarity(planes, size_hw, len(scales) + 1 == len(exponents), memory))
    means = [max(scale.mean, _LEAST_STRUCTURE) for scale in scales]
    similarity = float(np.prod([m**e for m, e in zip(means, exponents, strict=True)]))
    coarse = (np.zeros(4 * loss.WIDTH, np.float32), (0, 0))
    for scale, mean, exponent in reversed(list(zip(scales, means, exponents, strict=True))):
        slope = -weight * similarity * exponent / (mean * scale.count)
        # What is too poor to count pushes no harder.
        found = (np.float32(slope if scale.mean >= _LEAST_STRUCTURE else 0.0), scale.slopes)
        h, w = scale.size_hw
        taps = (loss.window_taps(h, back=True), loss.window_columns(w, back=True))
        here = d if scale is scales[0] else _planes(memory, 3, h, w)
        if here is not d:
            here.fill(0)
        inputs = (scale.planes, (h, w), taps, found, coarse, here)
        run_jobs(loss.similarity_backward_kernel, 3 * h, *inputs, at_least=_ROWS_WORTH_A_THREAD)
        coarse = (here, (h, w))
    return similarity


def _similarity(
    planes: np.ndarray, size_hw: tuple[int, int], coarsest: bool, memory: Memory
) -> _Scale:
    h, w = size_hw
    slopes, sums = _planes(memory, 9, h, w), np.empty(3 * h, np.float32)
    taps = (loss.window_taps(h, back=False), loss.window_columns(w, back=False))
    inputs = (planes, size_hw, taps, coarsest, slopes, sums)
    run_jobs(loss.similarity_kernel, 3 * h, *inputs, at_least=_ROWS_WORTH_A_THREAD)
    margin = 0 if coarsest else 2 * (_WINDOW // 2)
    count = 3 * (h - margin) * (w - margin)
    return _Scale(planes, size_hw, slopes, float(sums.sum(dtype=np.float64)) / count, count)


def _halved(fine: _Scale, memory: Memory) -> tuple[np.ndarray, tuple[int, int]]:
    h, w = fine.size_hw[0] // 2, fine.size_hw[1] // 2
    planes = _planes(memory, 6, h, w)
    inputs = (fine.planes, fine.size_hw, planes, (h, w))
    run_jobs(loss.halve_kernel, 6 * h, *inputs, at_least=256)
    return planes, (h, w)


def _planes(memory: Memory, count: int, height: int, width: int) -> np.ndarray:
    """Give planes of unknown content, rows padded as `loss_numba.py` says."""
    return memory.empty((count * height * (loss.padded(width) + 2 * loss.WIDTH),), np.float32)


def adam_step(
    rows: Float[Tensor, "g c"],
    gradient: Float[Tensor, "g c"],
    moments: tuple[Float[Tensor, "g c"], Float[Tensor, "g c"]],
    rates: Float[Tensor, " c"],
    small: float,
) -> None:
    """Move rows and moments, float32 on the CPU; see `CloudAdam.step`."""
    columns = len(rates)
    repeats = adam.BLOCK // max(columns, 1) + 2
    many = arrays(rates.float().repeat(repeats)[: adam.BLOCK + columns])[0]
    # The rows and moments are contiguous, so that what is written here reaches them.
    lines = [tensor.detach().view(-1).numpy() for tensor in (rows, *moments)]
    slope = arrays(gradient)[0].reshape(-1)
    jobs = -(-len(lines[0]) // adam.BLOCK)
    inputs = (lines[0], slope, (lines[1], lines[2]), many, np.float32(small))
    run_jobs(adam.adam_kernel, jobs, *inputs, at_least=64)
