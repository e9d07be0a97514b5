"""The GPU renderer: Triton kernels as one PyTorch function. It needs no compiler but Triton's."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..camera import Cameras
from ..gaussians import Gaussians
from ..kernels_triton import is_interpreted, launch, on
from ..views import Views
from . import tiles_triton as tiles
from .colour_triton import sh_backward_kernel
from .pairs_triton import count_kernel, pair_kernel
from .project_back_triton import project_backward_kernel
from .project_triton import project_kernel
from .render import camera_numbers

# Chosen by us from the registers that the compiled kernels take on an H100 or H200 (sm_90), not by
# timing: `benchmarks/splat_gpu.py --tune` times others. The side of a tile must be the same in all.
PAIR = {"TILE": 16, "BLOCK": 64, "num_warps": 1}
"""Its loops go on until all ellipses of a program are done: one warp waits for no other."""
DRAW = {"TILE": 16, "CHUNK": 32, "num_warps": 2}
DRAW_BACKWARD = {"TILE": 16, "CHUNK": 32, "num_warps": 1}
SUM = {"BLOCK": 32, "CHUNK": 4, "num_warps": 4}
_BLOCK = 128


def render_gaussians_triton(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Views:
    """Draw Gaussians as `render_gaussians` does, on a GPU in float32.

    Differentiable, once, in every field of the Gaussians and in the cameras' pose and focal length.
    There are no atomics: the same input gives the same bytes, forward and backward.

    Raises:
        ValueError: If a tensor is not float32 on a GPU (or on the CPU, in Triton's interpreter),
            or if there are too many Gaussians and cameras.
    """
    fields = gaussians.tensors
    for field in fields:
        interpreted = field.device.type == "cpu" and is_interpreted(tiles.draw_kernel)
        if not (field.is_cuda or interpreted) or field.dtype != torch.float32:
            raise ValueError(
                f"backend 'triton' takes float32 tensors on a GPU, got {field.dtype} on "
                f"{field.device}; use backend='auto'"
            )
    if len(gaussians) * len(cameras) >= 2**31:
        raise ValueError(
            f"backend 'triton' takes fewer than 2^31 Gaussians times cameras, got {len(gaussians)} "
            f"times {len(cameras)}; draw a few cameras at a time"
        )
    rows = camera_numbers(cameras).to(gaussians.centre)
    scene = _Scene(cameras.size_hw, torch.tensor(background).to(gaussians.centre))
    rgb, alpha, depth = _Render.apply(*fields, rows, scene)
    return Views(rgb, alpha, cameras, depth=depth)


@dataclass(frozen=True, eq=False)
class _Scene:
    """What the kernels are told beside the Gaussians and the cameras."""

    size_hw: tuple[int, int]
    background: Float[Tensor, "3"]


class _Render(torch.autograd.Function):
    """Forward and backward of the renderer."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  torch's
        centre: Float[Tensor, "g 3"],
        log_scale: Float[Tensor, "g 3"],
        quat_wxyz: Float[Tensor, "g 4"],
        opacity_logit: Float[Tensor, " g"],
        sh: Float[Tensor, "g k 3"],
        cameras: Float[Tensor, "n 16"],
        scene: _Scene,
    ) -> tuple[Float[Tensor, "n h w 3"], Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
        inputs = (centre, log_scale, quat_wxyz, opacity_logit, sh, cameras)
        inputs = tuple(tensor.detach().contiguous() for tensor in inputs)
        n = len(cameras)
        with on(centre.device):
            records, depths = _project(inputs, scene)
            listed = _sort_into_tiles(records, depths, n, scene)
            rgb, alpha, depth, light = _draw(records, listed, n, scene)
        ctx.save_for_backward(*inputs, records, *listed, alpha, light)
        ctx.scene = scene
        return rgb, alpha, depth

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401  torch's
        *d_pictures: Tensor,
    ) -> tuple[Tensor | None, ...]:
        inputs, records, drawn = ctx.saved_tensors[:6], ctx.saved_tensors[6], ctx.saved_tensors[12:]
        listed = _Listed(*ctx.saved_tensors[7:12])
        d_pictures = tuple(gradient.contiguous() for gradient in d_pictures)
        with on(records.device):
            d_records = _draw_backward(records, listed, drawn, d_pictures, ctx.scene)
            ellipses = (records, d_records, listed.counts)
            of_cameras = ctx.needs_input_grad[5]
            gradients = _project_backward(inputs, ellipses, ctx.scene, of_cameras=of_cameras)
        return *gradients, None


class _Listed(NamedTuple):
    """Pairs of ellipse and tile.

    Attributes:
        ellipse: Ellipse of each pair, counted through all cameras; by tile, then by depth.
        slot: Slot of each pair; those of one ellipse are neighbours.
        bounds: Where the pairs of each tile begin, and where the last end.
        starts: First slot of each ellipse.
        counts: Slots of each ellipse; 0 for what is not drawn.
    """

    ellipse: Int[Tensor, " pairs"]
    slot: Int[Tensor, " pairs"]
    bounds: Int[Tensor, " tiles_and_one"]
    starts: Int[Tensor, " ng"]
    counts: Int[Tensor, " ng"]


def _project(
    inputs: tuple[Tensor, ...], scene: _Scene
) -> tuple[Float[Tensor, "ng 16"], Float[Tensor, " ng"]]:
    """Give the record and the depth of each ellipse; infinitely deep is what cannot be seen."""
    g, n = len(inputs[0]), len(inputs[5])
    records, depths = inputs[0].new_empty(n * g, 16), inputs[0].new_empty(n * g)
    programs = (triton.cdiv(g, _BLOCK), n)
    arguments = (*inputs, records, depths, g, *scene.size_hw)
    launch(project_kernel, programs, *arguments, TERMS=inputs[4].shape[1], BLOCK=_BLOCK)
    return records, depths


def _sort_into_tiles(
    records: Float[Tensor, "ng 16"], depths: Float[Tensor, " ng"], n: int, scene: _Scene
) -> _Listed:
    """List the ellipses of each tile by depth, equal depths by index.

    The ellipses are sorted by depth, then their pairs by tile, both stably. That is far less to
    move than pairs with a key of 64 bits: the tile's number fits into 16 bits, unless the pictures
    are many and large.
    """
    total, device = len(depths), records.device
    h, w = scene.size_hw
    tile_count = n * triton.cdiv(h, PAIR["TILE"]) * triton.cdiv(w, PAIR["TILE"])
    counts = torch.zeros(total, dtype=torch.int32, device=device)
    programs = (triton.cdiv(total, PAIR["BLOCK"]),)
    launch(count_kernel, programs, records, depths, counts, total, h, w, **PAIR)
    order = depths.sort(stable=True).indices
    sorted_counts = counts[order]
    ends = sorted_counts.cumsum(0)
    starts = torch.empty_like(ends).scatter_(0, order, ends - sorted_counts)
    # The one moment at which the processor waits for the GPU: how much to allocate?
    pairs = int(ends[-1]) if total else 0
    short = torch.int16 if tile_count < 2**15 else torch.int32
    keys = torch.full((pairs,), tile_count, dtype=short, device=device)
    owners = torch.empty(pairs, dtype=torch.int32, device=device)
    arguments = (records, order, ends, counts, keys, owners, total, max(total // max(n, 1), 1))
    launch(pair_kernel, programs, *arguments, h, w, **PAIR)
    keys, slot = keys.sort(stable=True)
    tile = torch.arange(tile_count, dtype=short, device=device)
    bounds = torch.zeros(tile_count + 1, dtype=torch.int64, device=device)
    bounds[1:] = torch.searchsorted(keys, tile, right=True)
    return _Listed(owners[slot], slot, bounds, starts, counts)


def _draw(
    records: Float[Tensor, "ng 16"], listed: _Listed, n: int, scene: _Scene
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give rgb, alpha and depth of the pictures, and the light that the way back needs."""
    shape = (n, *scene.size_hw)
    rgb, alpha = records.new_empty(*shape, 3), records.new_empty(shape)
    depth, light = torch.empty_like(alpha), records.new_empty(*shape, 4)
    arguments = (records, listed.ellipse, listed.bounds, scene.background)
    pictures = (rgb, alpha, depth, light)
    programs = (len(listed.bounds) - 1,)
    launch(tiles.draw_kernel, programs, *arguments, *pictures, *scene.size_hw, **DRAW)
    return pictures


def _draw_backward(
    records: Float[Tensor, "ng 16"],
    listed: _Listed,
    drawn: tuple[Tensor, ...],
    d_pictures: tuple[Tensor, ...],
    scene: _Scene,
) -> Float[Tensor, "ng 16"]:
    """Give the gradients of the records: moments, colour, depth, then padding."""
    slots = records.new_zeros(len(listed.slot), tiles.SLOT)
    arguments = (records, listed.ellipse, listed.slot, listed.bounds, scene.background)
    programs = (len(listed.bounds) - 1,)
    launch(
        tiles.draw_backward_kernel,
        programs,
        *arguments,
        *drawn,
        *d_pictures,
        slots,
        *scene.size_hw,
        **DRAW_BACKWARD,
    )
    d_records, total = torch.empty_like(records), len(records)
    programs = (triton.cdiv(total, SUM["BLOCK"]),)
    arguments = (slots, listed.starts, listed.counts, d_records, total)
    launch(tiles.sum_slots_kernel, programs, *arguments, **SUM)
    return d_records


def _project_backward(
    inputs: tuple[Tensor, ...],
    ellipses: tuple[Float[Tensor, "ng 16"], Float[Tensor, "ng 16"], Int[Tensor, " ng"]],
    scene: _Scene,
    *,
    of_cameras: bool,
) -> tuple[Tensor | None, ...]:
    """Give the gradients of the Gaussians' fields, and of the cameras' rows if wanted.

    `ellipses` are records, their gradients, and counts of pairs.
    """
    records, d_records, counts = ellipses
    centre, cameras, sh = inputs[0], inputs[5], inputs[4]
    g, n = len(centre), len(cameras)
    gradients = tuple(torch.empty_like(field) for field in inputs[:5])
    blocks = triton.cdiv(g, _BLOCK)
    d_cameras = cameras.new_zeros((blocks, n, 16) if of_cameras else (1,))
    constants = {"TERMS": sh.shape[1], "BLOCK": _BLOCK}
    launch(
        project_backward_kernel,
        (blocks,),
        *inputs,
        counts,
        records,
        d_records,
        *gradients[:4],
        d_cameras,
        n,
        g,
        *scene.size_hw,
        CAMERAS=of_cameras,
        **constants,
    )
    arguments = (centre, cameras, records, d_records, gradients[4], n, g)
    launch(sh_backward_kernel, (blocks,), *arguments, **constants)
    return *gradients, d_cameras.sum(dim=0) if of_cameras else None
