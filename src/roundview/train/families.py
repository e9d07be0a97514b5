"""Every family that we train small: how large it is, what it builds on, and what its card says.

`roundview train` and `experiments/train_small.py` both order here; they differ in where pictures
come from and in when the training ends.
"""

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.render_set import MultiViewSet
from ..data.solid_set import SolidSet
from ..diffusion.depth_head import DepthDecoder, DepthNetwork, DepthSize
from ..diffusion.elevation import ElevationHead, ElevationNetwork, ElevationSize
from ..diffusion.encoders import AutoencoderSize, LatentAutoencoder
from ..diffusion.ldm_unet import LdmUNet
from ..diffusion.orbit import LatentOrbitModel
from ..diffusion.shape_head import ShapeDecoder, ShapeSize
from ..diffusion.small_depth_image import small_depth_image_shape
from ..diffusion.small_shapes import (
    narrow_video_refiner_shape,
    small_multiview_shape,
    small_video_refiner_shape,
    small_video_shape,
    small_zero123_shape,
)
from ..diffusion.tuned import TunedFeatures
from ..diffusion.video_refine import SmallVideoRefiner, subject_depth
from ..diffusion.video_unet import VideoUNet
from ..diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from ..diffusion.zero123 import Zero123Net
from ..models import DepthModel, FeatureModel, Report, silent
from .autoencoder import train_autoencoder
from .batch import ViewSampler
from .cascade import CascadePair, CascadeTraining, train_cascade
from .coarse_clips import CoarseClips, coarse_clip, drawn_or_spoilt, scans_oftener
from .depth import DepthSet, EstimatorTraining, train_depth
from .depth_image import DepthTraining, train_depth_image
from .elevation import ElevationTraining, train_elevation
from .encoding import Encoders, small_encoders
from .known_views import KnownViewsTraining, train_known_views
from .loop import LoopSettings
from .multiview import MultiViewTraining, train_multiview
from .orbit import OrbitTraining, train_orbit
from .rings import RingSampler
from .shape import ShapeTraining, SolidSampler, train_shape, tuned_features
from .surgery import CONV_IN, begin_with, fitting, refiner_from_orbit, widened
from .video_orbit import VideoTraining, train_video_orbit
from .video_refiner import RefinerEncoders, RefinerTraining, train_video_refiner
from .zero123 import Zero123Training, start_projection, train_zero123

_UNET = LoopSettings(steps=6000, learning_rate=5e-4)
"""Of the small UNets. Chosen by us; other rates were not tried."""
_REFINER = RefinerTraining(
    log_sigma=(4.0, 0.5),
    log_augment=(-9.0, 0.0),
    no_coarse=0.0,
    latents=0.2,
    pictures=1.0,
    likeness=0.5,
    shown=5,
)
"""Of the second stage: for one step at noise that hides the clip, so that it learns the mean of
what may be true; a gain in deep features counts half as much as one in error. Chosen by us."""
_REFINES: dict[str, Any] = {
    "guidance": [1.0, 1.0],
    "highest": 80.0,
    "cond_aug": 0.0,
    "residual": True,
    "believed": 0.5,
}
"""How the second stage is used that was trained so. Half of the change keeps nine tenths of what it
gains in deep features, and spreads PSNR less (22 objects that neither stage had seen)."""
_CLIPS = (16, 600)
"""Coarse clips that are drawn before the second stage's training and in all."""
_GUIDANCE = 3.0
"""Of the image model that is told depth, when it draws. Chosen by us; not tried on a new one."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Finished networks to build on; each is loaded when a family asks for it, where it trains.

    Attributes:
        autoencoder: What latents are made by.
        features: Deep features.
        depth: The depth estimator.
        orbit: The orbit network that a cascade begins with.
    """

    autoencoder: Callable[[], LatentAutoencoder]
    features: Callable[[], FeatureModel]
    depth: Callable[[], DepthModel]
    orbit: Callable[[], ViewTransformer]


@dataclass(frozen=True, eq=False)
class Order:
    """What a family is trained with.

    Attributes:
        directory: Checkpoints and log.
        views: Gives what draws views of objects. This and the two below are called by the families
            that need them; the objects are rendered then, if they are not there yet.
        sets: Gives the sets that it draws from, for families that look at whole rings.
        depth_set: Gives pictures with their geometry.
        solids: Gives pictures with what their subjects fill.
        loop: Turns a family's own settings of the loop into those that are wanted.
        batch: Objects (pictures) a step; None takes the family's own.
        orbit: Size of the orbit model, which is then given the autoencoder's channels.
        start: Weights to begin from; None begins anew.
        resume: Go on from the last checkpoint.
        place: Where the network is trained.
        report: Called with the fraction done.
    """

    directory: Path
    views: Callable[[], ViewSampler]
    sets: Callable[[], list[MultiViewSet]]
    depth_set: Callable[[], DepthSet]
    solids: Callable[[], list[SolidSet]] = list
    loop: Callable[[LoopSettings], LoopSettings] = lambda own: own
    batch: int | None = None
    orbit: ViewTransformerSize = ViewTransformerSize()  # noqa: RUF009  frozen
    start: Mapping[str, Tensor] | None = None
    resume: bool = False
    place: torch.device = torch.device("cpu")  # noqa: RUF009  a constant
    report: Report = silent

    def running(self, own: LoopSettings) -> dict[str, Any]:
        """Give what every training function takes, and seed the initial weights."""
        settings = self.loop(own)
        torch.manual_seed(settings.seed)  # Initial weights only; torch layers take no generator.
        return {"settings": settings, "resume": self.resume, "report": self.report}


class Trained(NamedTuple):
    """A trained network, and what its card needs.

    Attributes:
        network: What is saved.
        settings: Plain values to build it with.
        loop: How it was trained.
        taken: How many of its tensors began with the weights of `Order.start`; None without any.
    """

    network: nn.Module
    settings: dict[str, Any]
    loop: LoopSettings
    taken: int | None


class Family(NamedTuple):
    """One family.

    Attributes:
        train: Trains it.
        picture_px: Side of the pictures of objects that the shipped one was made with.
    """

    train: Callable[[Order, Parts], Trained]
    picture_px: int = 64


def train_family(name: str, order: Order, parts: Parts) -> Trained:
    """Train a small network of one family.

    Raises:
        ValueError: If the name is not known.
    """
    if name not in FAMILIES:
        raise ValueError(f"CARD must be one of {', '.join(FAMILIES)}, got {name!r}")
    return FAMILIES[name].train(order, parts)


def _autoencoder(order: Order, _: Parts) -> Trained:
    running = order.running(LoopSettings(steps=900, learning_rate=1e-3))
    batch, start = order.batch or 64, order.start
    network = train_autoencoder(order.views(), order.directory, batch=batch, start=start, **running)
    return _trained(network, asdict(AutoencoderSize()), order, running)


def _orbit(order: Order, parts: Parts) -> Trained:
    running = order.running(LoopSettings(steps=6000, learning_rate=7e-4, warmup=200))
    frozen = parts.autoencoder()
    size = replace(order.orbit, latent_channels=frozen.size.latent_channels)
    network = _begun(ViewTransformer(size), order)
    training = _with_batch(OrbitTraining(), order)
    train_orbit(network, order.views(), frozen, order.directory, training=training, **running)
    return _trained(network, asdict(size), order, running)


def _elevation(order: Order, parts: Parts) -> Trained:
    own = LoopSettings(steps=4000, learning_rate=1e-3, rates=(("features", 0.2),))
    running = order.running(own)
    features, size = TunedFeatures(parts.features(), stages=5), ElevationSize()
    network = _begun(ElevationNetwork(features, ElevationHead(size)), order)
    training = _with_batch(ElevationTraining(), order)
    train_elevation(network, order.depth_set(), order.directory, training=training, **running)
    return _trained(network, {"stages": 5} | asdict(size), order, running)


def _depth(order: Order, parts: Parts) -> Trained:
    own = LoopSettings(steps=5500, learning_rate=2e-3, rates=(("features", 0.1),))
    running = order.running(own)
    features = TunedFeatures(parts.features(), stages=6)
    size = DepthSize(features.channels, widths=(24, 48, 96, 144, 120), blocks=(0, 1, 1, 1, 1))
    network = _begun(DepthNetwork(features, DepthDecoder(size)), order)
    training = _with_batch(EstimatorTraining(), order)
    train_depth(network, order.depth_set(), order.directory, training=training, **running)
    return _trained(network, {"stages": 6} | asdict(size), order, running)


def _shape(order: Order, parts: Parts) -> Trained:
    running = order.running(
        LoopSettings(steps=8000, learning_rate=1.5e-3, warmup=150, cooldown=0.4)
    )
    features = tuned_features(parts.depth())
    decoder = _begun(ShapeDecoder(ShapeSize(features.channels)), order)
    training, sampler = _with_batch(ShapeTraining(), order), SolidSampler(order.solids())
    train_shape(decoder, features, sampler, order.directory, training=training, **running)
    return _trained(decoder, asdict(decoder.size), order, running)


def _cascade(order: Order, parts: Parts) -> Trained:
    running = order.running(LoopSettings(steps=6000, learning_rate=3e-4))
    base = _begun(parts.orbit(), order)
    pair = CascadePair(base, copy.deepcopy(base).train().requires_grad_(True)).to(order.place)
    training = _with_batch(KnownViewsTraining(), order)
    frozen = parts.autoencoder()
    train_known_views(pair, order.views(), frozen, order.directory, training=training, **running)
    return _trained(pair.refiner, asdict(base.size), order, running)


def _zero123(order: Order, parts: Parts) -> Trained:
    # The authors' code trains the new projection ten times as fast as the rest.
    running = order.running(replace(_UNET, rates=(("cc_projection", 10.0),)))
    encoders = small_encoders(parts.autoencoder(), parts.features())
    shape = small_zero123_shape(*_lengths(order, encoders))
    network = Zero123Net(shape)
    start_projection(network)
    training = _with_batch(Zero123Training(), order)
    train_zero123(
        _begun(network, order),
        order.views(),
        encoders,
        order.directory,
        training=training,
        **running,
    )
    return _trained(network, {"shape": asdict(shape)}, order, running)


def _zero123_cascade(order: Order, parts: Parts) -> Trained:
    running = order.running(_UNET)
    encoders = small_encoders(parts.autoencoder(), parts.features())
    shape = small_zero123_shape(*_lengths(order, encoders))
    base = Zero123Net(shape)
    start_projection(base)
    base = _begun(base, order)
    pair = CascadePair(base, copy.deepcopy(base).train().requires_grad_(True)).to(order.place)
    # The paper takes 25 steps of the base; it is called at each training step, so 4 here.
    training = replace(CascadeTraining(), batch=order.batch or 16, base_steps=4, eta=_UNET.ema)
    train_cascade(pair, order.views(), encoders, order.directory, training=training, **running)
    return _trained(pair, {"shape": asdict(shape)}, order, running)


def _multiview(order: Order, parts: Parts) -> Trained:
    running = order.running(_UNET)
    encoders = small_encoders(parts.autoencoder(), parts.features())
    latents, context = _lengths(order, encoders)
    network = _begun(LdmUNet(small_multiview_shape(latents, context)), order)
    rings, training = RingSampler(order.sets()), _with_batch(MultiViewTraining(), order)
    train_multiview(network, rings, encoders, order.directory, training=training, **running)
    return _trained(network, {"latents": latents, "context": context}, order, running)


def _video(order: Order, parts: Parts) -> Trained:
    running = order.running(_UNET)
    encoders = small_encoders(parts.autoencoder(), parts.features())
    shape = small_video_shape(*_lengths(order, encoders))
    network, rings = _begun(VideoUNet(shape), order), RingSampler(order.sets())
    frames = order.sets()[0].settings.ring_views
    training = replace(VideoTraining(), batch=order.batch or 4, frames=frames)
    train_video_orbit(network, rings, encoders, order.directory, training=training, **running)
    return _trained(network, {"shape": asdict(shape)}, order, running)


def _video_refiner(order: Order, parts: Parts) -> Trained:
    running = order.running(replace(_UNET, learning_rate=8e-4))
    encoders = _with_depth(order, parts)
    frozen, lengths = parts.autoencoder(), _lengths(order, encoders.pictures)
    shape = narrow_video_refiner_shape(*lengths)
    if order.start is not None and CONV_IN in order.start:
        # An orbit's, of one stage and two levels: ours has a way beside, and the photo's latents.
        shape = small_video_refiner_shape(*lengths)
        latents = shape.out_channels
        moved = refiner_from_orbit(order.start, latents=latents, tells_elevation=True)
        moved = widened(moved, shape.in_channels + latents)
        order = replace(order, start={f"unet.{name}": value for name, value in moved.items()})
    network, sets = _begun(SmallVideoRefiner(shape), order), order.sets()
    made = sets[0].settings
    training = replace(_REFINER, batch=order.batch or _REFINER.batch, frames=made.ring_views)
    encoders = replace(
        encoders,
        show=frozen.requires_grad_(False).eval().decode,
        features=parts.features(),
        coarsen=drawn_or_spoilt(LatentOrbitModel(parts.orbit().to(order.place), frozen)),
    )
    rings = RingSampler(sets, scans_oftener(sets), augment=False)  # The clips are changed later.
    make = functools.partial(coarse_clip, rings, encoders, made.ring_views)
    first, count = _CLIPS
    with CoarseClips(make, count=count, first=first, seed=running["settings"].seed) as clips:
        train_video_refiner(network, clips, encoders, order.directory, training=training, **running)
    use = {"frames": made.ring_views, "size_px": made.size_px} | _REFINES
    settings = {"shape": asdict(shape), "photo_beside": True, "told_depth": True, "refining": use}
    return _trained(network, settings, order, running)


def _depth_image(order: Order, parts: Parts) -> Trained:
    running, encoders = order.running(_UNET), _with_depth(order, parts)
    latents, context = _lengths(order, encoders.pictures)
    start = order.start
    if start is not None and CONV_IN in start and start[CONV_IN].shape[1] == latents:
        order = replace(order, start=widened(start, latents + 1))
    network = _begun(LdmUNet(small_depth_image_shape(latents, context)), order)
    training = _with_batch(DepthTraining(), order)
    train_depth_image(
        network, order.views(), encoders, order.directory, training=training, **running
    )
    side = order.sets()[0].settings.size_px
    sizes = {"latents": latents, "context": context, "size_px": side, "guidance": _GUIDANCE}
    return _trained(network, sizes, order, running)


FAMILIES: dict[str, Family] = {
    "autoencoder-small": Family(_autoencoder),
    "orbit-small": Family(_orbit),
    "elevation-small": Family(_elevation),
    "depth-small": Family(_depth),
    "shape-small": Family(_shape),
    "cascade-small": Family(_cascade),
    "multiview-small": Family(_multiview),
    "depth-image-small": Family(_depth_image, picture_px=128),
    "video-orbit-small": Family(_video),
    "video-refiner-small": Family(_video_refiner, picture_px=128),
    "zero123-small": Family(_zero123),
    "zero123-cascade-small": Family(_zero123_cascade),
}
"""What can be trained, by the name of its card."""
Net = TypeVar("Net", bound=nn.Module)
Training = TypeVar("Training", bound="_Batched")


@runtime_checkable
class _Batched(Protocol):
    """How a family is trained, a batch among it."""

    @property
    def batch(self) -> int: ...


def _with_batch(training: Training, order: Order) -> Training:
    return replace(training, batch=order.batch or training.batch)  # pyright: ignore[reportArgumentType]  all are dataclasses


def _begun(network: Net, order: Order) -> Net:
    begin_with(network, order.start or {})
    return network.to(order.place)


def _trained(
    network: nn.Module, sizes: dict[str, Any], order: Order, running: dict[str, Any]
) -> Trained:
    taken = None if order.start is None else len(fitting(network, order.start))
    return Trained(network, sizes, running["settings"], taken)


def _with_depth(order: Order, parts: Parts) -> RefinerEncoders:
    depth = parts.depth()

    def maps(rgba: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n h w"]:
        rgb = rgba[:, :3].movedim(1, -1).clamp(0, 1).contiguous().to(order.place)
        return subject_depth(depth(rgb)[0].to(rgba), rgba[:, 3])

    return RefinerEncoders(small_encoders(parts.autoencoder(), parts.features()), maps)


def _lengths(order: Order, encoders: Encoders) -> tuple[int, int]:
    """Ask how many channels a latent has, and how long the embedding of a picture is."""
    side = order.sets()[0].settings.size_px
    context = int(encoders.embed(torch.ones(1, 4, side, side)).shape[-1])
    return len(encoders.channel_weight), context
