import pytest
import torch

from roundview.diffusion.encoders import LatentAutoencoder
from roundview.loaders.training import load_training_parts
from roundview.models import DepthModel, FeatureModel
from roundview.weights import WeightsMissing


def test_the_shipped_networks_are_there_to_build_on() -> None:
    parts = load_training_parts(None, torch.device("cpu"))
    assert isinstance(parts.autoencoder(), LatentAutoencoder)
    assert isinstance(parts.features(), FeatureModel)
    assert isinstance(parts.depth(), DepthModel)
    assert parts.orbit().size.latent_channels == parts.autoencoder().size.latent_channels


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    parts = load_training_parts("no-such-weights", torch.device("cpu"))
    with pytest.raises((ValueError, WeightsMissing), match="no-such-weights"):
        parts.features()
