from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import torchmetrics.functional.image.lpips as theirs
from safetensors.torch import save_file
from torch import Tensor, nn

from roundview.losses import WeightedFeatureModel
from roundview.metrics.lpips import AlexFeatures, installed_heads, load_lpips, lpips

# torchvision's layers, written out: outputs of a convolution, or "pool".
ALEX = ((64, 11, 4, 2), "pool", (192, 5, 1, 2), "pool", (384, 3, 1, 1), (256, 3, 1, 1))
ALEX = (*ALEX, (256, 3, 1, 1), "pool")
VGG = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool")
VGG = (*VGG, 512, 512, 512, "pool", 512, 512, 512, "pool")


@lru_cache
def network(name: str) -> nn.Sequential:
    """The layers as torchvision numbers them, with random weights."""
    rng = torch.Generator().manual_seed(3)
    layers, channels = nn.Sequential(), 3
    for step in ALEX if name == "alex" else VGG:
        if isinstance(step, str):
            layers.append(nn.MaxPool2d(3, 2) if name == "alex" else nn.MaxPool2d(2, 2))
            continue
        outputs, kernel, stride, padding = step if isinstance(step, tuple) else (step, 3, 1, 1)
        conv = nn.Conv2d(channels, outputs, kernel, stride, padding)
        fan = kernel * kernel * channels
        weight = torch.randn(outputs, channels, kernel, kernel, generator=rng) * (2 / fan) ** 0.5
        bias = torch.randn(outputs, generator=rng) * 0.1
        conv.load_state_dict({"weight": weight, "bias": bias})
        layers.extend([conv, nn.ReLU()])
        channels = outputs
    return layers.eval()


def state(name: str) -> dict[str, Tensor]:
    return {f"features.{key}": value.detach() for key, value in network(name).state_dict().items()}


def pictures(seed: int) -> Tensor:
    return torch.rand(2, 64, 72, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_lpips_is_that_of_torchmetrics(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *_, **__: network(name))
    save_file(state(name), tmp_path / "net.safetensors")
    model = load_lpips("alex" if name == "alex" else "vgg", tmp_path / "net.safetensors")
    assert isinstance(model, WeightedFeatureModel)
    a, b = pictures(0), pictures(1)
    wanted = theirs._LPIPS(net="alex" if name == "alex" else "vgg")(  # pyright: ignore[reportPrivateUsage]  the public function demands torchvision
        a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2), normalize=True
    )
    ours = lpips(model, a, b)
    torch.testing.assert_close(ours, wanted.detach().reshape(-1), rtol=1e-4, atol=1e-6)
    assert float(ours.min()) > 0
    torch.testing.assert_close(lpips(model, a, a), torch.zeros(2), rtol=0, atol=1e-6)


def test_a_pth_file_with_a_classifier_is_read_and_a_heads_file_can_be_named(tmp_path: Path) -> None:
    torch.save(state("alex") | {"classifier.1.weight": torch.ones(2, 2)}, tmp_path / "alex.pth")
    heads = installed_heads("alex")
    assert heads is not None
    model = load_lpips("alex", tmp_path / "alex.pth", heads)
    assert [len(weight) for weight in model.channel_weights] == [64, 192, 384, 256, 256]


def test_heads_that_are_nowhere_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert installed_heads("vgg") is None
    with pytest.raises(FileNotFoundError, match="torchmetrics"):
        load_lpips("vgg", tmp_path / "vgg.safetensors")


def without(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != name}


def test_wrong_weights_are_named() -> None:
    good = state("alex")
    with pytest.raises(ValueError, match=r"'features.3.bias' is missing"):
        AlexFeatures(without(good, "features.3.bias"))
    with pytest.raises(ValueError, match=r"'features.0.weight' must have shape \(64, 3, 11, 11\)"):
        AlexFeatures(good | {"features.0.weight": torch.zeros(64, 3, 3, 3)})
    sizes = (64, 192, 384, 256, 256)
    heads = {f"lin{k}.model.1.weight": torch.ones(1, n, 1, 1) for k, n in enumerate(sizes)}
    with pytest.raises(ValueError, match="negative"):
        AlexFeatures(good, heads | {"lin2.model.1.weight": -torch.ones(1, 384, 1, 1)})


def test_the_network_is_frozen_and_the_global_generator_left_alone() -> None:
    weights = state("alex")
    before = torch.get_rng_state()
    model = AlexFeatures(weights)
    assert torch.equal(before, torch.get_rng_state())
    assert not any(p.requires_grad for p in model.parameters())
    assert tuple(model.embedding(pictures(0)).shape) == (2, 256)
    assert bool((model.channel_weights[0] == 1).all())
