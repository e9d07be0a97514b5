"""Stable Diffusion's autoencoder, and Stable Video Diffusion's decoder that sees whole clips."""

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import TemporalDecoder
from jaxtyping import Float
from torch import Tensor, nn

from .checkpoints.autoencoder import (
    AutoencoderShape,
    decoder_parts,
    encoder_parts,
    quantisation_parts,
)
from .checkpoints.layout import Layout, Part, layout_of

LATENT_SCALE = 0.18215
"""Latents times this have about unit variance (Rombach et al. 2022; SD 1, SD 2, SVD)."""


class LdmAutoencoder(nn.Module):
    """Turns pictures in [-1, 1] into latents an eighth their size, and back.

    `AutoencoderKL` of diffusers (Rombach et al., "High-Resolution Image Synthesis with Latent
    Diffusion Models", 2022). Neither way multiplies by `LATENT_SCALE`: the models that lay a
    picture's latents beside noisy ones want them without.

    Args:
        shape: Its sizes.
        quant: Whether there are 1x1 convolutions between encoder, latents and decoder.
        upcast: Encode in float32 whatever the precision of the rest, as diffusers does for Stable
            Video Diffusion (`force_upcast`): in half precision the encoder's activations can
            overflow. Decoding is not affected.
    """

    def __init__(
        self,
        shape: AutoencoderShape = AutoencoderShape(),  # noqa: B008  frozen
        *,
        quant: bool = True,
        upcast: bool = False,
    ) -> None:
        super().__init__()
        self.shape, self.upcast = shape, upcast
        levels = len(shape.widths)
        # As a dictionary: diffusers declares tuples of length one.
        config: dict[str, Any] = {
            "in_channels": shape.picture,
            "out_channels": shape.picture,
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "block_out_channels": shape.channels,
            "layers_per_block": shape.res_blocks,
            "latent_channels": shape.latent,
            "use_quant_conv": quant,
            "use_post_quant_conv": quant,
        }
        self.net = AutoencoderKL(**config)

    def moments(self, picture: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m x y"]:
        """Give means and log variances of the latents, along the channels, in the given precision.

        With `upcast` they are computed in float32.
        """
        hidden = self.net.encoder(picture.float() if self.upcast else picture)
        out = hidden if self.net.quant_conv is None else self.net.quant_conv(hidden)
        return out.to(picture)

    def encode(self, picture: Float[Tensor, "b c h w"]) -> Float[Tensor, "b l x y"]:
        """Give the most likely latents, not scaled."""
        return self.moments(picture)[:, : self.shape.latent]

    def sample(
        self, picture: Float[Tensor, "b c h w"], noise: Float[Tensor, "b l x y"]
    ) -> Float[Tensor, "b l x y"]:
        """Draw latents by unit noise, not scaled."""
        mean, log_variance = self.moments(picture).chunk(2, dim=1)
        return mean + noise * (0.5 * log_variance.clamp(-30.0, 20.0)).exp()

    def decode(self, latents: Float[Tensor, "b l x y"]) -> Float[Tensor, "b c h w"]:
        """Give the picture of latents that are not scaled."""
        post = self.net.post_quant_conv
        return self.net.decoder(latents if post is None else post(latents))

    def upcast_encoder(self) -> None:
        """Bring what encodes back to float32, if it is to be; after any change of precision."""
        if not self.upcast:
            return
        self.net.encoder.float()
        if self.net.quant_conv is not None:
            self.net.quant_conv.float()

    def layout(self) -> Layout:
        """Give the original's name of each tensor, from `encoder` and `decoder` on."""
        parts = [*encoder_parts(self.shape), *decoder_parts(self.shape), *quantisation_parts()]
        return layout_of(self, [_within("net.", part) for part in parts])


class ClipDecoder(nn.Module):
    """Decodes the latents of a clip's frames together, so that they do not flicker.

    `TemporalDecoder` of diffusers (Blattmann et al., "Stable Video Diffusion", 2023).
    """

    def __init__(self, shape: AutoencoderShape = AutoencoderShape()) -> None:  # noqa: B008  frozen
        super().__init__()
        self.shape = shape
        config: dict[str, Any] = {
            "in_channels": shape.latent,
            "out_channels": shape.picture,
            "block_out_channels": shape.channels,
            "layers_per_block": shape.res_blocks,
        }
        self.decoder = TemporalDecoder(**config)

    def decode(self, latents: Float[Tensor, "b t l x y"]) -> Float[Tensor, "b t c h w"]:
        """Give the frames of latents that are not scaled."""
        b, t = latents.shape[:2]
        moving = torch.zeros(b, t).to(latents)
        out = self.decoder(latents.flatten(0, 1), image_only_indicator=moving, num_frames=t)
        return out.unflatten(0, (b, t))

    def layout(self) -> Layout:
        """Give the original's name of each tensor, from `decoder` on."""
        return layout_of(self, decoder_parts(self.shape, video=True))


def _within(prefix: str, part: Part) -> Part:
    return Part(prefix + part.ours, part.original, part.inside, part.flat)
