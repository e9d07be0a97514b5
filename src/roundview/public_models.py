"""From the cards of imported public checkpoints to models that recipes can use."""

from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from .diffusion.checkpoints.families import FirstStage, empty_networks
from .diffusion.clip import ClipTower
from .diffusion.ldm_autoencoder import ClipDecoder, LdmAutoencoder
from .diffusion.video_orbit import (
    HI3D,
    SV3D,
    Numbers,
    VideoNetworks,
    VideoOrbit,
    VideoRing,
    hi3d_numbers,
    sv3d_p_numbers,
    sv3d_u_numbers,
    svd_numbers,
)
from .diffusion.video_unet import VideoUNet
from .weights import Card, load_tensors

_RINGS = {"hi3d": HI3D, "sv3d": SV3D, "svd": VideoRing(frames=14, size_px=512)}
# Length of the vector beside the time embedding.
_POSED, _UNPOSED = 1280, 256


def load_networks(card: Card, device: torch.device) -> dict[str, nn.Module]:
    """Read the networks of an imported checkpoint onto a device; half precision off the CPU.

    Raises:
        WeightsMissing: If the file is missing or differs from its card.
        ValueError: If it does not hold what the card says.
    """
    tensors = load_tensors(card)
    kind = torch.float32 if device.type == "cpu" else torch.float16
    networks = empty_networks(card.kind, card.settings)
    for name, network in networks.items():
        own = {n: t.to(device, kind) for n, t in _under(tensors, f"{name}.").items()}
        try:
            network.load_state_dict(own, strict=True, assign=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{card.path} is not what its card says: {reason}") from error
    return networks


def load_video_orbit(card: Card, device: torch.device) -> VideoOrbit:
    """Make an orbit model of an imported video checkpoint.

    The card's `ring` may set fields of `VideoRing`; else they are as published.

    Raises:
        ValueError: If the checkpoint lacks a part, or cannot draw an orbit (Hi3D's second stage).
    """
    networks = load_networks(card, device)
    unet, tower = networks.get("unet"), networks.get("image_tower")
    encoder = networks.get("condition_encoder") or networks.get("first_stage")
    first_stage = networks.get("first_stage")
    decoder = first_stage.clips if isinstance(first_stage, FirstStage) else first_stage
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
    return VideoOrbit(
        VideoNetworks(unet, encoder, decoder, tower), video_ring(card), _numbers(card, unet)
    )


def video_ring(card: Card) -> VideoRing:
    """Say how a card's checkpoint is used."""
    told = card.settings.get("ring", {})
    known = {field.name for field in fields(VideoRing)}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items() if k in known}
    return replace(_RINGS[card.kind], **values)


def _numbers(card: Card, unet: VideoUNet) -> Numbers:
    if card.kind == "sv3d":
        by_length: dict[int, Numbers] = {_POSED: sv3d_p_numbers, _UNPOSED: sv3d_u_numbers}
        if unet.shape.vector not in by_length:
            raise ValueError(f"{card.name}: no SV3D has a vector of {unet.shape.vector}")
        return by_length[unet.shape.vector]
    return hi3d_numbers if card.kind == "hi3d" else svd_numbers


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
