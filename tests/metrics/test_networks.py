import pytest
import torch
from torch import Tensor

from roundview.diffusion.clip import ClipShape, ClipTower
from roundview.metrics import clip_similarity, contextual_distance
from roundview.metrics.networks import ClipLikeness, Vgg19Relu54

WIDTHS = [64, 64, 128, 128, *[256] * 4, *[512] * 8]
NUMBERS = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]


def vgg19() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {"classifier.0.weight": torch.zeros(1)}
    inputs = 3
    for number, width in zip(NUMBERS, WIDTHS, strict=True):
        scale = (2 / (9 * inputs)) ** 0.5
        state[f"features.{number}.weight"] = scale * torch.randn(width, inputs, 3, 3, generator=rng)
        state[f"features.{number}.bias"] = torch.zeros(width)
        inputs = width
    return state


def test_layers_are_numbered_as_in_torchvision_and_the_map_is_a_sixteenth() -> None:
    network = Vgg19Relu54(vgg19())
    convolutions = [m for m in network.layers if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == WIDTHS
    assert isinstance(network.layers[-1], torch.nn.ReLU)
    found = network(torch.rand(1, 64, 48, 3, generator=torch.Generator().manual_seed(1)))
    assert found.shape == (1, 512, 4, 3)
    assert float(found.min()) >= 0


def test_a_picture_is_like_itself_and_less_like_another() -> None:
    network = Vgg19Relu54(vgg19())
    coarse = torch.rand(2, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    large = torch.nn.functional.interpolate(coarse, (96, 96), mode="bicubic").movedim(1, -1)
    picture, other = large[:1].clamp(0, 1), large[1:].clamp(0, 1)
    same = contextual_distance(network, picture, picture)
    assert float(same) < float(contextual_distance(network, picture, other))


def test_another_network_is_refused() -> None:
    state = vgg19()
    del state["features.34.bias"]
    with pytest.raises(ValueError, match=r"features\.34\.bias.*VGG19"):
        Vgg19Relu54(state)
    with pytest.raises(ValueError, match="must have shape"):
        Vgg19Relu54(vgg19() | {"features.0.weight": torch.zeros(64, 3, 5, 5)})


def test_a_tower_embeds_pictures_of_any_size() -> None:
    tower = ClipTower(ClipShape(width=32, layers=1, heads=2, patch=14, side=28, out=12))
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=rng))
    network = ClipLikeness(tower)
    pictures = torch.rand(2, 40, 50, 3, generator=rng)
    assert network(pictures).shape == (2, 12)
    likeness = clip_similarity(network, pictures, pictures[:1])
    assert float(likeness[0]) == pytest.approx(1.0, abs=1e-5)
    assert float(likeness[1]) < 1.0
