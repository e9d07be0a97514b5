"""What the families' networks see of pictures: latents, and one embedding each. Never trained."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from ..diffusion.clip import ClipTower, clip_input
from ..diffusion.ddim import ScaledLinear
from ..diffusion.encoders import LatentAutoencoder
from ..diffusion.ldm_autoencoder import LATENT_SCALE, LdmAutoencoder
from ..diffusion.noise import randn
from ..models import FeatureModel

_FACTOR = 8
"""Pixels along a latent's side in Stable Diffusion's autoencoder."""


@dataclass(frozen=True, eq=False)
class Encoders:
    """Frozen networks beside the one that is trained. Pictures are RGBA over white, [0, 1].

    Attributes:
        encode: n 4 h w pictures to n c y x latents, not scaled; draws from the posterior if a
            generator is given, else takes its mode.
        decode: Latents that are not scaled to pictures.
        embed: Pictures to n d vectors.
        scale: Latents times this have about unit variance.
        channel_weight: How much each latent channel counts in a loss; mean 1.
    """

    encode: Callable[[Tensor, Generator | None], Tensor]
    decode: Callable[[Tensor], Tensor]
    embed: Callable[[Tensor], Tensor]
    scale: float
    channel_weight: Float[Tensor, " c"]

    def distance(
        self, predicted: Float[Tensor, "*n c y x"], wanted: Float[Tensor, "*n c y x"]
    ) -> Float[Tensor, " first"]:
        """Give the weighted mean squared difference of each sample (first axis)."""
        weight = self.channel_weight.to(wanted)[:, None, None]
        squares = weight * (predicted.float() - wanted).square()
        return squares.flatten(1).mean(dim=1)


def public_encoders(autoencoder: LdmAutoencoder, tower: ClipTower, *, antialias: bool) -> Encoders:
    """Encode as the published checkpoints want it: Stable Diffusion's latents, CLIP's embedding.

    Args:
        autoencoder: Of the checkpoint.
        tower: Of the checkpoint.
        antialias: As in `clip_input`: false for Zero123, true for the others.
    """
    at = next(autoencoder.parameters())
    _freeze(autoencoder, tower)

    @torch.no_grad()
    def encode(rgba: Tensor, rng: Generator | None) -> Tensor:
        rgb = (rgba[:, :3] * 2 - 1).to(at)
        if rng is None:
            return autoencoder.encode(rgb).float()
        side = (rgba.shape[-2] // _FACTOR, rgba.shape[-1] // _FACTOR)
        shape = (len(rgba), autoencoder.shape.latent, *side)
        return autoencoder.sample(rgb, randn(shape, rng).to(at)).float()

    @torch.no_grad()
    def decode(latents: Tensor) -> Tensor:
        rgb = (autoencoder.decode(latents.to(at)).float() / 2 + 0.5).clamp(0, 1)
        return torch.cat([rgb, torch.ones_like(rgb[:, :1])], dim=1)

    @torch.no_grad()
    def embed(rgba: Tensor) -> Tensor:
        rgb = (rgba[:, :3] * 2 - 1).to(next(tower.parameters()))
        return tower(clip_input(rgb, side=tower.shape.side, antialias=antialias)).float()

    weight = torch.ones(autoencoder.shape.latent)
    return Encoders(encode, decode, embed, LATENT_SCALE, weight)


def small_encoders(autoencoder: LatentAutoencoder, features: FeatureModel) -> Encoders:
    """Encode for our small networks: our autoencoder's latents, deep features as embedding.

    Both networks are on one device, where pictures are brought.
    """
    at = next(autoencoder.parameters())
    _freeze(autoencoder)

    @torch.no_grad()
    def encode(rgba: Tensor, rng: Generator | None) -> Tensor:
        del rng  # Our autoencoder's posterior is a point.
        return autoencoder.encode(rgba.to(at)).float()

    @torch.no_grad()
    def decode(latents: Tensor) -> Tensor:
        return autoencoder.decode(latents.to(at)).float().clamp(0, 1)

    @torch.no_grad()
    def embed(rgba: Tensor) -> Tensor:
        return features.embedding(rgba[:, :3].movedim(1, -1).contiguous().to(at)).float()

    return Encoders(encode, decode, embed, 1.0, autoencoder.channel_weight())


def noisy_latents(
    clean: Float[Tensor, "n c y x"], noise: Float[Tensor, "n c y x"], step: Int[Tensor, " n"]
) -> Float[Tensor, "n c y x"]:
    """Mix latents with noise as at a training step of Stable Diffusion (`ScaledLinear`)."""
    share = ScaledLinear().alphas_cumprod().to(clean.device)[step].to(clean)[:, None, None, None]
    return share.sqrt() * clean + (1 - share).sqrt() * noise


def random_steps(count: int, rng: Generator) -> Int[Tensor, " n"]:
    """Draw training steps, 0 to 999, each as likely."""
    return torch.randint(ScaledLinear().steps, (count,), generator=rng)


def without(dropped: Bool[Tensor, " n"], value: Tensor) -> Tensor:
    """Set the dropped samples (first axis) to zero."""
    kept = (~dropped).to(value).reshape(-1, *[1] * (value.ndim - 1))
    return value * kept


def coin(count: int, probability: float, rng: Generator) -> Bool[Tensor, " n"]:
    """Toss a coin for each sample."""
    return torch.rand(count, generator=rng) < probability


def device_of(network: nn.Module) -> torch.device:
    """Say where a network is; batches are drawn on the CPU and go there."""
    return next(network.parameters()).device


def _freeze(*networks: nn.Module) -> None:
    for network in networks:
        network.requires_grad_(False).eval()
