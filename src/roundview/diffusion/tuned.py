"""EfficientNet-lite0's first stages, trained further for a task: a part of the network of its head.

The ImageNet features tell what a picture shows and little of how it lies in space; trained further
at a low rate they keep the one and learn the other.
"""

import copy
from typing import Protocol, cast

from jaxtyping import Float
from torch import Tensor, nn

from ..models import FeatureModel

_MAPS = {0: 16, 1: 24, 2: 40, 4: 112, 5: 192}
"""The last stage at 1/2, 1/4, ... 1/32 of a picture's size, and the channels of its output. At 1/32
the network has a seventh, a fifth of its weights, which is left out."""
_LEFT_ALONE = 2
"""First stages that stay as they are, and the stem: edges and colours, and half of the work of a
step. Chosen by us; training them as well was not tried."""


class Staged(FeatureModel, Protocol):
    """Features of a network in stages, as `features.EfficientNetLite0` is."""

    stem: nn.Module
    stages: nn.ModuleList


class TunedFeatures(nn.Module):
    """A `FeatureModel` of some first stages of EfficientNet-lite0; all but two can be trained.

    Args:
        features: What it begins with, an `EfficientNetLite0`; copied.
        stages: How many stages are kept: 5 give maps of 16, 24, 40 and 112 channels at 1/2 to 1/16
            of the picture's size, 6 add 192 channels at 1/32.

    Raises:
        ValueError: If the features are of another network, or the stages others than these.
    """

    net: Staged

    def __init__(self, features: FeatureModel, stages: int) -> None:
        super().__init__()
        if not (isinstance(features, nn.Module) and hasattr(features, "stages")):
            raise ValueError(f"features must be EfficientNet-lite0, got {type(features).__name__}")
        if stages not in (5, 6):
            raise ValueError(f"stages must be 5 or 6, got {stages}")
        net = copy.deepcopy(features).requires_grad_(True)
        del net.head
        self.net = cast("Staged", net)
        self.net.stages = self.net.stages[:stages]
        for part in (self.net.stem, *self.net.stages[:_LEFT_ALONE]):
            part.requires_grad_(False)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the maps."""
        return tuple(_MAPS[k] for k in _MAPS if k < len(self.net.stages))

    def maps(self, rgb: Float[Tensor, "n h w 3"]) -> list[Tensor]:
        """Give channel-first feature maps, finest first, each half the size of the one before."""
        *found, x = self.net.maps(rgb)  # Of stages 0 to 3; the fifth has the fourth's size.
        for stage in self.net.stages[len(found) + 1 :]:
            x = stage(x)
            found.append(x)
        return found

    def embedding(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n c"]:
        """Give the mean of the last map."""
        return self.maps(rgb)[-1].mean(dim=(2, 3))

    def forward(self, rgb: Float[Tensor, "n h w 3"]) -> list[Tensor]:
        """Give the maps."""
        return self.maps(rgb)
