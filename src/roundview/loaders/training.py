"""What a family is trained on top of."""

from typing import TYPE_CHECKING

import torch

from ..models import DepthModel, FeatureModel
from .depth import load_depth
from .parts import Wanted, load_autoencoder, load_features, load_latent_orbit

if TYPE_CHECKING:
    from ..diffusion.view_transformer import ViewTransformer
    from ..train.families import Parts


def load_training_parts(weights: str | None, place: torch.device) -> "Parts":
    """Give the loaders of finished networks, on the device where the training is to run.

    Args:
        weights: See `weights.find`; None takes the shipped ones.
        place: The device.
    """
    from ..train.families import Parts  # noqa: PLC0415  imports every family

    def features() -> FeatureModel:
        found = load_features(weights)
        if isinstance(found, torch.nn.Module):
            found.to(place)
        return found

    def depth() -> DepthModel:
        return load_depth(Wanted(weights, device=place.type), [])

    def orbit() -> "ViewTransformer":
        return load_latent_orbit(weights, device=place).network

    return Parts(lambda: load_autoencoder(weights).to(place), features, depth, orbit)
