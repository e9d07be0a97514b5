"""The estimator of the solid behind a photograph."""

import torch

from ..camera import Cameras
from ..diffusion.orbit import load_orbit_network
from ..diffusion.shape_guess import ShapeModel, SolidGuess
from ..diffusion.shape_head import ShapeDecoder, ShapeSize
from ..diffusion.solid_orbit import SolidOrbitModel
from ..models import OrbitModel
from ..surface.solid import solid_views
from ..views import Views
from ..weights import Card
from .depth import load_own_depth
from .parts import settings_in, tensors_of


def load_solid_orbit(
    diffusion: OrbitModel,
    weights: str | None = None,
    cards: list[Card] | None = None,
    *,
    device: torch.device = torch.device("cpu"),  # noqa: B008  a constant
) -> SolidOrbitModel:
    """Load what draws orbits of guessed solids; arguments as for `load_shape`."""

    def look(guess: SolidGuess, cameras: Cameras) -> Views:
        return solid_views(guess.at, guess.rgb_at, cameras)

    return SolidOrbitModel(load_shape(weights, cards, device=device), diffusion, look)


def load_shape(
    weights: str | None = None,
    cards: list[Card] | None = None,
    *,
    device: torch.device = torch.device("cpu"),  # noqa: B008  a constant
) -> ShapeModel:
    """Load the estimator, and the depth estimator whose features it was trained on.

    Args:
        weights: See `weights.find`; None takes the shipped ones.
        cards: The cards are put here.
        device: Where it runs.

    Raises:
        WeightsMissing: If one of the two is not installed.
    """
    card, tensors = tensors_of("shape", weights, cards)
    decoder = ShapeDecoder(ShapeSize(**settings_in(card)))
    load_orbit_network(decoder, tensors)
    features = load_own_depth(weights, [] if cards is None else cards, device).features
    return ShapeModel(features, decoder.to(device))
