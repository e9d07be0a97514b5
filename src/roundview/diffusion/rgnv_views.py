"""RGNV on pictures: views of any generator, drawn anew with the photograph's texture.

Yu et al., "HiFi-123: Towards High-fidelity One Image to 3D Content Generation", 2024, section 3.2.
`depth2image` does the same on latents.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ..image import Foreground, composite, resize
from ..models import Report, silent
from ..views import Views
from .depth2image import (
    PAPER,
    DepthDenoiser,
    Prompts,
    Reference,
    Rgnv,
    depth_map,
    enhance,
    remember_reference,
)
from .multiview import Autoencoder

GREY = (126 / 255, 129 / 255, 127 / 255)
"""What the released code puts behind coarse views. It puts a textured photograph behind the
reference, as its depth estimator dislikes flat backgrounds; ours is masked instead."""


@dataclass(frozen=True, eq=False)
class EnhancingModels:
    """What is needed to enhance pictures.

    Attributes:
        denoiser: Predicts noise and knows depth.
        autoencoder: Makes its latents.
        depth: Estimates inverse depth (near is large, any unit) of pictures over a background.
        size_px: Side of the pictures that the denoiser was trained with.
    """

    denoiser: DepthDenoiser
    autoencoder: Autoencoder
    depth: Callable[[Float[Tensor, "n h w 3"]], Float[Tensor, "n h w"]]
    size_px: int = 512


@torch.no_grad()
def reference_of_photo(
    models: EnhancingModels,
    subject: Foreground,
    prompts: Prompts,
    settings: Rgnv = PAPER,
    *,
    report: Report = silent,
) -> Reference:
    """Make what views borrow from the photograph, once for all of them.

    Args:
        models: Networks and estimator.
        subject: Square and framed like the views.
        prompts: The source and the negative one are used.
        settings: `PAPER`, `RELEASED_CODE`, or ones of your own.
        report: Called with the fraction done.
    """
    small = subject.resized((models.size_px, models.size_px))
    latents, depth = _prepared(
        models,
        small.rgb[None],
        small.alpha[None],
        # The released code masks the depth of coarse views only; the paper that of both.
        masked=not settings.from_reference_noise,
    )
    return remember_reference(models.denoiser, latents, depth, prompts, settings, report=report)


@torch.no_grad()
def enhance_views(
    models: EnhancingModels,
    reference: Reference,
    views: Views,
    prompts: Prompts,
    *,
    together: int = 1,
    report: Report = silent,
) -> Views:
    """Draw views again with the photograph's texture; their outlines stay.

    Args:
        models: Those that the reference was made with.
        reference: Of the photograph.
        views: From any generator, at any size.
        prompts: Source, target and negative.
        together: Views at a time; more need more memory.
        report: Called with the fraction done.

    Returns:
        Views over white, of the size, the cameras and the alpha of those given.
    """
    side = (models.size_px, models.size_px)
    rgba = resize(torch.cat([views.rgb, views.alpha[..., None]], dim=-1), side).clamp(0, 1)
    drawn: list[Tensor] = []
    for part in rgba.split(together):
        latents, depth = _prepared(models, part[..., :3], part[..., 3], masked=True)
        mask = (part[..., 3] > 0.5).to(depth)[:, None]
        mask = torch.nn.functional.interpolate(mask, depth.shape[-2:], mode="nearest")
        new = enhance(models.denoiser, reference, latents, depth, prompts, mask=mask)
        pictures = models.autoencoder.decode(new).float().cpu()
        drawn.append(rearrange((pictures + 1) / 2, "n c h w -> n h w c"))
        report(len(drawn) / -(-len(rgba) // together))
    rgb = resize(torch.cat(drawn).contiguous(), views.cameras.size_hw).clamp(0, 1)
    return Views(composite(rgb, views.alpha, (1.0, 1.0, 1.0)), views.alpha, views.cameras)


def _prepared(
    models: EnhancingModels,
    rgb: Float[Tensor, "n h w 3"],
    alpha: Float[Tensor, "n h w"],
    *,
    masked: bool,
) -> tuple[Float[Tensor, "n c x y"], Float[Tensor, "n 1 x y"]]:
    """Give latents over grey, and the depth map of their size."""
    solid = (alpha > 0.5).to(rgb)
    picture = composite(rgb, solid, GREY)
    latents = models.autoencoder.encode(rearrange(picture, "n h w c -> n c h w") * 2 - 1)
    depth = models.depth(picture)
    size = int(latents.shape[-2]), int(latents.shape[-1])
    return latents, depth_map(depth * solid if masked else depth, size).to(latents)
