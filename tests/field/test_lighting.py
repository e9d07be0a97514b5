"""Lamps light what faces them, stand where they are told, and are the same for all views."""

import pytest
import torch
from torch import Generator, Tensor

from roundview.camera import Cameras
from roundview.field.lighting import Lamps, LampSettings, for_rays
from roundview.field.render import Shade

HERE = torch.zeros(3, 3)
FIRST = torch.zeros(3, dtype=torch.long)


def shade(*normals: tuple[float, float, float]) -> Shade:
    return Shade(torch.ones(3), torch.full((3, 3), 0.5), torch.tensor(normals))


def lamp(textureless: bool = False) -> Lamps:
    return Lamps(torch.tensor([[0.0, 0.0, 2.0]]), 0.25, 0.5, textureless)


def seen(lamps: Lamps) -> Tensor:
    towards, across, away = (0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 0.0, -1.0)
    return lamps(HERE, FIRST, shade(towards, across, away))[:, 0]


def test_what_faces_the_lamp_is_brightest() -> None:
    torch.testing.assert_close(seen(lamp()), torch.tensor([0.375, 0.125, 0.125]))


def test_without_texture_all_is_white() -> None:
    torch.testing.assert_close(seen(lamp(textureless=True)), torch.tensor([0.75, 0.25, 0.25]))


def test_lamps_need_normals() -> None:
    with pytest.raises(ValueError, match="normals"):
        lamp()(HERE, FIRST, Shade(torch.ones(3), HERE))


def cameras() -> Cameras:
    return Cameras.orbit([0.0, 90.0], elevation_deg=0.0, radius=1.5, fov_deg=40.0, size_hw=(2, 2))


def test_lamps_stand_on_the_cameras_side_in_half_widths() -> None:
    settings = LampSettings(distance=(1.2, 1.2), spread=0.0)
    drawn = settings.draw(cameras(), Generator().manual_seed(0), half_width=0.5, textureless=False)
    expected = torch.tensor([[0.0, 0.0, 0.6], [0.6, 0.0, 0.0]])
    torch.testing.assert_close(drawn.position, expected, atol=1e-6, rtol=0)
    assert drawn.ambient + drawn.diffuse == pytest.approx(1.0)


def test_hard_light_is_dreamfusions() -> None:
    rng = Generator().manual_seed(0)
    drawn = LampSettings(soft=False).draw(cameras(), rng, half_width=0.5, textureless=True)
    assert (drawn.ambient, drawn.diffuse) == pytest.approx((0.1, 0.9))
    assert drawn.textureless


def test_each_ray_has_its_cameras_lamp() -> None:
    rng = Generator().manual_seed(0)
    drawn = LampSettings().draw(cameras(), rng, half_width=0.5, textureless=False)
    each = for_rays(drawn, 4)
    assert each.position.shape == (8, 3)
    assert torch.equal(each.position[3], drawn.position[0])
    assert torch.equal(each.position[4], drawn.position[1])
