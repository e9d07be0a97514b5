import pytest
import torch

from roundview.camera import Cameras, project
from roundview.gaussians import Gaussians
from roundview.splat.median_depth import render_median_depth
from roundview.splat.render import render_gaussians
from roundview.surface.front import front_of, views_to_fuse


def camera(azimuth_deg: float = 0.0) -> Cameras:
    return Cameras.orbit(
        [azimuth_deg], elevation_deg=0.0, radius=2.0, fov_deg=40.0, size_hw=(32, 32)
    )


def one(scale: tuple[float, float, float], centre: tuple[float, float, float]) -> Gaussians:
    return Gaussians(
        torch.tensor([centre]),
        torch.tensor([scale]).log(),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        torch.zeros(1),
        torch.zeros(1, 1, 3),
    )


@pytest.mark.parametrize(("azimuth_deg", "moved"), [(0.0, (0, 0, 0.03)), (90.0, (0.01, 0, 0))])
def test_gaussian_comes_nearer_by_its_thickness(
    azimuth_deg: float, moved: tuple[float, float, float]
) -> None:
    flat = one((0.01, 0.02, 0.03), (0.0, 0.0, 0.0))
    front = front_of(flat, camera(azimuth_deg))
    torch.testing.assert_close(front.centre, torch.tensor([moved], dtype=torch.float32))
    assert torch.equal(front_of(flat, camera(), deviations=0.0).centre, flat.centre)


def test_picture_stays_and_depth_shrinks() -> None:
    rng = torch.Generator().manual_seed(0)
    cloud = Gaussians(
        torch.rand(50, 3, generator=rng) - 0.5,
        torch.rand(50, 3, generator=rng) - 4,
        torch.randn(50, 4, generator=rng),
        torch.zeros(50),
        torch.zeros(50, 1, 3),
    )
    front = front_of(cloud, camera(30.0))
    before, after = (project(c.centre, camera(30.0)) for c in (cloud, front))
    torch.testing.assert_close(after[0], before[0], atol=1e-3, rtol=0)
    assert bool((after[1] < before[1]).all())
    # As large in the picture: size over depth.
    torch.testing.assert_close(
        front.scale / after[1].T, cloud.scale / before[1].T, atol=1e-6, rtol=1e-4
    )


def test_slanted_disc_moves_by_the_length_inside_it() -> None:
    # Seen from +Z, a disc that is thin along its own z and turned by 60 degrees about x.
    half = torch.deg2rad(torch.tensor(30.0))
    disc = one((0.1, 0.1, 0.001), (0.0, 0.0, 0.0))
    turned = Gaussians(
        disc.centre,
        disc.log_scale,
        torch.stack([half.cos(), half.sin(), torch.zeros(()), torch.zeros(())])[None],
        disc.opacity_logit,
        disc.sh,
    )
    moved = front_of(turned, camera()).centre[0, 2]
    assert float(moved) == pytest.approx(0.001 / 0.5, rel=0.01)


def test_gaussian_larger_than_its_distance_stays_before_the_camera() -> None:
    front = front_of(one((5.0, 5.0, 5.0), (0.0, 0.0, 1.0)), camera())
    assert float(front.centre[0, 2]) == pytest.approx(1.5)


def test_several_cameras_are_refused() -> None:
    cameras = Cameras.orbit(
        [0.0, 90.0], elevation_deg=0.0, radius=2.0, fov_deg=40.0, size_hw=(8, 8)
    )
    with pytest.raises(ValueError, match="one camera"):
        front_of(one((0.1, 0.1, 0.1), (0.0, 0.0, 0.0)), cameras)


def shell(count: int = 600) -> Gaussians:
    """A ball of radius 0.3 of round Gaussians whose middles lie one deviation inside."""
    k = torch.arange(count) + 0.5
    height = 1 - 2 * k / count
    turn = k * torch.pi * (3 - 5**0.5)
    across = (1 - height**2).sqrt()
    outward = torch.stack([across * turn.cos(), height, across * turn.sin()], dim=1)
    return Gaussians(
        outward * (0.3 - 0.02),
        torch.full((count, 3), 0.02).log(),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1),
        torch.full((count,), 3.0),
        torch.zeros(count, 1, 3),
    )


def test_views_to_fuse_have_the_depth_of_the_front_inside_sharp_outlines() -> None:
    cameras = Cameras.orbit(
        [0.0, 120.0], elevation_deg=10.0, radius=2.0, fov_deg=30.0, size_hw=(64, 64)
    )
    views = views_to_fuse(
        shell(), cameras, render=render_gaussians, render_depth=render_median_depth
    )
    plain = render_gaussians(shell(), cameras)
    assert views.depth is not None
    assert plain.depth is not None
    assert torch.equal(views.alpha, plain.alpha)
    assert bool(((views.depth > 0) == (views.alpha > 0.5)).all())
    # In the middle of the picture the ball's front is 1.7 away; the middles lie deeper.
    assert float(views.depth[0, 32, 32]) == pytest.approx(1.7, abs=0.008)
    assert float(plain.depth[0, 32, 32]) > 1.715


def test_odd_pictures_are_refused() -> None:
    cameras = Cameras.orbit([0.0], elevation_deg=0.0, radius=2.0, fov_deg=30.0, size_hw=(9, 8))
    with pytest.raises(ValueError, match="even"):
        views_to_fuse(shell(), cameras, render=render_gaussians, render_depth=render_median_depth)
