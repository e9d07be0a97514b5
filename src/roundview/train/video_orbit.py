"""Train a video network to draw an orbit from its first frame: the first stage of Hi3D.

Yang et al., "Hi3D: Pursuing High-Resolution Image-to-3D Generation with Video Diffusion Models",
2024, section 3.2, with the noise and weights of their code. `VideoUNet` may be a public checkpoint
or a small one on our own latents and features; the vector beside the time is what `numbers` makes.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..diffusion.edm import denoised
from ..diffusion.noise import randn
from ..diffusion.video_orbit import Numbers, hi3d_numbers
from ..diffusion.video_unet import VideoUNet
from ..models import Report, silent
from .encoding import Encoders, coin, device_of, without
from .loop import LoopSettings, half_precision, train
from .rings import RingBatch, RingSampler


@dataclass(frozen=True)
class VideoTraining:
    """How the first stage is trained; the numbers are those of the authors' code.

    Attributes:
        batch: Clips a step; theirs is 16 in all.
        frames: Views of an orbit.
        log_sigma: Mean and deviation of ln(sigma), one a clip.
        log_augment: The same of the noise on the photo whose latents are laid beside.
        no_embedding: Share of the clips whose embedding is zero.
        no_latents: Share whose latents beside are zero, tossed apart from the other.
    """

    batch: int = 1
    frames: int = 16
    log_sigma: tuple[float, float] = (1.0, 1.6)
    log_augment: tuple[float, float] = (-3.0, 0.5)
    no_embedding: float = 0.1
    no_latents: float = 0.1


def train_video_orbit(
    network: VideoUNet,
    sampler: RingSampler,
    encoders: Encoders,
    directory: Path,
    *,
    training: VideoTraining = VideoTraining(),
    settings: LoopSettings = LoopSettings(steps=80000, learning_rate=1e-5),  # noqa: B008  frozen
    resume: bool = False,
    report: Report = silent,
) -> VideoUNet:
    """Train on rings that begin at any of their views."""

    def loss(module: nn.Module, rng: Generator) -> Tensor:
        assert isinstance(module, VideoUNet)
        batch = sampler.rings(training.batch, training.frames, rng)
        return video_orbit_loss(module, encoders, batch, rng, training)

    train(network, loss, directory, settings=settings, resume=resume, report=report)
    return network


def video_orbit_loss(
    network: VideoUNet,
    encoders: Encoders,
    batch: RingBatch,
    rng: Generator,
    training: VideoTraining = VideoTraining(),
    *,
    numbers: Numbers = hi3d_numbers,
) -> Float[Tensor, ""]:
    """Give the weighted squared error of the denoised clip, at one random sigma a clip."""
    device, (clips, frames) = device_of(network), batch.rgba.shape[:2]
    clean = encoders.scale * encoders.encode(batch.rgba.flatten(0, 1), rng).to(device)
    clean = clean.unflatten(0, (clips, frames))
    augment = log_normal(clips, training.log_augment, rng)
    beside = encoders.encode(augmented(batch.rgba[:, 0], augment, rng), None).to(device)
    tokens = encoders.embed(batch.rgba[:, 0]).to(device)[:, None]
    tokens = without(coin(clips, training.no_embedding, rng).to(device), tokens)
    beside = without(coin(clips, training.no_latents, rng).to(device), beside)
    vector = clip_numbers(numbers, frames, batch.elevation_deg, augment).to(device)
    beside = beside[:, None].expand(-1, frames, -1, -1, -1)
    sigma = log_normal(clips, training.log_sigma, rng).to(device)
    noise = randn(tuple(clean.shape), rng).to(device)

    def predict(x: Tensor, c_noise: Tensor) -> Tensor:
        with half_precision(device.type):
            return network(torch.cat([x, beside], dim=2), c_noise, tokens, vector).float()

    noisy = clean + sigma.reshape(-1, 1, 1, 1, 1) * noise
    estimate = denoised(predict, noisy, sigma)
    return (edm_weight(sigma) * encoders.distance(estimate, clean)).mean()


def edm_weight(sigma: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Weigh the error of the clean clip by (s^2 + 1) / s^2, which makes it the velocity's."""
    return (sigma**2 + 1) / sigma**2


def log_normal(
    count: int, mean_and_std: tuple[float, float], rng: Generator
) -> Float[Tensor, " b"]:
    """Draw numbers whose logarithm is normal (Karras et al. 2022, section 5)."""
    mean, std = mean_and_std
    return (mean + std * torch.randn(count, generator=rng)).exp()


def augmented(
    rgba: Float[Tensor, "b 4 h w"], strength: Float[Tensor, " b"], rng: Generator
) -> Float[Tensor, "b 4 h w"]:
    """Add noise to the colours, of a strength told for pictures in [-1, 1]; alpha stays."""
    noise = randn((len(rgba), 3, *rgba.shape[2:]), rng)
    half = strength[:, None, None, None] / 2  # Ours lie in [0, 1].
    return torch.cat([rgba[:, :3] + half * noise, rgba[:, 3:]], dim=1)


def clip_numbers(
    numbers: Numbers,
    frames: int,
    elevation_deg: Float[Tensor, " b"],
    augment: Float[Tensor, " b"],
) -> Float[Tensor, "b t m"]:
    """Give the vectors beside the time embedding of every clip's frames."""
    told = zip(elevation_deg.tolist(), augment.tolist(), strict=True)
    return torch.stack([numbers(frames, elevation, noise) for elevation, noise in told])
