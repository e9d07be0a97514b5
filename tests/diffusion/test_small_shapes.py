from collections.abc import Callable

import pytest
import torch
from torch import nn

from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.small_shapes import (
    narrow_video_refiner_shape,
    small_multiview_shape,
    small_video_refiner_shape,
    small_video_shape,
    small_zero123_shape,
)
from roundview.diffusion.video_refine import SmallVideoRefiner
from roundview.diffusion.video_unet import VideoUNet
from roundview.diffusion.zero123 import Zero123Net
from roundview.train.surgery import refiner_from_orbit

FAMILIES = [
    (Zero123Net, small_zero123_shape),
    (LdmUNet, small_multiview_shape),
    (VideoUNet, small_video_shape),
    (VideoUNet, small_video_refiner_shape),
    (SmallVideoRefiner, narrow_video_refiner_shape),
]


@pytest.mark.parametrize(("network", "shape"), FAMILIES)
def test_half_precision_weights_fit_in_48_megabytes(
    network: type[nn.Module], shape: Callable[[int, int], UNetShape]
) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in network(shape(24, 1280)).parameters())
    assert 10**6 < count < 24 * 10**6


def test_the_small_refiner_begins_with_the_small_orbit_network() -> None:
    with torch.device("meta"):
        orbit = VideoUNet(small_video_shape(24, 16)).state_dict()
        refiner = VideoUNet(small_video_refiner_shape(24, 16)).state_dict()
        started = refiner_from_orbit(orbit, latents=24, tells_elevation=True)
    assert {n: t.shape for n, t in started.items()} == {n: t.shape for n, t in refiner.items()}
