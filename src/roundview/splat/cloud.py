"""Gaussians as the rows of one matrix, and the optimiser that moves them.

One matrix instead of five parameters: an Adam step, a prune or a split is then a few tensor
operations whatever the fields, which matters when a picture takes ten milliseconds.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..gaussians import Gaussians

CENTRE = slice(0, 3)
LOG_SCALE = slice(3, 6)
QUAT = slice(6, 10)
OPACITY = 10
SH = 11
"""Columns: three of centre, three of log scale, four of quaternion, opacity, then the colour."""


def pack(gaussians: Gaussians) -> Float[Tensor, "g c"]:
    """Put the fields of each Gaussian side by side."""
    return torch.cat(
        [
            gaussians.centre,
            gaussians.log_scale,
            gaussians.quat_wxyz,
            gaussians.opacity_logit[:, None],
            gaussians.sh.flatten(1),
        ],
        dim=1,
    )


def unpack(rows: Float[Tensor, "g c"]) -> Gaussians:
    """Take the fields apart again; differentiable."""
    colours = rows.shape[1] - SH
    centre, log_scale, quat, opacity, sh = rows.split([3, 3, 4, 1, colours], dim=1)
    return Gaussians(centre, log_scale, quat, opacity[:, 0], sh.unflatten(1, (colours // 3, 3)))


class CloudAdam:
    """Adam over the rows of a cloud, with a learning rate a column and rows that come and go.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015. New rows start with the
    moments they are given; the bias correction counts the steps of the whole cloud.
    """

    def __init__(self, rows: Float[Tensor, "g c"]) -> None:
        self.rows = rows.detach().clone().requires_grad_()
        self.steps = 0
        self._mean = torch.zeros_like(rows)
        self._square = torch.zeros_like(rows)

    @torch.no_grad()
    def step(self, rates: Float[Tensor, " c"]) -> None:
        """Move the rows against their gradient, which is then forgotten."""
        gradient = self.rows.grad
        if gradient is None:
            raise ValueError("the rows have no gradient; call backward() before step()")
        self.steps += 1
        # Both bias corrections fold into the rate and the small number (3DGS's, which lets a
        # Gaussian that is seen by few pixels move as far as any other).
        correction = (1 - 0.999**self.steps) ** 0.5
        small, moved = 1e-15 * correction, rates * (correction / (1 - 0.9**self.steps))
        if self.rows.device.type == "cpu" and self.rows.dtype == torch.float32:
            from .step_numba import adam_step  # noqa: PLC0415  numba is slow to import

            adam_step(self.rows, gradient, (self._mean, self._square), moved, small)
            self.rows.grad = None
            return
        self._mean.lerp_(gradient, 1 - 0.9)
        self._square.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
        move = self._mean / self._square.sqrt().add_(small)
        self.rows.sub_(move.mul_(moved))
        self.rows.grad = None

    @torch.no_grad()
    def replace(
        self, kept: Bool[Tensor, " g"], added: Float[Tensor, "a c"], parents: Int[Tensor, " a"]
    ) -> None:
        """Keep some rows and append others, which inherit their parents' moments.

        Args:
            kept: Rows to keep.
            added: New rows.
            parents: The row, in the numbering before, that each new one descends from.
        """
        self._mean = torch.cat([self._mean[kept], self._mean[parents]])
        self._square = torch.cat([self._square[kept], self._square[parents]])
        self.rows = torch.cat([self.rows[kept], added]).detach().requires_grad_()
