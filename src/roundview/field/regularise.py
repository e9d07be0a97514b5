"""What keeps a field plausible where pictures do not say enough; all to be made small.

Definitions are those of threestudio (Guo et al. 2023), whose presets state the weights.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .render import Rendered


def eikonal_loss(slope: Float[Tensor, "p 3"]) -> Float[Tensor, ""]:
    """Say how far slopes of a signed distance are from length 1.

    Gropp et al., "Implicit Geometric Regularization for Learning Shapes", 2020, eq. 2.
    """
    return (slope.norm(dim=1) - 1).square().mean()


def orientation_loss(drawn: Rendered) -> Float[Tensor, ""]:
    """Say how much of what is seen turns its back to the camera.

    Verbin et al., "Ref-NeRF: Structured View-Dependent Appearance for Neural Radiance Fields",
    2022, eq. 11; summed, over the number of rays that meet anything. Weights are held fixed.

    Raises:
        ValueError: If the rays were drawn without normals.
    """
    if drawn.shade.normal is None:
        raise ValueError("orientation_loss needs rays drawn with normals=True")
    cosine = (drawn.shade.normal * drawn.direction[drawn.samples.ray]).sum(dim=1)
    away = (drawn.weight.detach() * cosine.clamp(min=0).square()).sum()
    return away / (drawn.opacity > 0).sum().clamp(min=1)


def sparsity_loss(drawn: Rendered) -> Float[Tensor, ""]:
    """Say how much of the picture is covered: mean of sqrt(opacity^2 + 0.01)."""
    return (drawn.opacity.square() + 0.01).sqrt().mean()


def opaque_loss(drawn: Rendered) -> Float[Tensor, ""]:
    """Say how far opacity is from 0 or 1: its own entropy."""
    opacity = drawn.opacity.clamp(1e-3, 1 - 1e-3)
    return torch.nn.functional.binary_cross_entropy(opacity, opacity)


def depth_variance_loss(drawn: Rendered) -> Float[Tensor, ""]:
    """Say how thick surfaces are: variance of the distance along rays, where opacity is over 0.5.

    (z_variance in threestudio.)
    """
    solid = drawn.opacity > 0.5
    if not bool(solid.any()):
        return drawn.opacity.sum() * 0
    ray = drawn.samples.ray
    opacity = drawn.opacity.clamp(min=1e-3)
    mean = drawn.distance / opacity
    spread = drawn.weight / opacity[ray] * (drawn.samples.distance - mean[ray]).square()
    variance = torch.zeros_like(mean).index_add(0, ray, spread)
    return variance[solid].mean()
