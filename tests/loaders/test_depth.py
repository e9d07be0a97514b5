from pathlib import Path

import torch

from roundview.diffusion.depth_head import DepthDecoder, DepthSize
from roundview.loaders import Wanted
from roundview.loaders.depth import load_depth
from roundview.models import DepthModel
from roundview.weights import Card, save_weights


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
