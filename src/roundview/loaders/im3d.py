"""The models of IM-3D."""

import torch

from ..models import OrbitModel
from ..recipes.im3d import Im3dModels
from ..weights import Card, named
from .parts import (
    Loaded,
    Wanted,
    asks_of_orbit,
    identity_of,
    load_estimator,
    load_features,
    load_matte,
    load_orbit_model,
    prompt_for,
    torch_device,
)

_FOUR_VIEWS = ("imagedream", "mvdream")
"""Kinds of imported checkpoints that draw four views at equal turns, and read prompts."""


def load_im3d(wanted: Wanted) -> Loaded:
    """Load what the IM-3D recipe asks for.

    Imported checkpoints draw in the place of our orbit model: of video, Zero123++, or of four views
    (ImageDream, MVDream), which are told the prompt.

    Raises:
        WeightsMissing: If the orbit model, the features or the elevation head are not installed.
        ValueError: If the weights or the device name nothing, or a checkpoint lacks a part.
    """
    place = torch_device(wanted.device)
    cards: list[Card] = []
    matte = load_matte(wanted, cards)
    features = load_features(wanted.weights, cards)
    given = [] if wanted.weights is None else named(wanted.weights)
    four = next((card for card in given if card.kind in _FOUR_VIEWS), None)
    if four is None:
        orbit = load_orbit_model(wanted.weights, cards, device=place, memory_gb=wanted.memory_gb)
        network = getattr(orbit, "network", None)
    else:
        cards.append(four)
        network, orbit = _four_views(four, wanted, place)
    elevation = load_estimator(wanted, features, cards)
    return Loaded(
        Im3dModels(matte, orbit, elevation, features),
        tuple(cards),
        identity_of(wanted, cards, place),
        asks_of_orbit(orbit),
        {} if network is None else {"orbit": network},
        None if four is None else prompt_for(four, wanted.prompt),
    )


def _four_views(
    card: Card, wanted: Wanted, place: torch.device
) -> tuple[torch.nn.Module, OrbitModel]:
    from .memory import room_for  # noqa: PLC0415  each model when needed
    from .multiview import asked_of_multiview, multiview_in  # noqa: PLC0415

    room = room_for([asked_of_multiview(card)], place, wanted.memory_gb)
    return multiview_in(room, card, wanted.prompt)
