"""The models of IM-3D."""

from ..recipes.im3d import Im3dModels
from ..weights import Card
from .parts import (
    Loaded,
    Wanted,
    asks_of_orbit,
    identity_of,
    load_estimator,
    load_features,
    load_matte,
    load_orbit_model,
    torch_device,
)


def load_im3d(wanted: Wanted) -> Loaded:
    """Load what the IM-3D recipe asks for.

    Raises:
        WeightsMissing: If the orbit model, the features or the elevation head are not installed.
        ValueError: If the weights or the device name nothing.
    """
    place = torch_device(wanted.device)
    cards: list[Card] = []
    matte = load_matte(wanted, cards)
    features = load_features(wanted.weights, cards)
    orbit = load_orbit_model(wanted.weights, cards, device=place, memory_gb=wanted.memory_gb)
    elevation = load_estimator(wanted, features, cards)
    models = Im3dModels(matte, orbit, elevation, features)
    network = getattr(orbit, "network", None)
    return Loaded(
        models,
        tuple(cards),
        identity_of(wanted, cards, place),
        asks_of_orbit(orbit),
        {} if network is None else {"orbit": network},
    )
