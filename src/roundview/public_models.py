"""From the cards of imported public checkpoints to models that recipes can use."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from .diffusion.checkpoints.families import FirstStage, empty_networks
from .diffusion.clip import ClipTower
from .diffusion.clip_text import ClipText, Tokens, empty_prompts, text_tokens
from .diffusion.ldm_autoencoder import ClipDecoder, LdmAutoencoder
from .diffusion.video_orbit import (
    HI3D,
    SV3D,
    Numbers,
    VideoNetworks,
    VideoOrbit,
    VideoRing,
    hi3d_numbers,
    hi3d_paper_numbers,
    sv3d_p_numbers,
    sv3d_u_numbers,
    svd_numbers,
)
from .diffusion.video_unet import VideoUNet
from .importing import merges_of
from .loaders.memory import AS_PUBLISHED, Asked, Drawn, called_apart, room_for
from .memory import MemoryPlan, Room, precision_on
from .weights import Card, WeightsMissing, load_tensors

_RINGS = {"hi3d": HI3D, "sv3d": SV3D, "svd": VideoRing(frames=14, size_px=512)}
# Length of the vector beside the time embedding.
_POSED, _UNPOSED, _OF_PAPER = 1280, 256, 512


def load_networks(
    card: Card,
    device: torch.device,
    *,
    memory_gb: float | None = None,
    drawn: Drawn | None = None,
) -> dict[str, nn.Module]:
    """Read the networks of an imported checkpoint of pictures onto a device.

    Args:
        card: Of the checkpoint.
        device: Where the networks run; off the CPU in half precision.
        memory_gb: See `roundview.memory.plan_memory`; None for as much as it takes.
        drawn: What is asked of them at once, to plan the memory; as published by default.

    Raises:
        WeightsMissing: If the file is missing or differs from its card.
        ValueError: If it does not hold what the card says, or the memory is not enough.
    """
    return networks_in(
        room_for([Asked(card, drawn or as_published(card))], device, memory_gb), card
    )


def networks_in(room: Room, card: Card) -> dict[str, nn.Module]:
    """Read the networks of an imported checkpoint into a room that was planned for it.

    Raises:
        WeightsMissing: If the file is missing or differs from its card.
        ValueError: If it does not hold what the card says.
    """
    networks = _read_networks(card)
    room.take(called_apart(networks))
    return networks


def load_prompts(card: Card, device: torch.device) -> Callable[[Sequence[str]], Tensor]:
    """Let prompts be told to the networks of a card: texts to "b k d".

    The merges of letters come from the checkpoint's folder of diffusers; beside a checkpoint that
    was imported from one file they must be put by hand.

    Raises:
        WeightsMissing: If the merges or the weights are missing.
        ValueError: If the checkpoint has no text tower, or the merges are not its own.
    """
    place = merges_of(card)
    if "text_tower" not in card.settings:
        raise ValueError(f"{card.name} holds no text tower, so it takes no prompts")
    if not place.is_file():
        raise WeightsMissing(_how_to_get_merges(place))
    tower = _read_networks(card, only=("text_tower",))["text_tower"]
    Room(MemoryPlan(precision_on(device)), device).take({"text_tower": tower})
    if not isinstance(tower, ClipText):
        raise TypeError(f"a text tower was expected, not {type(tower).__name__}")
    return prompts_of(card, tower)


def prompts_of(card: Card, tower: ClipText) -> Callable[[Sequence[str]], Tensor]:
    """Let prompts be told by a card's text tower; without its merges, empty ones only.

    Raises:
        ValueError: If the merges are not the tower's own.
    """
    place = merges_of(card)
    if not place.is_file():
        return empty_prompts(tower, _how_to_get_merges(place))
    # OpenAI's towers fill up with the end, OpenCLIP's with zeros.
    pad = -1 if tower.shape.quick else 0
    return text_tokens(tower, Tokens.read(place, length=tower.shape.length, pad=pad))


def _how_to_get_merges(place: Path) -> str:
    return (
        f"{place} is missing: copy merges.txt of the checkpoint's tokenizer there (the folder "
        "tokenizer/ of its diffusers version)"
    )


def as_published(card: Card) -> Drawn:
    """Say what a checkpoint draws in one call where nothing else is stated."""
    if card.kind in _RINGS:
        ring = video_ring(card)
        return Drawn(ring.frames, ring.size_px)
    return AS_PUBLISHED.get(card.kind, Drawn(1, 512))


def _read_networks(card: Card, *, only: Sequence[str] = ()) -> dict[str, nn.Module]:
    """Read networks, all or some, into the machine's memory, in the precision of the file."""
    tensors = load_tensors(card)
    sizes = {n: s for n, s in card.settings.items() if not only or n in only}
    networks = empty_networks(card.kind, sizes)
    for name, network in networks.items():
        try:
            network.load_state_dict(_under(tensors, f"{name}."), strict=True, assign=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{card.path} is not what its card says: {reason}") from error
    return networks


def load_video_orbit(
    card: Card, device: torch.device, *, memory_gb: float | None = None
) -> VideoOrbit:
    """Make an orbit model of an imported video checkpoint.

    Args:
        card: Its `ring` may set fields of `VideoRing`; else they are as published.
        device: Where the networks run; off the CPU in half precision.
        memory_gb: See `roundview.memory.plan_memory`; None for as much as it takes.

    Raises:
        ValueError: If the checkpoint lacks a part, cannot draw an orbit (Hi3D's second stage), or
            needs more memory.
    """
    return video_orbit_in(room_for([asked_of_orbit(card)], device, memory_gb), card)


def asked_of_orbit(card: Card) -> Asked:
    """Say what is asked of a video checkpoint that draws an orbit."""
    return Asked(card, as_published(card), video_ring(card).decoded_at_once)


def video_orbit_in(room: Room, card: Card) -> VideoOrbit:
    """Make an orbit model of a video checkpoint in a room that was planned for it.

    Raises:
        ValueError: See `load_video_orbit`.
    """
    ring = video_ring(card)
    ring = replace(ring, decoded_at_once=min(ring.decoded_at_once, room.plan.decoded_at_once))
    networks = _read_networks(card)
    unet, tower = networks.get("unet"), networks.get("image_tower")
    first_stage = networks.get("first_stage")
    pictures, decoder = first_stage, first_stage
    if isinstance(first_stage, FirstStage):
        pictures, decoder = first_stage.pictures, first_stage.clips
    encoder = networks.get("condition_encoder") or pictures
    if not isinstance(unet, VideoUNet) or not isinstance(tower, ClipTower):
        raise ValueError(f"{card.name} holds no image tower; import the whole checkpoint")
    if not isinstance(encoder, LdmAutoencoder):
        raise ValueError(f"{card.name} holds no encoder of pictures; import the whole checkpoint")
    if not isinstance(decoder, LdmAutoencoder | ClipDecoder):
        raise ValueError(f"{card.name} holds no decoder; import the whole checkpoint")
    if unet.shape.in_channels != 8:
        raise ValueError(
            f"{card.name} takes {unet.shape.in_channels} channels: it refines an orbit and draws "
            "none"
        )
    # Only what is called takes a place on the device; a decoder that serves as encoder, one.
    room.take({"unet": unet, "tower": tower, "encoder": encoder, "decoder": decoder})
    return VideoOrbit(VideoNetworks(unet, encoder, decoder, tower), ring, numbers_of(card, unet))


def video_ring(card: Card) -> VideoRing:
    """Say how a card's checkpoint is used."""
    told = card.settings.get("ring", {})
    known = {field.name for field in fields(VideoRing)}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items() if k in known}
    return replace(_RINGS[card.kind], **values)


def numbers_of(card: Card, unet: VideoUNet) -> Numbers:
    """Say what a checkpoint is told beside the time, by its kind and the length of its vector.

    Raises:
        ValueError: If no SV3D has a vector of that length.
    """
    if card.kind == "sv3d":
        by_length: dict[int, Numbers] = {_POSED: sv3d_p_numbers, _UNPOSED: sv3d_u_numbers}
        if unet.shape.vector not in by_length:
            raise ValueError(f"{card.name}: no SV3D has a vector of {unet.shape.vector}")
        return by_length[unet.shape.vector]
    if card.kind != "hi3d":
        return svd_numbers
    # The paper has no score in it, the released weights have.
    if unet.shape.vector == _OF_PAPER:
        return hi3d_paper_numbers
    return partial(hi3d_numbers, aesthetic=video_ring(card).aesthetic)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
