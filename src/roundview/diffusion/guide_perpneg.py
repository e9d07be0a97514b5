"""Perp-Neg: prompts of other sides push a view away from them, but never against its own prompt.

Armandpour et al., "Re-imagine the Negative Prompt Algorithm: Transform 2D Diffusion into 3D,
alleviate Janus problem and Beyond", 2023. Numbers are those of threestudio (Guo et al., 2023).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Side: TypeAlias = Literal["front", "side", "back", "overhead"]
"""What a prompt says of the view: "..., front view"."""

OVERHEAD_DEG = 60.0
"""Elevation above which a view is called overhead (threestudio)."""


@dataclass(frozen=True)
class SidePrompts:
    """The prompt of one view, mixed from those of the sides.

    Attributes:
        wanted: Sides and their shares, which sum to 1.
        unwanted: Sides to be pushed away from, with their weights, none positive.
    """

    wanted: tuple[tuple[Side, float], ...]
    unwanted: tuple[tuple[Side, float], ...]


def side_prompts(azimuth_deg: float, elevation_deg: float = 0.0) -> SidePrompts:
    """Say how the sides' prompts are mixed for a view.

    Args:
        azimuth_deg: 0 for the front; any turn.
        elevation_deg: Of the camera.
    """
    if elevation_deg > OVERHEAD_DEG:
        return SidePrompts((("overhead", 1.0),), (("front", 0.0), ("side", 0.0)))
    turned = abs((azimuth_deg + 180) % 360 - 180)
    if turned < 90:
        front = 1 - turned / 90
        return SidePrompts(
            (("front", front), ("side", 1 - front)),
            (("front", -_decay(4.0, -2.426, front)), ("side", -_decay(4.0, -2.426, 1 - front))),
        )
    side = 2 - turned / 90
    return SidePrompts(
        (("side", side), ("back", 1 - side)),
        (("side", -_decay(1.0, -0.606, side)), ("front", -_decay(1.0, 0.967, side))),
    )


def side_of(
    azimuth_deg: float, elevation_deg: float, *, front_deg: float = 45.0, back_deg: float = 135.0
) -> Side:
    """Name the side that a view shows, for prompts that are not mixed (DreamFusion).

    Args:
        azimuth_deg: 0 for the front.
        elevation_deg: Of the camera.
        front_deg: Turn below which it is the front; 30 for variational score distillation.
        back_deg: Turn above which it is the back; 150 there.
    """
    if elevation_deg > OVERHEAD_DEG:
        return "overhead"
    turned = abs((azimuth_deg + 180) % 360 - 180)
    return "front" if turned < front_deg else "back" if turned > back_deg else "side"


def perp_neg_noise(
    wanted: Tensor,
    without: Tensor,
    unwanted: Sequence[Tensor],
    weights: Float[Tensor, "b m"],
    *,
    scale: float,
) -> Tensor:
    """Combine predictions: eps_u + s (e + sum_i w_i perp(e_i, e)), with e = eps_c - eps_u.

    perp(x, y) = x - y (x . y) / (y . y), over all numbers of a sample.

    Args:
        wanted: Noise predicted with the view's own prompt.
        without: Noise predicted without a prompt.
        unwanted: Noise predicted with each of m prompts of other sides.
        weights: Of these for each sample, none positive.
        scale: Of the guidance.
    """
    own = wanted - without
    direction = own
    for each, weight in zip(unwanted, weights.unbind(1), strict=True):
        per_sample = weight.reshape(-1, *[1] * (own.ndim - 1)).to(own)
        direction = direction + per_sample * _perpendicular(each - without, own)
    return without + scale * direction


def _perpendicular(x: Tensor, y: Tensor) -> Tensor:
    dims = tuple(range(1, x.ndim))
    along = (x * y).sum(dims, keepdim=True) / (y * y).sum(dims, keepdim=True).clamp(min=1e-6)
    return x - along * y


def _decay(height: float, shift: float, share: float) -> float:
    # The rate is 0.5 in all of threestudio's four curves. -0.606 + exp(-0.5) is 5e-4 above 0.
    return height * math.exp(-0.5 * share) + shift


def weights_of(prompts: Sequence[SidePrompts]) -> Float[Tensor, "b m"]:
    """Stack the weights of what several views are pushed away from."""
    return torch.tensor([[weight for _, weight in each.unwanted] for each in prompts])
