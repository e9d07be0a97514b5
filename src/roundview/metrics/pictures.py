"""How close pictures are to the truth: one number a picture, with its range and source.

Pictures are channel-last sRGB in [0, 1]; `truth` comes second. Nothing here is clamped or rounded:
hand in what was written to disk if that is what is judged.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .. import losses
from ..models import FeatureModel

PSNR_OF_EQUALS_DB = 100.0
"""What equal pictures score: their true value is infinite, which no mean survives."""


def psnr(picture: Float[Tensor, "n h w c"], truth: Float[Tensor, "n h w c"]) -> Float[Tensor, " n"]:
    """Measure the peak signal-to-noise ratio in dB: -10 log10 of the mean squared difference.

    Over all pixels and channels, background included, data range 1. Higher is better: 20 dB is a
    root mean square error of 0.1. At most `PSNR_OF_EQUALS_DB`. Agrees with torchmetrics'
    `peak_signal_noise_ratio(data_range=1)` of each picture; the mean of these is not the PSNR of
    the pooled error.
    """
    error = (picture - truth).square().mean(dim=(1, 2, 3))
    return -10 * torch.log10(error.clamp(min=10 ** (-PSNR_OF_EQUALS_DB / 10)))


def ssim(picture: Float[Tensor, "n h w c"], truth: Float[Tensor, "n h w c"]) -> Float[Tensor, " n"]:
    """Measure structural similarity, from -1 to 1 (equal); no unit, higher is better.

    Wang et al. 2004 with torchmetrics' defaults and a data range of 1: Gaussian window of 11 px
    and sigma 1.5, mean over channels and mirrored borders. See `losses.ssim`.
    """
    return losses.ssim(picture, truth)


def ms_ssim(
    picture: Float[Tensor, "n h w c"], truth: Float[Tensor, "n h w c"]
) -> Float[Tensor, " n"]:
    """Measure structural similarity over several scales, from 0 to 1 (equal); higher is better.

    Wang et al. 2003; five scales from 176 px on, fewer below. See `losses.ms_ssim`.
    """
    return losses.ms_ssim(picture, truth)


def deep_feature_distance(
    features: FeatureModel,
    picture: Float[Tensor, "n h w 3"],
    truth: Float[Tensor, "n h w 3"],
) -> Float[Tensor, " n"]:
    """Measure how unlike two pictures look to a network: from 0 (equal) up, lower is better.

    With the shipped features this is to be reported as "deep-feature distance (EfficientNet-lite0),
    not LPIPS": its four layers give at most 16. With `VggFeatures` and LPIPS's heads it is LPIPS
    (VGG). See `losses.perceptual_distance`.
    """
    with torch.no_grad():
        return losses.perceptual_distance(features, picture, truth)
