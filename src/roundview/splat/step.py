"""One step of a fit: what one view's loss is, and where it pulls every Gaussian.

`fit_gradient_reference` says what must be computed; on a CPU in float32 kernels compute it, without
building a graph: a step then costs little more than the render and its way back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from ..losses import mask_loss, ms_ssim, photometric
from ..views import Views
from .cloud import CENTRE, CloudAdam, unpack
from .render import render_gaussians

MoreLoss: TypeAlias = Callable[
    [Float[Tensor, "1 h w 3"]], tuple[Float[Tensor, ""], Float[Tensor, "1 h w 3"]]
]
"""A further loss on a drawn picture: its value and its gradient."""


@dataclass(frozen=True)
class LossWeights:
    """How much each part of the loss counts; a part of weight 0 is not computed.

    Attributes:
        photometric: Of the mean difference of colour.
        photometric_power: 1 for absolute, 2 for squared differences.
        structure: Of 1 - MS-SSIM.
        mask: Of the mean squared difference of alpha.
        opacity: Of the mean opacity; this and the next keep Gaussians from idling (Kheradmand et
            al., "3D Gaussian Splatting as Markov Chain Monte Carlo", 2024, eq. 13).
        scale: Of the mean standard deviation along the local axes, world units.
    """

    photometric: float
    photometric_power: Literal[1, 2]
    structure: float
    mask: float
    opacity: float = 0.0
    scale: float = 0.0


@dataclass(frozen=True, eq=False)
class FitGradient:
    """What one step found out, besides the gradient in the rows of the cloud.

    Attributes:
        loss: Value of the loss.
        drawn: The render, before the exposure.
        exposure: Gradient by the exposure; None without one.
        pull: Length of the gradient by the place in the picture, in half image widths (see
            `densify.Pull`); 0 for Gaussians that were not seen.
    """

    loss: float
    drawn: Views
    exposure: Float[Tensor, "3 4"] | None
    pull: Float[Tensor, " g"]


def fit_gradient(
    cloud: CloudAdam,
    target: Views,
    weights: LossWeights,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    exposure: Float[Tensor, "3 4"] | None = None,
    more: MoreLoss | None = None,
) -> FitGradient:
    """Compare the cloud's render with one view, and leave the gradient in `cloud.rows.grad`.

    Args:
        cloud: What to draw; any gradient it held is replaced.
        target: One view, over `background`.
        weights: Of the parts of the loss.
        background: Colour behind everything, sRGB.
        exposure: An affine map of the drawn colour, rgb' = A rgb + b with b the last column, before
            the photometric and the structure term: makes up for a view of another brightness.
        more: A further loss on the drawn picture, before the exposure, as of deep features.

    Raises:
        ValueError: If there is not exactly one view.
    """
    if len(target) != 1:
        raise ValueError(f"target must be one view, got {len(target)}")
    if cloud.rows.device.type == "cpu" and cloud.rows.dtype == torch.float32:
        from .step_numba import fit_gradient_numba  # noqa: PLC0415  numba is slow to import

        step = fit_gradient_numba
    else:
        step = fit_gradient_reference
    return step(cloud, target, weights, background=background, exposure=exposure, more=more)


def fit_gradient_reference(
    cloud: CloudAdam,
    target: Views,
    weights: LossWeights,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    exposure: Float[Tensor, "3 4"] | None = None,
    more: MoreLoss | None = None,
) -> FitGradient:
    """Say what the kernels must compute, by autograd; for any device and dtype."""
    rows = cloud.rows.detach().requires_grad_()
    with torch.enable_grad():
        gaussians = unpack(rows)
        drawn = render_gaussians(gaussians, target.cameras, background=background)
        map_ = None if exposure is None else exposure.detach().to(rows).requires_grad_()
        rgb = drawn.rgb if map_ is None else drawn.rgb @ map_[:, :3].mT + map_[:, 3]
        loss = weights.mask * mask_loss(drawn.alpha, target.alpha).sum()
        if weights.structure > 0:
            loss = loss + weights.structure * (1 - ms_ssim(rgb, target.rgb)).sum()
        if weights.photometric > 0:
            difference = photometric(rgb, target.rgb, power=weights.photometric_power)
            loss = loss + weights.photometric * difference.sum()
        if len(rows) > 0:
            loss = loss + weights.opacity * gaussians.opacity.mean()
            loss = loss + weights.scale * gaussians.scale.mean()
        ends: list[Tensor] = [loss]
        slopes: list[Tensor | None] = [None]
        if more is not None:
            value, slope = more(drawn.rgb.detach())
            loss = loss + value
            ends.append(drawn.rgb)
            slopes.append(slope)
        inputs = [rows] if map_ is None else [rows, map_]
        gradients = torch.autograd.grad(ends, inputs, slopes, allow_unused=True)
    found = [
        torch.zeros_like(to) if gradient is None else gradient
        for to, gradient in zip(inputs, gradients, strict=True)
    ]
    cloud.rows.grad = found[0]
    seen = Views(drawn.rgb.detach(), drawn.alpha.detach(), target.cameras)
    pull = _pull(rows.detach(), found[0], target)
    return FitGradient(float(loss.detach()), seen, None if map_ is None else found[1], pull)


def _pull(
    rows: Float[Tensor, "g c"], gradient: Float[Tensor, "g c"], target: Views
) -> Float[Tensor, " g"]:
    pose = target.cameras.world_from_camera[0].to(rows)
    depth = (rows[:, CENTRE] - pose[:3, 3]) @ pose[:3, 2]
    half_width = target.cameras.size_hw[1] / 2 / float(target.cameras.focal_px[0])
    return gradient[:, CENTRE].norm(dim=-1) * depth * half_width
