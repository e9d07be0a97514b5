"""Claims about posed pictures: they fit their cameras, and compositing can be undone."""

import pytest
import torch

from roundview.camera import Cameras
from roundview.image import composite
from roundview.views import Views, concatenate_views


def cameras(count: int, size: int = 4) -> Cameras:
    return Cameras.orbit(
        [360 * i / count for i in range(count)],
        elevation_deg=0.0,
        radius=1.5,
        fov_deg=50.0,
        size_hw=(size, size),
    )


def views(count: int = 3, *, geometry: bool = True) -> Views:
    rng = torch.Generator().manual_seed(0)
    extra = (torch.rand(count, 4, 4, generator=rng), torch.rand(count, 4, 4, 3, generator=rng))
    return Views(
        torch.rand(count, 4, 4, 3, generator=rng),
        torch.rand(count, 4, 4, generator=rng),
        cameras(count),
        *(extra if geometry else (None, None)),
    )


def test_pictures_must_fit_their_cameras() -> None:
    with pytest.raises(ValueError, match="2 views of 4x4 do not fit 3 cameras of 4x4"):
        Views(torch.zeros(2, 4, 4, 3), torch.zeros(2, 4, 4), cameras(3))
    with pytest.raises(ValueError, match="do not fit"):
        Views(torch.zeros(3, 5, 4, 3), torch.zeros(3, 5, 4), cameras(3))


def test_one_view_stays_a_batch() -> None:
    one = views()[1]
    assert (len(one), len(one.cameras)) == (1, 1)
    assert torch.equal(one.rgb[0], views().rgb[1])
    assert one.depth is not None
    assert tuple(one.depth.shape) == (1, 4, 4)
    assert one.normal is not None


def test_views_can_be_taken_apart_and_joined() -> None:
    whole = views()
    again = concatenate_views([whole[:2], whole[[2]]])
    for name in ("rgb", "alpha", "depth", "normal"):
        assert torch.equal(getattr(again, name), getattr(whole, name))
    assert torch.equal(again.cameras.world_from_camera, whole.cameras.world_from_camera)


def test_geometry_is_kept_only_if_all_have_it() -> None:
    mixed = concatenate_views([views(2), views(2, geometry=False)])
    assert (mixed.depth, mixed.normal) == (None, None)
    assert len(mixed) == 4


def test_nothing_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="one size"):
        concatenate_views([])


@pytest.mark.parametrize("background", [(1.0, 1.0, 1.0), (0.0, 0.3, 0.8)])
def test_straight_colour_undoes_the_composite(background: tuple[float, float, float]) -> None:
    rng = torch.Generator().manual_seed(1)
    straight = torch.rand(2, 4, 4, 3, generator=rng)
    alpha = 0.05 + 0.95 * torch.rand(2, 4, 4, generator=rng)
    made = Views(composite(straight, alpha, background), alpha, cameras(2))
    # Division by an alpha of 0.05 magnifies float32's rounding twentyfold.
    torch.testing.assert_close(made.straight_rgb(background), straight, rtol=0, atol=5e-6)


def test_what_is_not_seen_has_no_colour() -> None:
    empty = Views(torch.ones(1, 4, 4, 3), torch.zeros(1, 4, 4), cameras(1))
    assert bool((empty.straight_rgb() == 0).all())


def test_resizing_keeps_the_field_of_view_and_drops_geometry() -> None:
    small = views().resized((2, 2))
    assert (small.depth, small.normal) == (None, None)
    assert small.cameras.size_hw == (2, 2)
    torch.testing.assert_close(small.cameras.focal_px, views().cameras.focal_px / 2)
    assert small.rgb.shape == (3, 2, 2, 3)
    same = views().resized((4, 4))
    assert torch.equal(same.rgb, views().rgb)
    assert same.depth is None


def test_enlarged_views_stay_in_range() -> None:
    """Bicubic filters overshoot at edges."""
    step = torch.zeros(1, 4, 4, 3)
    step[:, :, 2:] = 1.0
    large = Views(step, step[..., 0], cameras(1)).resized((16, 16))
    for picture in (large.rgb, large.alpha):
        assert float(picture.min()) >= 0
        assert float(picture.max()) <= 1


def test_moving_to_a_device_keeps_everything() -> None:
    moved = views().to("cpu")
    assert torch.equal(moved.rgb, views().rgb)
    assert moved.normal is not None
