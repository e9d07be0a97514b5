from dataclasses import asdict
from pathlib import Path

import torch

from roundview.diffusion.depth_head import DepthDecoder, DepthNetwork, DepthSize, FeatureDepth
from roundview.diffusion.tuned import TunedFeatures
from roundview.loaders import Wanted, load_features
from roundview.loaders.depth import load_depth
from roundview.models import DepthModel
from roundview.weights import Card, save_weights


def test_tuned_features_come_with_the_estimator(tmp_path: Path) -> None:
    features = TunedFeatures(load_features(), stages=5)
    size = DepthSize(features.channels, widths=(8, 8, 16, 16), blocks=(0, 0, 0, 1))
    torch.manual_seed(0)
    network = DepthNetwork(features, DepthDecoder(size))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.01)
    about = Card("mine", "depth", "mine.safetensors", "", "Apache-2.0", "a test", folder=tmp_path)
    settings = {"stages": 5} | {key: list(value) for key, value in asdict(size).items()}
    save_weights(dict(network.state_dict()), Card(**{**about.__dict__, "settings": settings}))
    model = load_depth(Wanted(str(tmp_path)), [])
    rgb = torch.rand(1, 96, 96, 3)
    mine = FeatureDepth(features, network.decoder)(rgb)
    for found, wanted in zip(model(rgb), mine, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-2)  # kept in half precision


def test_the_estimator_is_built_as_its_card_says(tmp_path: Path) -> None:
    size = DepthSize(widths=(8, 8, 16, 16), blocks=(0, 0, 0, 1))
    torch.manual_seed(0)
    about = Card("mine", "depth", "mine.safetensors", "", "Apache-2.0", "a test", folder=tmp_path)
    settings = {"widths": list(size.widths), "blocks": list(size.blocks)}
    tensors = {key: value.half() for key, value in DepthDecoder(size).state_dict().items()}
    save_weights(tensors, Card(**{**about.__dict__, "settings": settings}))
    cards: list[Card] = []
    model = load_depth(Wanted(str(tmp_path)), cards)
    assert isinstance(model, DepthModel)
    assert [card.name for card in cards] == ["mine", "efficientnet-lite0"]
    inverse, normal = model(torch.rand(1, 64, 64, 3))
    assert inverse.shape == (1, 64, 64)
    assert normal.shape == (1, 64, 64, 3)


def test_features_that_are_there_are_not_named_twice() -> None:
    cards: list[Card] = []
    load_depth(Wanted(), cards)
    load_depth(Wanted(), cards)
    assert [card.name for card in cards].count("efficientnet-lite0") == 1
