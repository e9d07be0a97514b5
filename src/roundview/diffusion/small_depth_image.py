"""Our small image model that knows depth, in the place of `stable-diffusion-2-depth`.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", 2022, a hundredth of
the size, on our autoencoder's latents. Where that model reads text, ours is told the embedding of a
picture of the subject; all zeros stand for the empty prompt, a depth of -1 for no depth.
"""

from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from ..camera import Cameras
from ..image import Foreground
from ..models import DepthModel, FeatureModel
from .checkpoints.unet import UNetShape
from .ddim import ScaledLinear
from .depth2image import DepthDenoiser, Prompts, SharedDepthUNet
from .encoders import LatentAutoencoder
from .guide import Guided, NoiseModel
from .ldm_unet import LdmUNet
from .rgnv_views import EnhancingModels, spread_depth
from .small_shapes import small_multiview_shape

PICTURE_PX = 128
"""Side of the pictures that the shipped model was trained with."""


def small_depth_image_shape(latents: int, context: int) -> UNetShape:
    """Give the size of the network: that of the multi-view model, whose training it goes on from.

    Args:
        latents: Channels of a latent.
        context: Length of the picture's embedding.
    """
    return replace(small_multiview_shape(latents, context), in_channels=latents + 1, camera=0)


def small_enhancing_models(
    network: LdmUNet,
    autoencoder: LatentAutoencoder,
    depth: DepthModel,
    *,
    size_px: int = PICTURE_PX,
) -> EnhancingModels:
    """Bring the small model together with what RGNV needs beside it.

    Args:
        network: Of `small_depth_image_shape`.
        autoencoder: The shipped one.
        depth: Estimates depth where none is known.
        size_px: Side of the pictures that the network was trained with.
    """
    place = next(network.parameters()).device
    network.eval().requires_grad_(False)
    autoencoder.eval().requires_grad_(False)

    def encode(rgb: Tensor, alpha: Tensor) -> Tensor:
        rgba = torch.cat([rgb, alpha[..., None]], dim=-1)
        return autoencoder.encode(rearrange(rgba, "n h w c -> n c h w").contiguous().to(place))

    def decode(latents: Tensor) -> Tensor:
        return rearrange(autoencoder.decode(latents)[:, :3], "n c h w -> n h w c").contiguous()

    def estimated(rgb: Tensor, alpha: Tensor) -> Tensor:
        return spread_depth(depth(rgb)[0].to(alpha), alpha)

    return EnhancingModels(SharedDepthUNet(network.unet), encode, decode, estimated, size_px)


def picture_prompts(features: FeatureModel, subject: Foreground, *, size_px: int) -> Prompts:
    """Tell the small model what it shall draw: the embedding of the photograph.

    Args:
        features: The shipped ones.
        subject: The framed photograph.
        size_px: Side of the pictures that embeddings were taken of in training.
    """
    picture = subject.resized((size_px, size_px)).over()[None]
    token = features.embedding(picture).float()[:, None]
    return Prompts(torch.zeros_like(token), token, torch.zeros_like(token))


class ImageGuide:
    """A `ViewGuide` that sees each rendering by itself and is told no depth: HiFi-123's 2D prior.

    The paper asks a text-to-image model there (DeepFloyd IF).

    Args:
        models: Whose denoiser and encoder are asked.
        prompts: The target and the negative one are used.
        scale: Of guidance.
    """

    together = 1

    def __init__(self, models: EnhancingModels, prompts: Prompts, *, scale: float) -> None:
        self.models, self.prompts, self.scale = models, prompts, scale
        self.shares = ScaledLinear().alphas_cumprod()
        self.size_px = models.size_px

    def encode(self, rgba: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n c y x"]:
        """Turn renderings into latents; differentiable."""
        rgb, alpha = rearrange(rgba, "n c h w -> n h w c").split([3, 1], dim=-1)
        return self.models.encode(rgb, alpha[..., 0])

    def told(self, cameras: Cameras) -> Guided[Tensor]:
        """Tell the model what the subject looks like; where from does not matter to it."""
        del cameras
        model = depth_free(self.models.denoiser)
        return Guided(model, self.prompts.target, self.prompts.negative, self.scale)


def depth_free(denoiser: DepthDenoiser) -> NoiseModel[Tensor]:
    """Let the model predict noise without depth, as in some of its training, by tokens alone."""

    def predict(x: Tensor, t: Int[Tensor, " b"], tokens: Tensor) -> Tensor:
        return denoiser(x, t, no_depth(x), tokens.to(x).expand(len(x), -1, -1))

    return predict


def no_depth(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
    """Give the depth map that stands for none."""
    return torch.full_like(x[:, :1], -1.0)
