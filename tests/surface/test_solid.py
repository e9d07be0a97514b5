import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.mesh import mesh_health
from roundview.surface.solid import solid_mesh, solid_views


def ball(points: Tensor) -> Tensor:
    return 0.5 + 4 * (0.3 - points.norm(dim=-1))


def places(points: Tensor) -> Tensor:
    return points + 0.5


def test_the_surface_is_where_it_is_as_likely_as_not() -> None:
    mesh = solid_mesh(ball)
    torch.testing.assert_close(
        mesh.vertices.norm(dim=-1), torch.full((len(mesh.vertices),), 0.3), atol=1e-3, rtol=0
    )
    assert mesh_health(mesh).watertight


def test_views_look_colours_up_where_rays_meet_the_solid() -> None:
    cameras = Cameras.orbit(
        [0.0, 90.0], elevation_deg=0.0, radius=1.5, fov_deg=49.13, size_hw=(65, 65)
    )
    views = solid_views(ball, places, cameras)
    expected = torch.tensor([[0.5, 0.5, 0.8], [0.8, 0.5, 0.5]])  # The nearest points of the ball.
    torch.testing.assert_close(views.rgb[:, 32, 32], expected, atol=0.01, rtol=0)
    assert float(views.alpha[:, 32, 32].min()) == 1
    torch.testing.assert_close(views.rgb[:, 0, 0], torch.ones(2, 3))


def test_nothing_solid_is_said() -> None:
    with pytest.raises(ValueError, match="nothing to mesh"):
        solid_mesh(lambda points: torch.zeros(len(points)))
