"""What JPEG does to a picture, without the file.

ITU-T Recommendation T.81, "Digital Compression and Coding of Continuous-Tone Still Images", 1992,
with the example tables of its annex K and colours at half size, scaled by quality as the
Independent JPEG Group's library scales them.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

_LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)
_YCC_FROM_RGB = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""ITU-T T.871 (JFIF), section 7."""


def jpeg(rgb: Float[Tensor, "t 3 h w"], quality: float) -> Float[Tensor, "t 3 h w"]:
    """Give pictures in [0, 1] as they come out of JPEG at a quality in (0, 100]."""
    h, w = rgb.shape[2:]
    padded = functional.pad(rgb * 255, (0, -w % 16, 0, -h % 16), mode="replicate")
    turn = torch.tensor(_YCC_FROM_RGB).to(rgb)
    ycc = torch.einsum("ij,tjhw->tihw", turn, padded)
    light = _rounded(ycc[:, :1] - 128, _table(_LUMA, quality).to(rgb)) + 128
    half = functional.avg_pool2d(ycc[:, 1:], 2)
    colour = _rounded(half, _table(_CHROMA, quality).to(rgb))
    # Weights of 3/4 and 1/4, as the library enlarges colours.
    large = functional.interpolate(colour, scale_factor=2.0, mode="bilinear")
    whole = torch.cat([light, large], dim=1)
    back = torch.einsum("ij,tjhw->tihw", torch.linalg.inv(turn), whole)
    return (back[..., :h, :w] / 255).clamp(0, 1)


def cosines() -> Float[Tensor, "8 8"]:
    """Give the orthonormal cosine transform of 8 numbers; a frequency a row."""
    k, n = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    matrix = 0.5 * torch.cos(math.pi * k * (2 * n + 1) / 16)
    return torch.where(k == 0, matrix * math.sqrt(0.5), matrix)


def _rounded(
    channel: Float[Tensor, "t c h w"], table: Float[Tensor, "8 8"]
) -> Float[Tensor, "t c h w"]:
    transform = cosines().to(channel)
    blocks = rearrange(channel, "t c (y i) (x j) -> t c y x i j", i=8, j=8)
    spectrum = transform @ blocks @ transform.T
    kept = (spectrum / table).round() * table
    return rearrange(transform.T @ kept @ transform, "t c y x i j -> t c (y i) (x j)")


def _table(entries: tuple[int, ...], quality: float) -> Float[Tensor, "8 8"]:
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = torch.tensor(entries, dtype=torch.float32).reshape(8, 8)
    return ((table * scale + 50) / 100).floor().clamp(1, 255)
