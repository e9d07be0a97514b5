"""GPU kernels of the mesh rasteriser: a z-buffer that keeps faces and barycentrics.

Twin of the reference in `raster.py`. The box round each projected face is cut into tiles of 8 x 8
pixels, and a program draws a few of these, whatever faces they belong to: so large faces and small
ones keep the GPU equally busy. The nearest face wins by an atomic minimum of 64 bits, depth above
index; a minimum does not depend on the order, so the same input gives the same bytes.
"""

# Triton infers the types of kernels, takes arrays one by one, and writes constants in capitals.
# ruff: noqa: ANN001, ANN201, ANN202, N803, PLR0913

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from ..camera import Cameras
from ..kernels_triton import jit, on
from ..mesh import Mesh
from .raster import NEAR, SLACK, SLACK_PX

_SLACK, _SLACK_PX = tl.constexpr(SLACK), tl.constexpr(SLACK_PX)
_SIDE = tl.constexpr(8)
_NOTHING = 2**63 - 1
# Chosen by us without a GPU at hand, to be tuned.
_FACES, _TILES, _PIXELS = 128, 8, 256


def rasterize_triton(
    mesh: Mesh, cameras: Cameras
) -> tuple[Int[Tensor, "n h w"], Float[Tensor, "n h w"], Float[Tensor, "n h w 2"]]:
    """Find the nearest face at every pixel centre, on a GPU.

    Returns:
        The face (int32, -1: none), its depth (0: none), and the perspective-correct barycentrics
        of its corners 1 and 2. Not differentiable.

    Raises:
        ValueError: If the mesh is not on a GPU (or on the CPU, in Triton's interpreter), or if
            there are too many faces and cameras.
    """
    vertices, faces = mesh.vertices.detach().float(), mesh.faces.contiguous()
    # Settled when the kernels were defined.
    compiled = isinstance(draw_kernel, triton.runtime.JITFunction)
    if not (vertices.is_cuda or (vertices.device.type == "cpu" and not compiled)):
        raise ValueError(f"the mesh must be on a GPU, it is on {vertices.device}; use raster.py")
    n, f, (h, w) = len(cameras), len(faces), cameras.size_hw
    if n * f >= 2**31:
        raise ValueError(f"{n} cameras times {f} faces must be below 2^31; draw fewer at a time")
    screen = _on_screen(vertices, cameras)
    keys = torch.full((n, h, w), _NOTHING, dtype=torch.int64, device=vertices.device)
    face_at = torch.empty((n, h, w), dtype=torch.int32, device=vertices.device)
    depth, bary = screen.new_empty(n, h, w), screen.new_empty(n, h, w, 2)
    with on(vertices.device):
        counts = torch.zeros(n * f, dtype=torch.int64, device=vertices.device)
        sizes = (len(vertices), f, h, w)
        if n * f > 0:
            grid = (triton.cdiv(n * f, _FACES),)
            count_kernel[grid](screen, faces, counts, n, *sizes, BLOCK=_FACES)
        ends = counts.cumsum(0)
        # The one moment at which the processor waits for the GPU.
        total = int(ends[-1]) if n * f > 0 else 0
        if total > 0:
            owners = torch.repeat_interleave(counts, output_size=total)
            starts, grid = ends - counts, (triton.cdiv(total, _TILES),)
            draw_kernel[grid](screen, faces, owners, starts, keys, total, *sizes, BLOCK=_TILES)
        if n > 0:
            grid = (triton.cdiv(keys.numel(), _PIXELS),)
            out = (face_at, depth, bary, keys.numel(), len(vertices))
            look_up_kernel[grid](screen, faces, keys, *out, h, w, BLOCK=_PIXELS)
    return face_at, depth, bary


def _on_screen(vertices: Float[Tensor, "v 3"], cameras: Cameras) -> Float[Tensor, "n v 3"]:
    """Pixel coordinates, and one over the depth: 0 for what is not before the camera."""
    h, w = cameras.size_hw
    pose = cameras.camera_from_world.to(vertices)
    focal = cameras.focal_px.to(vertices)[:, None]
    x, y, z = (
        (pose[:, k, None, :3] * vertices).sum(dim=-1) + pose[:, k, None, 3] for k in range(3)
    )
    inverse = torch.where(z > NEAR, 1 / z.clamp(min=NEAR), 0.0)
    pixel = [x * inverse * focal + 0.5 * w, y * inverse * focal + 0.5 * h, inverse]
    return torch.stack(pixel, dim=-1).contiguous()


@jit
def count_kernel(screen, faces, counts, n, v, f, h, w, BLOCK: tl.constexpr):
    """Count the tiles in the box of each face: n x f. A program is a block of faces."""
    e = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    here = e < n * f
    corners = _load_corners(screen, faces, e // f, e % f, here, v)
    first_x, last_x, first_y, last_y, drawn = _box(corners, h, w)
    across = last_x // _SIDE - first_x // _SIDE + 1
    down = last_y // _SIDE - first_y // _SIDE + 1
    tl.store(counts + e, tl.where(drawn, across * down, 0).to(tl.int64), mask=here)


@jit
def draw_kernel(screen, faces, owners, starts, keys, total, v, f, h, w, BLOCK: tl.constexpr):
    """Draw tiles of boxes. A program is a block of tiles."""
    j = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = j < total
    e = tl.load(owners + j, mask=here, other=0)
    within = (j - tl.load(starts + e, mask=here, other=0)).to(tl.int32)
    corners = _load_corners(screen, faces, e // f, e % f, here, v)
    first_x, last_x, first_y, last_y, drawn = _box(corners, h, w)
    across = tl.maximum(last_x // _SIDE - first_x // _SIDE + 1, 1)
    k = tl.arange(0, _SIDE * _SIDE)
    column = ((first_x // _SIDE + within % across) * _SIDE)[:, None] + (k % _SIDE)[None, :]
    row = ((first_y // _SIDE + within // across) * _SIDE)[:, None] + (k // _SIDE)[None, :]
    inside = (here & drawn)[:, None] & (column >= first_x[:, None]) & (column <= last_x[:, None])
    inside &= (row >= first_y[:, None]) & (row <= last_y[:, None])
    ax, ay, aw, bx, by, bw, cx, cy, cw = corners
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    area = tl.where(drawn, area, 1.0)
    extent = tl.abs(bx - ax) + tl.abs(by - ay) + tl.abs(cx - ax) + tl.abs(cy - ay)
    slack = -tl.minimum(_SLACK_PX * extent / tl.abs(area), _SLACK)[:, None]
    right = column.to(tl.float32) + 0.5 - ax[:, None]
    below = row.to(tl.float32) + 0.5 - ay[:, None]
    b = (right * (cy - ay)[:, None] - below * (cx - ax)[:, None]) / area[:, None]
    c = (below * (bx - ax)[:, None] - right * (by - ay)[:, None]) / area[:, None]
    a = 1.0 - b - c
    inside &= (a >= slack) & (b >= slack) & (c >= slack)
    inverse = a * aw[:, None] + b * bw[:, None] + c * cw[:, None]
    depth = 1.0 / tl.where(inside, inverse, 1.0)
    # Positive floats are ordered as their bits are.
    key = (depth.to(tl.int32, bitcast=True).to(tl.int64) << 32) | (e % f)[:, None]
    at = keys + ((e // f)[:, None] * h + row) * w + column
    # Nearer faces may already be there; that a look at them may come too early does no harm.
    inside &= key < tl.load(at, mask=inside, other=0)
    tl.atomic_min(at, key, mask=inside, sem="relaxed")


@jit
def look_up_kernel(
    screen, faces, keys, face_at, depths, barys, pixels, v, h, w, BLOCK: tl.constexpr
):
    """Turn keys into faces, depths and barycentrics. A program is a block of pixels."""
    pixel = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    here = pixel < pixels
    key = tl.load(keys + pixel, mask=here, other=0)
    # The depth of nothing would be NaN.
    covered = here & ((key >> 32) < 0x7F800000)
    face = tl.where(covered, key & 0xFFFFFFFF, 0)
    depth = (key >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    n_at = pixel // (h * w)
    corners = _load_corners(screen, faces, n_at, face, covered, v)
    ax, ay, _, bx, by, bw, cx, cy, cw = corners
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    area = tl.where(covered, area, 1.0)
    right = (pixel % w).to(tl.float32) + 0.5 - ax
    below = (pixel // w % h).to(tl.float32) + 0.5 - ay
    b = (right * (cy - ay) - below * (cx - ax)) / area * bw * depth
    c = (below * (bx - ax) - right * (by - ay)) / area * cw * depth
    tl.store(face_at + pixel, tl.where(covered, face, -1).to(tl.int32), mask=here)
    tl.store(depths + pixel, tl.where(covered, depth, 0.0), mask=here)
    tl.store(barys + 2 * pixel, tl.where(covered, b, 0.0), mask=here)
    tl.store(barys + 2 * pixel + 1, tl.where(covered, c, 0.0), mask=here)


@jit
def _load_corners(screen, faces, n_at, face, here, v):
    """Pixel coordinates and inverse depths of the three corners of faces: nine blocks."""
    a = screen + 3 * (n_at * v + tl.load(faces + 3 * face, mask=here, other=0))
    b = screen + 3 * (n_at * v + tl.load(faces + 3 * face + 1, mask=here, other=0))
    c = screen + 3 * (n_at * v + tl.load(faces + 3 * face + 2, mask=here, other=0))
    return (
        tl.load(a, mask=here, other=0.0),
        tl.load(a + 1, mask=here, other=0.0),
        tl.load(a + 2, mask=here, other=0.0),
        tl.load(b, mask=here, other=0.0),
        tl.load(b + 1, mask=here, other=0.0),
        tl.load(b + 2, mask=here, other=0.0),
        tl.load(c, mask=here, other=0.0),
        tl.load(c + 1, mask=here, other=0.0),
        tl.load(c + 2, mask=here, other=0.0),
    )


@jit
def _box(corners, h, w):
    """First and last column and row of a face's pixels, and whether there are any."""
    ax, ay, aw, bx, by, bw, cx, cy, cw = corners
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    left = tl.maximum(tl.ceil(tl.minimum(tl.minimum(ax, bx), cx) - 0.5), 0.0)
    right = tl.minimum(tl.floor(tl.maximum(tl.maximum(ax, bx), cx) - 0.5), w - 1.0)
    top = tl.maximum(tl.ceil(tl.minimum(tl.minimum(ay, by), cy) - 0.5), 0.0)
    bottom = tl.minimum(tl.floor(tl.maximum(tl.maximum(ay, by), cy) - 0.5), h - 1.0)
    drawn = (left <= right) & (top <= bottom) & (tl.abs(area) >= 1e-12)
    drawn &= (aw > 0.0) & (bw > 0.0) & (cw > 0.0)
    # What is not drawn gets an empty box of numbers that fit.
    return (
        tl.where(drawn, left, 0.0).to(tl.int32),
        tl.where(drawn, right, -1.0).to(tl.int32),
        tl.where(drawn, top, 0.0).to(tl.int32),
        tl.where(drawn, bottom, -1.0).to(tl.int32),
        drawn,
    )
