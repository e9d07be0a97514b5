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
from ..memory import Room
from ..models import DepthModel, FeatureModel
from ..public_models import asked_of_orbit, networks_in, video_orbit_in
from ..recipes.hi3d import Hi3dModels
from ..weights import VIDEO_KINDS, Card, named
from .depth import load_depth
from .dpt import asked_of_depth, public_depth, public_depth_card
from .memory import Asked, Drawn, room_for
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
"""Sampler steps of Hi3D's second stage, as in its code; a card's `refining` may say others."""
_REFINED = 17
"""Channels that the second stage takes."""


def load_hi3d(wanted: Wanted) -> Loaded:
    """Load what the Hi3D recipe asks for: our small models, or public ones among the weights.

    The first stage is any orbit model; the second ours, or the published one where the weights that
    the user named hold a checkpoint of Hi3D that takes 17 channels. An imported MiDaS estimates the
    depth that it is told. Published ones share what there is of memory.

    Raises:
        WeightsMissing: If a model is not installed.
        ValueError: If the weights or the device name nothing, a checkpoint lacks a part, or the
            memory is not enough.
    """
    place = torch_device(wanted.device)
    cards: list[Card] = []
    matte = load_matte(wanted, cards)
    features = load_features(wanted.weights, cards)
    given = [] if wanted.weights is None else named(wanted.weights)
    first, second = _first_stage(given), _second_stage(given)
    asked = [] if first is None else [asked_of_orbit(first)]
    asked += [] if second is None else [_asked_of_refiner(second)]
    midas = public_depth_card(wanted)
    asked += [] if midas is None else [asked_of_depth(midas)]
    room = room_for(asked, place, wanted.memory_gb)
    if first is None:
        orbit = load_orbit_model(wanted.weights, cards, device=place)
    else:
        cards.append(first)
        orbit = video_orbit_in(room, first)
    depth = load_depth(wanted, cards)
    if midas is not None:
        cards.append(midas)
        depth = public_depth(midas, room, depth)
    if second is None:
        refiner = load_video_refiner(wanted, cards, features, depth)
    else:
        cards.append(second)
        refiner = _public_refiner(second, room, depth)
    elevation = load_estimator(wanted, features, cards)
    network = getattr(orbit, "network", None)
    return Loaded(
        Hi3dModels(matte, orbit, refiner, elevation, features),
        tuple(cards),
        identity_of(wanted, cards, place),
        asks_of_orbit(orbit) | ({} if second is None else _asks_of(second)),
        {"refiner": refiner.network} | ({} if network is None else {"orbit": network}),
    )


def _asks_of(card: Card) -> dict[str, int]:
    """Say what the recipe must be set to with the published second stage: its size and steps."""
    size_px = _refining(card).size_px
    steps = int(card.settings.get("refining", {}).get("steps", _PUBLISHED_STEPS))
    return {"size_px": size_px, "photo_px": size_px, "refine_steps": steps}


def load_video_refiner(
    wanted: Wanted, cards: list[Card], features: FeatureModel, depth: DepthModel
) -> VideoRefiner:
    """Load our own second stage.

    Args:
        wanted: Which weights, and where they are to run.
        cards: The cards of what was read are put here.
        features: For the embedding of the photograph.
        depth: Estimates the depth that the refiner is told.

    Raises:
        WeightsMissing: If it is not installed.
    """
    place = torch_device(wanted.device)
    card, tensors = tensors_of("video_refiner", wanted.weights, cards)
    stated = settings_in(card)
    network = SmallVideoRefiner(
        UNetShape(**_lists_as_tuples(stated["shape"])),
        photo_beside=stated.get("photo_beside", False),
    )
    load_orbit_network(network, tensors)
    autoencoder = load_autoencoder(wanted.weights).to(place)
    parts = small_parts(
        network.to(place), autoencoder, features, depth if stated["told_depth"] else None
    )
    return VideoRefiner(parts, _refining(card))


def _asked_of_refiner(card: Card) -> Asked:
    use = _refining(card)
    return Asked(card, Drawn(use.frames, use.size_px))


def _public_refiner(card: Card, room: Room, depth: DepthModel) -> VideoRefiner:
    networks: dict[str, nn.Module] = networks_in(room, card)
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
    parts = public_parts(
        unet, encoder, decoder, tower, depth, decoded_at_once=min(4, room.plan.decoded_at_once)
    )
    return VideoRefiner(parts, _refining(card))


def _refining(card: Card) -> Refining:
    """Say how a card's checkpoint is used: as published, but for what the card states."""
    known = {field.name for field in fields(Refining)}
    told = _lists_as_tuples(card.settings.get("refining", {}))
    return replace(Refining(), **{key: value for key, value in told.items() if key in known})


def _first_stage(given: list[Card]) -> Card | None:
    """Find a public checkpoint that draws an orbit; one of our own kind goes before it."""
    if any(card.kind == "orbit" for card in given):
        return None
    return next((c for c in given if c.kind in VIDEO_KINDS and _channels(c) != _REFINED), None)


def _second_stage(given: list[Card]) -> Card | None:
    """Find Hi3D's second stage, which takes depth and coarse latents as well."""
    return next((c for c in given if c.kind == "hi3d" and _channels(c) == _REFINED), None)


def _channels(card: Card) -> int:
    return card.settings.get("unet", {}).get("shape", {}).get("in_channels", 0)


def _lists_as_tuples(stated: dict[str, Any]) -> dict[str, Any]:
    """Give values as the dataclasses have them: JSON has no tuples."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in stated.items()}
