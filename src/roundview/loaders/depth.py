"""The depth and normal estimator."""

import torch

from ..diffusion.depth_head import DepthDecoder, DepthNetwork, DepthSize, FeatureDepth
from ..diffusion.orbit import load_orbit_network
from ..diffusion.tuned import TunedFeatures
from ..models import DepthModel
from ..weights import Card
from .parts import Wanted, load_features, settings_in, tensors_of, torch_device


def load_depth(wanted: Wanted, cards: list[Card]) -> DepthModel:
    """Load what estimates inverse depth and normals, with the features that it stands on.

    Args:
        wanted: Which weights, and where they are to run.
        cards: The cards of what was read are put here.

    Raises:
        WeightsMissing: If the estimator or the features are not installed.
        ValueError: If the weights or the device name nothing.
    """
    return load_own_depth(wanted.weights, cards, torch_device(wanted.device))


def load_own_depth(weights: str | None, cards: list[Card], place: torch.device) -> FeatureDepth:
    """Load our own estimator; see `load_depth`."""
    card, tensors = tensors_of("depth", weights, None if _there(cards, "depth") else cards)
    features = load_features(weights, None if _there(cards, "features") else cards)
    size = settings_in(card)
    stages = size.pop("stages", None)
    decoder = DepthDecoder(DepthSize(**size))
    if stages is None:  # The features were left as they are.
        load_orbit_network(decoder, tensors)
    else:
        features = TunedFeatures(features, stages)
        load_orbit_network(DepthNetwork(features, decoder), tensors)
    if isinstance(features, torch.nn.Module):
        features.to(place)
    return FeatureDepth(features, decoder.to(place))


def _there(cards: list[Card], kind: str) -> bool:
    """Whether a card was named already, by another part on top of the same weights."""
    return any(card.kind == kind for card in cards)
