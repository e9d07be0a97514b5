"""Networks that turn pictures into latents and back."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class AutoencoderSize:
    """Size of a `LatentAutoencoder`; the defaults are the small model that we ship.

    Attributes:
        latent_channels: Numbers that each 8 x 8 square of RGBA pixels is kept as.
        width: Channels inside.
        encoder_blocks: Residual blocks at each of the three resolutions, finest first.
        decoder_blocks: The same for the decoder, coarsest first.
    """

    latent_channels: int = 16
    width: int = 48
    encoder_blocks: tuple[int, ...] = (1, 2, 3)
    decoder_blocks: tuple[int, ...] = (3, 3, 2)


class LatentAutoencoder(nn.Module):
    """An autoencoder of RGBA pictures with an eighth of the resolution inside.

    Ollin Boer Bohan's TAESD layout (diffusers' `AutoencoderTiny`) over pixels unshuffled by 2, which
    costs a third of running it on the pixels. Latents are standardised: each channel has mean 0 and
    variance 1 over the training pictures.
    """

    FACTOR = 8
    """Pixels along a latent's side."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, size: AutoencoderSize = AutoencoderSize()) -> None:  # noqa: B008  frozen
        from diffusers.models.autoencoders.autoencoder_tiny import (  # noqa: PLC0415  slow import
            AutoencoderTiny,
        )

        super().__init__()
        self.size = size
        self.network = AutoencoderTiny(
            in_channels=16,
            out_channels=16,
            encoder_block_out_channels=(size.width,) * 3,
            decoder_block_out_channels=(size.width,) * 3,
            num_encoder_blocks=size.encoder_blocks,
            num_decoder_blocks=size.decoder_blocks,
            latent_channels=size.latent_channels,
        )
        self.register_buffer("latent_mean", torch.zeros(size.latent_channels))
        self.register_buffer("latent_std", torch.ones(size.latent_channels))

    def encode(self, rgba: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n c hl wl"]:
        """Turn pictures (colour over white, alpha; [0, 1]) into standardised latents."""
        raw = self.encode_raw(rgba)
        return (raw - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def decode(self, latent: Float[Tensor, "n c hl wl"]) -> Float[Tensor, "n 4 h w"]:
        """Turn standardised latents into pictures; values may leave [0, 1] a little."""
        return self.decode_raw(
            latent * self.latent_std[:, None, None] + self.latent_mean[:, None, None]
        )

    def encode_raw(self, rgba: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n c hl wl"]:
        """Encode without standardising; what the autoencoder's own training uses."""
        squares = rearrange(rgba * 2 - 1, "n c (h a) (w b) -> n (c a b) h w", a=2, b=2)
        return self.network.encoder(squares)

    def decode_raw(self, raw: Float[Tensor, "n c hl wl"]) -> Float[Tensor, "n 4 h w"]:
        """Decode latents that were not standardised."""
        squares = self.network.decoder(raw)
        pixels = rearrange(squares, "n (c a b) h w -> n c (h a) (w b)", a=2, b=2)
        return pixels / 2 + 0.5
