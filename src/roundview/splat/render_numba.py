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
from .render import ALPHA_MIN, camera_numbers


def render_gaussians_numba(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Views:
    """Draw Gaussians as `render_gaussians` does, on the CPU in float32.

    Differentiable in the Gaussians, and in poses and focal lengths of the cameras. The result does
    not depend on the number of threads, to the last bit.

    Raises:
        ValueError: If a tensor is not float32 on the CPU.
    """
    fields = taken(gaussians)
    rgb, alpha, depth = _Render.apply(*fields, camera_rows(cameras), (cameras.size_hw, background))
    return Views(rgb, alpha, cameras, depth=depth)


class _Render(torch.autograd.Function):
    """Forward and backward of the renderer."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        centre: Float[Tensor, "g 3"],
        log_scale: Float[Tensor, "g 3"],
        quat_wxyz: Float[Tensor, "g 4"],
        opacity_logit: Float[Tensor, " g"],
        sh: Float[Tensor, "g k 3"],
        cameras: Float[Tensor, "n 16"],
        rest: tuple[tuple[int, int], tuple[float, float, float]],
    ) -> tuple[Float[Tensor, "n h w 3"], Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
        gaussians = Gaussians(centre, log_scale, quat_wxyz, opacity_logit, sh)
        ctx.save_for_backward(*activated(gaussians))
        fields = arrays(*ctx.to_save)
        ctx.scene = Scene(arrays(cameras)[0], rest[0], np.array(rest[1], np.float32))
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
        gradients = draw_backward(
            fields, ctx.scene, ctx.drawn, arrays(*d_pictures), by_camera=ctx.needs_input_grad[5]
        )
        return *(torch.from_numpy(gradient) for gradient in gradients), None


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


def activated(gaussians: Gaussians) -> tuple[Tensor, ...]:
    """Give what `project_kernel` takes.

    torch's exponential and logarithm are vectorised, those within a kernel are not.
    """
    opacity = gaussians.opacity
    power = torch.log(opacity / ALPHA_MIN)
    return gaussians.centre, gaussians.scale, gaussians.quat_wxyz, opacity, power, gaussians.sh


def taken(gaussians: Gaussians) -> tuple[Tensor, ...]:
    """Give the fields, if kernels can take them.

    Raises:
        ValueError: If a tensor is not float32 on the CPU.
    """
    for field in gaussians.tensors:
        if field.device.type != "cpu" or field.dtype != torch.float32:
            raise ValueError(
                f"backend 'numba' takes float32 tensors on the CPU, got {field.dtype} on "
                f"{field.device}; use backend='reference'"
            )
    return gaussians.tensors


def arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    """Give tensors on the CPU to kernels, contiguous."""
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


def camera_rows(cameras: Cameras) -> Float[Tensor, "n 16"]:
    """Say in a row for each camera what `project_kernel` knows of it; differentiable."""
    poses, focal_px = cameras.world_from_camera, cameras.focal_px
    if poses.device.type == "cpu" and not (poses.requires_grad or focal_px.requires_grad):
        # The same by numpy, whose calls cost a fraction of torch's.
        turn, origin = poses.numpy()[:, :3, :3].transpose(0, 2, 1), poses.numpy()[:, :3, 3:]
        shift, n = -turn @ origin, len(cameras)
        rows = [turn.reshape(n, 9), shift[..., 0], origin[..., 0], focal_px.numpy()[:, None]]
        return torch.from_numpy(np.concatenate(rows, axis=1).astype(np.float32))
    return camera_numbers(cameras).to("cpu", torch.float32)


def draw(
    fields: tuple[np.ndarray, ...], scene: Scene
) -> tuple[Drawn, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Draw rgb, alpha and depth; `fields` are those of `project_kernel`."""
    n, (h, w) = len(scene.cameras), scene.size_hw
    memory = Memory()
    found = list_ellipses(fields, scene, memory)
    tile_count = found.bounds.shape[1]
    light = memory.empty((n, tile_count, tiles.PLANES * pairs.SIDE**2), np.float32)
    kept = (found.records, found.bounds, found.pairs, scene.background, light)
    rgb, alpha = np.empty((n, h, w, 3), np.float32), np.empty((n, h, w), np.float32)
    pictures = (rgb, alpha, np.empty_like(alpha))
    run_jobs(tiles.draw_kernel, n * tile_count, kept, pictures, at_least=32)
    return Drawn(kept, found.slot_of, found.slots, memory), pictures


@dataclass(frozen=True, eq=False)
class Listed:
    """The ellipses of each tile, nearest first; see the kernels for the arrays.

    Attributes:
        records: Of all ellipses.
        bounds: Where each tile's pairs begin and end.
        pairs: What lies in which tile.
        slot_of: First slot of each ellipse, and count of its slots.
        slots: Number of all slots.
    """

    records: np.ndarray
    bounds: np.ndarray
    pairs: np.ndarray
    slot_of: tuple[np.ndarray, np.ndarray]
    slots: int


def list_ellipses(fields: tuple[np.ndarray, ...], scene: Scene, memory: Memory) -> Listed:
    """Project Gaussians and find the tiles that each reaches; the arrays lie in `memory`."""
    n, g = len(scene.cameras), len(fields[0])
    records = memory.empty((n, g, project.RECORD), np.float32)
    blocks = n * -(-g // project.BLOCK)
    view = (fields, scene.cameras, scene.size_hw)
    run_jobs(project.project_kernel, blocks, *view, records, at_least=8)
    slot_of, slots, bounds, listed = _sort_into_tiles(records, scene.size_hw, memory)
    return Listed(records, bounds, listed, slot_of, slots)


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
    *,
    by_camera: bool = False,
) -> tuple[np.ndarray, ...]:
    """Give the gradients of the five tensors of `Gaussians`, and of the rows of the cameras.

    The last is 0 unless it is asked for.
    """
    scratch = Memory()
    slots = scratch.empty((drawn.slots, project.SLOT), np.float32)
    rows = len(scene.cameras) * -(-scene.size_hw[0] // pairs.SIDE)
    run_jobs(tiles.draw_backward_kernel, rows, drawn.kept, d_pictures, slots)
    centre, scale, quat_wxyz, opacity, _, sh = fields
    blocks = -(-len(centre) // project.BLOCK)
    d_cameras = np.empty((blocks if by_camera else 0, *scene.cameras.shape), np.float32)
    gradients = tuple(np.empty_like(f) for f in (centre, scale, quat_wxyz, opacity, sh))
    run_jobs(
        project.project_backward_kernel,
        blocks,
        fields,
        scene.cameras,
        scene.size_hw,
        (slots, *drawn.slot_of),
        (*gradients, d_cameras),
        at_least=4,
    )
    return *gradients, d_cameras.sum(axis=0, dtype=np.float64).astype(np.float32)
