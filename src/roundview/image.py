"""Pictures: the photograph that comes in, and the subject cut out of it.

Colours are straight (not premultiplied) sRGB in [0, 1], channel-last, float32.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Image:
    """A photograph, upright, with its alpha channel if it had a telling one."""

    rgb: Float[Tensor, "h w 3"]
    alpha: Float[Tensor, "h w"] | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.rgb.shape[0]), int(self.rgb.shape[1])


@dataclass(frozen=True, eq=False)
class Foreground:
    """The subject of a photograph: straight colour, and alpha that says where it is.

    After `frame_subject` it is square and framed like the pictures that the models were trained on.
    """

    rgb: Float[Tensor, "h w 3"]
    alpha: Float[Tensor, "h w"]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.rgb.shape[0]), int(self.rgb.shape[1])

    def over(
        self, background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    ) -> Float[Tensor, "h w 3"]:
        """Lay the subject over a plain colour."""
        return composite(self.rgb, self.alpha, background)

    def resized(self, size_hw: tuple[int, int]) -> "Foreground":
        """The same picture at another size, by area-true filtering of premultiplied colour."""
        if size_hw == self.size_hw:
            return self
        premultiplied = torch.cat([self.rgb * self.alpha[..., None], self.alpha[..., None]], dim=-1)
        small = resize(premultiplied, size_hw)
        alpha = small[..., 3].clamp(0, 1)
        rgb = (small[..., :3] / alpha[..., None].clamp(min=1e-6)).clamp(0, 1)
        return replace(self, rgb=rgb * (alpha > 1e-6)[..., None], alpha=alpha)


def composite(
    rgb: Float[Tensor, "*batch h w 3"],
    alpha: Float[Tensor, "*batch h w"],
    background: tuple[float, float, float],
) -> Float[Tensor, "*batch h w 3"]:
    """Lay straight colour over a plain background (Porter and Duff 1984, "over")."""
    colour = torch.tensor(background).to(rgb)
    return rgb * alpha[..., None] + colour * (1 - alpha[..., None])


def resize(
    picture: Float[Tensor, "*batch h w c"], size_hw: tuple[int, int]
) -> Float[Tensor, "*batch H W c"]:
    """Resample pictures: antialiased bilinear going down, bicubic going up; not clamped."""
    h, w = picture.shape[-3:-1]
    if (h, w) == size_hw:
        return picture
    flat = picture.reshape(-1, h, w, picture.shape[-1]).permute(0, 3, 1, 2)
    smaller = size_hw[0] <= h and size_hw[1] <= w
    out = torch.nn.functional.interpolate(
        flat, size_hw, mode="bilinear" if smaller else "bicubic", antialias=True
    )
    return out.permute(0, 2, 3, 1).reshape(*picture.shape[:-3], *size_hw, picture.shape[-1])
