import math
from dataclasses import replace

import pytest
import torch

from roundview.camera import Cameras, rays
from roundview.splat.start import cloud_in_ball, cloud_on_hull, seen_cube
from roundview.views import Views


def orbit(count: int = 12, side: int = 48) -> Cameras:
    return Cameras.orbit(
        [360 / count * i for i in range(count)],
        elevation_deg=[(-40.0, 10.0, 55.0)[i % 3] for i in range(count)],
        radius=2.0,
        fov_deg=50.0,
        size_hw=(side, side),
    )


def views_of_a_ball(radius: float = 0.5) -> Views:
    """A ball that is red where x > 0 and blue elsewhere, ray by ray."""
    cameras = orbit()
    ray = torch.nn.functional.normalize(rays(cameras), dim=-1)
    origin = cameras.origin[:, None, None]
    along = -(ray * origin).sum(dim=-1)
    gap = radius**2 - (origin.square().sum(dim=-1) - along.square())
    point = origin + (along - gap.clamp(min=0).sqrt())[..., None] * ray
    alpha = (gap > 0).float()
    red, blue = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])
    rgb = torch.where(point[..., :1] > 0, red, blue)
    return Views(rgb * alpha[..., None] + 1 - alpha[..., None], alpha, cameras)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_cameras_round_a_point_see_a_cube_round_it() -> None:
    cameras = orbit()
    shift = torch.tensor([0.3, -1.0, 2.0])
    pose = cameras.world_from_camera.clone()
    pose[:, :3, 3] += shift
    focus, half_width = seen_cube(replace(cameras, world_from_camera=pose))
    torch.testing.assert_close(focus, shift, rtol=1e-4, atol=1e-4)
    assert half_width == pytest.approx(2.0 * math.tan(math.radians(25)), rel=1e-4)


def test_one_camera_looks_at_the_point_nearest_the_origin() -> None:
    focus, _ = seen_cube(orbit()[0])
    torch.testing.assert_close(focus, torch.zeros(3), rtol=0, atol=1e-3)


def test_hull_of_a_ball_is_its_skin_in_its_colours() -> None:
    cloud = cloud_on_hull(views_of_a_ball(), points=800, sh_degree=0, agreement=1.0, rng=rng())
    assert len(cloud) == 800
    radius = cloud.centre.norm(dim=-1)
    # The skin of 64 cells of 0.029, half a cell of jitter, a silhouette widened by a pixel of 0.04,
    # and the hull of twelve views bulges out a little.
    assert bool((radius > 0.42).all())
    assert bool((radius < 0.68).all())
    assert radius.mean().item() == pytest.approx(0.54, abs=0.03)
    clear = cloud.centre[:, 0].abs() > 0.15
    reddish = (cloud.base_rgb[:, 0] > cloud.base_rgb[:, 2])[clear]
    agree = (reddish == (cloud.centre[:, 0] > 0)[clear]).float().mean()
    assert agree.item() > 0.95


def test_agreement_forgives_a_view_that_shows_nothing() -> None:
    views = views_of_a_ball()
    alpha = views.alpha.clone()
    alpha[4] = 0
    wrong = replace(views, alpha=alpha)
    cloud = cloud_on_hull(wrong, points=50, sh_degree=1, agreement=0.9, rng=rng())
    assert cloud.sh.shape == (50, 4, 3)
    with pytest.warns(UserWarning, match="nothing in common"):
        ball = cloud_on_hull(wrong, points=50, sh_degree=0, agreement=1.0, rng=rng())
    assert ball.opacity.max().item() == pytest.approx(0.1)


def test_ball_is_centred_grey_and_faint() -> None:
    views = views_of_a_ball()
    cloud = cloud_in_ball(views, points=2000, sh_degree=0, rng=rng())
    half_width = seen_cube(views.cameras)[1]
    radius = cloud.centre.norm(dim=-1)
    assert radius.max().item() <= 0.5 * half_width + 1e-3
    # Uniform in a ball: the mean distance is three quarters of the radius.
    assert radius.mean().item() == pytest.approx(0.375 * half_width, rel=0.05)
    torch.testing.assert_close(cloud.base_rgb, torch.full((2000, 3), 0.5))
    torch.testing.assert_close(cloud.opacity, torch.full((2000,), 0.1))


def test_the_same_generator_draws_the_same_cloud() -> None:
    clouds = [
        cloud_on_hull(views_of_a_ball(), points=20, sh_degree=0, agreement=1.0, rng=rng(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(clouds[0].centre, clouds[1].centre)
    assert not torch.equal(clouds[0].centre, clouds[2].centre)


def test_a_share_of_the_points_may_fill_the_hull_faintly() -> None:
    views = views_of_a_ball()
    cloud = cloud_on_hull(
        views, points=400, sh_degree=0, agreement=0.9, rng=rng(), inside_share=0.25
    )
    assert len(cloud) == 400
    distance = cloud.centre.norm(dim=-1)
    cover, filling = distance[:300], distance[300:]
    assert float(cover.min()) > 0.8 * float(cover.max())
    # Even in a ball: half of them within 0.79 of the radius.
    assert 0.7 < float(filling.median() / cover.max()) < 0.88
    assert float(cloud.opacity[300:].max()) < float(cloud.opacity[:300].min())
