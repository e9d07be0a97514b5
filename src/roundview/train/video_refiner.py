"""Train a video network to sharpen an orbit: the second stage of Hi3D.

Yang et al., "Hi3D: Pursuing High-Resolution Image-to-3D Generation with Video Diffusion Models",
2024, section 3.3, with the inputs of their code: beside the noisy latents of each frame lie 9
channels of its coarse frame's depth and the coarse frame's latents; frame 0 of the coarse clip is
the photo. Coarse clips are true ones spoilt (`degrade`), as in the authors' code, or what a first
stage draws of the same photo, as in their paper.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..camera import Cameras
from ..diffusion.edm import denoised
from ..diffusion.noise import randn
from ..diffusion.orbit import DISTANCE, FOV_DEG
from ..diffusion.video_refine import DepthMaps, depth_channels, refiner_numbers
from ..image import Foreground
from ..losses import perceptual_distance
from ..models import FeatureModel, OrbitModel, Report, silent
from ..views import Views
from .degrade import Degradation, degraded
from .encoding import Encoders, coin, device_of, without
from .loop import LoopSettings, half_precision, train
from .rings import RingBatch, RingSampler
from .video_orbit import augmented, clip_numbers, edm_weight, log_normal

Coarsen = Callable[[RingBatch, Generator], "CoarseBatch"]
"""Makes the coarse likeness of true rings."""


@dataclass(frozen=True)
class RefinerTraining:
    """How the second stage is trained; numbers as in `VideoTraining` where they have one name.

    Attributes:
        batch: Clips a step; theirs is 8 in all.
        frames: Views of an orbit.
        log_sigma: Mean and deviation of ln(sigma), one a clip.
        log_augment: The same of the noise on the coarse frames.
        no_embedding: Share of the clips whose embedding is zero.
        no_coarse: Share whose coarse latents are zero.
        no_depth: Share whose depth is zero. Not stated; the same as of the others.
        degradation: How true clips become coarse ones.
        latents: Weight of the error of the latents, the original's only one.
        pictures: Weight of the error of `shown` frames' pictures, as a share of that of the
            enlarged coarse ones: what PSNR judges, in each frame alike.
        likeness: The same of their deep-feature distance.
        shown: Frames of a clip that are decoded for these two.
    """

    batch: int = 1
    frames: int = 16
    log_sigma: tuple[float, float] = (1.0, 1.6)
    log_augment: tuple[float, float] = (-3.0, 0.5)
    no_embedding: float = 0.1
    no_coarse: float = 0.1
    no_depth: float = 0.1
    degradation: Degradation = Degradation()  # noqa: RUF009  frozen
    latents: float = 1.0
    pictures: float = 0.0
    likeness: float = 0.0
    shown: int = 8


@dataclass(frozen=True, eq=False)
class RefinerEncoders:
    """Frozen networks beside the refiner.

    Attributes:
        pictures: For latents and the photo's embedding.
        depth_maps: Estimates depth.
        coarsen: Makes the coarse clips of the training; by default they are spoilt ones.
        show: Decodes latents, not scaled, and lets gradients through; for the pictures' errors in
            `RefinerTraining`.
        features: For their `likeness`.
    """

    pictures: Encoders
    depth_maps: DepthMaps
    coarsen: Coarsen | None = None
    show: Callable[[Float[Tensor, "n c y x"]], Float[Tensor, "n 4 h w"]] | None = None
    features: FeatureModel | None = None


@dataclass(frozen=True, eq=False)
class CoarseBatch:
    """Orbits and their coarse likenesses.

    Attributes:
        rings: What the refiner is to draw.
        coarse: Its frames spoilt, colour over white; frame 0 is the photo itself.
        depth: What is estimated of the coarse frames; None leaves it to the loss.
    """

    rings: RingBatch
    coarse: Float[Tensor, "b t 4 h w"]
    depth: Float[Tensor, "b t y x"] | None = None


@runtime_checkable
class ClipSource(Protocol):
    """Gives coarse clips that were made beforehand."""

    def take(self, clips: int, rng: Generator) -> CoarseBatch:
        """Give some clips."""
        ...


def train_video_refiner(
    network: nn.Module,
    sampler: "RingSampler | ClipSource",
    encoders: RefinerEncoders,
    directory: Path,
    *,
    training: RefinerTraining = RefinerTraining(),
    settings: LoopSettings = LoopSettings(steps=20000, learning_rate=5e-5),  # noqa: B008  frozen
    resume: bool = False,
    report: Report = silent,
) -> nn.Module:
    """Train on coarse rings.

    The network is a `VideoUNet` that begins with `surgery.refiner_from_orbit`, or a
    `SmallVideoRefiner`, which needs no beginning. Rings are drawn and made coarse at each step, if
    the sampler does not give coarse clips itself.
    """

    def loss(module: nn.Module, rng: Generator) -> Tensor:
        if not isinstance(sampler, RingSampler):
            made = sampler.take(training.batch, rng)
            return video_refiner_loss(module, encoders, made, rng, training)
        rings = sampler.rings(training.batch, training.frames, rng)
        if encoders.coarsen is None:
            batch = coarse_batch(rings, rng, training.degradation)
        else:
            batch = encoders.coarsen(rings, rng)
        return video_refiner_loss(module, encoders, batch, rng, training)

    train(network, loss, directory, settings=settings, resume=resume, report=report)
    return network


def video_refiner_loss(
    network: nn.Module,
    encoders: RefinerEncoders,
    batch: CoarseBatch,
    rng: Generator,
    training: RefinerTraining = RefinerTraining(),
) -> Float[Tensor, ""]:
    """Give the weighted squared error of the denoised clip, at one random sigma a clip.

    With the errors of its pictures, if they have weights: decoded, less the decoded coarse latents,
    and added to the coarse pictures, as `Refining.residual` shows them.
    """
    device, (clips, frames) = device_of(network), batch.coarse.shape[:2]
    pictures = encoders.pictures
    with half_precision(device.type):
        clean = pictures.encode(batch.rings.rgba.flatten(0, 1), rng).float().to(device)
    clean = pictures.scale * clean
    strength = log_normal(clips, training.log_augment, rng)
    seen = augmented(batch.coarse.flatten(0, 1), strength.repeat_interleave(frames), rng)
    with half_precision(device.type):
        coarse = pictures.encode(seen, None).float().to(device).unflatten(0, (clips, frames))
    side = (int(coarse.shape[-2]), int(coarse.shape[-1]))
    maps = encoders.depth_maps(seen) if batch.depth is None else batch.depth.flatten(0, 1)
    depth = depth_channels(maps, side).to(device).unflatten(0, (clips, frames))
    tokens = pictures.embed(batch.rings.rgba[:, 0]).to(device)[:, None]
    tokens = without(coin(clips, training.no_embedding, rng).to(device), tokens)
    beside = without(coin(clips, training.no_coarse, rng).to(device), coarse)
    depth = without(coin(clips, training.no_depth, rng).to(device), depth)
    known = torch.cat([depth, beside], dim=2)
    told = clip_numbers(refiner_numbers, frames, batch.rings.elevation_deg, strength).to(device)
    sigma = log_normal(clips, training.log_sigma, rng).to(device)
    clean = clean.unflatten(0, (clips, frames))
    noisy = clean + sigma.reshape(-1, 1, 1, 1, 1) * randn(tuple(clean.shape), rng).to(device)

    def predict(x: Tensor, c_noise: Tensor) -> Tensor:
        with half_precision(device.type):
            return network(torch.cat([x, known], dim=2), c_noise, tokens, told).float()

    estimate = denoised(predict, noisy, sigma)
    error = (edm_weight(sigma) * pictures.distance(estimate, clean)).mean()
    if not (training.pictures or training.likeness):
        return error
    return training.latents * error + _picture_errors(
        encoders, batch, coarse, estimate, rng, training
    )


_FLOOR = (1e-3, 0.1)
"""Added to the errors of the enlarged pictures (30 dB; of deep features) that others are divided
by, so that clips which are hardly coarse do not count for all. Chosen by us, not tried."""


def _picture_errors(
    encoders: RefinerEncoders,
    batch: CoarseBatch,
    latents: Float[Tensor, "b t c y x"],
    estimate: Float[Tensor, "b t c y x"],
    rng: Generator,
    training: RefinerTraining,
) -> Float[Tensor, ""]:
    show, scale = encoders.show, encoders.pictures.scale
    assert show is not None
    frames = 1 + torch.randperm(batch.coarse.shape[1] - 1, generator=rng)[: training.shown]
    coarse = batch.coarse[:, frames].flatten(0, 1).to(estimate)
    truth = batch.rings.rgba[:, frames].flatten(0, 1).to(estimate)
    with half_precision(estimate.device.type):
        with torch.no_grad():
            before = show(latents[:, frames].flatten(0, 1)).float()
        after = show(estimate[:, frames].flatten(0, 1) / scale).float()
    shown = (coarse + after - before).clamp(0, 1)
    floor_of_pictures, floor_of_likeness = _FLOOR
    off = (shown - truth).square().mean(dim=(1, 2, 3))
    was_off = (coarse - truth).square().mean(dim=(1, 2, 3)) + floor_of_pictures
    total = training.pictures * (off / was_off).mean()
    if training.likeness:
        assert encoders.features is not None
        new, old, true = (x[:, :3].movedim(1, -1).contiguous() for x in (shown, coarse, truth))
        unlike = perceptual_distance(encoders.features, new, true)
        with torch.no_grad():
            was_unlike = perceptual_distance(encoders.features, old, true) + floor_of_likeness
        total = total + training.likeness * (unlike / was_unlike).mean()
    return total


def coarse_batch(
    rings: RingBatch,
    rng: Generator,
    settings: Degradation = Degradation(),  # noqa: B008  frozen
) -> CoarseBatch:
    """Spoil the frames of rings; the background stays white, and frame 0 becomes the photo."""
    coarse = []
    for clip in rings.rgba:
        rgb, alpha = degraded(clip[:, :3], rng, settings), clip[:, 3:]
        spoilt = torch.cat([rgb * alpha + (1 - alpha), alpha], dim=1)
        coarse.append(torch.cat([clip[:1], spoilt[1:]]))
    return CoarseBatch(rings, torch.stack(coarse))


@torch.no_grad()
def drawn_batch(
    rings: RingBatch, orbit: OrbitModel, rng: Generator, *, draw_px: int, steps: int
) -> CoarseBatch:
    """Let a first stage draw each ring from its frame 0, and enlarge what it drew."""
    coarse = []
    for clip, elevation in zip(rings.rgba, rings.elevation_deg.tolist(), strict=True):
        size_hw = (int(clip.shape[2]), int(clip.shape[3]))
        photo = Views(clip[:1, :3].movedim(1, -1), clip[:1, 3], _ring(1, elevation, size_hw))
        subject = Foreground(photo.straight_rgb()[0], photo.alpha[0])
        with half_precision():
            drawn = orbit.draw(
                subject.resized((draw_px, draw_px)),
                _ring(len(clip), elevation, (draw_px, draw_px)),
                rng,
                photo_elevation_deg=elevation,
                steps=steps,
            )
        drawn = Views(drawn.rgb.float(), drawn.alpha.float(), drawn.cameras).resized(size_hw)
        frames = torch.cat([drawn.rgb, drawn.alpha[..., None]], dim=-1).movedim(-1, 1)
        coarse.append(torch.cat([clip[:1], frames[1:].to(clip)]))
    return CoarseBatch(rings, torch.stack(coarse))


def _ring(frames: int, elevation_deg: float, size_hw: tuple[int, int]) -> Cameras:
    return Cameras.orbit(
        [360.0 * k / frames for k in range(frames)],
        elevation_deg=elevation_deg,
        radius=DISTANCE,
        fov_deg=FOV_DEG,
        size_hw=size_hw,
    )
