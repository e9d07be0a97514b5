import pytest
import torch
from torch import Tensor, nn

from roundview.diffusion.depth_head import (
    DepthDecoder,
    DepthNetwork,
    DepthSize,
    FeatureDepth,
    working_size,
)
from roundview.models import DepthModel

TINY = DepthSize(maps=(3, 3), widths=(4, 8), blocks=(0, 1))


class Halved:
    """Features that are the picture at a half and a quarter of its size."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        x = rgb.permute(0, 3, 1, 2)
        return [nn.functional.avg_pool2d(x, 2), nn.functional.avg_pool2d(x, 4)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


def tiny() -> DepthDecoder:
    torch.manual_seed(0)
    return DepthDecoder(TINY)


def fixed(level: float, normal: tuple[float, float, float], logit: float) -> DepthDecoder:
    """A decoder that says the same of every pixel."""
    decoder = tiny()
    last = decoder.leave[-1]
    assert isinstance(last, nn.Conv2d)
    nn.init.zeros_(last.weight)
    said = torch.tensor([level, *normal, logit]).repeat_interleave(4)
    assert last.bias is not None
    last.bias.data.copy_(said)
    return decoder


@pytest.mark.parametrize("side", [64, 100, 256])
def test_maps_have_the_size_of_the_picture(side: int) -> None:
    inverse, normal = FeatureDepth(Halved(), tiny())(torch.rand(2, side, side, 3))
    assert inverse.shape == (2, side, side)
    assert normal.shape == (2, side, side, 3)


def test_what_the_decoder_says_comes_out_in_the_units_that_are_promised() -> None:
    model = FeatureDepth(Halved(), fixed(0.5, (0.0, 3.0, -4.0), 1.0))
    assert isinstance(model, DepthModel)
    inverse, normal = model(torch.rand(1, 64, 64, 3))
    torch.testing.assert_close(inverse, torch.full((1, 64, 64), 1.5))
    torch.testing.assert_close(normal[0, 3, 5], torch.tensor([0.0, 0.6, -0.8]))


def test_maps_go_on_beyond_the_subject() -> None:
    model = FeatureDepth(Halved(), fixed(0.5, (0.0, 3.0, -4.0), -6.0))
    inverse, normal = model(torch.ones(1, 64, 64, 3))
    torch.testing.assert_close(inverse, torch.full((1, 64, 64), 1.5))
    torch.testing.assert_close(normal.norm(dim=-1), torch.ones(1, 64, 64))


def test_a_mirrored_picture_has_mirrored_maps() -> None:
    picture, model = torch.rand(1, 96, 96, 3), FeatureDepth(Halved(), tiny())
    inverse, normal = model(picture)
    mirrored_inverse, mirrored_normal = model(picture.flip(2))
    torch.testing.assert_close(mirrored_inverse, inverse.flip(2))
    facing = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(mirrored_normal, normal.flip(2) * facing)


def test_pictures_do_not_see_one_another() -> None:
    pictures, model = torch.rand(17, 32, 32, 3), FeatureDepth(Halved(), tiny())
    together, _ = model(pictures)
    alone, _ = model(pictures[16:])
    torch.testing.assert_close(together[16:], alone)


def test_the_decoder_gives_twice_the_finest_map() -> None:
    maps = Halved().maps(torch.rand(1, 48, 32, 3))
    assert tiny()(maps).shape == (1, 5, 48, 32)


def test_oblong_pictures_keep_their_shape() -> None:
    assert working_size(256, 256) == (96, 96)
    assert working_size(64, 64) == (96, 96)
    assert working_size(200, 100) == (96, 48)
    assert working_size(1000, 10) == (96, 16)


def test_the_network_is_the_decoder_on_its_features() -> None:
    decoder, pictures = tiny(), torch.rand(2, 32, 32, 3)
    network = DepthNetwork(Halved(), decoder)
    torch.testing.assert_close(network(pictures), decoder(Halved().maps(pictures)))


def test_the_shipped_size_has_one_and_a_half_million_weights() -> None:
    assert 1.4e6 < sum(p.numel() for p in DepthDecoder().parameters()) < 1.6e6
