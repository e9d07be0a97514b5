"""Public models of four views at once: Isotropic3D, MVDream, ImageDream."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..diffusion.clip import ClipTower
from ..diffusion.clip_text import ClipText
from ..diffusion.imagedream import ImageDreamUNet
from ..diffusion.ldm_autoencoder import LdmAutoencoder
from ..diffusion.ldm_unet import LdmUNet
from ..diffusion.multiview import (
    MultiviewModel,
    MultiviewSettings,
    imagedream_views,
    ldm_views,
    scaled_autoencoder,
    tell_isotropic3d,
)
from ..diffusion.multiview_prompts import placed, tell_imagedream, tell_mvdream
from ..memory import Room
from ..public_models import networks_in, prompts_of
from ..weights import Card, named
from .memory import Asked, Drawn
from .parts import prompt_for

_AS_PUBLISHED = {
    "isotropic3d": MultiviewSettings(),
    # Their demos: DDIM without fresh noise.
    "mvdream": MultiviewSettings(guidance=10.0, eta=0.0),
    "imagedream": MultiviewSettings(guidance=5.0, eta=0.0),
}
_GUIDING: dict[str, dict[str, float]] = {
    "isotropic3d": {},
    # Of their configurations for threestudio.
    "mvdream": {"guidance": 50.0, "rescale": 0.5},
    "imagedream": {"guidance": 5.0, "rescale": 0.2},
}
KINDS = tuple(_AS_PUBLISHED)


def multiview_card(weights: str | None) -> Card | None:
    """Find the card of such a checkpoint among what the user named."""
    given = [] if weights is None else named(weights)
    return next((card for card in given if card.kind in KINDS), None)


def asked_of_multiview(card: Card, *, judged: int = 0) -> Asked:
    """Say what is asked of it, to plan the memory.

    Args:
        card: Of the checkpoint.
        judged: Renderings that it judges at once in a distillation.
    """
    use = multiview_settings(card)
    seen = use.frames + (card.kind == "imagedream" and _pixel(card))
    return Asked(card, Drawn(seen, use.size_px, passes=2, judged=judged // use.frames * seen))


def multiview_in(room: Room, card: Card, prompt: str | None) -> tuple[nn.Module, MultiviewModel]:
    """Make the model of a checkpoint in a room that was planned for it.

    The card's `options` may set fields of `MultiviewSettings`, `angles` (Isotropic3D: how often its
    cameras' degrees are turned, see `multiview.Angles`), and for the others `prompt`, `negative`
    and `pixel` (ImageDream: whether the picture is a view of its own).

    Args:
        room: See `memory.room_for`.
        card: Of kind "isotropic3d", "mvdream" or "imagedream".
        prompt: What the views show; None takes the card's.

    Returns:
        Its network, and what draws with it.

    Raises:
        WeightsMissing: If the file is missing or differs from its card, or a prompt lacks merges.
        ValueError: If the checkpoint lacks a part, or one that reads only words was told none.
    """
    networks = networks_in(room, card)
    unet, autoencoder = networks.get("unet"), networks.get("autoencoder")
    tower = networks.get("image_tower")
    if not isinstance(unet, LdmUNet | ImageDreamUNet) or not isinstance(
        autoencoder, LdmAutoencoder
    ):
        raise ValueError(f"{card.name} lacks its network or autoencoder; import the whole file")
    if card.kind != "mvdream" and not isinstance(tower, ClipTower):
        raise ValueError(f"{card.name} holds no image tower; import the whole checkpoint")
    for network in networks.values():
        network.eval().requires_grad_(False)
    use, options = multiview_settings(card), card.settings.get("options", {})
    coder = scaled_autoencoder(autoencoder)
    coder = replace(coder, decode=_in_parts(coder.decode, room.plan.decoded_at_once))
    if isinstance(unet, LdmUNet) and isinstance(tower, ClipTower) and card.kind == "isotropic3d":
        tell = tell_isotropic3d(tower, angles=options.get("angles", "twice"))
        return unet, MultiviewModel(ldm_views(unet, frames=use.frames), coder, tell, use)
    text = networks.get("text_tower")
    if not isinstance(text, ClipText):
        raise ValueError(f"{card.name} holds no text tower; import the whole checkpoint")
    words, avoided = prompt_for(card, prompt), str(options.get("negative", ""))
    texts = prompts_of(card, text)
    if isinstance(unet, LdmUNet):
        if not words.strip():
            raise ValueError(f"{card.name} draws what it is told in words: say it with --prompt")
        model = ldm_views(unet, frames=use.frames)
        tell = tell_mvdream(texts, words, negative=avoided)
    else:
        assert isinstance(tower, ClipTower)
        model = placed(imagedream_views(unet, frames=use.frames), unet)
        seen = autoencoder if _pixel(card) else None
        told = {"frames": use.frames, "size_px": use.size_px, "negative": avoided}
        tell = tell_imagedream(texts, tower, seen, words, **told)
    return unet, MultiviewModel(model, coder, tell, use)


def guiding(card: Card) -> dict[str, Any]:
    """Say what a recipe must be set to where a checkpoint guides a distillation."""
    return dict(_GUIDING[card.kind])


def multiview_settings(card: Card) -> MultiviewSettings:
    """Say how a card's checkpoint is used."""
    known = {field.name for field in fields(MultiviewSettings)}
    told = {k: v for k, v in card.settings.get("options", {}).items() if k in known}
    return replace(_AS_PUBLISHED[card.kind], **told)


def _pixel(card: Card) -> bool:
    """Whether ImageDream sees the picture as a view; its two checkpoints differ in nothing else."""
    return bool(card.settings.get("options", {}).get("pixel", "local" not in card.name))


def _in_parts(decode: Callable[[Tensor], Tensor], at_once: int) -> Callable[[Tensor], Tensor]:
    return lambda latents: torch.cat([decode(part) for part in latents.split(at_once)])
