"""A colour matrix for each view, for photographs taken with automatic exposure.

As in the reference code of Kerbl et al., "A Hierarchical 3D Gaussian Representation for Real-Time
Rendering of Very Large Datasets", 2024: an affine map of colours a view, fitted with the cloud.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..gaussians import Gaussians
from ..rotation import SH_C0


class Exposures:
    """Affine colour maps rgb' = A rgb + b, one a view, and their optimiser.

    They colour the Gaussians, not the picture: a background that the matte put there has no
    exposure. What all views have in common belongs to the Gaussians, so the mean of the maps stays
    the identity.
    """

    def __init__(self, count: int, rate: float, like: Tensor) -> None:
        identity = torch.eye(3, 4).to(like)
        self._maps = [identity.clone().requires_grad_() for _ in range(count)]
        self._adam = [torch.optim.Adam([at], lr=rate, eps=1e-15) for at in self._maps]

    @property
    def maps(self) -> Float[Tensor, "n 3 4"]:
        """The maps [A | b] as they are now."""
        return torch.stack([at.detach() for at in self._maps])

    def seen(self, gaussians: Gaussians, n: int) -> Gaussians:
        """Colour Gaussians as view n took them; differentiable in both."""
        return coloured(gaussians, self._maps[n])

    @torch.no_grad()
    def step(self, n: int) -> None:
        """Move the map of view n against its gradient; then take the mean away from all."""
        self._adam[n].step()
        self._adam[n].zero_grad(set_to_none=True)
        drift = self.maps.mean(dim=0) - torch.eye(3, 4).to(self._maps[n])
        for at in self._maps:
            at.sub_(drift)


def coloured(gaussians: Gaussians, colour_map: Float[Tensor, "3 4"]) -> Gaussians:
    """Map the colours of Gaussians affinely, in every direction alike."""
    matrix, shift = colour_map[:, :3], colour_map[:, 3]
    sh = gaussians.sh @ matrix.T
    # Colours are 0.5 + C0 dc + ..., so grey's image moves into the constant part.
    constant = (0.5 * matrix.sum(dim=1) + shift - 0.5) / SH_C0
    first = torch.zeros_like(sh[:, :1]) + constant
    return replace(gaussians, sh=torch.cat([sh[:, :1] + first, sh[:, 1:]], dim=1))
