"""Where rays are sampled, and how samples become pixels.

Samples of all rays lie in one line, ray after ray, so that empty space costs nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.autograd.function import once_differentiable

KEPT = 0.95
"""How much of what a cell was found to hold is kept at each look, by default: nerfacc's (Li et al.,
"NerfAcc: Efficient Sampling Accelerates NeRFs", 2023), as in threestudio."""
Presence = Callable[[Float[Tensor, "p 3"]], Float[Tensor, " p"]]
_CHUNK = 65536
"""Points handed to a field at once where no gradient is needed: bounds its memory."""


@dataclass(frozen=True, eq=False)
class RaySamples:
    """Places along rays.

    Attributes:
        distance: From the rays' origins, world units.
        ray: Number of the ray of each; never falls.
        first: First sample of each ray, and the number of samples as one more entry.
        step: Distance from one to the next.
    """

    distance: Float[Tensor, " p"]
    ray: Int[Tensor, " p"]
    first: Int[Tensor, " r1"]
    step: float


class Occupancy(nn.Module):
    """Which cells of a cube round the origin are worth sampling; all at first.

    Attributes:
        held: The most that was lately found in each cell.
        full: Cells to sample.
        allowed: Cells that may ever be sampled, such as those inside the silhouettes.
    """

    held: Float[Tensor, "r r r"]
    full: Bool[Tensor, "r r r"]
    allowed: Bool[Tensor, "r r r"]

    def __init__(self, resolution: int, half_width: float) -> None:
        super().__init__()
        self.resolution, self.half_width = resolution, half_width
        shape = (resolution,) * 3
        self.register_buffer("held", torch.zeros(shape))
        self.register_buffer("full", torch.ones(shape, dtype=torch.bool))
        self.register_buffer("allowed", torch.ones(shape, dtype=torch.bool))

    @property
    def cell(self) -> float:
        """Side of a cell, world units."""
        return 2 * self.half_width / self.resolution

    def middles(self) -> Float[Tensor, "c 3"]:
        """Give the middles of all cells, x slowest."""
        axis = (torch.arange(self.resolution, device=self.held.device) + 0.5) * self.cell
        axis = axis - self.half_width
        return torch.cartesian_prod(axis, axis, axis)

    @torch.no_grad()
    def allow(self, cells: Bool[Tensor, "r r r"]) -> None:
        """Keep to these cells from now on."""
        self.allowed.copy_(cells)
        self.full.logical_and_(self.allowed)

    @torch.no_grad()
    def update(
        self, presence: Presence, rng: Generator, *, threshold: float, kept: float = KEPT
    ) -> None:
        """Look into the allowed cells, each at one random place.

        Args:
            presence: Function of points (p, 3) that says how opaque a step there may be, 0 to 1.
            rng: Draws the places.
            threshold: Cells in which less was found lately are skipped; but never all.
            kept: Share of the earlier find that still counts; 0 where one look tells all.
        """
        chosen = self.allowed.flatten().nonzero()[:, 0]
        shift = torch.rand(len(chosen), 3, generator=rng, device=rng.device).to(self.held) - 0.5
        points = self.middles()[chosen] + shift * self.cell
        found = [presence(part) for part in points.split(_CHUNK)]
        held = self.held.flatten()
        held[chosen] = torch.maximum(held[chosen] * kept, torch.cat(found))
        self.held.copy_(held.reshape(self.held.shape))
        least = min(threshold, float(held[chosen].mean()) if len(chosen) else threshold)
        self.full.copy_((self.held >= least) & self.allowed)

    def contains(self, points: Float[Tensor, "p 3"]) -> Bool[Tensor, " p"]:
        """Say which points lie in allowed cells."""
        place = (points + self.half_width) / self.cell
        inside = ((place >= 0) & (place < self.resolution)).all(dim=1)
        x, y, z = place.long().clamp(0, self.resolution - 1).unbind(dim=1)
        return inside & self.allowed[x, y, z]


def march(
    origin: Float[Tensor, "r 3"],
    direction: Float[Tensor, "r 3"],
    occupancy: Occupancy,
    *,
    step: float,
    rng: Generator | None = None,
) -> RaySamples:
    """Place samples at equal steps along rays, where the occupancy says that something may be.

    Args:
        origin: Of the rays.
        direction: Of unit length.
        occupancy: Also gives the cube beyond which nothing is sampled.
        step: Distance from one sample to the next.
        rng: Shifts each ray's samples by a random part of the step; without it by half.
    """
    count = len(origin)
    if rng is None:
        shift = torch.full((count,), 0.5).to(origin)
    else:
        shift = torch.rand(count, generator=rng, device=rng.device).to(origin)
    kernels = kernels_for(origin)
    if kernels is None:
        return march_reference(origin, direction, occupancy, step=step, shift=shift)
    distance, ray, first = kernels.march(
        origin.detach(), direction.detach(), shift, occupancy.full, occupancy.half_width, step
    )
    return RaySamples(distance, ray, first, step)


def march_reference(
    origin: Float[Tensor, "r 3"],
    direction: Float[Tensor, "r 3"],
    occupancy: Occupancy,
    *,
    step: float,
    shift: Float[Tensor, " r"],
) -> RaySamples:
    """Say what the kernel must compute: all steps of all rays, those in full cells kept."""
    half = occupancy.half_width
    safe = torch.where(direction.abs() < 1e-9, torch.full_like(direction, 1e-9), direction)
    one, other = (-half - origin) / safe, (half - origin) / safe
    near = torch.minimum(one, other).amax(dim=1).clamp(min=0)
    far = torch.maximum(one, other).amin(dim=1)
    most = math.ceil(2 * math.sqrt(3) * half / step)
    number = torch.arange(most).to(origin)
    distance = near[:, None] + (number + shift[:, None]) * step
    points = origin[:, None] + distance[..., None] * direction[:, None]
    place = ((points + half) * (occupancy.resolution / (2 * half))).long()
    x, y, z = place.clamp(0, occupancy.resolution - 1).unbind(dim=-1)
    kept = occupancy.full[x, y, z] & (distance < far[:, None])
    first = torch.cat([torch.zeros(1).to(kept.sum()), kept.sum(dim=1).cumsum(dim=0)])
    return RaySamples(distance[kept], kept.nonzero()[:, 0], first, step)


def composite(
    alpha: Float[Tensor, " p"], values: Float[Tensor, "p c"], samples: RaySamples
) -> tuple[Float[Tensor, "r c"], Float[Tensor, " p"]]:
    """Add up values along rays, the nearer in front of the farther.

    w_k = alpha_k * prod_{j<k} (1 - alpha_j): the "over" operator of Porter and Duff, "Compositing
    Digital Images", 1984.

    Args:
        alpha: Opacity of each sample, in [0, 1].
        values: What each sample shows.
        samples: Which ray they are of.

    Returns:
        Sums over each ray, over nothing; and the weight of each sample. Both are differentiable.
    """
    kernels = kernels_for(alpha)
    if kernels is not None:
        return _Composited.apply(alpha, values, samples.first, kernels)
    return composite_reference(alpha, values, samples)


def composite_reference(
    alpha: Float[Tensor, " p"], values: Float[Tensor, "p c"], samples: RaySamples
) -> tuple[Float[Tensor, "r c"], Float[Tensor, " p"]]:
    """Say what the kernel must compute, as a table of rays and steps."""
    rays = len(samples.first) - 1
    number = torch.arange(len(alpha), device=alpha.device) - samples.first[samples.ray]
    most = int(number.amax()) + 1 if len(alpha) else 1
    table = torch.zeros(rays, most).to(alpha).index_put((samples.ray, number), alpha)
    before = torch.cat([torch.zeros_like(table[:, :1]), table[:, :-1]], dim=1)
    through = (1 - before).cumprod(dim=1)
    weight = alpha * through[samples.ray, number]
    out = torch.zeros(rays, values.shape[1]).to(values)
    return out.index_add(0, samples.ray, weight[:, None] * values), weight


def kernels_for(tensor: Tensor) -> ModuleType | None:
    """Give the kernels for where a tensor lies: `march_numba`, `march_triton`, or none."""
    if tensor.dtype != torch.float32:
        return None
    if tensor.device.type == "cpu":
        from . import march_numba  # noqa: PLC0415  compiling is slow to import

        return march_numba
    if tensor.is_cuda and find_spec("triton") is not None:
        from . import march_triton  # noqa: PLC0415  Triton is optional

        return march_triton
    return None


class _Composited(torch.autograd.Function):
    """The same by the kernels of a module."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  torch's own, untyped
        alpha: Tensor,
        values: Tensor,
        first: Tensor,
        kernels: ModuleType,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(alpha, values, first)
        ctx.kernels = kernels
        return kernels.composite(alpha.detach(), values.detach(), first)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # pyright: ignore[reportIncompatibleMethodOverride]  torch's own, untyped
        inputs = (saved.detach() for saved in ctx.saved_tensors)
        return *ctx.kernels.composite_back(*inputs, *upstream), None, None
