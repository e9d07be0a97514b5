"""From weight cards to models: `parts` builds each kind, and each recipe has a file of its own."""

from .parts import (
    Loaded,
    Wanted,
    load_autoencoder,
    load_elevation,
    load_features,
    load_orbit_model,
    tensor_bytes,
    torch_device,
)

__all__ = [
    "Loaded",
    "Wanted",
    "load_autoencoder",
    "load_elevation",
    "load_features",
    "load_orbit_model",
    "tensor_bytes",
    "torch_device",
]
