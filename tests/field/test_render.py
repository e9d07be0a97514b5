import math

import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras, lift
from roundview.field.grid import GridSettings
from roundview.field.radiance import RadianceField, RadianceSettings
from roundview.field.render import Field, finite_slope, render_field, render_rays, step_of
from roundview.field.sdf import SdfField, SdfSettings

GRID = GridSettings(2, 2, 8, 4, 8)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def orbit(size: int = 24) -> Cameras:
    return Cameras.orbit(
        [0.0, 120.0], elevation_deg=[0.0, 20.0], radius=1.5, fov_deg=49.13, size_hw=(size, size)
    )


def ball(sharpness: float = 0.5) -> SdfField:
    """A ball of radius 0.275 with a sharp surface."""
    return SdfField(SdfSettings(grid=GRID, sharpness=sharpness, cells=8, samples=256), rng())


def cloud() -> RadianceField:
    return RadianceField(RadianceSettings(grid=GRID, cells=8), rng())


def test_ball_is_drawn_where_it_stands() -> None:
    made, cameras = ball(), orbit()
    with torch.no_grad():
        views = made.render(cameras)
    assert views.depth is not None
    assert views.normal is not None
    solid = views.alpha > 0.95
    # The outline of a ball at distance 1.5: a circle of tan(asin(r / 1.5)) * focal pixels.
    radius_px = math.tan(math.asin(0.275 / 1.5)) * float(cameras.focal_px[0])
    area = views.alpha.sum(dim=(1, 2))
    torch.testing.assert_close(
        area, torch.full_like(area, math.pi * radius_px**2), rtol=0.1, atol=0.0
    )
    points = lift(views.depth, cameras)[solid]
    torch.testing.assert_close(
        points.norm(dim=1), torch.full((len(points),), 0.275), rtol=0.0, atol=0.01
    )
    outward = torch.nn.functional.normalize(points, dim=1)
    assert float((views.normal[solid] * outward).sum(dim=1).min()) > 0.95


def test_background_shows_where_nothing_is() -> None:
    views = render_field(ball(), orbit(8), background=(0.2, 0.4, 0.6))
    assert views.depth is not None
    # NeuS's opacity is never quite 0: 1e-5 a step.
    torch.testing.assert_close(
        views.rgb[0, 0, 0].detach(), torch.tensor([0.2, 0.4, 0.6]), rtol=0.0, atol=1e-3
    )
    depth = float(views.depth[0, 0, 0].detach())
    assert depth == 0


@pytest.mark.parametrize("make", [ball, cloud])
def test_picture_teaches_every_parameter_it_depends_on(make: type[Field]) -> None:
    made = make()
    views = made.render(orbit(8), rng=rng(1))
    (views.rgb.mean() + views.alpha.mean()).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name


@pytest.mark.parametrize("make", [ball, cloud])
def test_gradient_is_that_of_finite_differences(make: type[Field]) -> None:
    made = make().double()
    cameras = orbit(6)
    exact = Cameras(cameras.world_from_camera.double(), cameras.focal_px.double(), cameras.size_hw)

    def picture() -> Tensor:
        views = made.render(exact, normals=False)
        return (views.rgb * torch.arange(3)).sum() + views.alpha.square().sum()

    picture().backward()
    weight = made.get_parameter("last")
    assert weight.grad is not None
    step = 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 3] += sign * step
            values.append(picture())
            weight[0, 3] -= sign * step
    slope = (values[0] - values[1]) / (2 * step)
    torch.testing.assert_close(weight.grad[0, 3], slope, rtol=1e-5, atol=1e-6)


def test_samples_move_with_the_generator_alone() -> None:
    made, cameras = cloud(), orbit(8)
    with torch.no_grad():
        same = [made.render(cameras, rng=rng(2)).rgb for _ in range(2)]
        other = made.render(cameras, rng=rng(3)).rgb
    assert same[0].equal(same[1])
    assert not same[0].equal(other)


def test_refreshed_field_skips_empty_space_and_looks_the_same() -> None:
    made, cameras = cloud(), orbit(8)
    with torch.no_grad():
        before = made.render(cameras).rgb
        for seed in range(3):
            made.refresh(rng(seed))
        after = made.render(cameras).rgb
    share = float(made.occupancy.full.float().mean())
    assert 0 < share < 0.7
    # Each skipped step has less than a hundredth of opacity.
    torch.testing.assert_close(before, after, rtol=0.0, atol=0.05)


def test_ray_past_the_cube_is_empty() -> None:
    drawn = render_rays(ball(), torch.tensor([[0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, -1.0]]))
    assert float(drawn.opacity.detach()[0]) == 0
    assert len(drawn.weight) == 0


def test_diagonal_takes_as_many_samples_as_asked() -> None:
    assert math.sqrt(3) * 2 * 0.5 / step_of(0.5, 64) == pytest.approx(64)


def test_finite_slope_of_a_square_is_exact() -> None:
    points = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    slope = finite_slope(lambda p: p.square().sum(dim=1), points, 0.1)
    torch.testing.assert_close(slope, 2 * points)
