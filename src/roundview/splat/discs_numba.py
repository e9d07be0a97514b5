"""The CPU renderer of discs: the kernels of `discs_*_numba.py` as one PyTorch function."""

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
from . import discs_back_numba as back
from . import discs_gradient_numba as gradient
from . import discs_project_numba as project
from . import discs_tiles_numba as tiles
from . import pairs_numba as pairs
from .discs import Discs, unit_or_zero
from .project_numba import RECORD
from .render import ALPHA_MIN
from .render_numba import (
    Drawn,
    Scene,
    _sort_into_tiles,  # pyright: ignore[reportPrivateUsage]  covers are ellipses like others
    arrays,
    camera_rows,
    taken,
)


def render_discs_numba(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Discs:
    """Draw discs as `render_discs` does, on the CPU in float32.

    The result does not depend on the number of threads, to the last bit.

    Raises:
        ValueError: If a tensor is not float32 on the CPU.
    """
    fields = taken(gaussians)
    rgb, normal, alpha, depth, median, distortion = _Render.apply(*fields, cameras, background)
    views = Views(rgb, alpha, cameras, depth=depth, normal=unit_or_zero(normal))
    return Discs(views, median, distortion)


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
    ) -> tuple[Tensor, ...]:
        # torch's exponential and logarithm are vectorised, those within a kernel are not.
        opacity = opacity_logit.sigmoid()
        power = torch.log(opacity / ALPHA_MIN)
        ctx.save_for_backward(centre, log_scale.exp(), quat_wxyz, opacity, power, sh)
        fields = arrays(*ctx.to_save)
        ctx.scene = Scene(
            arrays(camera_rows(cameras))[0], cameras.size_hw, np.array(background, np.float32)
        )
        ctx.drawn, pictures = _draw(fields, ctx.scene)
        return tuple(torch.from_numpy(picture) for picture in pictures)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  the decorator hides names
        ctx: Any,  # noqa: ANN401
        *d_pictures: Tensor,
    ) -> tuple[Tensor | None, ...]:
        fields = arrays(*ctx.saved_tensors)
        gradients = _draw_backward(fields, ctx.scene, ctx.drawn, arrays(*d_pictures))
        return *(torch.from_numpy(one) for one in gradients), None, None


def _draw(fields: tuple[np.ndarray, ...], scene: Scene) -> tuple[Drawn, tuple[np.ndarray, ...]]:
    n, g, (h, w) = len(scene.cameras), len(fields[0]), scene.size_hw
    memory, scratch = Memory(), Memory()
    plates = memory.empty((n, g, project.PLATE), np.float32)
    covers = scratch.empty((n, g, RECORD), np.float32)
    blocks = n * -(-g // project.BLOCK)
    view = (fields, scene.cameras, scene.size_hw)
    run_jobs(project.plate_kernel, blocks, *view, plates, covers, at_least=6)
    slot_of, slots, bounds, listed = _sort_into_tiles(covers, scene.size_hw, memory)
    light = memory.empty((n, bounds.shape[1], tiles.PLANES * pairs.SIDE**2), np.float32)
    kept = (plates, bounds, listed, scene.background, light)
    shapes = [(n, h, w, 3)] * 2 + [(n, h, w)] * 4
    pictures = tuple(np.empty(shape, np.float32) for shape in shapes)
    run_jobs(tiles.draw_discs_kernel, n * bounds.shape[1], kept, pictures, at_least=16)
    return Drawn(kept, slot_of, slots, memory), pictures


def _draw_backward(
    fields: tuple[np.ndarray, ...],
    scene: Scene,
    drawn: Drawn,
    d_pictures: tuple[np.ndarray, ...],
) -> tuple[np.ndarray, ...]:
    scratch = Memory()
    slots = scratch.empty((drawn.slots, gradient.SLOT), np.float32)
    rows = len(scene.cameras) * -(-scene.size_hw[0] // pairs.SIDE)
    run_jobs(back.draw_discs_backward_kernel, rows, drawn.kept, d_pictures, slots)
    centre, scale, quat_wxyz, opacity, _, sh = fields
    gradients = tuple(np.empty_like(f) for f in (centre, scale, quat_wxyz, opacity, sh))
    gradients[1][:, 2] = 0  # A disc has no thickness to change.
    run_jobs(
        gradient.plate_backward_kernel,
        -(-len(centre) // project.BLOCK),
        fields,
        scene.cameras,
        (slots, *drawn.slot_of),
        gradients,
        at_least=4,
    )
    return gradients
