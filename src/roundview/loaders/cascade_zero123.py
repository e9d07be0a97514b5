"""The models of Cascade-Zero123: our small pair, or imported checkpoints of Zero123's layout."""

import logging
from dataclasses import fields, replace
from typing import Literal

import torch
from torch import nn

from ..diffusion.clip import ClipTower
from ..diffusion.guide_models import SmallViewGuide, Zero123Guide
from ..diffusion.known_views import RefinerModel, SmallViewModel
from ..diffusion.ldm_autoencoder import LdmAutoencoder
from ..diffusion.orbit import load_orbit_network
from ..diffusion.view_guide import ViewGuide
from ..diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from ..diffusion.zero123 import Zero123Net
from ..diffusion.zero123_views import Zero123Options, Zero123Views
from ..memory import Room
from ..public_models import networks_in
from ..recipes.cascade_zero123 import CascadeZero123Models
from ..views import Views
from ..weights import Card, named
from .memory import Asked, Drawn, room_for
from .parts import (
    Loaded,
    Wanted,
    identity_of,
    load_autoencoder,
    load_estimator,
    load_features,
    load_matte,
    settings_in,
    tensors_of,
    torch_device,
)

_log = logging.getLogger(__name__)
_JUDGED = 4
"""Renderings a step that the refiner judges, as the recipe's `sds_views`."""
_SMALL_STEPS = (1, 1)
"""Sampler steps of our small pair, which is best in one (see the facts of its card)."""


def load_cascade_zero123(wanted: Wanted, *, way: Literal["views", "sds"] = "views") -> Loaded:
    """Load what the Cascade-Zero123 recipe asks for.

    With imported checkpoints of kind "zero123" among the weights, those draw: the refiner is the
    one whose card says `"known_views": 5` in its settings, the base any other. Else our small pair.

    Args:
        wanted: Which weights, and where they are to run.
        way: Of the recipe's settings; a distillation needs more memory.

    Raises:
        WeightsMissing: If one of the networks is not installed.
        ValueError: If the weights or the device name nothing, or a checkpoint lacks a part.
    """
    place = torch_device(wanted.device)
    cards: list[Card] = []
    matte = load_matte(wanted, cards)
    features = load_features(wanted.weights, cards)
    elevation = load_estimator(wanted, features, cards)
    given = [] if wanted.weights is None else named(wanted.weights)
    public = [card for card in given if card.kind == "zero123"]
    judged = _JUDGED if way == "sds" else 0
    if public:
        base, refiner = _public(public, cards, wanted, judged)
    else:
        base, refiner = _small(wanted, cards, place)
    models = CascadeZero123Models(matte, elevation, base, refiner, _guide, features)
    if not public:
        models = replace(models, steps=_SMALL_STEPS)
    counted = {"base": _network(base), "refiner": _network(refiner)}
    return Loaded(models, tuple(cards), identity_of(wanted, cards, place), {}, counted)


def _small(
    wanted: Wanted, cards: list[Card], place: torch.device
) -> tuple[SmallViewModel, SmallViewModel]:
    """The orbit network asked for one view at a time, and the refiner that began as it."""
    autoencoder = load_autoencoder(wanted.weights, cards).to(place)
    pair = []
    for kind in ("orbit", "refiner_views"):
        card, tensors = tensors_of(kind, wanted.weights, cards)
        network = ViewTransformer(ViewTransformerSize(**settings_in(card)))
        load_orbit_network(network, tensors)
        pair.append(SmallViewModel(network.to(place), autoencoder))
    return pair[0], pair[1]


def _public(
    public: list[Card], cards: list[Card], wanted: Wanted, judged: int
) -> tuple[Zero123Views, Zero123Views]:
    refiners = [card for card in public if card.settings.get("known_views") == 5]
    bases = [card for card in public if card not in refiners] or refiners
    used = bases[:1] if not refiners or refiners[0] is bases[0] else [bases[0], refiners[0]]
    # In a distillation the refiner judges; the base has drawn before.
    asked = [asked_of_zero123(card, judged=judged * (card is used[-1])) for card in used]
    room = room_for(asked, torch_device(wanted.device), wanted.memory_gb)
    models = [zero123_views(card, room) for card in used]
    cards += used
    if not refiners:
        _log.warning(
            "%s is told prompt views without having been trained for it (in the paper 1 dB worse "
            "than alone); set cascade to none to draw with it alone",
            bases[0].name,
        )
    return models[0], models[-1]


def asked_of_zero123(card: Card, *, judged: int = 0) -> Asked:
    """Say what is asked of a checkpoint that draws views one by one, to plan the memory.

    Args:
        card: Of the checkpoint.
        judged: Renderings that it judges at once in a distillation.
    """
    use = _options(card)
    return Asked(card, Drawn(use.together, use.size_px, passes=2, judged=judged), use.together)


def zero123_views(card: Card, room: Room) -> Zero123Views:
    """Make a view model of an imported checkpoint.

    The card's `options` may set fields of `Zero123Options`; Stable-Zero123 is known by its name.

    Args:
        card: Of the checkpoint.
        room: Planned for it; where it is narrow, fewer views are drawn at a time.

    Raises:
        WeightsMissing: If the file is missing or differs from its card.
        ValueError: If the checkpoint lacks a part.
    """
    networks = networks_in(room, card)
    net, autoencoder = networks.get("net"), networks.get("autoencoder")
    tower = networks.get("image_tower")
    if not isinstance(net, Zero123Net):
        raise ValueError(f"{card.name} holds no network of Zero123's; import the whole checkpoint")
    if not isinstance(autoencoder, LdmAutoencoder) or not isinstance(tower, ClipTower):
        raise ValueError(
            f"{card.name} lacks its autoencoder or image tower; import the whole checkpoint"
        )
    use = _options(card)
    together = min(use.together, room.plan.decoded_at_once)
    return Zero123Views(net, autoencoder, tower, replace(use, together=together))


def _options(card: Card) -> Zero123Options:
    known = {field.name for field in fields(Zero123Options)}
    told = {k: v for k, v in card.settings.get("options", {}).items() if k in known}
    return replace(Zero123Options(stable=card.name.startswith("stable")), **told)


def _guide(model: RefinerModel, known: Views) -> ViewGuide:
    if isinstance(model, SmallViewModel):
        return SmallViewGuide(model, known)
    if isinstance(model, Zero123Views):
        return Zero123Guide(model, known)
    raise TypeError(f"no guide can be made of a {type(model).__name__}")


def _network(model: SmallViewModel | Zero123Views) -> nn.Module:
    return model.network if isinstance(model, SmallViewModel) else model.net
