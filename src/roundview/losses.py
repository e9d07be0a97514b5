"""What a picture is compared by: colour, structure, silhouette and deep features.

Pictures are channel-last sRGB in [0, 1]. Every function gives one value a picture, so that views
can be weighed before they are averaged, and is differentiable in both pictures.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from .models import FeatureModel

MS_SSIM_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang et al. 2003, section 3.2)."""

_WINDOW = 11
_SIGMA_PX = 1.5
# (K1 L)^2 and (K2 L)^2 with K1 = 0.01, K2 = 0.03, L = 1 (Wang et al. 2004, section III.B).
_C1, _C2 = 0.01**2, 0.03**2
# x^0.0448 has an infinite slope at 0; structure this poor need not push any harder. Chosen by us.
_LEAST_STRUCTURE = 1e-4


@runtime_checkable
class WeightedFeatureModel(FeatureModel, Protocol):
    """Deep features that know how much each channel matters to people (the heads of LPIPS)."""

    channel_weights: list[Tensor]
    """One vector of weights, none negative, for each of the maps."""


def photometric(
    a: Float[Tensor, "n h w c"], b: Float[Tensor, "n h w c"], *, power: int = 1
) -> Float[Tensor, " n"]:
    """Average the absolute (power 1) or squared (power 2) difference of two pictures.

    Raises:
        ValueError: If the power is neither 1 nor 2.
    """
    if power not in (1, 2):
        raise ValueError(f"power must be 1 or 2, got {power}")
    difference = a - b
    each = difference.abs() if power == 1 else difference.square()
    return each.mean(dim=(1, 2, 3))


def mask_loss(a: Float[Tensor, "n h w"], b: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Average the squared difference of two alpha maps.

    IM-3D names a mask loss without its form; we take the square, which does not push on the soft
    rim of a matte as hard as an absolute difference does.
    """
    return (a - b).square().mean(dim=(1, 2))


def ssim(a: Float[Tensor, "n h w c"], b: Float[Tensor, "n h w c"]) -> Float[Tensor, " n"]:
    """Measure structural similarity: 1 for equal pictures, about 0 for unrelated ones.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004,
    eq. 13, each channel by itself, Gaussian window of 11 pixels and sigma 1.5. Borders are
    mirrored and counted, as torchmetrics does; the paper leaves them out. Pictures under 11 px use
    the largest odd window that fits.
    """
    similarity, _ = _similarity_maps(_planes(a), _planes(b))
    return similarity.mean(dim=(1, 2, 3))


def ms_ssim(a: Float[Tensor, "n h w c"], b: Float[Tensor, "n h w c"]) -> Float[Tensor, " n"]:
    """Measure structural similarity over several scales: 1 for equal pictures, never below 0.

    Wang et al., "Multi-scale Structural Similarity for Image Quality Assessment", 2003, eq. 7:
    contrast and structure at every scale, luminance at the coarsest only, combined by exponents.

    The paper's five scales need 176 px. Smaller pictures use as many scales as leave the shorter
    side at least 11 px (four at 128 px, three at 64, one under 22), with the exponents of these
    divided by their sum, so that values of different sizes stay comparable. Values equal those of
    torchmetrics given the same exponents.
    """
    x, y = _planes(a), _planes(b)
    exponents = ms_ssim_exponents(min(x.shape[-2:]))
    product = torch.ones_like(x[:, 0, 0, 0])
    for scale, exponent in enumerate(exponents):
        similarity, structure = _similarity_maps(x, y)
        if scale == len(exponents) - 1:
            here = similarity
        else:
            # Mirrored borders would count twice in every scale.
            margin = _WINDOW // 2
            here = structure[..., margin:-margin, margin:-margin]
            x, y = (torch.nn.functional.avg_pool2d(picture, 2) for picture in (x, y))
        product = product * here.mean(dim=(1, 2, 3)).clamp(min=_LEAST_STRUCTURE) ** exponent
    return product


def ms_ssim_exponents(side_px: int) -> tuple[float, ...]:
    """Give the exponents of the scales that `ms_ssim` uses for a picture of this shorter side."""
    scales = 1
    while scales < len(MS_SSIM_EXPONENTS) and side_px // 2**scales >= _WINDOW:
        scales += 1
    total = sum(MS_SSIM_EXPONENTS[:scales])
    return tuple(exponent / total for exponent in MS_SSIM_EXPONENTS[:scales])


def perceptual_distance(
    features: FeatureModel, a: Float[Tensor, "n h w 3"], b: Float[Tensor, "n h w 3"]
) -> Float[Tensor, " n"]:
    """Compare two pictures by deep features: 0 for equal ones, grows as they look less alike.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018,
    eq. 1: feature vectors of unit length, squared difference weighed by channel, averaged over the
    picture, summed over the layers. It is LPIPS only if `features` is LPIPS's network with LPIPS's
    heads (`VggFeatures`); with the shipped EfficientNet-lite0, which has no heads, it is a
    deep-feature distance of its own, and its values compare only among themselves.
    """
    return unit_map_distance(unit_maps(features, a), unit_maps(features, b))


def unit_maps(features: FeatureModel, rgb: Float[Tensor, "n h w 3"]) -> list[Tensor]:
    """Give the maps that `perceptual_distance` compares, so that a fixed picture's can be kept.

    Each pixel's feature vector has unit length, times the root of the channel weights if the model
    has any.
    """
    # The small number keeps the slope finite where every feature is 0.
    maps = [m * (m.square().sum(dim=1, keepdim=True) + 1e-8).rsqrt() for m in features.maps(rgb)]
    if not isinstance(features, WeightedFeatureModel):
        return maps
    return [
        m * w.sqrt()[:, None, None] for m, w in zip(maps, features.channel_weights, strict=True)
    ]


def unit_map_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Float[Tensor, " n"]:
    """Compare two pictures whose `unit_maps` are known."""
    layers = [
        (x - y).square().sum(dim=(1, 2, 3)) / math.prod(x.shape[2:])
        for x, y in zip(a, b, strict=True)
    ]
    return torch.stack(layers).sum(dim=0)


def _planes(picture: Float[Tensor, "n h w c"]) -> Float[Tensor, "n c h w"]:
    return picture.permute(0, 3, 1, 2)


def _similarity_maps(
    x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"]]:
    """Give SSIM and its contrast-structure part at every pixel, borders mirrored."""
    # Two calls, so that a fixed picture's own statistics cost nothing in the backward pass.
    mean_x, mean_xx, mean_xy = _blur(torch.stack([x, x * x, x * y])).unbind(0)
    mean_y, mean_yy = _blur(torch.stack([y, y * y])).unbind(0)
    variances = (mean_xx - mean_x.square()).clamp(min=0) + (mean_yy - mean_y.square()).clamp(min=0)
    product = mean_x * mean_y
    structure = (2 * (mean_xy - product) + _C2) / (variances + _C2)
    luminance = (2 * product + _C1) / (mean_x.square() + mean_y.square() + _C1)
    return luminance * structure, structure


def _blur(stack: Float[Tensor, "s n c h w"]) -> Float[Tensor, "s n c h w"]:
    """Weigh each neighbourhood by the Gaussian window, borders mirrored.

    As two matrix products: at 128 px and less, on a CPU, they cost less than depthwise
    convolutions (a half at 64 px), whose overhead outweighs the fewer operations.
    """
    h, w = stack.shape[-2:]
    return _blur_matrix(h).to(stack) @ stack @ _blur_matrix(w).to(stack).mT


@lru_cache
def _blur_matrix(side_px: int) -> Float[Tensor, "side side"]:
    """Give the matrix that blurs a column of pixels: row i holds the window around pixel i."""
    length = min(_WINDOW, side_px - 1 + side_px % 2)
    offset = torch.arange(length) - length // 2
    weight = torch.exp(-offset.double().square() / (2 * _SIGMA_PX**2))
    source = (torch.arange(side_px)[:, None] + offset).abs()
    source = torch.where(source >= side_px, 2 * (side_px - 1) - source, source)
    matrix = torch.zeros(side_px, side_px, dtype=torch.float64)
    return matrix.scatter_add_(1, source, (weight / weight.sum()).expand(side_px, length))
