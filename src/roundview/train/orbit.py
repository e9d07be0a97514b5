"""Train the orbit model: denoise the latents of many views of an object, given one picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..data.render_set import MultiViewSet
from ..diffusion.encoders import LatentAutoencoder
from ..diffusion.noise import CosineSchedule, v_from_clean
from ..diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from ..models import Report, silent
from .batch import ViewBatch, ViewSampler
from .loop import LoopSettings, half_precision, train


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
    sampler: ViewSampler,
    autoencoder: LatentAutoencoder,
    directory: Path,
    *,
    size: ViewTransformerSize = ViewTransformerSize(),  # noqa: B008  frozen
    training: OrbitTraining = OrbitTraining(),
    settings: LoopSettings = LoopSettings(steps=6000, learning_rate=7e-4),  # noqa: B008  frozen
    resume: bool = False,
    report: Report = silent,
) -> ViewTransformer:
    """Train a view transformer on the latents of a frozen autoencoder."""
    torch.manual_seed(settings.seed)  # Initial weights only; torch layers take no generator.
    network = ViewTransformer(size)
    autoencoder.requires_grad_(False).eval()

    def loss(module: nn.Module, rng: Generator) -> Tensor:
        many = float(torch.rand((), generator=rng)) < training.many_share
        views = training.many_views if many else training.few_views
        objects = max(1, training.batch * (training.few_views + 1) // (views + 1))
        batch = sampler.views(objects, views + 1, rng)
        return velocity_loss(module, autoencoder, batch, rng, training.pure_noise_share)

    train(network, loss, directory, settings=settings, resume=resume, report=report)
    return network


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
    schedule = CosineSchedule()
    objects = batch.rgba.shape[0]
    pictures = rearrange(batch.rgba, "b v h w c -> (b v) c h w")
    with half_precision(), torch.no_grad():
        latents = autoencoder.encode(pictures.contiguous(memory_format=torch.channels_last))
    latents = rearrange(latents.float(), "(b v) c y x -> b v c y x", b=objects)
    clean = latents[:, 1:].contiguous()
    t = torch.rand(objects, generator=rng)
    t = torch.where(torch.rand(objects, generator=rng) < pure_noise_share, torch.ones_like(t), t)
    noise = torch.randn(clean.shape, generator=rng)
    photo = rearrange(batch.rgba[:, 0], "b h w c -> b c h w")
    with half_precision():
        v = network(
            schedule.noised(clean, noise, t),
            t,
            latents[:, 0],
            photo,
            batch.world_from_camera,
            batch.focal_ratio,
        )
    weight = autoencoder.channel_weight()[:, None, None]
    return (weight * (v - v_from_clean(schedule, clean, noise, t)).square()).mean()


def object_weights(
    real: MultiViewSet, procedural: MultiViewSet, *, scans_times: float, procedural_share: float
) -> list[np.ndarray]:
    """Say how often each object is drawn: scans more often, procedural ones a fixed share.

    Scanned objects (Google Scanned Objects, YCB) are few in the training set but look most like
    what users photograph.
    """
    scans = np.array([name.startswith(("gso/", "ycb/")) for name in real.names])
    weight = np.where(scans, scans_times, 1.0)
    each = procedural_share / (1 - procedural_share) * weight.sum() / len(procedural)
    return [weight, np.full(len(procedural), each)]
