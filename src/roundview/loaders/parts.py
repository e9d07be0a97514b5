"""From weight cards to the parts that recipes share: each kind of weights is built here."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..models import Elevation, FeatureModel, Matte, OrbitModel
from ..weights import VIDEO_KINDS, Card, WeightsMissing, find, load_tensors, named, verify

if TYPE_CHECKING:
    from ..diffusion.encoders import LatentAutoencoder
    from ..diffusion.orbit import LatentOrbitModel
    from ..diffusion.video_orbit import VideoRing

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Wanted:
    """What a user wants a recipe's models to be.

    Attributes:
        weights: See `weights.find`; None takes the shipped ones.
        mask: Coverage that the user painted, of the photograph's size.
        use_matte: Cut out the subject; otherwise the picture is used as it is.
        photo_elevation_deg: Known elevation of the photograph; then no estimator is loaded.
        device: Where the networks run: auto, cpu, cuda or mps.
        memory_gb: What imported checkpoints may take of the device's memory; None asks nothing.
        prompt: What the photograph shows, for models that read words; None takes what their cards
            say.
    """

    weights: str | None = None
    mask: Float[Tensor, "h w"] | None = None
    use_matte: bool = True
    photo_elevation_deg: float | None = None
    device: str = "auto"
    memory_gb: float | None = None
    prompt: str | None = None


@dataclass(frozen=True, eq=False)
class Loaded:
    """The models of a recipe, and the cards of their weights.

    Attributes:
        models: What the recipe is handed: the dataclass of models that its module defines.
        cards: The weights that were read.
        identity: Changes whenever the models would answer differently.
        asks: Settings that the models must have, such as the size of their pictures; those that the
            recipe does not know are left out.
        counted: Diffusion networks by name; a run writes down how often each was called.
        prompt: What models were told in words; None if none of them reads any.
    """

    models: Any
    cards: tuple[Card, ...]
    identity: str
    asks: Mapping[str, Any] = field(default_factory=dict)
    counted: Mapping[str, nn.Module] = field(default_factory=dict)
    prompt: str | None = None


def identity_of(wanted: Wanted, cards: list[Card], place: torch.device) -> str:
    """Give a hash that changes whenever models made of these would answer differently."""
    facts = [card.sha256 for card in cards] + [str(place), str(wanted.use_matte)]
    facts += [] if wanted.prompt is None else [wanted.prompt]
    digest = hashlib.sha256("\n".join(facts).encode())
    digest.update(b"" if wanted.mask is None else tensor_bytes(wanted.mask))
    return digest.hexdigest()


def prompt_for(card: Card, prompt: str | None) -> str:
    """Give what a checkpoint is told: the user's words, or else its card's, or else none."""
    return str(card.settings.get("options", {}).get("prompt", "")) if prompt is None else prompt


def load_matte(wanted: Wanted, cards: list[Card]) -> Matte:
    """Load what cuts out the subject, or what leaves the picture as it is."""
    from ..segment import PhotoMatte, whole_picture  # noqa: PLC0415  each model when needed

    if not wanted.use_matte:
        return whole_picture
    known = wanted.mask is not None
    return PhotoMatte(None if known else _matte_network(wanted.weights, cards), wanted.mask)


def asks_of_orbit(orbit: OrbitModel) -> dict[str, Any]:
    """Say what an orbit model asks of a recipe: nothing, or a video model's one ring.

    A model that draws its own few views only cannot draw frames to estimate the elevation from. Of
    our own models' frames the estimate is worse than of the photograph alone: 9.6 degrees off with
    `shape-small`, 12.6 with `orbit-small`, 9.0 without, on 50 held-out training objects.
    """
    from ..diffusion.multiview import MultiviewModel  # noqa: PLC0415  each model when needed
    from ..diffusion.orbit import LatentOrbitModel  # noqa: PLC0415
    from ..diffusion.solid_orbit import SolidOrbitModel  # noqa: PLC0415
    from ..diffusion.zero123plus import Zero123Plus  # noqa: PLC0415

    if isinstance(orbit, Zero123Plus | SolidOrbitModel | LatentOrbitModel):
        return {"elevation_frames": 0}
    if isinstance(orbit, MultiviewModel):
        return {
            "ring_views": orbit.settings.frames,
            "more_rings": (),
            "elevation_frames": 0,
            "size_px": orbit.settings.size_px,
            # Of the models' demos, and half of it.
            "draw_steps": 50,
            "redraw_steps": 25,
        }
    ring: VideoRing | None = getattr(orbit, "ring", None)
    if ring is None:
        return {}
    return {
        "ring_views": ring.frames,
        "more_rings": (),
        "between": ring.frames,
        "elevation_frames": 0,
        "draw_px": ring.size_px,
        "size_px": ring.size_px,
        "photo_px": max(512, ring.size_px),
        "draw_steps": ring.steps,
        "redraw_steps": max(2, ring.steps // 2),
    }


def load_estimator(wanted: Wanted, features: FeatureModel, cards: list[Card]) -> Elevation:
    """Load what tells the photograph's elevation; nothing is loaded if the user did."""
    if wanted.photo_elevation_deg is not None:
        return known_elevation(wanted.photo_elevation_deg)
    return load_elevation(features, wanted.weights, cards)


def known_elevation(elevation_deg: float) -> Elevation:
    """Say the same elevation of all frames."""
    known_deg = float(elevation_deg)

    def elevation(frames: Float[Tensor, "n h w 3"]) -> float:
        del frames
        return known_deg

    return elevation


def load_features(weights: str | None = None, cards: list[Card] | None = None) -> FeatureModel:
    """Load the deep features.

    Args:
        weights: See `weights.find`; None takes the shipped ones.
        cards: Their card is put here.
    """
    from ..features import EfficientNetLite0  # noqa: PLC0415  each model is imported when needed

    tensors = tensors_of("features", weights, cards)[1]
    return EfficientNetLite0({name: value.float() for name, value in tensors.items()})


def load_autoencoder(
    weights: str | None = None, cards: list[Card] | None = None
) -> "LatentAutoencoder":
    """Load the autoencoder that the orbit model draws in; arguments as for `load_features`."""
    from ..diffusion.encoders import AutoencoderSize, LatentAutoencoder  # noqa: PLC0415
    from ..diffusion.orbit import load_orbit_network  # noqa: PLC0415

    card, tensors = tensors_of("autoencoder", weights, cards)
    autoencoder = LatentAutoencoder(AutoencoderSize(**settings_in(card)))
    load_orbit_network(autoencoder, tensors)
    return autoencoder


def load_orbit_model(
    weights: str | None = None,
    cards: list[Card] | None = None,
    *,
    device: torch.device = torch.device("cpu"),  # noqa: B008  a constant
    memory_gb: float | None = None,
) -> OrbitModel:
    """Load the orbit model and its autoencoder; arguments as for `load_features`."""
    sheet = next((card for card in _named(weights) if card.kind == "zero123plus"), None)
    if sheet is not None:
        from .zero123plus import load_zero123plus  # noqa: PLC0415  each model when needed

        if cards is not None:
            cards.append(sheet)
        return load_zero123plus(sheet, device, memory_gb=memory_gb)
    public = _public_video(weights)
    if public is not None:
        from ..public_models import load_video_orbit  # noqa: PLC0415  each model when needed

        if cards is not None:
            cards.append(public)
        return load_video_orbit(public, device, memory_gb=memory_gb)
    kinds = {card.kind for card in _named(weights)}
    diffusion = load_latent_orbit(weights, cards, device=device)
    # Only for who names it: on the evaluation objects solids cost 0.9 dB (docs/results.md).
    if "shape" not in kinds:
        return diffusion
    from .shape import load_solid_orbit  # noqa: PLC0415  each model is imported when needed

    return load_solid_orbit(diffusion, weights, cards, device=device)


def load_latent_orbit(
    weights: str | None = None,
    cards: list[Card] | None = None,
    *,
    device: torch.device = torch.device("cpu"),  # noqa: B008  a constant
) -> "LatentOrbitModel":
    """Load our own diffusion model of orbits; arguments as for `load_features`."""
    from ..diffusion.orbit import LatentOrbitModel, load_orbit_network  # noqa: PLC0415
    from ..diffusion.view_transformer import ViewTransformer, ViewTransformerSize  # noqa: PLC0415

    card, tensors = tensors_of("orbit", weights, cards)
    network = ViewTransformer(ViewTransformerSize(**settings_in(card)))
    load_orbit_network(network, tensors)
    return LatentOrbitModel(network.to(device), load_autoencoder(weights, cards).to(device))


def _public_video(weights: str | None) -> Card | None:
    """Find the card of a public video checkpoint among what the user named."""
    named_cards = _named(weights)
    if any(card.kind == "orbit" for card in named_cards):
        return None
    return next((card for card in named_cards if card.kind in VIDEO_KINDS and _draws(card)), None)


def _named(weights: str | None) -> list[Card]:
    return [] if weights is None else named(weights)


def _draws(card: Card) -> bool:
    """Whether a video checkpoint draws an orbit; Hi3D's second stage, of 17 inputs, refines one."""
    return card.settings.get("unet", {}).get("shape", {}).get("in_channels") != 17


def load_elevation(
    features: FeatureModel, weights: str | None = None, cards: list[Card] | None = None
) -> Elevation:
    """Load the elevation head on top of deep features; arguments as for `load_features`."""
    from ..diffusion.elevation import (  # noqa: PLC0415
        ElevationHead,
        ElevationNetwork,
        ElevationSize,
        FeatureElevation,
    )
    from ..diffusion.orbit import load_orbit_network  # noqa: PLC0415
    from ..diffusion.tuned import TunedFeatures  # noqa: PLC0415

    card, tensors = tensors_of("elevation", weights, cards)
    size = settings_in(card)
    tuned = TunedFeatures(features, size.pop("stages"))
    network = ElevationNetwork(tuned, ElevationHead(ElevationSize(**size)))
    load_orbit_network(network, tensors)
    return FeatureElevation(network)


def torch_device(name: str) -> torch.device:
    """Choose a device; auto takes the fastest that is there.

    Raises:
        ValueError: If it is not there.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, found in there.items() if found)
    if name not in there:
        raise ValueError(f"device {name!r} is unknown; there are: auto, {', '.join(there)}")
    if not there[name]:
        raise ValueError(f"device {name} is not available on this machine; use --device auto")
    return torch.device(name)


def tensor_bytes(tensor: Tensor) -> bytes:
    """Give what a hash of a tensor is made of: its shape and its values."""
    return repr(tuple(tensor.shape)).encode() + tensor.contiguous().numpy().tobytes()


def _matte_network(weights: str | None, cards: list[Card]) -> Matte | None:
    """Load the matting network, if it can be had: there is a way without it, which warns."""
    from ..segment import U2NetMatte  # noqa: PLC0415  each model is imported when needed

    try:
        card = find("matte", weights)
        verify(card)
        network = U2NetMatte(card.path, threads=torch.get_num_threads())
    except (WeightsMissing, ImportError) as error:
        _log.warning("no matting network: %s", error)
        return None
    cards.append(card)
    return network


def tensors_of(
    kind: str, weights: str | None, cards: list[Card] | None
) -> tuple[Card, dict[str, Tensor]]:
    """Read the weights of a kind, put their card among the others, and say what it cautions of."""
    card = find(kind, weights)
    if cards is not None:
        cards.append(card)
    caution = card.facts.get("caution")
    if caution:
        _log.warning("%s: %s", card.name, caution)
    return card, load_tensors(card)


def settings_in(card: Card) -> dict[str, Any]:
    """Give a card's settings as the dataclasses have them: JSON has no tuples."""
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in card.settings.items()
    }
