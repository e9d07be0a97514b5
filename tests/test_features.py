import json
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import torchmetrics
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import roundview
from roundview.features import EfficientNetLite0, VggFeatures
from roundview.losses import WeightedFeatureModel, perceptual_distance
from roundview.models import FeatureModel

SHIPPED = Path(roundview.__file__).parent / "shipped"


@lru_cache
def shipped_state() -> dict[str, Tensor]:
    tensors = load_file(SHIPPED / "efficientnet-lite0.safetensors")
    return {name: value.float() for name, value in tensors.items()}


@lru_cache
def shipped() -> EfficientNetLite0:
    return EfficientNetLite0(shipped_state())


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@lru_cache
def vgg_state() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(3)
    state, channels = {}, 3
    numbers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    widths = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    for number, width in zip(numbers, widths, strict=True):
        scale = (2 / (9 * channels)) ** 0.5
        state[f"features.{number}.weight"] = (
            torch.randn(width, channels, 3, 3, generator=rng) * scale
        )
        state[f"features.{number}.bias"] = torch.randn(width, generator=rng) * 0.1
        channels = width
    return state


def lpips_heads() -> dict[str, Tensor]:
    """The linear heads of LPIPS, in the copy that torchmetrics carries."""
    folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
    return torch.load(folder / "vgg.pth", map_location="cpu", weights_only=True)


def test_the_card_tells_the_size_and_the_licence() -> None:
    card = json.loads((SHIPPED / "efficientnet-lite0.json").read_text())
    assert card["bytes"] == (SHIPPED / card["file"]).stat().st_size
    assert card["licence"] == "Apache-2.0"


def test_maps_halve_from_stage_to_stage() -> None:
    maps = shipped().maps(pictures(2, 64, 96, 3))
    assert [tuple(m.shape) for m in maps] == [
        (2, 16, 32, 48),
        (2, 24, 16, 24),
        (2, 40, 8, 12),
        (2, 80, 4, 6),
    ]


def test_folded_norms_give_what_the_unfolded_network_gives() -> None:
    """The original's stem and first block, written out with its own batch norms."""
    state, rgb = shipped_state(), pictures(1, 33, 40, 3)

    def normed(x: Tensor, norm: str) -> Tensor:
        mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        gain, shift = state[f"{norm}.weight"], state[f"{norm}.bias"]
        return nn.functional.batch_norm(x, mean, variance, gain, shift, eps=1e-3)

    x = (rgb * 255 - 127).permute(0, 3, 1, 2) / 128
    # SAME padding of 33x40 under a kernel of 3 and stride 2: both sides, then right only.
    x = nn.functional.pad(x, (0, 1, 1, 1))
    x = nn.functional.relu6(
        normed(nn.functional.conv2d(x, state["_conv_stem.weight"], stride=2), "_bn0")
    )
    kernel = state["_blocks.0._depthwise_conv.weight"]
    x = nn.functional.conv2d(x, kernel, padding=1, groups=32)
    x = nn.functional.relu6(normed(x, "_blocks.0._bn1"))
    x = normed(nn.functional.conv2d(x, state["_blocks.0._project_conv.weight"]), "_blocks.0._bn2")
    # float32 through three norms whose outputs reach 30
    torch.testing.assert_close(shipped().maps(rgb)[0], x, rtol=1e-4, atol=1e-3)


def test_the_shipped_weights_give_the_golden_embedding() -> None:
    """Check against the PyPI package efficientnet-lite-pytorch 0.1.0 on the same picture.

    Made by net.extract_features((255 * rgb - 127) / 128).mean(dim=(2, 3))[0, ::128], image_size 64,
    from weights in single precision; ours are shipped in half precision.
    """
    ramp = torch.linspace(0, 1, 64)
    rgb = torch.stack(torch.broadcast_tensors(ramp[:, None], ramp[None], 1 - ramp[:, None]), -1)
    golden = torch.tensor([0.0, 1.53962, 0.0, 3.51089, 6.0, 0.0, 0.0, 0.60995, 0.0, 0.0])
    torch.testing.assert_close(
        shipped().embedding(rgb[None])[0, ::128], golden, rtol=1e-2, atol=1e-2
    )


def test_gradients_reach_the_picture_and_no_weight() -> None:
    a = pictures(1, 32, 32, 3).requires_grad_()
    b = pictures(1, 32, 32, 3, seed=1)
    perceptual_distance(shipped(), a, b).sum().backward()
    assert a.grad is not None
    assert a.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in shipped().parameters())
    assert not shipped().training


def test_deep_features_rank_blur_below_another_picture() -> None:
    rgb = nn.functional.interpolate(pictures(1, 3, 8, 8), 64, mode="bicubic").clamp(0, 1)
    small = nn.functional.interpolate(rgb, 48, mode="bilinear", antialias=True)
    blurred = nn.functional.interpolate(small, 64, mode="bilinear")
    rgb, blurred = rgb.permute(0, 2, 3, 1), blurred.permute(0, 2, 3, 1)
    near = perceptual_distance(shipped(), rgb, blurred).item()
    far = perceptual_distance(shipped(), rgb, pictures(1, 64, 64, 3, seed=5)).item()
    assert 0 < near < far
    assert perceptual_distance(shipped(), rgb, rgb).item() == pytest.approx(0, abs=1e-6)


def test_building_a_network_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    EfficientNetLite0(shipped_state())
    VggFeatures(vgg_state())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("build", [EfficientNetLite0, VggFeatures])
def test_wrong_weights_are_named(build: type[EfficientNetLite0 | VggFeatures]) -> None:
    state = dict(shipped_state() if build is EfficientNetLite0 else vgg_state())
    first = next(iter(sorted(state)))
    with pytest.raises(ValueError, match="1 weights are not of this model: \\['extra'\\]"):
        build(state | {"extra": torch.zeros(1)})
    with pytest.raises(ValueError, match=f"{first}' must have shape"):
        build(state | {first: torch.zeros(7, 7)})
    del state[first]
    with pytest.raises(ValueError, match=f"{first}' is missing"):
        build(state)


def test_vgg_maps_are_those_of_the_plain_stack() -> None:
    state, rgb = vgg_state(), pictures(1, 32, 48, 3)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x, expected = ((rgb - mean) / std).permute(0, 3, 1, 2), []
    for number in range(30):
        if f"features.{number}.weight" in state:
            weight, bias = state[f"features.{number}.weight"], state[f"features.{number}.bias"]
            x = nn.functional.conv2d(x, weight, bias, padding=1)
        elif number in (4, 9, 16, 23):
            x = nn.functional.max_pool2d(x, 2)
        else:
            x = x.relu()
        if number in (3, 8, 15, 22, 29):
            expected.append(x)
    maps = VggFeatures(state | {"classifier.0.weight": torch.zeros(1)}).maps(rgb)
    for ours, theirs in zip(maps, expected, strict=True):
        # LPIPS rounds its scaling constants to three digits of those of ImageNet
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)


def test_vgg_with_heads_is_lpips() -> None:
    """Zhang et al. 2018, eq. 1, written out for the real heads over random features."""
    heads = lpips_heads()
    model = VggFeatures(vgg_state(), heads)
    assert isinstance(model, WeightedFeatureModel)
    a, b = pictures(2, 32, 32, 3), pictures(2, 32, 32, 3, seed=1)
    expected = torch.zeros(2)
    for level, (x, y) in enumerate(zip(model.maps(a), model.maps(b), strict=True)):
        unit_x, unit_y = (m / m.norm(dim=1, keepdim=True).clamp(min=1e-10) for m in (x, y))
        weighed = nn.functional.conv2d(
            (unit_x - unit_y).square(), heads[f"lin{level}.model.1.weight"]
        )
        expected += weighed.mean(dim=(1, 2, 3))
    torch.testing.assert_close(perceptual_distance(model, a, b), expected, rtol=1e-4, atol=1e-6)


def test_negative_heads_are_refused() -> None:
    heads = lpips_heads()
    heads["lin0.model.1.weight"] = -heads["lin0.model.1.weight"]
    with pytest.raises(ValueError, match="heads must not be negative"):
        VggFeatures(vgg_state(), heads)


def test_vgg_loads_from_files(tmp_path: Path) -> None:
    save_file(vgg_state(), tmp_path / "vgg16.safetensors")
    rgb = pictures(1, 32, 32, 3)
    model = VggFeatures.load(tmp_path / "vgg16.safetensors")
    assert isinstance(model, FeatureModel)
    torch.testing.assert_close(model.embedding(rgb), VggFeatures(vgg_state()).embedding(rgb))
    assert model.embedding(rgb).shape == (1, 512)
