"""Guess the whole solid behind one picture: what each ray of the photograph goes through.

The solid is told in the photograph's own frame, ray by ray, so that what the picture shows need not
be found again: Shin et al., "Pixels, Voxels, and Views: A Study of Shape Representations for Single
View 3D Object Shape Prediction", 2018, and Tatarchenko et al., "What Do Single-view 3D
Reconstruction Networks Learn?", 2019, found that such shapes carry over to new kinds of objects.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from .depth_head import ResidualBlock, group_norm

PICTURE_PX = 128
"""Side of the picture that is looked at."""
SIDE = 64
"""Rays along a side of the picture."""
LAYERS = 64
"""Places along a ray."""
COLOUR_LAYERS = 16
"""Places along a ray that have a colour of their own."""
REACH = 0.72
"""The layers lie within so much of the one through the middle, in units in which the orbit models'
subjects have a longest side of 1. Half the diagonal of a square is 0.71."""
_STEEPEST_DEG = 50.0
"""Elevation up to which layers stand upright: seen from higher up they would lie along the rays."""


def upright(elevation_deg: float) -> tuple[float, float]:
    """Give sine and cosine of the angle between the optical axis and the layers' normal.

    Layers are upright walls across the direction of view, so that what is as deep at the bottom as
    at the top is told by the same layers from wherever it is seen. A point (x, y, z) of the
    camera's frame lies cos (z - distance) - sin y behind the wall through the middle.
    """
    angle = math.radians(max(-_STEEPEST_DEG, min(_STEEPEST_DEG, elevation_deg)))
    return math.sin(angle), math.cos(angle)


@dataclass(frozen=True)
class ShapeSize:
    """Size of a `ShapeDecoder`; the defaults are the small model that we ship.

    Attributes:
        maps: Channels of the feature maps, finest first; each has half the size of the one before.
        widths: Channels of the decoder at the sizes of all maps but the finest, which is folded
            into the next: four times the channels at half the size.
        blocks: Residual blocks at each of those sizes.
        attends: Attention blocks at the second coarsest map's size, where all places meet.
    """

    maps: tuple[int, ...] = (16, 24, 40, 112, 192)
    widths: tuple[int, ...] = (128, 160, 192, 192)
    blocks: tuple[int, ...] = (1, 2, 1, 1)
    attends: int = 3


class ShapeDecoder(nn.Module):
    """Decodes feature maps into solidity and colour along every ray.

    The upward half of a U-Net, as `DepthDecoder`; places along a ray are channels.
    """

    def __init__(self, size: ShapeSize = ShapeSize()) -> None:
        super().__init__()
        self.size = size
        told = size.maps[-1]
        self.whole = nn.Sequential(nn.LayerNorm(told), nn.Linear(told, size.widths[-1]))
        self.elevation = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, size.widths[-1]))
        self.enter = nn.ModuleList()
        self.blocks = nn.ModuleList()
        above = 0
        levels = list(zip(size.maps[1:], size.widths, size.blocks, strict=True))
        for at, (seen, width, count) in reversed(list(enumerate(levels))):
            folded = 4 * (size.maps[0] + 4) if at == 0 else 0
            enter = nn.Conv2d(seen + above + folded, width, 3, padding=1)
            self.enter.append(nn.Sequential(enter, group_norm(width)))
            parts: list[nn.Module] = [ResidualBlock(width) for _ in range(count)]
            if at == len(levels) - 2:
                parts += [_Attention(width) for _ in range(size.attends)]
            self.blocks.append(nn.Sequential(*parts))
            above = width
        self.leave = nn.Sequential(
            group_norm(above), nn.SiLU(), nn.Conv2d(above, 4 * (LAYERS + 3 * COLOUR_LAYERS), 1)
        )

    def forward(
        self,
        maps: list[Tensor],
        rgba: Float[Tensor, "n 4 s s"],
        elevation_deg: Float[Tensor, " n"],
    ) -> tuple[Float[Tensor, "n l s s"], Float[Tensor, "n 3 k s s"]]:
        """Give the logit of solidity at every place, and colours less those of the picture.

        Args:
            maps: Of the picture over white, finest first.
            rgba: The picture at the finest map's size.
            elevation_deg: Where it was taken from, as far as is known.
        """
        finest = nn.functional.pixel_unshuffle(torch.cat([maps[0], rgba.to(maps[0]) * 2 - 1], 1), 2)
        coarsest_first = [*maps[:1:-1], torch.cat([maps[1], finest], dim=1)]
        angle = torch.deg2rad(elevation_deg)
        told = self.whole(coarsest_first[0].mean(dim=(2, 3)))
        told = told + self.elevation(torch.stack([angle.sin(), angle.cos()], dim=-1))
        x = self.enter[0](coarsest_first[0]) + told[:, :, None, None]
        x = self.blocks[0](x)
        for enter, blocks, seen in zip(
            self.enter[1:], self.blocks[1:], coarsest_first[1:], strict=True
        ):
            larger = nn.functional.interpolate(x, seen.shape[-2:], mode="nearest")
            x = blocks(enter(torch.cat([larger.to(seen), seen], dim=1)))
        solid, rgb = nn.functional.pixel_shuffle(self.leave(x), 2).split(
            [LAYERS, 3 * COLOUR_LAYERS], dim=1
        )
        return solid, rearrange(rgb, "n (c k) y x -> n c k y x", c=3)


class _Attention(nn.Module):
    """Attention between all places of a map, then a feed-forward layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 32
        self.position = nn.Parameter(torch.zeros(width, 8, 8))
        self.norm, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        nn.init.normal_(self.position, std=0.02)
        for layer in (self.to_out, self.feed_forward[2]):
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        tokens = rearrange(x + self.position, "n c h w -> n (h w) c")
        q, k, v = rearrange(
            self.to_qkv(self.norm(tokens)),
            "n s (three m d) -> three n m s d",
            three=3,
            m=self.heads,
        )
        out = nn.functional.scaled_dot_product_attention(q, k, v)
        tokens = tokens + self.to_out(rearrange(out, "n m s d -> n s (m d)"))
        tokens = tokens + self.feed_forward(self.norm_2(tokens))
        return rearrange(tokens, "n (h w) c -> n c h w", h=x.shape[-2])
