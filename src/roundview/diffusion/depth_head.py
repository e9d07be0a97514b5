"""Estimate depth and normals of a subject over white, on top of deep features."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..image import resize
from ..models import FeatureModel

PICTURE_PX = 96
"""Pictures are brought to this size on their longer side, that of those it was trained on. Chosen
by us: at 128 px a training of the same length saw half as many pictures."""
_TOGETHER = 16
"""Pictures that go through the network at once; bounds the memory of an orbit's frames."""


@dataclass(frozen=True)
class DepthSize:
    """Size of a `DepthDecoder`; the defaults are the small model that we ship.

    Attributes:
        maps: Channels of the feature maps, finest first; each has half the size of the one before.
        widths: Channels of the decoder at each map's size.
        blocks: Residual blocks at each map's size.
    """

    maps: tuple[int, ...] = (16, 24, 40, 80)
    widths: tuple[int, ...] = (24, 48, 96, 160)
    blocks: tuple[int, ...] = (0, 1, 1, 2)


class DepthDecoder(nn.Module):
    """Decodes feature maps into inverse depth, normals and coverage, twice the finest map's size.

    A U-Net's upward half (Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image
    Segmentation", 2015). The coarsest map's mean, the whole subject at a glance, is told to every
    pixel.
    """

    def __init__(self, size: DepthSize = DepthSize()) -> None:
        super().__init__()
        coarsest = size.widths[-1]
        self.enter = nn.ModuleList()
        self.blocks = nn.ModuleList()
        above = 0  # Channels that come up from the coarser level.
        for seen, width, count in reversed(
            list(zip(size.maps, size.widths, size.blocks, strict=True))
        ):
            # Features spread some 7 units: unnormalised, the blocks beside them are not heard.
            enter = nn.Conv2d(seen + above, width, 3, padding=1)
            self.enter.append(nn.Sequential(enter, group_norm(width)))
            self.blocks.append(nn.Sequential(*[ResidualBlock(width) for _ in range(count)]))
            above = width
        told = size.maps[-1]
        self.whole = nn.Sequential(nn.LayerNorm(told), nn.Linear(told, coarsest))
        self.leave = nn.Sequential(group_norm(above), nn.SiLU(), nn.Conv2d(above, 20, 3, padding=1))

    def forward(self, maps: list[Tensor]) -> Float[Tensor, "n 5 h w"]:
        """Give inverse depth less 1, normals of any length, and the logit of coverage.

        Inverse depth is in units of one over the distance of the subject's centre, as far as one
        picture tells; normals are in the camera's frame.
        """
        coarsest_first = maps[::-1]
        x = self.enter[0](coarsest_first[0])
        x = x + self.whole(coarsest_first[0].mean(dim=(2, 3)))[:, :, None, None]
        x = self.blocks[0](x)
        for enter, blocks, seen in zip(
            self.enter[1:], self.blocks[1:], coarsest_first[1:], strict=True
        ):
            larger = nn.functional.interpolate(x, seen.shape[-2:], mode="nearest")
            x = blocks(enter(torch.cat([larger, seen], dim=1)))
        return nn.functional.pixel_shuffle(self.leave(x), 2)


class DepthNetwork(nn.Module):
    """Features and the decoder on top of them, trained together."""

    def __init__(self, features: FeatureModel, decoder: DepthDecoder) -> None:
        super().__init__()
        self.features = features
        self.decoder = decoder

    def forward(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n 5 h w"]:
        """Give what the decoder makes of pictures; the sides are multiples of 32."""
        return self.decoder(self.features.maps(rgb))


class FeatureDepth:
    """The `DepthModel`: deep features of pictures, and of their mirror images, through a decoder.

    The two answers are averaged. Maps go on beyond the subject, where they mean nothing: callers
    know its coverage and cut it out. (A white subject cannot be told from what is behind it: left
    to the network's own coverage, the correlation inside was 0.66 instead of 0.69 on held-out
    training objects, for the 1% of the subjects' pixels that were lost.)
    """

    def __init__(self, features: FeatureModel, decoder: DepthDecoder) -> None:
        self.features = features
        self.decoder = decoder.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(
        self, rgb: Float[Tensor, "n h w 3"]
    ) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w 3"]]:
        """Give inverse depth (near is large, about 1) and unit normals in the camera's frame."""
        place = next(self.decoder.parameters()).device
        parts = [self._decoded(part.to(place)) for part in rgb.split(_TOGETHER)]
        level, normal, _ = torch.cat(parts).to(rgb.device).split([1, 3, 1], dim=1)
        unit = nn.functional.normalize(normal, dim=1)
        return (1 + level[:, 0]).clamp(min=_FAR), unit.movedim(1, -1)

    def _decoded(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n 5 h w"]:
        h, w = rgb.shape[1:3]
        small = resize(rgb, working_size(h, w)).clamp(0, 1)
        plain, mirrored = self.decoder(self.features.maps(torch.cat([small, small.flip(2)]))).chunk(
            2
        )
        mirrored = mirrored.flip(3)
        mirrored[:, 1] *= -1  # What faces right in the mirror image faces left.
        both = 0.5 * (plain + mirrored).float()
        return nn.functional.interpolate(both, (h, w), mode="bilinear", align_corners=False)


_FAR = 0.25
"""Least inverse depth of a subject: four times its centre's distance, where no part of one is."""


def working_size(h: int, w: int) -> tuple[int, int]:
    """Give the size at which the network sees a picture: multiples of 16, the longer side 96."""
    scale = PICTURE_PX / max(h, w)
    return max(16, round(h * scale / 16) * 16), max(16, round(w * scale / 16) * 16)


class ResidualBlock(nn.Module):
    """Two convolutions beside the way through."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(group_norm(width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)),
            *(group_norm(width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)),
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Give maps of the same size."""
        return x + self.layers(x)


def group_norm(width: int) -> nn.GroupNorm:
    """Normalise in eight groups of channels, or in one."""
    return nn.GroupNorm(8 if width % 8 == 0 else 1, width)
