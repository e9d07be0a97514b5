"""RGNV on pictures: views of any generator, drawn anew with the photograph's texture.

Yu et al., "HiFi-123: Towards High-fidelity One Image to 3D Content Generation", 2024, section 3.2.
`depth2image` does the same on latents.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

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
WHITE = (1.0, 1.0, 1.0)
FARTHEST = 0.25
"""What `spread_depth` gives the subject's farthest point; chosen by us, not tuned."""

OfPictures = Callable[[Float[Tensor, "n h w 3"], Float[Tensor, "n h w"]], Tensor]
"""Called with colour over white and alpha."""


@dataclass(frozen=True, eq=False)
class EnhancingModels:
    """What is needed to enhance pictures.

    Attributes:
        denoiser: Predicts noise and knows depth.
        encode: Makes its latents, n c y x, of pictures; differentiable.
        decode: Makes colour, n h w 3 in about [0, 1], of latents; what is outside the subject does
            not count.
        depth: Estimates inverse depth of pictures, n h w: near is large, any unit.
        size_px: Side of the pictures that the denoiser was trained with.
    """

    denoiser: DepthDenoiser
    encode: OfPictures
    decode: Callable[[Float[Tensor, "n c y x"]], Float[Tensor, "n h w 3"]]
    depth: OfPictures
    size_px: int = 512


def over_grey(autoencoder: Autoencoder) -> tuple[OfPictures, Callable[[Tensor], Tensor]]:
    """Give `encode` and `decode` of an autoencoder of plain colours, as the released code does."""

    def encode(rgb: Tensor, alpha: Tensor) -> Tensor:
        picture = composite(rgb, (alpha > 0.5).to(rgb), GREY)
        return autoencoder.encode(rearrange(picture, "n h w c -> n c h w") * 2 - 1)

    def decode(latents: Tensor) -> Tensor:
        return rearrange((autoencoder.decode(latents).float() + 1) / 2, "n c h w -> n h w c")

    return encode, decode


def spread_depth(
    inverse: Float[Tensor, "n h w"], alpha: Float[Tensor, "n h w"]
) -> Float[Tensor, "n h w"]:
    """Spread the subject's inverse depth from `FARTHEST` to 1; all else is 0.

    Estimators know inverse depth up to scale and shift only: these no longer count. Our small
    model was trained with depth like this.
    """
    solid = alpha > 0.5
    far = torch.where(solid, inverse, torch.inf).amin(dim=(1, 2), keepdim=True)
    near = torch.where(solid, inverse, -torch.inf).amax(dim=(1, 2), keepdim=True)
    along = (inverse - far) / (near - far).clamp(min=1e-3)
    return torch.where(solid, FARTHEST + (1 - FARTHEST) * along, torch.zeros_like(inverse))


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
    latents, depth = prepared(
        models,
        small.over()[None],
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
        views: From any generator, at any size, over white. If they have depth, as renderings do,
            it is used and none is estimated.
        prompts: Source, target and negative.
        together: Views at a time; more need more memory.
        report: Called with the fraction done.

    Returns:
        Views over white, of the size, the cameras, the alpha and the depth of those given.
    """
    size_hw = (models.size_px, models.size_px)
    drawn: list[Tensor] = []
    for first in range(0, len(views), together):
        part = views[list(range(first, min(first + together, len(views))))]
        small = part.resized(size_hw)
        latents, depth = prepared(
            models, small.rgb, small.alpha, known=inverse_depth(part, size_hw)
        )
        mask = (small.alpha > 0.5).to(depth)[:, None]
        mask = torch.nn.functional.interpolate(mask, depth.shape[-2:], mode="nearest")
        new = enhance(models.denoiser, reference, latents, depth, prompts, mask=mask)
        drawn.append(models.decode(new).cpu())
        report(len(drawn) / -(-len(views) // together))
    rgb = resize(torch.cat(drawn).contiguous(), views.cameras.size_hw).clamp(0, 1)
    return replace(views, rgb=composite(rgb, views.alpha, WHITE))


def inverse_depth(views: Views, size_hw: tuple[int, int]) -> Float[Tensor, "n h w"] | None:
    """Give what is known of views' inverse depth, 0 where nothing is seen; None if nothing is."""
    if views.depth is None:
        return None
    inverse = torch.where(views.depth > 0, 1 / views.depth.clamp(min=1e-3), 0.0)
    if views.cameras.size_hw == size_hw:
        return inverse
    # Not averaged: between subject and background there is no surface.
    return torch.nn.functional.interpolate(inverse[:, None], size_hw, mode="nearest-exact")[:, 0]


def prepared(
    models: EnhancingModels,
    rgb: Float[Tensor, "n h w 3"],
    alpha: Float[Tensor, "n h w"],
    *,
    known: Float[Tensor, "n h w"] | None = None,
    masked: bool = True,
) -> tuple[Float[Tensor, "n c y x"], Float[Tensor, "n 1 y x"]]:
    """Give the latents of pictures, and the depth map of their size.

    Args:
        models: Networks and estimator.
        rgb: Colour over white, of the models' size.
        alpha: Coverage.
        known: Inverse depth, if it is known; estimated otherwise.
        masked: Take the depth inside the subject only.
    """
    latents = models.encode(rgb, alpha)
    with torch.no_grad():
        if known is not None:
            depth = spread_depth(known, alpha)
        else:
            depth = models.depth(rgb, alpha)
            depth = depth * (alpha > 0.5).to(depth) if masked else depth
        size = int(latents.shape[-2]), int(latents.shape[-1])
        return latents, depth_map(depth, size).to(latents)
