"""Train the multi-view model that knows its subject by one embedding.

Liu et al., "Isotropic3D: Image-to-3D Generation Based on a Single CLIP Embedding", 2024, section
3.2: first the text of MVDream gives way to an image's embedding, then the clean reference takes
part as one more view ("explicit multi-view attention"). The paper's text does not tell how often
the embedding is left out; a tenth is what the models it descends from take.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..camera import Cameras
from ..diffusion.ldm_unet import LdmUNet
from ..diffusion.noise import randn
from ..frames import isotropic3d_from_angles, mvdream_from_cameras
from ..models import Report, silent
from .batch import recoloured
from .encoding import Encoders, coin, device_of, noisy_latents, random_steps, without
from .loop import LoopSettings, half_precision, train
from .rings import RingSampler, ring_order

CameraVectors = Callable[[Tensor, Tensor], Float[Tensor, "n 16"]]
"""camera_vectors(azimuth_deg, elevation_deg) -> what the network is told of each camera."""


@dataclass(frozen=True)
class MultiViewTraining:
    """How the model is trained; the defaults are the paper's first stage but for the batch.

    Attributes:
        batch: Objects a step; theirs is 768 in all, 128 in the second stage.
        views: Target views of most steps, evenly round at one elevation.
        single_share: Share of the steps with one target only, anywhere.
        no_embedding: Share of the objects whose embedding is zero.
        reference_view: Let the clean reference take part as a view: the second stage.
    """

    batch: int = 16
    views: int = 4
    single_share: float = 0.3
    no_embedding: float = 0.1
    reference_view: bool = False


@dataclass(frozen=True, eq=False)
class ReferenceBatch:
    """Views of b objects, and another that tells what the object is.

    Attributes:
        reference: Colour over white and alpha, [0, 1].
        targets: The f views to draw, alike.
        azimuth_deg: Of the targets, counted from the reference.
        elevation_deg: Of the targets.
    """

    reference: Float[Tensor, "b 4 h w"]
    targets: Float[Tensor, "b f 4 h w"]
    azimuth_deg: Float[Tensor, "b f"]
    elevation_deg: Float[Tensor, "b f"]


def train_multiview(
    network: LdmUNet,
    sampler: RingSampler,
    encoders: Encoders,
    directory: Path,
    *,
    training: MultiViewTraining = MultiViewTraining(),
    settings: LoopSettings = LoopSettings(steps=50000, learning_rate=1e-4),  # noqa: B008  frozen
    resume: bool = False,
    report: Report = silent,
) -> LdmUNet:
    """Train on rings of views, and on single views between them; for cameras as they are."""

    def loss(module: nn.Module, rng: Generator) -> Tensor:
        assert isinstance(module, LdmUNet)
        batch = reference_batch(sampler, training, rng)
        return multiview_loss(
            module, encoders, batch, rng, training, camera_vectors=mvdream_from_angles
        )

    train(network, loss, directory, settings=settings, resume=resume, report=report)
    return network


def multiview_loss(
    network: LdmUNet,
    encoders: Encoders,
    batch: ReferenceBatch,
    rng: Generator,
    training: MultiViewTraining = MultiViewTraining(),
    *,
    camera_vectors: CameraVectors = isotropic3d_from_angles,
) -> Float[Tensor, ""]:
    """Give the mean squared error of the noise on the targets; the reference has none.

    Args:
        network: Takes a camera vector of 16 numbers.
        encoders: For latents and the embedding.
        batch: From `reference_batch`.
        rng: Draws noise, steps and what is left out.
        training: Its `no_embedding` and `reference_view` count.
        camera_vectors: The default is the published checkpoint's; `mvdream_from_angles` is right.
    """
    device, (objects, views) = device_of(network), batch.targets.shape[:2]
    embedding = without(coin(objects, training.no_embedding, rng), encoders.embed(batch.reference))
    clean = encoders.scale * encoders.encode(batch.targets.flatten(0, 1), rng).to(device)
    noise = randn(tuple(clean.shape), rng).to(device)
    step = random_steps(objects, rng).to(device)
    x = noisy_latents(clean, noise, step.repeat_interleave(views)).unflatten(0, (objects, views))
    times = step[:, None].expand(-1, views)
    angles = torch.stack([batch.azimuth_deg, batch.elevation_deg])
    if training.reference_view:
        known = encoders.scale * encoders.encode(batch.reference, rng).to(device)
        x = torch.cat([x, known[:, None]], dim=1)
        times = torch.cat([times, torch.zeros_like(times[:, :1])], dim=1)
        angles = torch.cat([angles, torch.zeros_like(angles[..., :1])], dim=2)
    frames = x.shape[1]
    vector = camera_vectors(angles[0].flatten(), angles[1].flatten()).to(device)
    tokens = embedding.to(device).repeat_interleave(frames, dim=0)[:, None]
    with half_precision(device.type):
        predicted = network(x.flatten(0, 1), times.flatten(), tokens, vector=vector, frames=frames)
    on_targets = predicted.unflatten(0, (objects, frames))[:, :views]
    return encoders.distance(on_targets, noise.unflatten(0, (objects, views))).mean()


def reference_batch(
    sampler: RingSampler, training: MultiViewTraining, rng: Generator
) -> ReferenceBatch:
    """Draw a batch of one branch: views evenly round, or (`single_share`) any one view."""
    single = float(torch.rand((), generator=rng)) < training.single_share
    pictures, azimuths, elevations = [], [], []
    for part, row in sampler.pick(training.batch, rng):
        made = part.settings
        reference = int(torch.randint(made.views, (), generator=rng))
        if single:
            targets = torch.randint(made.views, (1,), generator=rng).numpy()
        else:
            first = int(torch.randint(made.ring_views, (), generator=rng))
            ring = made.ring_views * int(torch.randint(made.rings, (), generator=rng))
            targets = ring + ring_order(made.ring_views, training.views, first)
        index = np.concatenate([[reference], targets])
        rgba = part.rgba[row, index].astype(np.float32) / 255
        azimuth = part.azimuth_deg[row, index] - part.azimuth_deg[row, reference]
        if sampler.augment and float(torch.rand((), generator=rng)) < 0.5:  # The mirror image.
            rgba, azimuth = rgba[:, :, ::-1], -azimuth
        kept = torch.from_numpy(rgba.copy())
        pictures.append(recoloured(kept, rng) if sampler.augment else kept)
        azimuths.append(azimuth[1:])
        elevations.append(part.elevation_deg[row, targets])
    stacked = torch.stack(pictures).movedim(-1, 2).contiguous()
    azimuth_deg, elevation_deg = (
        torch.from_numpy(np.stack(angles)) for angles in (azimuths, elevations)
    )
    return ReferenceBatch(stacked[:, 0], stacked[:, 1:], azimuth_deg % 360, elevation_deg)


def mvdream_from_angles(
    azimuth_deg: Float[Tensor, " n"], elevation_deg: Float[Tensor, " n"]
) -> Float[Tensor, "n 16"]:
    """Tell cameras as MVDream does: degrees become radians once."""
    orbit = Cameras.orbit(
        azimuth_deg.tolist(),
        elevation_deg=elevation_deg.tolist(),
        radius=1.0,
        fov_deg=90.0,
        size_hw=(1, 1),
    )
    return mvdream_from_cameras(orbit).to(azimuth_deg)
