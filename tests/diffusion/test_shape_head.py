import math

import pytest
import torch

from roundview.diffusion.shape_head import (
    COLOUR_LAYERS,
    LAYERS,
    SIDE,
    ShapeDecoder,
    ShapeSize,
    upright,
)

TINY = ShapeSize(maps=(2, 3, 4, 5, 6), widths=(8, 8, 32, 8), blocks=(1, 0, 1, 0), attends=1)


def test_every_place_has_its_logit_and_colour_and_gradients_reach_all_parts() -> None:
    torch.manual_seed(0)
    decoder = ShapeDecoder(TINY)
    maps = [torch.randn(2, c, SIDE >> k, SIDE >> k) for k, c in enumerate(TINY.maps)]
    solid, rgb = decoder(maps, torch.rand(2, 4, SIDE, SIDE), torch.tensor([0.0, 30.0]))
    assert solid.shape == (2, LAYERS, SIDE, SIDE)
    assert rgb.shape == (2, 3, COLOUR_LAYERS, SIDE, SIDE)
    (solid.square().sum() + rgb.square().sum()).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in decoder.parameters())


def test_the_elevation_is_heard() -> None:
    torch.manual_seed(0)
    decoder = ShapeDecoder(TINY)
    maps = [
        torch.randn(1, c, SIDE >> k, SIDE >> k).expand(2, -1, -1, -1)
        for k, c in enumerate(TINY.maps)
    ]
    rgba = torch.rand(1, 4, SIDE, SIDE).expand(2, -1, -1, -1)
    solid, _ = decoder(maps, rgba, torch.tensor([0.0, 40.0]))
    assert not torch.equal(solid[0], solid[1])


@pytest.mark.parametrize(
    ("given", "used"), [(0.0, 0.0), (30.0, 30.0), (80.0, 50.0), (-60.0, -50.0)]
)
def test_layers_stand_upright_but_for_steep_views(given: float, used: float) -> None:
    assert upright(given) == pytest.approx(
        (math.sin(math.radians(used)), math.cos(math.radians(used)))
    )
