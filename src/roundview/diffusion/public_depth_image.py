"""Stable Diffusion 2 that knows depth (`stable-diffusion-2-depth`), as RGNV and RGSD ask for it.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", 2022, as Yu et al.,
"HiFi-123: Towards High-fidelity One Image to 3D Content Generation", 2024, use it: pictures of 512
pixels over grey, latents that are the posterior's mean, prompts of text. `small_depth_image` is our
own in its place.
"""

from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from ..image import composite
from ..models import DepthModel
from .attention import Memory
from .depth2image import Prompts, SharedDepthUNet
from .ldm_autoencoder import LATENT_SCALE, LdmAutoencoder
from .ldm_unet import LdmUNet
from .rgnv_views import GREY, EnhancingModels, spread_depth


class PlacedDepthUNet:
    """A `DepthDenoiser` that may be asked in any precision, from any device."""

    def __init__(self, unet: LdmUNet) -> None:
        self.network = SharedDepthUNet(unet.unet)
        self._at = next(unet.parameters())

    def __call__(
        self,
        x: Float[Tensor, "b c h w"],
        t: Int[Tensor, " b"],
        depth: Float[Tensor, "b 1 h w"],
        tokens: Float[Tensor, "b k d"],
        *,
        record: Memory | None = None,
        borrow: Memory | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Predict noise; see `DepthDenoiser`."""
        at = self._at
        noise = self.network(
            x.to(at), t.to(at.device), depth.to(at), tokens.to(at), record=record, borrow=borrow
        )
        return noise.to(x)


def public_enhancing_models(
    unet: LdmUNet,
    autoencoder: LdmAutoencoder,
    depth: DepthModel,
    *,
    size_px: int = 512,
    as_estimated: bool = False,
    at_once: int = 4,
) -> EnhancingModels:
    """Bring the published networks together with what RGNV needs beside them.

    Args:
        unet: Of five channels: the fifth is depth.
        autoencoder: Stable Diffusion's.
        depth: Estimates depth where none is known.
        size_px: Side of the pictures that the network was trained with.
        as_estimated: Take inverse depth as the estimator gives it, as the authors do with MiDaS;
            else the subject's is spread, for estimators whose zero means nothing.
        at_once: Pictures that the autoencoder sees together.
    """
    unet.eval().requires_grad_(False)
    autoencoder.eval().requires_grad_(False)
    at = next(autoencoder.parameters())

    def encode(rgb: Tensor, alpha: Tensor) -> Tensor:
        picture = composite(rgb, (alpha > 0.5).to(rgb), GREY)
        parts = (rearrange(picture, "n h w c -> n c h w") * 2 - 1).to(at).split(at_once)
        return torch.cat([autoencoder.encode(part) for part in parts]).float() * LATENT_SCALE

    def decode(latents: Tensor) -> Tensor:
        parts = (latents / LATENT_SCALE).to(at).split(at_once)
        pictures = torch.cat([autoencoder.decode(part) for part in parts]).float()
        return rearrange(pictures / 2 + 0.5, "n c h w -> n h w c").contiguous()

    def estimated(rgb: Tensor, alpha: Tensor) -> Tensor:
        inverse = depth(rgb)[0].to(alpha)
        return inverse if as_estimated else spread_depth(inverse, alpha)

    return EnhancingModels(PlacedDepthUNet(unet), encode, decode, estimated, size_px)


def text_prompts(tell: Callable[[Sequence[str]], Tensor], prompt: str) -> Prompts:
    """Tell the model what is to be drawn; the photograph and what guidance avoids have no words.

    Args:
        tell: Texts to tokens, see `clip_text.text_tokens`.
        prompt: Such as "side view of a parrot" (the paper's; it does not say who writes it).
    """
    nothing, wanted = tell(["", prompt]).float().split(1)
    return Prompts(nothing, wanted, nothing)
