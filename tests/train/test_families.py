from pathlib import Path

import pytest
import torch
from families_tiny import seeded
from render_tiny import tiny_set
from torch import Tensor

from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.diffusion.zero123 import Zero123Net
from roundview.models import silent
from roundview.train.cascade import CascadePair
from roundview.train.families import FAMILIES, Order, train_family
from roundview.weights import Card, save_weights

SMALL = AutoencoderSize(4, 8, (1, 1, 1), (1, 1, 1))


class Grey:
    """Features of three numbers."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.permute(0, 3, 1, 2)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


def order(name: str, directory: Path) -> Order:
    pictures = tiny_set(directory / "set", objects=1)
    return Order(name, [pictures], directory, steps=1, batch=1)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_trained_and_can_be_built_again(name: str, tmp_path: Path) -> None:
    network, settings, sizes = train_family(
        order(name, tmp_path), LatentAutoencoder(SMALL), Grey(), silent
    )
    assert settings.steps == 1
    shape = UNetShape(**sizes["shape"])
    assert (shape.out_channels, shape.context) == (4, 3)
    assert all(bool(torch.isfinite(p).all()) for p in network.parameters())
    if name == "zero123-small":
        Zero123Net(shape).load_state_dict(network.state_dict(), strict=True)


def test_the_cascade_begins_with_the_zero123_that_is_there(tmp_path: Path) -> None:
    first, _, sizes = train_family(
        order("zero123-small", tmp_path), LatentAutoencoder(SMALL), Grey(), silent
    )
    made = Card(
        *("zero123-small", "zero123", "zero123-small.safetensors", "", "Apache-2.0", "here"),
        settings=sizes,
        folder=tmp_path,
    )
    with torch.no_grad():
        for p in first.parameters():
            p.copy_(torch.rand(p.shape, generator=seeded()) / 10)
    save_weights(dict(first.state_dict()), made)
    pair, _, _ = train_family(
        order("cascade-small", tmp_path), LatentAutoencoder(SMALL), Grey(), silent
    )
    assert isinstance(pair, CascadePair)
    # One step of training: the base has not moved.
    for mine, theirs in zip(pair.base.parameters(), first.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_an_unknown_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zero123-small"):
        train_family(order("dalle", tmp_path), LatentAutoencoder(SMALL), Grey(), silent)
