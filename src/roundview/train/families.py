"""`roundview train` for the families that stand on our autoencoder's latents and deep features."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.render_set import MultiViewSet
from ..diffusion.checkpoints.unet import UNetShape
from ..diffusion.encoders import LatentAutoencoder
from ..diffusion.ldm_unet import LdmUNet
from ..diffusion.small_shapes import (
    small_multiview_shape,
    small_video_shape,
    small_zero123_shape,
)
from ..diffusion.video_unet import VideoUNet
from ..diffusion.zero123 import Zero123Net
from ..models import FeatureModel, Report
from ..weights import card, load_tensors
from .batch import ViewSampler
from .cascade import CascadePair, CascadeTraining, train_cascade
from .encoding import Encoders, device_of, small_encoders
from .loop import LoopSettings
from .multiview import MultiViewTraining, train_multiview
from .rings import RingSampler
from .video_orbit import VideoTraining, train_video_orbit
from .zero123 import Zero123Training, start_projection, train_zero123

FAMILIES = ("zero123-small", "cascade-small", "multiview-small", "video-orbit-small")
"""What can be trained here. The cascade begins with `zero123-small` if the folder holds it."""

_RATE = 5e-4
"""Peak of the learning rate for networks of this size. Chosen by us; others were not tried."""


@dataclass(frozen=True, eq=False)
class Order:
    """What a family is trained with.

    Attributes:
        name: One of `FAMILIES`.
        sets: Rendered objects.
        folder: Where finished weights are; checkpoints go to a folder of the family's name in it.
        steps: Optimiser steps; None takes 6,000.
        batch: Objects a step; None takes the family's own.
        seed: Of initial weights and batches.
        resume: Go on from the last checkpoint.
    """

    name: str
    sets: list[MultiViewSet]
    folder: Path
    steps: int | None = None
    batch: int | None = None
    seed: int = 0
    resume: bool = False


def train_family(
    order: Order, autoencoder: LatentAutoencoder, features: FeatureModel, report: Report
) -> tuple[nn.Module, LoopSettings, dict[str, Any]]:
    """Train a small network of one family, where the autoencoder is.

    Returns:
        The network, how the loop was set, and what a card needs to build the network.

    Raises:
        ValueError: If the name is not known.
    """
    if order.name not in FAMILIES:
        raise ValueError(f"name must be one of {', '.join(FAMILIES)}, got {order.name!r}")
    encoders = small_encoders(autoencoder, features)
    settings = LoopSettings(order.steps or 6000, learning_rate=_RATE, seed=order.seed)
    torch.manual_seed(order.seed)  # Initial weights only; torch layers take no generator.
    latents, context = autoencoder.size.latent_channels, _width(encoders, order.sets[0])
    shape = {
        "zero123-small": small_zero123_shape,
        "cascade-small": small_zero123_shape,
        "multiview-small": small_multiview_shape,
        "video-orbit-small": small_video_shape,
    }[order.name](latents, context)
    network = _trained(order, shape, encoders, settings, device_of(autoencoder), report)
    return network, settings, {"shape": asdict(shape)}


def _trained(
    order: Order,
    shape: UNetShape,
    encoders: Encoders,
    settings: LoopSettings,
    device: torch.device,
    report: Report,
) -> nn.Module:
    work = order.folder / order.name
    loop: dict[str, Any] = {"settings": settings, "resume": order.resume, "report": report}
    if order.name == "zero123-small":
        net = Zero123Net(shape)
        start_projection(net)
        training = replace(Zero123Training(), batch=order.batch or 32)
        sampler = ViewSampler(order.sets)
        return train_zero123(net.to(device), sampler, encoders, work, training=training, **loop)
    if order.name == "cascade-small":
        pair = _pair(shape, order.folder).to(device)
        # The paper takes 25 steps of the base; it is called at each training step, so 4 here.
        cascade = CascadeTraining(batch=order.batch or 16, base_steps=4, eta=settings.ema)
        return train_cascade(
            pair, ViewSampler(order.sets), encoders, work, training=cascade, **loop
        )
    if order.name == "multiview-small":
        views = MultiViewTraining(batch=order.batch or 16)
        unet = LdmUNet(shape).to(device)
        rings = RingSampler(order.sets)
        return train_multiview(unet, rings, encoders, work, training=views, **loop)
    frames = order.sets[0].settings.ring_views
    clips = VideoTraining(batch=order.batch or 4, frames=frames)
    video = VideoUNet(shape).to(device)
    return train_video_orbit(video, RingSampler(order.sets), encoders, work, training=clips, **loop)


def _pair(shape: UNetShape, folder: Path) -> CascadePair:
    """Begin both networks with the same weights: those of a finished Zero123, else new ones."""
    base, refiner = Zero123Net(shape), Zero123Net(shape)
    start_projection(base)
    if (folder / "zero123-small.json").is_file():
        tensors = load_tensors(card("zero123-small", folder=folder))
        base.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    refiner.load_state_dict(base.state_dict())
    return CascadePair(base, refiner)


def _width(encoders: Encoders, pictures: MultiViewSet) -> int:
    """Ask how long the embedding of a picture is."""
    side = pictures.settings.size_px
    return int(encoders.embed(torch.ones(1, 4, side, side)).shape[-1])
