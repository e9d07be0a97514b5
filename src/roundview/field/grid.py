"""Encodings of places: a multiresolution hash grid, and frequencies.

Müller et al., "Instant Neural Graphics Primitives with a Multiresolution Hash Encoding", 2022,
section 3. The order of the numbers and the hash are those of tiny-cuda-nn, so that its tables fit.
"""

import math
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.autograd.function import once_differentiable

_PRIMES = (1, 2654435761, 805459861)  # section 3, eq. 4
_WORD = 0xFFFFFFFF
_CORNERS = [(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1)]


@dataclass(frozen=True)
class GridSettings:
    """Size of a hash grid; the defaults are Magic3D's (and threestudio's).

    Attributes:
        levels: Grids of growing resolution.
        features: Numbers at each node; even.
        log2_table: Logarithm of the nodes that a level keeps at most; finer levels share them.
        coarsest: Cells along a side at the first level.
        finest: At the last.
    """

    levels: int = 16
    features: int = 2
    log2_table: int = 19
    coarsest: int = 16
    finest: int = 4096

    def __post_init__(self) -> None:
        """Refuse a grid without content."""
        if min(self.levels, self.features, self.log2_table) < 1 or self.coarsest < 2:
            raise ValueError(f"a grid needs levels, features and a table, got {self}")
        if self.features % 2:
            raise ValueError(f"features must be even, got {self.features}")
        if self.finest < self.coarsest:
            raise ValueError(f"finest must be at least coarsest, got {self.finest}")


@dataclass(frozen=True, eq=False)
class GridLayout:
    """Where the nodes of each level lie in the table.

    Attributes:
        scale: Cells along a side, less one, a level; float32.
        resolution: Nodes along a side.
        first: Row of the first node of each level, and the number of rows as one more entry.
    """

    scale: np.ndarray
    resolution: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, settings: GridSettings) -> "GridLayout":
        """Lay the levels one after another, each filled up to a multiple of 8 nodes."""
        ratio = settings.finest / settings.coarsest
        growth = math.log2(ratio) / max(1, settings.levels - 1)
        scale = np.array(
            [settings.coarsest * 2 ** (level * growth) - 1 for level in range(settings.levels)],
            np.float32,
        )
        resolution = np.ceil(scale).astype(np.int64) + 1
        rows = np.minimum((resolution**3 + 7) // 8 * 8, 1 << settings.log2_table)
        return cls(scale, resolution, np.concatenate([[0], np.cumsum(rows)]))


class HashGrid(nn.Module):
    """Features of places in the unit cube, linear between the nodes of each level.

    Attributes:
        table: Numbers of all nodes, level by level; uniform in +-1e-4 at first.
        active: Levels in use; the features of the others are 0, so that a fit can begin coarse.
    """

    def __init__(self, settings: GridSettings, rng: Generator) -> None:
        super().__init__()
        self.settings, self.layout = settings, GridLayout.of(settings)
        rows = int(self.layout.first[-1])
        first = torch.rand(rows, settings.features, generator=rng, device=rng.device)
        self.table = nn.Parameter((first * 2 - 1) * 1e-4)
        self.active = settings.levels

    @property
    def width(self) -> int:
        """Count the features of a place."""
        return self.settings.levels * self.settings.features

    def forward(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, "p c"]:
        """Give the features of points; those outside the unit cube count as at its border.

        Differentiable in the table and, by its slope, in the points.
        """
        kernels = kernels_for(points, self.table)
        if kernels is not None:
            return _Encoded.apply(points, self.table, self.layout, self.active, kernels)
        return encode_reference(points, self.table, self.layout, self.active)

    def slope(
        self, points: Float[Tensor, "p 3"], upstream: Float[Tensor, "p c"]
    ) -> Float[Tensor, "p 3"]:
        """Give the gradient of `(forward(points) * upstream).sum()` by the points.

        Itself differentiable in the table and in `upstream`, not in the points: normals of a field
        can so be part of a loss.
        """
        kernels = kernels_for(points, self.table)
        if kernels is not None:
            return _Slope.apply(points, self.table, upstream, self.layout, self.active, kernels)
        return slope_reference(points, self.table, upstream, self.layout, self.active)


def encode_reference(
    points: Float[Tensor, "p 3"], table: Float[Tensor, "r f"], layout: GridLayout, active: int
) -> Float[Tensor, "p c"]:
    """Say what the kernels must compute: eight nodes a level, weighed trilinearly."""
    parts = []
    inside = points.clamp(0, 1)
    for level, scale in enumerate(layout.scale.tolist()):
        if level >= active:
            parts.append(torch.zeros(len(points), table.shape[1]).to(table))
            continue
        place = inside * scale + 0.5
        lowest = place.detach().floor()
        share = place - lowest
        feature = torch.zeros(len(points), table.shape[1]).to(table)
        for corner in _CORNERS:
            upper = torch.tensor(corner, device=points.device)
            weight = torch.where(upper.bool(), share, 1 - share).prod(dim=1, keepdim=True)
            feature = feature + weight * table[_rows(lowest.long() + upper, layout, level)]
        parts.append(feature)
    return torch.cat(parts, dim=1)


def slope_reference(
    points: Float[Tensor, "p 3"],
    table: Float[Tensor, "r f"],
    upstream: Float[Tensor, "p c"],
    layout: GridLayout,
    active: int,
) -> Float[Tensor, "p 3"]:
    """Say what `HashGrid.slope` must compute, by autograd of the reference."""
    with torch.enable_grad():
        at = points.detach().requires_grad_()
        product = (encode_reference(at, table, layout, active) * upstream).sum()
        (slope,) = torch.autograd.grad(product, [at], create_graph=True)
    return slope


def frequency_encoding(points: Float[Tensor, "p d"], bands: int) -> Float[Tensor, "p c"]:
    """Give sines and cosines of points at frequencies pi, 2 pi, 4 pi and so on.

    Mildenhall et al., "NeRF: Representing Scenes as Neural Radiance Fields for View Synthesis",
    2020, eq. 4.

    Returns:
        All sines of the first band, its cosines, then the next band.
    """
    angle = [points * (math.pi * 2**band) for band in range(bands)]
    return torch.cat([wave for a in angle for wave in (a.sin(), a.cos())], dim=1)


def _rows(corner: Tensor, layout: GridLayout, level: int) -> Tensor:
    """Find the rows of nodes in the table: in order where they all fit, else by the hash."""
    side, first = int(layout.resolution[level]), int(layout.first[level])
    rows = int(layout.first[level + 1]) - first
    x, y, z = corner.unbind(dim=1)
    if side**3 <= rows:
        return first + (x + y * side + z * side * side) % rows
    mixed = x & _WORD
    for part, prime in zip((y, z), _PRIMES[1:], strict=True):
        mixed = mixed ^ ((part * prime) & _WORD)
    return first + mixed % rows


def kernels_for(points: Tensor, table: Tensor) -> ModuleType | None:
    """Give the kernels for where tensors lie: `grid_numba`, `grid_triton`, or none."""
    if not points.dtype == table.dtype == torch.float32:
        return None
    if points.device.type == "cpu":
        from . import grid_numba  # noqa: PLC0415  compiling is slow to import

        return grid_numba
    if points.is_cuda and find_spec("triton") is not None:
        from . import grid_triton  # noqa: PLC0415  Triton is optional

        return grid_triton
    return None


class _Encoded(torch.autograd.Function):
    """Features of places by the kernels of a module."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  torch's own, untyped
        points: Tensor,
        table: Tensor,
        layout: GridLayout,
        active: int,
        kernels: ModuleType,
    ) -> Tensor:
        ctx.save_for_backward(points, table)
        ctx.layout, ctx.active, ctx.kernels = layout, active, kernels
        return kernels.encode(points.detach(), table.detach(), layout, active)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  torch's own, untyped
        points, table = ctx.saved_tensors
        on_points = on_table = None
        if ctx.needs_input_grad[0]:
            on_points = _Slope.apply(
                points, table, upstream[0], ctx.layout, ctx.active, ctx.kernels
            )
        if ctx.needs_input_grad[1]:
            on_table = ctx.kernels.encode_back(
                points.detach(), upstream[0].detach(), len(table), ctx.layout, ctx.active
            )
        return on_points, on_table, None, None, None


class _Slope(torch.autograd.Function):
    """Gradient of features by their places, by the kernels of a module."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  torch's own, untyped
        points: Tensor,
        table: Tensor,
        upstream: Tensor,
        layout: GridLayout,
        active: int,
        kernels: ModuleType,
    ) -> Tensor:
        ctx.save_for_backward(points, table, upstream)
        ctx.layout, ctx.active, ctx.kernels = layout, active, kernels
        return kernels.slope(points.detach(), table.detach(), upstream.detach(), layout, active)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *pull: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # pyright: ignore[reportIncompatibleMethodOverride]  torch's own, untyped
        inputs = (saved.detach() for saved in ctx.saved_tensors)
        on_table, on_upstream = ctx.kernels.slope_back(*inputs, pull[0], ctx.layout, ctx.active)
        return None, on_table, on_upstream, None, None, None
