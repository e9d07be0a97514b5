"""The CPU renderer: kernels of `project_numba.py` and `tiles_numba.py` as one PyTorch function."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..camera import Cameras
from ..gaussians import Gaussians
from ..kernels import launching
from ..views import Views
from . import pairs_numba as pairs
from . import project_numba as project
from . import tiles_numba as tiles


def render_gaussians_numba(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Views:
    """Draw Gaussians as `render_gaussians` does, on the CPU in float32.

    The result does not depend on the number of threads, to the last bit.

    Raises:
        ValueError: If a tensor is not float32 on the CPU.
    """
    fields = (
        gaussians.centre,
        gaussians.log_scale,
        gaussians.quat_wxyz,
        gaussians.opacity_logit,
        gaussians.sh,
    )
    for field in fields:
        if field.device.type != "cpu" or field.dtype != torch.float32:
            raise ValueError(
                f"backend 'numba' takes float32 tensors on the CPU, got {field.dtype} on "
                f"{field.device}; use backend='reference'"
            )
    rgb, alpha, depth = _Render.apply(*fields, cameras, background)
    return Views(rgb, alpha, cameras, depth=depth)


class _Render(torch.autograd.Function):
    """Forward and backward of the renderer; the cameras get no gradient."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        centre: Float[Tensor, "g 3"],
        log_scale: Float[Tensor, "g 3"],
        quat_wxyz: Float[Tensor, "g 4"],
        opacity_logit: Float[Tensor, " g"],
        sh: Float[Tensor, "g k 3"],
        cameras: Cameras,
        background: tuple[float, float, float],
    ) -> tuple[Float[Tensor, "n h w 3"], Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
        ctx.save_for_backward(centre, log_scale, quat_wxyz, opacity_logit, sh)
        fields = _arrays(centre, log_scale, quat_wxyz, opacity_logit, sh)
        ctx.scene = _Scene(_camera_rows(cameras), cameras.size_hw, np.array(background, np.float32))
        with launching():
            ctx.drawn, pictures = _draw(fields, ctx.scene)
        rgb, alpha, depth = (torch.from_numpy(picture) for picture in pictures)
        return rgb, alpha, depth

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  the decorator hides names
        ctx: Any,  # noqa: ANN401
        *d_pictures: Tensor,
    ) -> tuple[Tensor | None, ...]:
        fields = _arrays(*ctx.saved_tensors)
        with launching():
            gradients = _draw_backward(fields, ctx.scene, ctx.drawn, _arrays(*d_pictures))
        return *(torch.from_numpy(gradient) for gradient in gradients), None, None


@dataclass(frozen=True, eq=False)
class _Scene:
    """What the kernels know of the cameras: a row of 16 numbers each; and the background."""

    cameras: np.ndarray
    size_hw: tuple[int, int]
    background: np.ndarray


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What the way back needs of the way there; see the kernels for the arrays."""

    records: np.ndarray
    first: np.ndarray
    count: np.ndarray
    bounds: np.ndarray
    listed: np.ndarray
    slots: int
    light: np.ndarray


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


def _camera_rows(cameras: Cameras) -> np.ndarray:
    pose = cameras.camera_from_world
    parts = [pose[:, :3, :3].flatten(1), pose[:, :3, 3], cameras.origin, cameras.focal_px[:, None]]
    return torch.cat(parts, dim=1).detach().to("cpu", torch.float32).contiguous().numpy()


def _aligned(*shape: int) -> np.ndarray:
    """An empty float32 array that begins with a line of the processor's cache, as torch's do."""
    return torch.empty(shape, dtype=torch.float32).numpy()


def _draw(
    fields: tuple[np.ndarray, ...], scene: _Scene
) -> tuple[_Drawn, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    n, (h, w) = len(scene.cameras), scene.size_hw
    records = _aligned(n, len(fields[0]), project.RECORD)
    project.project_kernel(fields, scene.cameras, scene.size_hw, records)
    first, count, bounds, listed, slots = _sort_into_tiles(records, scene.size_hw)
    light = _aligned(n, bounds.shape[1], tiles.PLANES * pairs.SIDE**2)
    rgb, alpha = np.empty((n, h, w, 3), np.float32), np.empty((n, h, w), np.float32)
    pictures = (rgb, alpha, np.empty_like(alpha))
    tiles.draw_kernel(records, bounds, listed, scene.background, light, pictures)
    return _Drawn(records, first, count, bounds, listed, slots, light), pictures


def _sort_into_tiles(
    records: np.ndarray, size_hw: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Give each ellipse's first slot and count of slots; the tiles' bounds and list; all slots."""
    n, g = records.shape[:2]
    order, seen = np.empty((n, g), np.uint32), np.empty(n, np.int64)
    pairs.sort_kernel(records.view(np.uint32), order, seen)
    jobs = n * max(-(-g // pairs.CHUNK), 1)
    capacity = np.empty((jobs, 2), np.int64)
    pairs.capacity_kernel(records, order, seen, size_hw, capacity)
    starts = np.concatenate([np.zeros((1, 2), np.int64), capacity.cumsum(axis=0)])
    first, count = np.zeros((n, g), np.int64), np.zeros((n, g), np.int64)
    tile_count = -(-size_hw[0] // pairs.SIDE) * -(-size_hw[1] // pairs.SIDE)
    found = np.empty((int(starts[-1, 0]), 2), np.uint32)
    ends, tile_counts = np.empty(jobs, np.int64), np.zeros((jobs, tile_count), np.int64)
    paired = (found, first, count, ends, tile_counts)
    pairs.pair_kernel(records, order, seen, size_hw, starts, paired)
    bounds, listed = np.empty((n, tile_count, 2), np.int64), np.empty_like(found)
    pairs.list_kernel(starts, paired, np.empty_like(tile_counts), bounds, listed)
    return first, count, bounds, listed, int(starts[-1, 1])


def _draw_backward(
    fields: tuple[np.ndarray, ...],
    scene: _Scene,
    drawn: _Drawn,
    d_pictures: tuple[np.ndarray, ...],
) -> tuple[np.ndarray, ...]:
    slots = _aligned(drawn.slots, project.SLOT)
    tiles.draw_backward_kernel(
        drawn.records, drawn.bounds, drawn.listed, scene.background, drawn.light, d_pictures, slots
    )
    gradients = tuple(np.empty_like(field) for field in fields)
    paired = (slots, drawn.first, drawn.count)
    project.project_backward_kernel(fields, scene.cameras, scene.size_hw, paired, gradients)
    return gradients
