"""Train the latent autoencoder on rendered views."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..data.render_set import MultiViewSet
from ..diffusion.encoders import AutoencoderSize, LatentAutoencoder
from ..models import Report, silent
from .batch import ViewSampler
from .logs import picture_rows
from .loop import LoopSettings, half_precision, train
from .surgery import begin_with

LATENT_NOISE = 0.1
"""Noise added to latents while training, so that nearby latents decode alike. Chosen by us."""
LATENT_PULL = 1e-3
"""Weight of the mean squared latent, which keeps their spread near 1. Chosen by us."""
_SHOWN = 12
"""Pictures of a sheet: as decoded, over the true ones."""


def train_autoencoder(
    sets: list[MultiViewSet] | ViewSampler,
    directory: Path,
    *,
    batch: int = 64,
    size: AutoencoderSize = AutoencoderSize(),  # noqa: B008  frozen
    settings: LoopSettings = LoopSettings(steps=1200, learning_rate=2e-3),  # noqa: B008  frozen
    resume: bool = False,
    report: Report = silent,
    start: Mapping[str, Tensor] | None = None,
) -> LatentAutoencoder:
    """Train an autoencoder on single views, and standardise its latents.

    The loss is L1 on colour and alpha, and on its differences between neighbouring pixels, which
    keeps edges sharp. The network is where the pictures are. It begins with the pictures' principal
    components, or with those of the tensors in `start` that fit.
    """
    torch.manual_seed(settings.seed)  # Initial weights only; torch layers take no generator.
    network = LatentAutoencoder(size)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  torch's stub
    sampler = sets if isinstance(sets, ViewSampler) else ViewSampler(sets)
    first = sampler.views(1024, 1, Generator().manual_seed(settings.seed + 2)).rgba[:, 0]
    device = first.device
    network.to(device).start_from_components(rearrange(first, "b h w c -> b c h w"))
    begin_with(network, start or {})

    def loss(module: nn.Module, rng: Generator) -> Tensor:
        assert isinstance(module, LatentAutoencoder)
        pictures = rearrange(sampler.views(batch, 1, rng).rgba[:, 0], "b h w c -> b c h w")
        with half_precision(device.type):
            latent = module.encode_raw(pictures)
            noise = torch.randn(latent.shape, generator=rng).to(device)
            decoded = module.decode_raw(latent + LATENT_NOISE * noise).float()
        return _distance(decoded, pictures) + LATENT_PULL * latent.float().square().mean()

    def sheet(module: nn.Module) -> Tensor:
        assert isinstance(module, LatentAutoencoder)
        pictures = first[:_SHOWN]
        again = module.decode_raw(module.encode_raw(rearrange(pictures, "b h w c -> b c h w")))
        again = rearrange(again, "b c h w -> 1 b h w c").clamp(0, 1)
        return picture_rows(again[..., :3], pictures[None, ..., :3])

    train(network, loss, directory, settings=settings, resume=resume, report=report, sheet=sheet)
    _standardise(network, sampler, Generator().manual_seed(settings.seed + 1))
    return network


def _distance(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    difference = a - b
    across, down = difference.diff(dim=-1), difference.diff(dim=-2)
    return (
        difference.abs().mean()
        + difference.square().mean()
        + across.abs().mean()
        + down.abs().mean()
    )


@torch.no_grad()
def _standardise(network: LatentAutoencoder, sampler: ViewSampler, rng: Generator) -> None:
    raw = []
    for _ in range(16):
        pictures = rearrange(sampler.views(64, 1, rng).rgba[:, 0], "b h w c -> b c h w")
        raw.append(network.encode_raw(pictures))
    values = np.moveaxis(torch.cat(raw).cpu().numpy(), 1, 0).reshape(
        network.size.latent_channels, -1
    )
    network.latent_mean.copy_(torch.from_numpy(values.mean(axis=1)))
    network.latent_std.copy_(torch.from_numpy(values.std(axis=1)))
