"""Estimate the elevation that frames of one subject were seen from."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..image import resize
from ..models import FeatureModel

FRAME_PX = 64
"""Frames are brought to this size first, that of the renders which the head was trained on."""
FEATURE_PX = 128
"""And then enlarged to this one, which suits the features better. Both chosen by us."""


class ElevationHead(nn.Module):
    """A 2-layer network on image features averaged over frames; gives the elevation in radians.

    Melas-Kyriazi et al., "IM-3D", 2024, appendix: theirs stands on DINO features of 4 uniformly
    spaced frames. Ours was trained on 1 to 4 frames, so it also takes a photograph alone.

    Args:
        features: Length of the feature vector.
        width: Hidden units.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, features: int = 1280, width: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, width), nn.GELU(), nn.Dropout(0.3), nn.Linear(width, 1)
        )
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_std", torch.ones(features))

    def forward(self, features: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
        """Give radians from averaged features."""
        return self.layers((features - self.feature_mean) / self.feature_std)[:, 0]


class FeatureElevation:
    """The `Elevation` estimator: deep features of frames, averaged, through an `ElevationHead`."""

    def __init__(self, features: FeatureModel, head: ElevationHead) -> None:
        self.features = features
        self.head = head.eval().requires_grad_(False)

    def __call__(self, frames: Float[Tensor, "n h w 3"]) -> float:
        """Give degrees; the frames are over white and of one subject at one elevation."""
        with torch.no_grad():
            mean = frame_features(self.features, frames).mean(dim=0, keepdim=True)
            return float(torch.rad2deg(self.head(mean))[0])


def frame_features(
    features: FeatureModel, frames: Float[Tensor, "n h w 3"]
) -> Float[Tensor, "n c"]:
    """Give the feature vector of each frame, at the size that the head was trained on."""
    small = resize(frames, (FRAME_PX, FRAME_PX)).clamp(0, 1)
    return features.embedding(resize(small, (FEATURE_PX, FEATURE_PX)).clamp(0, 1))
