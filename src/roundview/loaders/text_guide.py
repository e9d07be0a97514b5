"""Stable Diffusion 1.5 and 2.1 as guides that are told in words what a rendering shows."""

from ..diffusion.clip_text import ClipText
from ..diffusion.ldm_autoencoder import LdmAutoencoder
from ..diffusion.ldm_unet import LdmUNet
from ..diffusion.text_guide import GUIDANCE, TextGuide
from ..memory import Room
from ..public_models import as_published, networks_in, prompts_of
from ..weights import Card, named
from .memory import Asked, Drawn, room_for
from .parts import Wanted, prompt_for, torch_device

KINDS = ("sd1", "sd2", "sd2-v")
_JUDGED = 4
"""Renderings a step that are judged at once, at most, as `recipes.hifi123` has them."""


def text_guide_card(wanted: Wanted) -> Card | None:
    """Find the card of such a checkpoint among what the user named."""
    given = [] if wanted.weights is None else named(wanted.weights)
    return next((card for card in given if card.kind in KINDS), None)


def load_text_guide(wanted: Wanted, cards: list[Card]) -> TextGuide:
    """Load the 2D prior of DreamFusion's and Magic123's ways (`recipes.distilling_presets`).

    Args:
        wanted: Among its weights there must be a checkpoint of kind "sd1", "sd2" or "sd2-v".
        cards: Its card is put here.

    Raises:
        WeightsMissing: If its file is missing or differs from its card, or merges are missing.
        ValueError: If there is no such checkpoint, it lacks a part, was told nothing, or the memory
            is not enough.
    """
    card = text_guide_card(wanted)
    if card is None:
        raise ValueError(f"a guide by text needs weights of kind {', '.join(KINDS)}")
    room = room_for([asked_of_text_guide(card)], torch_device(wanted.device), wanted.memory_gb)
    cards.append(card)
    return text_guide_in(room, card, prompt_for(card, wanted.prompt))


def asked_of_text_guide(card: Card, *, judged: int = _JUDGED) -> Asked:
    """Say what is asked of it, to plan the memory.

    Args:
        card: Of the checkpoint.
        judged: Renderings that it judges at once.
    """
    return Asked(card, Drawn(1, _size_px(card), judged=judged))


def text_guide_in(room: Room, card: Card, prompt: str, *, scale: float | None = None) -> TextGuide:
    """Make the guide in a room that was planned for it.

    The card's `options` may set `size_px`, `scale` (of guidance) and `prompt`.

    Args:
        room: See `memory.room_for`.
        card: Of kind "sd1", "sd2" or "sd2-v".
        prompt: What the pictures show.
        scale: Of guidance, where the card states none; DreamFusion's by default.

    Raises:
        WeightsMissing: If the file is missing or differs from its card, or merges are missing.
        ValueError: If the checkpoint lacks a part, or was told nothing.
    """
    if not prompt.strip():
        raise ValueError(f"{card.name} judges by words: say with --prompt what the photo shows")
    unet, autoencoder, tower = stable_diffusion_in(room, card)
    told = card.settings.get("options", {}).get("scale", GUIDANCE if scale is None else scale)
    return TextGuide(
        unet,
        autoencoder,
        prompts_of(card, tower),
        prompt,
        size_px=_size_px(card),
        velocity=card.kind == "sd2-v",
        scale=float(told),
    )


def stable_diffusion_in(room: Room, card: Card) -> tuple[LdmUNet, LdmAutoencoder, ClipText]:
    """Read the network, autoencoder and text tower of a Stable Diffusion of any kind.

    Raises:
        WeightsMissing: If the file is missing or differs from its card.
        ValueError: If the checkpoint lacks one of them.
    """
    networks = networks_in(room, card)
    unet, autoencoder = networks.get("unet"), networks.get("autoencoder")
    tower = networks.get("text_tower")
    if not isinstance(unet, LdmUNet) or not isinstance(autoencoder, LdmAutoencoder):
        raise ValueError(f"{card.name} lacks its network or autoencoder; import the whole file")
    if not isinstance(tower, ClipText):
        raise ValueError(f"{card.name} holds no text tower; import the whole checkpoint")
    return unet, autoencoder, tower


def _size_px(card: Card) -> int:
    return int(card.settings.get("options", {}).get("size_px", as_published(card).size_px))
