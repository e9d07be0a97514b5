import pytest
import torch
from fakes import block, photo_of

from roundview.loaders import load_features, tensor_bytes, torch_device
from roundview.loaders.parts import tensors_of
from roundview.models import FeatureModel
from roundview.weights import Card, list_cards


def test_features_come_with_their_card() -> None:
    cards: list[Card] = []
    features = load_features(None, cards)
    assert isinstance(features, FeatureModel)
    assert [card.name for card in cards] == ["efficientnet-lite0"]
    rgb = photo_of(block(), size_px=64).rgb
    assert features.embedding(rgb[None]).shape == (1, 1280)


def test_auto_takes_a_device_that_is_there() -> None:
    place = torch_device("auto")
    assert torch.zeros(1, device=place).device.type == place.type
    assert torch_device("cpu") == torch.device("cpu")


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown; there are: auto, cuda, mps, cpu"):
        torch_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="cuda is not available"):
            torch_device("cuda")


def test_tensors_of_equal_bytes_but_other_shape_hash_differently() -> None:
    assert tensor_bytes(torch.zeros(2, 3)) != tensor_bytes(torch.zeros(3, 2))
    assert tensor_bytes(torch.zeros(2, 3)) == tensor_bytes(torch.zeros(3, 2).T)


def test_weights_that_disappoint_say_so(caplog: pytest.LogCaptureFixture) -> None:
    stated = [one for one in list_cards() if "caution" in one.facts]
    for one in stated:
        tensors_of(one.kind, None, None)
        assert str(one.facts["caution"]) in caplog.text
    caplog.clear()
    tensors_of("autoencoder", None, None)
    assert not caplog.text
