"""The models of Hi3D."""

from dataclasses import fields, replace
from typing import Any

from torch import nn

from ..diffusion.checkpoints.families import FirstStage
from ..diffusion.checkpoints.unet import UNetShape
from ..diffusion.clip import ClipTower
from ..diffusion.ldm_autoencoder import ClipDecoder, LdmAutoencoder
from ..diffusion.orbit import load_orbit_network
from ..diffusion.video_refine import (
    Refining,
    SmallVideoRefiner,
    VideoRefiner,
    public_parts,
    small_parts,
)
from ..diffusion.video_unet import VideoUNet
from ..models import DepthModel, FeatureModel
from ..public_models import load_networks
from ..recipes.hi3d import Hi3dModels
from ..weights import VIDEO_KINDS, Card, named
from .depth import load_depth
from .memory import Drawn
from .parts import (
    Loaded,
    Wanted,
    asks_of_orbit,
    identity_of,
    load_autoencoder,
    load_estimator,
    load_features,
    load_matte,
    load_orbit_model,
    settings_in,
    tensors_of,
    torch_device,
)

_PUBLISHED_STEPS = 25
"""Sampler steps of Hi3D's second stage, as its code has them."""


def load_hi3d(wanted: Wanted) -> Loaded:
    """Load what the Hi3D recipe asks for: our small models, or public ones among the weights.

    The first stage is any orbit model; the second ours, or the published one where the weights that
    the user named hold a checkpoint of Hi3D that takes 17 channels.

    Raises:
        WeightsMissing: If a model is not installed.
        ValueError: If the weights or the device name nothing, or a checkpoint lacks a part.
    """
    place = torch_device(wanted.device)
    cards: list[Card] = []
    matte = load_matte(wanted, cards)
    features = load_features(wanted.weights, cards)
    orbit = load_orbit_model(
        _of_first_stage(wanted.weights), cards, device=place, memory_gb=wanted.memory_gb
    )
    refiner = load_video_refiner(wanted, cards, features, load_depth(wanted, cards))
    elevation = load_estimator(wanted, features, cards)
    network = getattr(orbit, "network", None)
    return Loaded(
        Hi3dModels(matte, orbit, refiner, elevation, features),
        tuple(cards),
        identity_of(wanted, cards, place),
        asks_of_orbit(orbit) | _asks_of(refiner),
        {"refiner": refiner.network} | ({} if network is None else {"orbit": network}),
    )


def _asks_of(refiner: VideoRefiner) -> dict[str, int]:
    """Say what the recipe must be set to with the published second stage: its size and steps."""
    if isinstance(refiner.network, SmallVideoRefiner):
        return {}
    size_px = refiner.use.size_px
    return {"size_px": size_px, "photo_px": size_px, "refine_steps": _PUBLISHED_STEPS}


def load_video_refiner(
    wanted: Wanted, cards: list[Card], features: FeatureModel, depth: DepthModel
) -> VideoRefiner:
    """Load the second stage.

    Args:
        wanted: Which weights, and where they are to run.
        cards: The cards of what was read are put here.
        features: For our own refiner's embedding of the photograph.
        depth: Estimates the depth that the refiner is told.

    Raises:
        WeightsMissing: If it is not installed.
        ValueError: If a public checkpoint lacks a part.
    """
    public = next((card for card in _named(wanted.weights) if _refines(card)), None)
    if public is not None:
        cards.append(public)
        return _public(public, wanted, depth)
    place = torch_device(wanted.device)
    card, tensors = tensors_of("video_refiner", wanted.weights, cards)
    stated = settings_in(card)
    network = SmallVideoRefiner(UNetShape(**_lists_as_tuples(stated["shape"])))
    load_orbit_network(network, tensors)
    autoencoder = load_autoencoder(wanted.weights).to(place)
    parts = small_parts(
        network.to(place), autoencoder, features, depth if stated["told_depth"] else None
    )
    return VideoRefiner(parts, _refining(card))


def _public(card: Card, wanted: Wanted, depth: DepthModel) -> VideoRefiner:
    use = _refining(card)
    drawn = Drawn(use.frames, use.size_px)
    networks: dict[str, nn.Module] = load_networks(
        card, torch_device(wanted.device), memory_gb=wanted.memory_gb, drawn=drawn
    )
    unet, tower = networks.get("unet"), networks.get("image_tower")
    first_stage = networks.get("first_stage")
    encoder = networks.get("condition_encoder") or first_stage
    decoder = first_stage.clips if isinstance(first_stage, FirstStage) else first_stage
    if not isinstance(unet, VideoUNet) or not isinstance(tower, ClipTower):
        raise ValueError(f"{card.name} holds no image tower; import the whole checkpoint")
    if not isinstance(encoder, LdmAutoencoder):
        raise ValueError(f"{card.name} holds no encoder of pictures; import the whole checkpoint")
    if not isinstance(decoder, LdmAutoencoder | ClipDecoder):
        raise ValueError(f"{card.name} holds no decoder; import the whole checkpoint")
    return VideoRefiner(public_parts(unet, encoder, decoder, tower, depth), use)


def _refining(card: Card) -> Refining:
    """Say how a card's checkpoint is used: as published, but for what the card states."""
    known = {field.name for field in fields(Refining)}
    told = _lists_as_tuples(card.settings.get("refining", {}))
    return replace(Refining(), **{key: value for key, value in told.items() if key in known})


def _refines(card: Card) -> bool:
    """Whether a checkpoint is Hi3D's second stage: it takes depth and coarse latents as well."""
    shape = card.settings.get("unet", {}).get("shape", {})
    return card.kind == "hi3d" and shape.get("in_channels") == 17


def _of_first_stage(weights: str | None) -> str | None:
    """Say where the first stage is to be found: not in what holds the second one alone."""
    videos = [card for card in _named(weights) if card.kind in VIDEO_KINDS]
    return None if videos and all(_refines(card) for card in videos) else weights


def _named(weights: str | None) -> list[Card]:
    return [] if weights is None else named(weights)


def _lists_as_tuples(stated: dict[str, Any]) -> dict[str, Any]:
    """Give values as the dataclasses have them: JSON has no tuples."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in stated.items()}
