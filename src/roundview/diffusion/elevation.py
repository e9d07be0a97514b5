"""Estimate the elevation that frames of one subject were seen from."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..image import resize
from ..models import FeatureModel

FRAME_PX = 96
"""Frames are brought to this size, that of the renders which the shipped head was trained on."""
LEVELS_DEG = (-45.0, 75.0, 5.0)
"""First and last of the elevations whose likelihood is told, and between two of them."""


@dataclass(frozen=True)
class ElevationSize:
    """Size of an `ElevationHead`; the defaults are the small model that we ship.

    Attributes:
        seen: Channels of the map that it looks at.
        width: Channels that it is looked at with.
        hidden: Hidden units.
    """

    seen: int = 112
    width: int = 128
    hidden: int = 256


class ElevationHead(nn.Module):
    """Looks at the coarsest of a picture's feature maps; tells how likely each elevation is.

    Melas-Kyriazi et al., "IM-3D", 2024, appendix: theirs is a 2-layer network on DINO features of 4
    uniformly spaced frames, each one vector. Ours sees where in the picture a feature is, since how
    a subject's top and front share its silhouette is what tells the elevation; and it answers for
    one frame at a time, so that it takes a photograph alone, or any number of frames.
    """

    def __init__(self, size: ElevationSize = ElevationSize()) -> None:
        super().__init__()
        first, last, apart = LEVELS_DEG
        levels, side = round((last - first) / apart) + 1, FRAME_PX // 16
        self.layers = nn.Sequential(
            *(nn.Conv2d(size.seen, size.width, 3, padding=1), nn.GroupNorm(8, size.width)),
            *(nn.SiLU(), nn.Conv2d(size.width, size.width, 3, padding=1)),
            *(nn.GroupNorm(8, size.width), nn.SiLU(), nn.Conv2d(size.width, size.width // 2, 1)),
            *(nn.SiLU(), nn.Flatten(), nn.Dropout(0.3)),
            *(nn.Linear(size.width // 2 * side**2, size.hidden), nn.SiLU(), nn.Dropout(0.3)),
            nn.Linear(size.hidden, levels),
        )

    def forward(self, seen: Float[Tensor, "n c h w"]) -> Float[Tensor, "n levels"]:
        """Give the logarithm of how likely each of `levels_deg()` is, picture by picture."""
        return self.layers(seen).log_softmax(dim=1)


class ElevationNetwork(nn.Module):
    """Features and the head on top of them, trained together."""

    def __init__(self, features: FeatureModel, head: ElevationHead) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, rgb: Float[Tensor, "n 96 96 3"]) -> Float[Tensor, "n levels"]:
        """Give what the head makes of pictures over white."""
        return self.head(self.features.maps(rgb)[-1])


class FeatureElevation:
    """The `Elevation` estimator: the median of what an `ElevationNetwork` says of all frames.

    The frames' likelihoods are multiplied, as if each knew nothing of the others; a frame's is the
    geometric mean of its own and its mirror image's.
    """

    def __init__(self, network: ElevationNetwork) -> None:
        self.network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, frames: Float[Tensor, "n h w 3"]) -> float:
        """Give degrees; the frames are over white and of one subject at one elevation."""
        small = resize(frames, (FRAME_PX, FRAME_PX)).clamp(0, 1)
        both = torch.cat([small, small.flip(2)]).to(next(self.network.head.parameters()))
        return float(median_deg(self.network(both).sum(dim=0, keepdim=True) / 2)[0])


def levels_deg() -> Float[Tensor, " levels"]:
    """Give the elevations whose likelihood is told."""
    first, last, apart = LEVELS_DEG
    return torch.arange(first, last + apart / 2, apart)


def median_deg(log_likely: Float[Tensor, "n levels"]) -> Float[Tensor, " n"]:
    """Give the elevation that the true one is as likely under as over: the least mean error.

    Between two levels the likelihood is spread evenly.
    """
    share = log_likely.cpu().double().softmax(dim=1)
    under = share.cumsum(dim=1)
    at = (under < 0.5).sum(dim=1, keepdim=True).clamp(max=share.shape[1] - 1)
    inside = 1 - (under.gather(1, at) - 0.5) / share.gather(1, at)
    found = levels_deg()[at] + (inside - 0.5) * LEVELS_DEG[2]
    return found[:, 0].to(log_likely)
