"""Tiny networks, and one object seen from many sides, for the tests of the families' losses."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from roundview.train.encoding import Encoders

WIDTH = 24
"""Length of the tiny embedding."""


def squares(channels: int = 4) -> Encoders:
    """Latents are the means of 2 x 2 squares of pixels; the embedding is linear in the colours."""

    def encode(rgba: Tensor, rng: Generator | None) -> Tensor:
        del rng
        return torch.nn.functional.avg_pool2d(rgba * 2 - 1, 2)[:, :channels]

    def decode(latents: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(latents / 2 + 0.5, scale_factor=2.0)

    def embed(rgba: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(rgba[:, :3], (2, 4)).flatten(1)

    return Encoders(encode, decode, embed, 1.0, torch.ones(channels))


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def losses_while_trained(
    network: nn.Module,
    loss: Callable[[Generator], Tensor],
    *,
    steps: int = 30,
    rate: float = 2e-3,
) -> list[float]:
    """Train on one batch and always the same noise; give the loss of each step."""
    weights = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(weights, lr=rate)
    found = []
    for _ in range(steps):
        optimiser.zero_grad()
        value = loss(seeded(7))
        value.backward()
        optimiser.step()
        found.append(float(value.detach()))
    return found
