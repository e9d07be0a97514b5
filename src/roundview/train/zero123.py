"""Train Zero123: the noise of one view, from another view and the way between the two.

Liu et al., "Zero-1-to-3: Zero-shot One Image to 3D Object", 2023. The loss is theirs, on networks
of any size: `Zero123Net` on a public checkpoint, or a small one on our own latents and features.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from ..camera import Cameras
from ..diffusion.noise import randn
from ..diffusion.zero123 import Zero123Net
from ..frames import zero123_from_cameras
from ..models import Report, silent
from .batch import ViewBatch, ViewSampler
from .encoding import Encoders, device_of, noisy_latents, random_steps, without
from .loop import LoopSettings, half_precision, train


@dataclass(frozen=True)
class Zero123Training:
    """How Zero123 is trained; the ranges are those of the authors' code.

    One uniform number a sample decides what it is not told, so that some lack the embedding, some
    the latents and some both.

    Attributes:
        batch: Pairs a step; theirs is 192 on each of 8 GPUs.
        no_embedding: Range of that number in which the embedding is zero, before the projection:
            the pose is told still.
        no_latents: Range in which the latents beside are zero.
    """

    batch: int = 32
    no_embedding: tuple[float, float] = (0.0, 0.10)
    no_latents: tuple[float, float] = (0.05, 0.15)


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Two views of each object.

    Attributes:
        source: The view that is known: colour over white and alpha, [0, 1].
        target: The view to draw.
        pose: The way from source to target, as `frames.zero123_from_cameras` tells it.
    """

    source: Float[Tensor, "b 4 h w"]
    target: Float[Tensor, "b 4 h w"]
    pose: Float[Tensor, "b 4"]


def train_zero123(
    network: Zero123Net,
    sampler: ViewSampler,
    encoders: Encoders,
    directory: Path,
    *,
    training: Zero123Training = Zero123Training(),
    settings: LoopSettings = LoopSettings(steps=10000, learning_rate=1e-4),  # noqa: B008  frozen
    resume: bool = False,
    report: Report = silent,
) -> Zero123Net:
    """Train on random pairs of views; see `start_projection` for a network that is new."""

    def loss(module: nn.Module, rng: Generator) -> Tensor:
        assert isinstance(module, Zero123Net)
        batch = pair_batch(sampler, training.batch, rng)
        return zero123_loss(module, encoders, batch, rng, training)

    train(network, loss, directory, settings=settings, resume=resume, report=report)
    return network


def zero123_loss(
    network: Zero123Net,
    encoders: Encoders,
    batch: PairBatch,
    rng: Generator,
    training: Zero123Training = Zero123Training(),
) -> Float[Tensor, ""]:
    """Give the mean squared error of the predicted noise at random steps."""
    device, count = device_of(network), len(batch.pose)
    no_embedding, no_latents = dropped(count, rng, training)
    embedding = without(no_embedding.to(device), encoders.embed(batch.source).to(device))
    beside = without(no_latents.to(device), encoders.encode(batch.source, None).to(device))
    clean = encoders.scale * encoders.encode(batch.target, rng).to(device)
    noise = randn(tuple(clean.shape), rng).to(device)
    step = random_steps(count, rng).to(device)
    with half_precision(device.type):
        tokens = network.tokens(embedding[:, None], batch.pose[:, None].to(device))
        predicted = network(noisy_latents(clean, noise, step), step, beside, tokens)
    return encoders.distance(predicted, noise).mean()


def pair_batch(sampler: ViewSampler, batch: int, rng: Generator) -> PairBatch:
    """Draw pairs: a photo, and another view of the same object."""
    return pair_from_views(sampler.views(batch, 2, rng))


def pair_from_views(views: ViewBatch) -> PairBatch:
    """Take the first view of each object for the source and the second for the target."""
    source, target = (_cameras(views, k) for k in (0, 1))
    pictures = rearrange(views.rgba, "b v h w c -> v b c h w")
    return PairBatch(pictures[0], pictures[1], zero123_from_cameras(target, source))


def dropped(
    count: int, rng: Generator, training: Zero123Training
) -> tuple[Bool[Tensor, " b"], Bool[Tensor, " b"]]:
    """Say which samples lack the embedding, and which the latents beside."""
    p = torch.rand(count, generator=rng)
    first, second = (
        (p >= low) & (p < high) for low, high in (training.no_embedding, training.no_latents)
    )
    return first, second


@torch.no_grad()
def start_projection(network: Zero123Net) -> None:
    """Let a new projection give the embedding back, plus a little of the pose, as theirs does."""
    width = network.cc_projection.out_features
    network.cc_projection.weight[:, :width].copy_(torch.eye(width))
    network.cc_projection.bias.zero_()


def _cameras(views: ViewBatch, k: int) -> Cameras:
    height, width = views.rgba.shape[2:4]
    focal_px = views.focal_ratio[:, k] * height
    return Cameras(views.world_from_camera[:, k], focal_px, (height, width))
