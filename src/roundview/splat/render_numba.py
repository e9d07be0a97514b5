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
from ..kernels import Memory, run_jobs
from ..views import Views
from . import pairs_numba as pairs
from . import project_numba as project
from . import tiles_numba as tiles
from .render import ALPHA_MIN


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
        # torch's exponential and logarithm are vectorised, those within a kernel are not.
        opacity = opacity_logit.sigmoid()
        power = torch.log(opacity / ALPHA_MIN)
        ctx.save_for_backward(centre, log_scale.exp(), quat_wxyz, opacity, power, sh)
        fields = arrays(*ctx.to_save)
        ctx.scene = Scene(
            arrays(camera_rows(cameras))[0], cameras.size_hw, np.array(background, np.float32)
        )
        ctx.drawn, pictures = draw(fields, ctx.scene)
        rgb, alpha, depth = (torch.from_numpy(picture) for picture in pictures)
        return rgb, alpha, depth

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  the decorator hides names
        ctx: Any,  # noqa: ANN401
        *d_pictures: Tensor,
    ) -> tuple[Tensor | None, ...]:
        fields = arrays(*ctx.saved_tensors)
        gradients = draw_backward(fields, ctx.scene, ctx.drawn, arrays(*d_pictures))
        return *(torch.from_numpy(gradient) for gradient in gradients), None, None


@dataclass(frozen=True, eq=False)
class Scene:
    """What the kernels know of the cameras: a row of 16 numbers each; and the background."""

    cameras: np.ndarray
    size_hw: tuple[int, int]
    background: np.ndarray


@dataclass(frozen=True, eq=False)
class Drawn:
    """What the way back needs of the way there; see the kernels for the arrays.

    Attributes:
        kept: records, bounds, list, background, light.
        slot_of: First slot of each ellipse, and count of its slots.
        slots: Number of all slots.
        memory: Where the arrays lie.
    """

    kept: tuple[np.ndarray, ...]
    slot_of: tuple[np.ndarray, np.ndarray]
    slots: int
    memory: Memory


def arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    """Give tensors on the CPU to kernels, contiguous."""
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


def camera_rows(cameras: Cameras) -> Float[Tensor, "n 16"]:
    """Say in a row for each camera what `project_kernel` knows of it; differentiable."""
    pose = cameras.camera_from_world
    parts = [pose[:, :3, :3].flatten(1), pose[:, :3, 3], cameras.origin, cameras.focal_px[:, None]]
    return torch.cat(parts, dim=1).to("cpu", torch.float32)


def draw(
    fields: tuple[np.ndarray, ...], scene: Scene
) -> tuple[Drawn, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Draw rgb, alpha and depth; `fields` are those of `project_kernel`."""
    n, g, (h, w) = len(scene.cameras), len(fields[0]), scene.size_hw
    memory = Memory()
    records = memory.empty((n, g, project.RECORD), np.float32)
    blocks = n * -(-g // project.BLOCK)
    view = (fields, scene.cameras, scene.size_hw)
    run_jobs(project.project_kernel, blocks, *view, records, at_least=8)
    slot_of, slots, bounds, listed = _sort_into_tiles(records, scene.size_hw, memory)
    light = memory.empty((n, bounds.shape[1], tiles.PLANES * pairs.SIDE**2), np.float32)
    kept = (records, bounds, listed, scene.background, light)
    rgb, alpha = np.empty((n, h, w, 3), np.float32), np.empty((n, h, w), np.float32)
    pictures = (rgb, alpha, np.empty_like(alpha))
    run_jobs(tiles.draw_kernel, n * bounds.shape[1], kept, pictures, at_least=32)
    return Drawn(kept, slot_of, slots, memory), pictures


def _sort_into_tiles(
    records: np.ndarray, size_hw: tuple[int, int], memory: Memory
) -> tuple[tuple[np.ndarray, np.ndarray], int, np.ndarray, np.ndarray]:
    """Give each ellipse its slots, count them all, and list the ellipses of each tile."""
    n, g = records.shape[:2]
    chunks = max(-(-g // pairs.CHUNK), 1)
    scratch = Memory()
    order, seen = scratch.empty((n, g), np.uint32), np.empty(n, np.int64)
    capacity = np.empty((n, chunks, 2), np.int64)
    both = (records, records.view(np.uint32))
    run_jobs(pairs.sort_kernel, n, both, order, seen, size_hw, capacity)
    starts = np.zeros((n * chunks + 1, 2), np.int64)
    np.cumsum(capacity.reshape(n * chunks, 2), axis=0, out=starts[1:])
    tile_count = -(-size_hw[0] // pairs.SIDE) * -(-size_hw[1] // pairs.SIDE)
    found = scratch.empty((int(starts[-1, 0]), 2), np.uint32)
    slot_of = (memory.empty((n, g), np.int64), memory.empty((n, g), np.int64))
    slot_of[1].fill(0)
    tile_counts = scratch.empty((n * chunks, tile_count), np.int64)
    tile_counts.fill(0)
    paired = (found, *slot_of, np.empty(n * chunks, np.int64), tile_counts)
    run_jobs(pairs.pair_kernel, n * chunks, records, order, seen, size_hw, starts, paired)
    cursors = scratch.empty(tile_counts.shape, np.int64)
    bounds = memory.empty((n, tile_count, 2), np.int64)
    run_jobs(pairs.cursor_kernel, n, starts, tile_counts, cursors, bounds, at_least=4)
    listed = memory.empty(found.shape, np.uint32)
    run_jobs(pairs.list_kernel, n * chunks, starts, paired, cursors, listed, at_least=2)
    return slot_of, int(starts[-1, 1]), bounds, listed


def draw_backward(
    fields: tuple[np.ndarray, ...],
    scene: Scene,
    drawn: Drawn,
    d_pictures: tuple[np.ndarray, ...],
) -> tuple[np.ndarray, ...]:
    """Give the gradients of the five tensors of `Gaussians`."""
    scratch = Memory()
    slots = scratch.empty((drawn.slots, project.SLOT), np.float32)
    rows = len(scene.cameras) * -(-scene.size_hw[0] // pairs.SIDE)
    run_jobs(tiles.draw_backward_kernel, rows, drawn.kept, d_pictures, slots)
    centre, scale, quat_wxyz, opacity, _, sh = fields
    gradients = tuple(np.empty_like(f) for f in (centre, scale, quat_wxyz, opacity, sh))
    run_jobs(
        project.project_backward_kernel,
        -(-len(centre) // project.BLOCK),
        fields,
        scene.cameras,
        scene.size_hw,
        (slots, *drawn.slot_of),
        gradients,
        at_least=4,
    )
    return gradients
