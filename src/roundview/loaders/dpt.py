"""Public estimators of depth in the place of our small one: DPT-hybrid of MiDaS."""

from importlib.util import find_spec

from ..diffusion.dpt import DptDepth, DptHybrid
from ..memory import Room
from ..models import DepthModel
from ..public_models import networks_in
from ..weights import Card, WeightsMissing, named
from .memory import Asked, Drawn
from .parts import Wanted


def public_depth_card(wanted: Wanted) -> Card | None:
    """Find the card of an imported estimator among what the user named."""
    given = [] if wanted.weights is None else named(wanted.weights)
    return next((card for card in given if card.kind == "dpt"), None)


def asked_of_depth(card: Card) -> Asked:
    """Say what is asked of it, to plan the memory: one picture at a time.

    Raises:
        WeightsMissing: If transformers, whose network it is, is not installed.
    """
    if find_spec("transformers") is None:
        raise WeightsMissing(f"{card.name} needs `pip install transformers`")
    return Asked(card, Drawn(1, 384), 1)


def public_depth(card: Card, room: Room, normals: DepthModel) -> DptDepth:
    """Read an imported estimator into a room that was planned for it.

    Args:
        card: Of kind "dpt".
        room: See `memory.room_for`.
        normals: Ours: MiDaS gives none.

    Raises:
        WeightsMissing: If the file is missing or differs from its card.
        ValueError: If the file is not what its card says.
    """
    network = networks_in(room, card).get("depth_estimator")
    if not isinstance(network, DptHybrid):
        raise ValueError(f"{card.name} holds no DPT-hybrid")
    return DptDepth(network, normals)
