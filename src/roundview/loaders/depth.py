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
    place = torch_device(wanted.device)
    card, tensors = tensors_of("depth", wanted.weights, cards)
    features = load_features(wanted.weights, None if _there(cards) else cards)
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


def _there(cards: list[Card]) -> bool:
    """Whether the features' card was named already, by another part on top of them."""
    return any(card.kind == "features" for card in cards)
