"""A cloud of coloured 3D Gaussians, in the parameters that an optimiser moves.

Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering", 2023.
"""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from .rotation import SH_C0, rotation_from_quat


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Anisotropic Gaussians in the world frame; every field may carry a gradient.

    Attributes:
        centre: Means, world units.
        log_scale: Natural logarithm of the standard deviations along the local axes.
        quat_wxyz: Orientation of the local axes; need not be of unit length.
        opacity_logit: Opacity before the logistic function.
        sh: Colour as k = (degree + 1)^2 spherical-harmonics coefficients, 3DGS convention:
            rgb = 0.5 + 0.28209479 * sh[:, 0] + ...
    """

    centre: Float[Tensor, "g 3"]
    log_scale: Float[Tensor, "g 3"]
    quat_wxyz: Float[Tensor, "g 4"]
    opacity_logit: Float[Tensor, " g"]
    sh: Float[Tensor, "g k 3"]

    def __post_init__(self) -> None:
        """Refuse coefficient counts that are no square."""
        if self.sh.shape[1] not in (1, 4, 9, 16):
            raise ValueError(f"sh must hold 1, 4, 9 or 16 coefficients, got {self.sh.shape[1]}")

    def __len__(self) -> int:
        """Count the Gaussians."""
        return int(self.centre.shape[0])

    def __getitem__(self, index: Tensor | slice) -> "Gaussians":
        """Take some of the Gaussians, by mask, index or slice."""
        return Gaussians(*(tensor[index] for tensor in self.tensors))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The five fields, in their order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    def sh_degree(self) -> int:
        """Highest degree of the colour's spherical harmonics."""
        return math.isqrt(int(self.sh.shape[1])) - 1

    @property
    def scale(self) -> Float[Tensor, "g 3"]:
        """Standard deviations along the local axes."""
        return self.log_scale.exp()

    @property
    def opacity(self) -> Float[Tensor, " g"]:
        """Peak opacity in (0, 1)."""
        return self.opacity_logit.sigmoid()

    @property
    def base_rgb(self) -> Float[Tensor, "g 3"]:
        """Colour without its view-dependent part, not clamped."""
        return 0.5 + SH_C0 * self.sh[:, 0]

    def covariance(self) -> Float[Tensor, "g 3 3"]:
        """Covariance matrices R S S^T R^T (Kerbl et al. 2023, eq. 6)."""
        half = rotation_from_quat(self.quat_wxyz) * self.scale[:, None, :]
        return half @ half.mT

    def detach(self) -> "Gaussians":
        """The same values cut from the graph."""
        return Gaussians(*(getattr(self, field.name).detach() for field in fields(self)))

    def to(self, device: torch.device | str) -> "Gaussians":
        """The same Gaussians on another device."""
        return Gaussians(*(getattr(self, field.name).to(device) for field in fields(self)))


def concatenate_gaussians(first: Gaussians, second: Gaussians) -> Gaussians:
    """Join two clouds of the same spherical-harmonics degree."""
    pairs = ((getattr(first, f.name), getattr(second, f.name)) for f in fields(first))
    return Gaussians(*(torch.cat(pair) for pair in pairs))
