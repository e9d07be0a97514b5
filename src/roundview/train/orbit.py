"""Train the orbit model: denoise the latents of many views of an object, given one picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..data.objects import is_scan
from ..data.render_set import MultiViewSet
from ..diffusion.encoders import LatentAutoencoder
from ..diffusion.noise import CosineSchedule, v_from_clean
from ..diffusion.view_transformer import ViewTransformer
from ..models import Report, silent
from .batch import ViewBatch, ViewSampler
from .encoding import device_of
from .logs import picture_rows
from .loop import LoopSettings, Loss, Sheet, half_precision, train


@dataclass(frozen=True)
class OrbitTraining:
    """What the orbit model is trained on; the defaults are ours.

    Attributes:
        batch: Objects a step when few views are drawn; fewer with many, for the same work.
        few_views: Target views of most steps.
        many_views: Target views of the others, as many as a whole orbit has.
        many_share: Share of the steps with many views.
        pure_noise_share: Share of the samples at t = 1, where only the photo tells anything. These
            decide the layout of the views, and the first sampling step is taken there.
    """

    batch: int = 12
    few_views: int = 5
    many_views: int = 16
    many_share: float = 0.08
    pure_noise_share: float = 0.5


def train_orbit(
    network: ViewTransformer,
    sampler: ViewSampler,
    autoencoder: LatentAutoencoder,
    directory: Path,
    *,
    training: OrbitTraining = OrbitTraining(),
    settings: LoopSettings = LoopSettings(steps=6000, learning_rate=7e-4),  # noqa: B008  frozen
    resume: bool = False,
    report: Report = silent,
) -> ViewTransformer:
    """Train a view transformer on the latents of a frozen autoencoder, where that is."""
    autoencoder.requires_grad_(False).eval()
    train(
        network,
        orbit_loss(sampler, autoencoder, training),
        directory,
        settings=settings,
        resume=resume,
        report=report,
        sheet=orbit_sheet(sampler, autoencoder, Generator().manual_seed(settings.seed + 3)),
    )
    return network


def orbit_loss(
    sampler: ViewSampler, autoencoder: LatentAutoencoder, training: OrbitTraining
) -> Loss:
    """Give the loss that the loop calls: a batch of few or many views, and `velocity_loss`."""

    def loss(network: nn.Module, rng: Generator) -> Tensor:
        many = float(torch.rand((), generator=rng)) < training.many_share
        views = training.many_views if many else training.few_views
        objects = max(1, training.batch * (training.few_views + 1) // (views + 1))
        batch = sampler.views(objects, views + 1, rng)
        return velocity_loss(network, autoencoder, batch, rng, training.pure_noise_share)

    return loss


def orbit_sheet(sampler: ViewSampler, autoencoder: LatentAutoencoder, rng: Generator) -> Sheet:
    """Give what draws a sheet: the photo, and views as guessed in one step, over the true ones."""
    shown = sampler.views(_SHOWN, 5, rng)

    def sheet(network: nn.Module) -> Tensor:
        return picture_rows(_first_guess(network, autoencoder, shown), shown.rgba[..., :3])

    return sheet


def velocity_loss(
    network: nn.Module,
    autoencoder: LatentAutoencoder,
    batch: ViewBatch,
    rng: Generator,
    pure_noise_share: float,
) -> Float[Tensor, ""]:
    """Give the mean squared error of the predicted velocity, at random times.

    Channels count by how much they move the picture: evenly weighted, the many that hold faint
    and hardly predictable detail would drown those that hold the shape.
    """
    schedule, device = CosineSchedule(), device_of(network)
    objects = batch.rgba.shape[0]
    latents = _latents(autoencoder, batch)
    clean = latents[:, 1:].contiguous()
    t = torch.rand(objects, generator=rng)
    t = torch.where(torch.rand(objects, generator=rng) < pure_noise_share, torch.ones_like(t), t)
    noise = torch.randn(clean.shape, generator=rng).to(device)
    t = t.to(device)
    known = (latents[:, 0], *_told(batch, device))
    with half_precision(device.type):
        v = network(schedule.noised(clean, noise, t), t, *known)
    weight = autoencoder.channel_weight()[:, None, None]
    return (weight * (v - v_from_clean(schedule, clean, noise, t)).square()).mean()


_SHOWN = 6
"""Objects of a sheet."""


@torch.no_grad()
def _first_guess(
    network: nn.Module, autoencoder: LatentAutoencoder, batch: ViewBatch
) -> Float[Tensor, "b v h w 3"]:
    """Draw the views in one step from no signal, as `REFINE_FROM` says the first step is taken."""
    device = device_of(network)
    latents = _latents(autoencoder, batch)
    t = torch.ones(len(latents), device=device)
    # At pure noise the velocity is minus the clean latent, and no noise enters the network.
    v = network(torch.zeros_like(latents[:, 1:]), t, latents[:, 0], *_told(batch, device))
    drawn = autoencoder.decode(rearrange(-v, "b v c y x -> (b v) c y x"))
    drawn = rearrange(drawn, "(b v) c h w -> b v h w c", b=len(latents))[..., :3].clamp(0, 1)
    return torch.cat([batch.rgba[:, :1, ..., :3].to(drawn), drawn], dim=1)


def _latents(autoencoder: LatentAutoencoder, batch: ViewBatch) -> Float[Tensor, "b v c y x"]:
    device = device_of(autoencoder)
    pictures = rearrange(batch.rgba, "b v h w c -> (b v) c h w").to(device)
    with half_precision(device.type), torch.no_grad():
        latents = autoencoder.encode(pictures.contiguous(memory_format=torch.channels_last))
    return rearrange(latents.float(), "(b v) c y x -> b v c y x", b=len(batch.rgba))


def _told(batch: ViewBatch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Give what the network is told beside latents and time: photo, poses and focal lengths."""
    photo = rearrange(batch.rgba[:, 0], "b h w c -> b c h w").to(device)
    return photo, batch.world_from_camera.to(device), batch.focal_ratio.to(device)


def object_weights(
    real: MultiViewSet, procedural: MultiViewSet, *, scans_times: float, procedural_share: float
) -> list[np.ndarray]:
    """Say how often each object is drawn: scans more often, procedural ones a fixed share.

    Scanned objects (Google Scanned Objects, YCB) are few in the training set but look most like
    what users photograph.
    """
    scans = np.array([is_scan(name) for name in real.names])
    weight = np.where(scans, scans_times, 1.0)
    each = procedural_share / (1 - procedural_share) * weight.sum() / len(procedural)
    return [weight, np.full(len(procedural), each)]
