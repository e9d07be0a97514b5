import torch
from fakes import block
from torch import Tensor

from roundview.camera import Cameras
from roundview.image import Foreground
from roundview.surface.isosurface import grid_points
from roundview.surface.outline import Outline, filled_outline
from roundview.surface.raster import render_mesh
from roundview.views import Views

HALF_WIDTH, NODES = 0.55, 56


def ball(radius: float = 0.2) -> Tensor:
    """Distance into a ball at the origin, on the grid."""
    points = grid_points(NODES, HALF_WIDTH)
    return (radius - points.norm(dim=-1)).reshape(NODES, NODES, NODES)


def outline(inside: Tensor, elevation_deg: float = 0.0) -> Views:
    camera = Cameras.orbit(
        [0.0],
        elevation_deg=elevation_deg,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(inside.shape[0], inside.shape[1]),
    )
    alpha = inside.float()[None]
    return Views(torch.ones(*alpha.shape, 3), alpha, camera)


def seen_ball(px: int = 160) -> Tensor:
    """The outline of the ball from 1.5 away."""
    at = torch.arange(px) + 0.5 - px / 2
    focal = 0.5 * px / torch.tan(torch.deg2rad(torch.tensor(49.13 / 2)))
    radius = focal * 0.2 / (1.5**2 - 0.2**2) ** 0.5
    return (at[:, None] ** 2 + at[None] ** 2) < radius**2


def filled(field: Tensor, photo: Views) -> Tensor:
    return filled_outline(field, photo, half_width=HALF_WIDTH, unit=1.0)


def solid_points(field: Tensor) -> Tensor:
    return grid_points(NODES, HALF_WIDTH)[(field > 0).flatten()]


def test_a_surface_that_fills_the_outline_is_left_alone() -> None:
    field = ball()
    assert filled(field, outline(seen_ball())) is field


def test_what_only_the_photo_shows_grows_out_of_what_is_there() -> None:
    inside = seen_ball()
    inside[12:80, 74:86] = True  # A stalk upward, 12 pixels wide.
    grown = filled(ball(), outline(inside))
    new = solid_points(grown)[solid_points(grown)[:, 1] > 0.23]
    assert len(new) > 20
    assert float(new[:, 1].max()) > 0.45
    # As thick as it is wide, and over the middle of the ball.
    width, thickness = (float(new[:, k].max() - new[:, k].min()) for k in (0, 2))
    assert abs(width - thickness) < 0.05
    assert abs(float(new[:, 2].mean())) < 0.03
    assert bool((grown >= ball()).all())


def test_legs_stand_upright_however_high_the_camera() -> None:
    inside = seen_ball()
    inside[80:140, 74:86] = True
    grown = filled(ball(), outline(inside, elevation_deg=35.0))
    low = solid_points(grown)[solid_points(grown)[:, 1] < -0.3]
    assert len(low) > 5
    upper, lower = low[low[:, 1] > -0.4], low[low[:, 1] < -0.4]
    # In the picture's plane it would run 0.07 towards the camera from the one to the other.
    assert abs(float(upper[:, 2].mean() - lower[:, 2].mean())) < 0.02


def test_an_outline_of_which_nothing_was_found_still_gives_a_body() -> None:
    photo = render_mesh(block(), outline(torch.zeros(96, 96)).cameras, geometry=False)
    made = filled(torch.full((NODES, NODES, NODES), -1.0), photo)
    body = solid_points(made)
    assert len(body) > 100
    wanted = Foreground(photo.rgb[0], photo.alpha[0]).resized((96, 96)).alpha > 0.5
    wide = wanted.any(dim=0).sum() / wanted.any(dim=1).sum()
    span = body.amax(dim=0) - body.amin(dim=0)
    assert abs(float(span[0] / span[1]) - float(wide)) < 0.15
    assert float(span[2]) <= 2 * Outline().most_thick + 0.05


def test_a_few_pixels_are_not_worth_it() -> None:
    inside = seen_ball()
    inside[10, 80] = True
    field = ball()
    assert filled(field, outline(inside)) is field
