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

    latent_channels: int = 24
    width: int = 48
    encoder_blocks: tuple[int, ...] = (1, 2, 3)
    decoder_blocks: tuple[int, ...] = (3, 3, 2)


class LatentAutoencoder(nn.Module):
    """An autoencoder of RGBA pictures with an eighth of the resolution inside.

    A linear map of each 8 x 8 square (principal components at the start of training) plus what a
    convolutional network adds to it, on both ways. The network has Ollin Boer Bohan's TAESD layout
    (diffusers' `AutoencoderTiny`) over pixels unshuffled by 2, which costs a third of running it on
    the pixels. The linear part makes the mean of two latents decode to nearly the mean of their
    pictures, and spares a short training the discovery of colour. Latents are standardised: each
    channel has mean 0 and variance 1 over the training pictures.
    """

    FACTOR = 8
    """Pixels along a latent's side."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, size: AutoencoderSize = AutoencoderSize()) -> None:
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
        self.squares_in = nn.Linear(4 * self.FACTOR**2, size.latent_channels)
        self.squares_out = nn.Linear(size.latent_channels, 4 * self.FACTOR**2)
        for last in (self.network.encoder.layers[-1], self.network.decoder.layers[-1]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)
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
        centred = rgba * 2 - 1
        fine = self.network.encoder(
            rearrange(centred, "n c (h a) (w b) -> n (c a b) h w", a=2, b=2)
        )
        squares = rearrange(centred, "n c (h a) (w b) -> n h w (c a b)", a=8, b=8)
        return rearrange(self.squares_in(squares), "n h w c -> n c h w") + fine

    def decode_raw(self, raw: Float[Tensor, "n c hl wl"]) -> Float[Tensor, "n 4 h w"]:
        """Decode latents that were not standardised."""
        # diffusers' decoder maps its output from [0, 1] to [-1, 1]; the shift belongs to pictures.
        fine = rearrange(
            self.network.decoder(raw) + 1, "n (c a b) h w -> n c (h a) (w b)", a=2, b=2
        )
        squares = self.squares_out(rearrange(raw, "n c h w -> n h w c"))
        coarse = rearrange(squares, "n h w (c a b) -> n c (h a) (w b)", a=8, b=8)
        return (coarse + fine) / 2 + 0.5

    def channel_weight(self) -> Float[Tensor, " c"]:
        """Say how much each latent channel moves the picture: linear part only, mean 1."""
        moves = self.squares_out.weight.detach().norm(dim=0) * self.latent_std
        return moves / moves.mean()

    @torch.no_grad()
    def start_from_components(self, rgba: Float[Tensor, "n 4 h w"]) -> None:
        """Set the linear part to the principal components of these pictures, to unit variance."""
        squares = rearrange(rgba * 2 - 1, "n c (h a) (w b) -> (n h w) (c a b)", a=8, b=8).double()
        mean = squares.mean(dim=0)
        values, vectors = torch.linalg.eigh((squares - mean).T @ (squares - mean) / len(squares))
        count = self.size.latent_channels
        spread, basis = values[-count:].flip(0).clamp(min=1e-8).sqrt(), vectors[:, -count:].flip(1)
        self.squares_in.weight.copy_((basis / spread).T)
        self.squares_in.bias.copy_(-(mean @ basis) / spread)
        self.squares_out.weight.copy_(basis * spread)
        self.squares_out.bias.copy_(mean)
