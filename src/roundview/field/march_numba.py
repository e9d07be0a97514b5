"""CPU kernels of ray marching: placing samples, compositing them, and the gradient of that."""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..kernels import njit, run_jobs

_F = np.float32
_ZERO, _ONE, _TINY = _F(0), _F(1), _F(1e-9)
_BLOCK = 64
"""Rays that one job takes."""


def march(
    origin: Float[Tensor, "r 3"],
    direction: Float[Tensor, "r 3"],
    shift: Float[Tensor, " r"],
    full: Bool[Tensor, "c c c"],
    half_width: float,
    step: float,
) -> tuple[Float[Tensor, " p"], Int[Tensor, " p"], Int[Tensor, " r1"]]:
    """Give distances, ray numbers and first samples; see `march_reference`."""
    rays, count = (_array(origin), _array(direction), _array(shift)), len(origin)
    most = math.ceil(2 * math.sqrt(3) * half_width / step)
    table = np.empty((count, most), np.float32)
    found = np.zeros(count, np.int64)
    sizes = (_F(half_width), _F(step))
    run_jobs(_march_kernel, _blocks(count), *rays, _array(full), *sizes, table, found)
    first = np.concatenate([[0], np.cumsum(found)]).astype(np.int64)
    distance = np.empty(first[-1], np.float32)
    ray = np.empty(first[-1], np.int64)
    run_jobs(_pack_kernel, _blocks(count), table, first, distance, ray)
    return torch.from_numpy(distance), torch.from_numpy(ray), torch.from_numpy(first)


def composite(
    alpha: Float[Tensor, " p"], values: Float[Tensor, "p c"], first: Int[Tensor, " r1"]
) -> tuple[Float[Tensor, "r c"], Float[Tensor, " p"]]:
    """Give sums over rays and weights of samples."""
    rays = len(first) - 1
    out = np.zeros((rays, values.shape[1]), np.float32)
    weight = np.empty(len(alpha), np.float32)
    inputs = (_array(alpha), _array(values), _array(first))
    run_jobs(_composite_kernel, _blocks(rays), *inputs, out, weight)
    return torch.from_numpy(out), torch.from_numpy(weight)


def composite_back(
    alpha: Float[Tensor, " p"],
    values: Float[Tensor, "p c"],
    first: Int[Tensor, " r1"],
    on_out: Float[Tensor, "r c"],
    on_weight: Float[Tensor, " p"],
) -> tuple[Float[Tensor, " p"], Float[Tensor, "p c"]]:
    """Give the gradients by alpha and values."""
    inputs = tuple(_array(part) for part in (alpha, values, first, on_out, on_weight))
    on_alpha, on_values = np.empty_like(inputs[0]), np.empty_like(inputs[1])
    run_jobs(_composite_back_kernel, _blocks(len(first) - 1), *inputs, on_alpha, on_values)
    return torch.from_numpy(on_alpha), torch.from_numpy(on_values)


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.numpy())


def _blocks(rays: int) -> int:
    return -(-rays // _BLOCK)


@njit(forceinline=True)
def _between(origin, direction, half, near, far):  # noqa: ANN001, ANN202
    """Cut a stretch of a ray to the slab of one axis."""
    safe = _TINY if abs(direction) < _TINY else direction
    one, other = (-half - origin) / safe, (half - origin) / safe
    return max(near, min(one, other)), min(far, max(one, other))


@njit
def _march_kernel(  # noqa: ANN202, PLR0913
    first_job,  # noqa: ANN001
    last_job,  # noqa: ANN001
    origin,  # noqa: ANN001
    direction,  # noqa: ANN001
    shift,  # noqa: ANN001
    full,  # noqa: ANN001
    half,  # noqa: ANN001
    step,  # noqa: ANN001
    table,  # noqa: ANN001
    found,  # noqa: ANN001
):
    side, most = full.shape[0], table.shape[1]
    cells = _F(side) / (half + half)
    for r in range(first_job * _BLOCK, min(last_job * _BLOCK, len(origin))):
        ox, oy, oz = origin[r, 0], origin[r, 1], origin[r, 2]
        dx, dy, dz = direction[r, 0], direction[r, 1], direction[r, 2]
        near, far = _between(ox, dx, half, _ZERO, _F(1e30))
        near, far = _between(oy, dy, half, near, far)
        near, far = _between(oz, dz, half, near, far)
        count = 0
        for k in range(most):
            t = near + (_F(k) + shift[r]) * step
            if not t < far:
                break
            x = min(max(int((ox + t * dx + half) * cells), 0), side - 1)
            y = min(max(int((oy + t * dy + half) * cells), 0), side - 1)
            z = min(max(int((oz + t * dz + half) * cells), 0), side - 1)
            if full[x, y, z]:
                table[r, count] = t
                count += 1
        found[r] = count


@njit
def _pack_kernel(first_job, last_job, table, first, distance, ray):  # noqa: ANN001, ANN202
    for r in range(first_job * _BLOCK, min(last_job * _BLOCK, len(table))):
        begin = first[r]
        for k in range(first[r + 1] - begin):
            distance[begin + k] = table[r, k]
            ray[begin + k] = r


@njit
def _composite_kernel(first_job, last_job, alpha, values, first, out, weight):  # noqa: ANN001, ANN202
    for r in range(first_job * _BLOCK, min(last_job * _BLOCK, len(first) - 1)):
        through = _ONE
        for p in range(first[r], first[r + 1]):
            w = through * alpha[p]
            weight[p] = w
            for c in range(values.shape[1]):
                out[r, c] += w * values[p, c]
            through *= _ONE - alpha[p]


@njit
def _composite_back_kernel(  # noqa: ANN202, PLR0913
    first_job,  # noqa: ANN001
    last_job,  # noqa: ANN001
    alpha,  # noqa: ANN001
    values,  # noqa: ANN001
    first,  # noqa: ANN001
    on_out,  # noqa: ANN001
    on_weight,  # noqa: ANN001
    on_alpha,  # noqa: ANN001
    on_values,  # noqa: ANN001
):
    for r in range(first_job * _BLOCK, min(last_job * _BLOCK, len(first) - 1)):
        through = _ONE
        for p in range(first[r], first[r + 1]):
            on_alpha[p] = through  # kept here until the way back
            through *= _ONE - alpha[p]
        # What the samples behind add, were they not hidden by this one and those before it. No
        # division by 1 - alpha: it is 0 at opaque samples.
        behind = _ZERO
        for back in range(first[r + 1] - first[r]):
            p = first[r + 1] - 1 - back
            own = on_weight[p]
            for c in range(values.shape[1]):
                own += on_out[r, c] * values[p, c]
                on_values[p, c] = on_alpha[p] * alpha[p] * on_out[r, c]
            on_alpha[p] *= own - behind
            behind = alpha[p] * own + (_ONE - alpha[p]) * behind
