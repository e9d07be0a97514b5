"""Spoil pictures as cameras, networks and compression do, for refiners to learn from.

Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data",
2021, section 3: blur, resize, noise and compression, twice, and a sinc filter that rings. Numbers
are theirs as Hi3D's code has them. Ours differs in three ways: compression is that of JPEG without
its file (the cosine transform, rounded by the standard's tables), pictures are continued by their
edges under a blur, and Poisson noise counts 256 levels in every picture.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

from .jpeg import jpeg


@dataclass(frozen=True)
class Pass:
    """One of the two passes.

    Attributes:
        blur: Probability of a blur.
        sigma: Range of a blur's deviations, pixels.
        resize: Probabilities of enlarging, shrinking and neither.
        scale: Least and greatest factor of size.
        noise: Range of normal noise, of 255.
        poisson: Range of the strength of Poisson noise.
    """

    blur: float = 1.0
    sigma: tuple[float, float] = (0.2, 3.0)
    resize: tuple[float, float, float] = (0.2, 0.7, 0.1)
    scale: tuple[float, float] = (0.15, 1.5)
    noise: tuple[float, float] = (1.0, 30.0)
    poisson: tuple[float, float] = (0.05, 3.0)


SECOND = Pass(0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1.0, 25.0), (0.05, 2.5))


@dataclass(frozen=True)
class Degradation:
    """How pictures are spoilt.

    Attributes:
        first: First pass.
        second: Second pass, on pictures shrunk by `shrink`.
        normal: Probability that noise is normal and not Poisson's.
        grey: Probability that noise is the same in all channels.
        quality: Range of JPEG's quality in both passes.
        sinc: Probability that a blur is a sinc filter.
        last_sinc: Probability of a sinc filter at the end.
        shrink: Factor of size that the whole loses.
        masking: Probability that squares of a picture are whitened; the paper names random masking
            without numbers, so these two were chosen by us, not tried.
        masked: Share of the squares, an eighth of the picture wide, that are.
    """

    first: Pass = Pass()
    second: Pass = SECOND
    normal: float = 0.5
    grey: float = 0.4
    quality: tuple[float, float] = (30.0, 95.0)
    sinc: float = 0.1
    last_sinc: float = 0.8
    shrink: int = 4
    masking: float = 0.25
    masked: float = 0.15


_KINDS = ("gaussian", "gaussian", "general", "general", "plateau", "plateau")
_KIND_SHARES = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)  # Round and stretched by turns.
_KERNEL_PX = 21


def degraded(
    rgb: Float[Tensor, "t 3 h w"], rng: Generator, settings: Degradation = Degradation()
) -> Float[Tensor, "t 3 h w"]:
    """Spoil the frames of a clip: sizes and noise alike in all, blurs of their own.

    Args:
        rgb: Colours, [0, 1], over white.
        rng: CPU generator.
        settings: What is done, and how much.
    """
    h, w = rgb.shape[2:]
    out = _passed(rgb, (h, w), settings.first, rng, settings)
    out = jpeg(out, _uniform(settings.quality, rng))
    small = (math.ceil(h / settings.shrink), math.ceil(w / settings.shrink))
    out = _passed(out, small, settings.second, rng, settings)
    # Compression before or after the last filter, as likely (Real-ESRGAN, section 3.4).
    compress_last = _chance(0.5, rng)
    quality = _uniform(settings.quality, rng)
    out = out if compress_last else jpeg(out, quality)
    out = _resized(out, small, rng)
    if _chance(settings.last_sinc, rng):
        out = filtered(out, torch.stack([sinc_kernel(rng)] * len(out))).clamp(0, 1)
    out = jpeg(out, quality) if compress_last else out
    return _masked(_resized(out, (h, w), rng), rng, settings)


def filtered(
    rgb: Float[Tensor, "t c h w"], kernel: Float[Tensor, "t k k"]
) -> Float[Tensor, "t c h w"]:
    """Filter each picture by its own kernel; edges go on as they end."""
    (t, c), size = rgb.shape[:2], kernel.shape[-1]
    padded = functional.pad(rgb, (size // 2,) * 4, mode="replicate")
    weight = kernel.to(rgb).repeat_interleave(c, dim=0)[:, None]
    return functional.conv2d(padded.flatten(0, 1)[None], weight, groups=t * c)[0].unflatten(
        0, (t, c)
    )


def blur_kernel(
    sigma: tuple[float, float], rng: Generator, settings: Degradation = Degradation()
) -> Float[Tensor, "k k"]:
    """Draw a kernel: a sinc, or a bell that is round or stretched, pointed, normal or flat."""
    if _chance(settings.sinc, rng):
        return sinc_kernel(rng)
    kind = int(torch.multinomial(torch.tensor(_KIND_SHARES), 1, generator=rng))
    along, angle = _uniform(sigma, rng), _uniform((-math.pi, math.pi), rng)
    across = along if kind % 2 == 0 else _uniform(sigma, rng)
    beta = 1.0
    if _KINDS[kind] == "general":
        beta = _uniform((0.5, 1.0) if _chance(0.5, rng) else (1.0, 4.0), rng)
    elif _KINDS[kind] == "plateau":
        beta = _uniform((1.0, 2.0), rng)
    x, y, _ = _grid()
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    squared = ((u / along) ** 2 + (v / across) ** 2) ** beta
    bell = 1 / (1 + squared) if _KINDS[kind] == "plateau" else torch.exp(-0.5 * squared)
    return _cut(bell, _size(rng))


def sinc_kernel(rng: Generator) -> Float[Tensor, "k k"]:
    """Draw a round filter that passes low frequencies only, and rings (Real-ESRGAN, eq. 8)."""
    size = _size(rng)
    cutoff = _uniform((math.pi / 3 if size < 13 else math.pi / 5, math.pi), rng)
    r = _grid()[2]
    safe = r.clamp(min=1e-6)
    value = cutoff * torch.special.bessel_j1(cutoff * safe) / (2 * math.pi * safe)
    return _cut(torch.where(r > 0, value, torch.full_like(r, cutoff**2 / (4 * math.pi))), size)


def _passed(
    rgb: Float[Tensor, "t 3 h w"],
    base: tuple[int, int],
    how: Pass,
    rng: Generator,
    settings: Degradation,
) -> Float[Tensor, "t 3 hh ww"]:
    """Blur, change the size (to a factor of `base`), add noise."""
    if _chance(how.blur, rng):
        kernels = [blur_kernel(how.sigma, rng, settings) for _ in rgb]
        rgb = filtered(rgb, torch.stack(kernels))
    way = int(torch.multinomial(torch.tensor(how.resize), 1, generator=rng))
    bounds = ((1.0, how.scale[1]), (how.scale[0], 1.0), (1.0, 1.0))[way]
    scale = _uniform(bounds, rng)
    rgb = _resized(rgb, (max(1, int(base[0] * scale)), max(1, int(base[1] * scale))), rng)
    rgb = rgb.clamp(0, 1)
    grey = _chance(settings.grey, rng)
    if _chance(settings.normal, rng):
        shape = (len(rgb), 1 if grey else 3, *rgb.shape[2:])
        noise = _uniform(how.noise, rng) / 255 * torch.randn(shape, generator=rng)
    else:
        light = rgb.mean(dim=1, keepdim=True) if grey else rgb
        noise = torch.poisson(light.cpu() * 256, generator=rng) / 256 - light.cpu()
        noise = _uniform(how.poisson, rng) * noise
    return (rgb + noise.to(rgb)).clamp(0, 1)


def _resized(
    rgb: Float[Tensor, "t c h w"], size_hw: tuple[int, int], rng: Generator
) -> Float[Tensor, "t c hh ww"]:
    way = int(torch.randint(3, (), generator=rng))
    if way == 0:
        return functional.interpolate(rgb, size_hw, mode="area")
    return functional.interpolate(rgb, size_hw, mode=("bilinear", "bicubic")[way - 1])


def _masked(
    rgb: Float[Tensor, "t 3 h w"], rng: Generator, settings: Degradation
) -> Float[Tensor, "t 3 h w"]:
    chosen = torch.rand(len(rgb), 1, 1, 1, generator=rng) < settings.masking
    squares = torch.rand(len(rgb), 1, 8, 8, generator=rng) < settings.masked
    holes = functional.interpolate((chosen & squares).float(), rgb.shape[2:], mode="nearest")
    return rgb.clamp(0, 1).where(holes.to(rgb) == 0, torch.ones_like(rgb))


def _cut(kernel: Float[Tensor, "k k"], size: int) -> Float[Tensor, "k k"]:
    """Keep the middle of a kernel, and make its sum 1."""
    x, y, _ = _grid()
    inside = torch.maximum(x.abs(), y.abs()) <= size // 2
    kept = torch.where(inside, kernel, torch.zeros_like(kernel))
    return kept / kept.sum()


def _grid() -> tuple[Tensor, Tensor, Tensor]:
    place = torch.arange(_KERNEL_PX).float() - _KERNEL_PX // 2
    y, x = torch.meshgrid(place, place, indexing="ij")
    return x, y, torch.hypot(x, y)


def _size(rng: Generator) -> int:
    """Draw a kernel's side: 7, 9, ... 21."""
    return 7 + 2 * int(torch.randint(8, (), generator=rng))


def _uniform(bounds: tuple[float, float], rng: Generator) -> float:
    return float(torch.empty(()).uniform_(*bounds, generator=rng))


def _chance(probability: float, rng: Generator) -> bool:
    return float(torch.rand((), generator=rng)) < probability
