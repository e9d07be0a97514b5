"""Teach an orbit model to draw in a few steps what its teacher draws in many, guidance included.

Salimans and Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", 2022, algorithm
2, with the guided teacher of Meng et al., "On Distillation of Guided Diffusion Models", 2023, at
one strength of guidance, which the student then needs no second call for. The teacher may take more
than the paper's two steps for one of the student's, so that one round can do.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor

from ..diffusion.edm import denoised, guidance_ramp, guided, karras_sigmas
from ..diffusion.encoders import LatentAutoencoder
from ..diffusion.noise import CosineSchedule, clean_from_v, randn
from ..diffusion.video_orbit import Numbers, hi3d_numbers
from ..diffusion.video_unet import VideoUNet
from ..diffusion.view_transformer import ViewTransformer
from .batch import ViewBatch
from .encoding import Encoders, device_of
from .loop import half_precision
from .rings import RingBatch
from .video_orbit import augmented, clip_numbers

Estimate = Callable[[Tensor, Tensor], Tensor]
"""estimate(x, level) -> clean sample; level is what the network knows noise by, one a sample."""


@dataclass(frozen=True)
class Distillation:
    """How a student is taught; chosen by us, after the papers.

    Attributes:
        steps: The student's.
        teacher_steps: Of the teacher for each of the student's.
        guidance: Of the first and of the last frame, for video networks.
        cond_aug: Noise on the photo that both see, for video networks; as when drawing.
    """

    steps: int = 4
    teacher_steps: int = 2
    guidance: tuple[float, float] = (1.0, 2.5)
    cond_aug: float = 0.02


@dataclass(frozen=True, eq=False)
class Walk:
    """The teacher's levels on the way of one step of the student, one column a sample.

    A noisy sample is x = alpha x_0 + sigma eps.

    Attributes:
        level: What the network is told.
        alpha: Share of the signal.
        sigma: Share of the noise.
    """

    level: Float[Tensor, "k b"]
    alpha: Float[Tensor, "k b"]
    sigma: Float[Tensor, "k b"]

    def to(self, device: torch.device) -> "Walk":
        """Bring it to a device."""
        return Walk(self.level.to(device), self.alpha.to(device), self.sigma.to(device))


def distil_views_loss(
    student: ViewTransformer,
    teacher: ViewTransformer,
    autoencoder: LatentAutoencoder,
    batch: ViewBatch,
    rng: Generator,
    settings: Distillation = Distillation(),
) -> Float[Tensor, ""]:
    """Give the squared error of the velocity, for our own orbit model; its teacher is not guided.

    The student's steps are spread evenly from t = 1 to 0.
    """
    device, objects = device_of(student), batch.rgba.shape[0]
    pictures = rearrange(batch.rgba, "b v h w c -> (b v) c h w").to(device)
    with half_precision(device.type), torch.no_grad():
        latents = autoencoder.encode(pictures).float().unflatten(0, (objects, -1))
    photo = rearrange(batch.rgba[:, 0], "b h w c -> b c h w").to(device)
    told = (latents[:, 0], photo, batch.world_from_camera.to(device), batch.focal_ratio.to(device))
    clean = latents[:, 1:].contiguous()
    walk = cosine_walk(objects, settings, rng).to(device)
    schedule = CosineSchedule()

    def estimate_of(network: ViewTransformer) -> Estimate:
        def estimate(x: Tensor, t: Tensor) -> Tensor:
            with half_precision(device.type):
                v = network(x, t, *told)
            return clean_from_v(schedule, x, v.float(), t)

        return estimate

    x = noisy(clean, randn(tuple(clean.shape), rng).to(device), walk)
    wanted = taught(estimate_of(teacher), x, walk)
    error = (estimate_of(student)(x, walk.level[0]) - wanted).square()
    error = autoencoder.channel_weight()[:, None, None] * error
    # Of the velocity v = (alpha x - x_0) / sigma.
    return (error.flatten(1).mean(dim=1) / walk.sigma[0] ** 2).mean()


def distil_video_loss(
    student: VideoUNet,
    teacher: VideoUNet,
    encoders: Encoders,
    batch: RingBatch,
    rng: Generator,
    settings: Distillation = Distillation(),
    *,
    numbers: Numbers = hi3d_numbers,
) -> Float[Tensor, ""]:
    """Give the squared error of the velocity, for video networks; the teacher is guided.

    The student's steps are those of the sampler, from sigma = 700 to 0.
    """
    device, (clips, frames) = device_of(student), batch.rgba.shape[:2]
    clean = encoders.scale * encoders.encode(batch.rgba.flatten(0, 1), rng).to(device)
    clean = clean.unflatten(0, (clips, frames))
    strength = torch.full((clips,), settings.cond_aug)
    beside = encoders.encode(augmented(batch.rgba[:, 0], strength, rng), None).to(device)
    beside = beside[:, None].expand(-1, frames, -1, -1, -1)
    tokens = encoders.embed(batch.rgba[:, 0]).to(device)[:, None]
    vector = clip_numbers(numbers, frames, batch.elevation_deg, strength).to(device)
    walk = karras_walk(clips, settings, rng).to(device)
    scale = guidance_ramp(*settings.guidance, frames).to(device)

    def estimate(network: VideoUNet, share: float, x: Tensor, sigma: Tensor) -> Tensor:
        def predict(y: Tensor, c_noise: Tensor) -> Tensor:
            joined = torch.cat([y, share * beside], dim=2)
            with half_precision(device.type):
                return network(joined, c_noise, share * tokens, vector).float()

        return denoised(predict, x, sigma)

    def guided_teacher(x: Tensor, sigma: Tensor) -> Tensor:
        return guided(estimate(teacher, 1.0, x, sigma), estimate(teacher, 0.0, x, sigma), scale)

    x = noisy(clean, randn(tuple(clean.shape), rng).to(device), walk)
    wanted = taught(guided_teacher, x, walk)
    error = encoders.distance(estimate(student, 1.0, x, walk.level[0]), wanted)
    sigma = walk.sigma[0]
    return ((sigma**2 + 1) / sigma**2 * error).mean()


@torch.no_grad()
def taught(estimate: Estimate, x: Tensor, walk: Walk) -> Tensor:
    """Give the clean sample from which one step of the student leads where the teacher's steps do.

    A step is DDIM's, x' = alpha' x_0 + (sigma' / sigma) (x - alpha x_0); Euler's on sigma is the
    same where alpha is 1. Solved for x_0: (x' - r x) / (alpha' - r alpha), r = sigma' / sigma.
    """
    here = x
    for k in range(len(walk.level) - 1):
        clean = estimate(here, walk.level[k])
        ratio = _like(walk.sigma[k + 1] / walk.sigma[k], x)
        alpha, after = _like(walk.alpha[k], x), _like(walk.alpha[k + 1], x)
        here = after * clean + ratio * (here - alpha * clean)
    ratio = _like(walk.sigma[-1] / walk.sigma[0], x)
    return (here - ratio * x) / (_like(walk.alpha[-1], x) - ratio * _like(walk.alpha[0], x))


def noisy(clean: Tensor, noise: Tensor, walk: Walk) -> Tensor:
    """Mix clean samples with noise as at the start of the walk."""
    return _like(walk.alpha[0], clean) * clean + _like(walk.sigma[0], clean) * noise


def cosine_walk(count: int, settings: Distillation, rng: Generator) -> Walk:
    """Draw one of the student's steps for each sample, times falling evenly from 1 to 0."""
    t = _between(1 - torch.arange(settings.steps + 1) / settings.steps, count, settings, rng)
    schedule = CosineSchedule()
    return Walk(t, schedule.alpha(t), schedule.sigma(t))


def karras_walk(count: int, settings: Distillation, rng: Generator) -> Walk:
    """Draw one of the student's steps for each sample, between Karras' noise levels."""
    # Evenly in the seventh root, as the levels themselves are.
    root = karras_sigmas(settings.steps) ** (1 / 7)
    sigma = _between(root, count, settings, rng) ** 7
    return Walk(sigma, torch.ones_like(sigma), sigma)


def _between(
    ends: Float[Tensor, " n"], count: int, settings: Distillation, rng: Generator
) -> Float[Tensor, "k b"]:
    """Choose a step for each sample, and divide it into the teacher's."""
    chosen = torch.randint(len(ends) - 1, (count,), generator=rng)
    share = torch.arange(settings.teacher_steps + 1)[:, None] / settings.teacher_steps
    return ends[chosen] + share * (ends[chosen + 1] - ends[chosen])


def _like(per_sample: Float[Tensor, " b"], x: Tensor) -> Tensor:
    return per_sample.reshape(-1, *[1] * (x.ndim - 1)).to(x)
