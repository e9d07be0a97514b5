"""Zero123++ from an imported checkpoint."""

from dataclasses import fields, replace

import torch

from ..diffusion.clip import ClipTower
from ..diffusion.clip_text import ClipText
from ..diffusion.ldm_autoencoder import LdmAutoencoder
from ..diffusion.ldm_unet import LdmUNet
from ..diffusion.zero123plus import Ramp, SheetNetworks, SheetOptions, Zero123Plus
from ..memory import Room
from ..public_models import as_published, networks_in, prompts_of
from ..weights import Card
from .memory import Asked, room_for

_V1_1 = SheetOptions(elevation_deg=(30.0, -20.0), fov_deg=49.13434, radius=1.5)
"""What version 1.1 has otherwise: its lens is Zero-1-to-3's (the authors on their page), at whose
distance the subject is as large as in the photograph."""


def load_zero123plus(
    card: Card, device: torch.device, *, memory_gb: float | None = None
) -> Zero123Plus:
    """Make the model that draws six views of an imported checkpoint of kind "zero123plus".

    Args:
        card: Its `options` may set fields of `SheetOptions`; version 1.1 is known by its name.
        device: Where the networks run; off the CPU in half precision.
        memory_gb: See `roundview.memory.plan_memory`; None for as much as it takes.

    Raises:
        WeightsMissing: If the file is missing or differs from its card.
        ValueError: If the checkpoint lacks a part, or needs more memory.
    """
    return zero123plus_in(room_for([Asked(card, as_published(card), 1)], device, memory_gb), card)


def zero123plus_in(room: Room, card: Card) -> Zero123Plus:
    """Make it in a room that was planned for it; see `load_zero123plus`."""
    networks = networks_in(room, card)
    unet, autoencoder = networks.get("unet"), networks.get("autoencoder")
    tower, text, ramp = (networks.get(name) for name in ("image_tower", "text_tower", "ramp"))
    if not isinstance(unet, LdmUNet) or not isinstance(autoencoder, LdmAutoencoder):
        raise ValueError(f"{card.name} lacks its network or autoencoder; import the whole folder")
    if not isinstance(tower, ClipTower) or not isinstance(text, ClipText):
        raise ValueError(f"{card.name} lacks a tower of CLIP; import the whole folder")
    if not isinstance(ramp, Ramp) or len(ramp.coefficients) != text.shape.length:
        raise ValueError(
            f"{card.name}: its ramp must have a number for each of {text.shape.length} tokens"
        )
    empty = prompts_of(card, text)([""])
    parts = SheetNetworks(unet, autoencoder, tower, ramp, empty)
    return Zero123Plus(parts, sheet_options(card))


def sheet_options(card: Card) -> SheetOptions:
    """Say how a card's checkpoint is used."""
    known = {field.name for field in fields(SheetOptions)}
    told = {
        key: tuple(float(each) for each in value) if isinstance(value, list) else value
        for key, value in card.settings.get("options", {}).items()
        if key in known
    }
    return replace(_V1_1 if "v1.1" in card.name else SheetOptions(), **told)
