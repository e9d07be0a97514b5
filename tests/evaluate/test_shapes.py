import pytest
import torch
from fakes import block

from roundview.camera import Cameras
from roundview.evaluate.shapes import inflated_silhouette, visual_hull
from roundview.image import Foreground
from roundview.mesh import bounds, mesh_health
from roundview.metrics import volume_iou
from roundview.surface.raster import render_mesh
from roundview.views import Views


def ring(*azimuth_deg: float, elevation_deg: float = 0.0, size_px: int = 96) -> Cameras:
    return Cameras.orbit(
        list(azimuth_deg),
        elevation_deg=elevation_deg,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(size_px, size_px),
    )


def test_the_hull_of_a_block_is_nearly_the_block_and_never_smaller() -> None:
    cameras = ring(*(22.5 * k for k in range(16)), elevation_deg=20.0)
    seen = render_mesh(block(), cameras, supersample=2, geometry=False)
    hull = visual_hull(seen, resolution=64)
    assert volume_iou(hull, block()) > 0.8
    low, high = bounds(hull.vertices)
    assert bool((low < torch.tensor([-0.28, -0.48, -0.23])).all())
    assert bool((high > torch.tensor([0.28, 0.48, 0.23])).all())
    assert mesh_health(hull).watertight


def test_silhouettes_without_a_common_inside_have_no_hull() -> None:
    alpha = torch.zeros(2, 32, 32)
    alpha[0, :, :8], alpha[1, :, :8] = 1.0, 1.0  # Left of the middle from both sides.
    views = Views(torch.ones(2, 32, 32, 3), alpha, ring(0.0, 180.0, size_px=32))
    with pytest.raises(ValueError, match="nothing to mesh"):
        visual_hull(views, resolution=32)


def test_a_disc_is_blown_up_to_a_ball() -> None:
    camera = ring(30.0, elevation_deg=30.0, size_px=128)
    v, u = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    # A ball of radius 0.4 at 1.5: its outline is at 0.4 / sqrt(1.5^2 - 0.4^2) of the focal length.
    edge = float(camera.focal_px[0]) * 0.4 / (1.5**2 - 0.4**2) ** 0.5
    alpha = ((u - 64).square() + (v - 64).square() < edge**2).float()
    ball = inflated_silhouette(Foreground(torch.ones(128, 128, 3), alpha), camera)
    radius = ball.vertices.norm(dim=1)
    # Of the plane's cross-section, which is a little wider than the ball.
    assert float(radius.mean()) == pytest.approx(1.5 * edge / float(camera.focal_px[0]), abs=0.01)
    assert float(radius.std()) < 0.01


def test_nothing_cannot_be_blown_up() -> None:
    nothing = Foreground(torch.ones(32, 32, 3), torch.zeros(32, 32))
    with pytest.raises(ValueError, match="no silhouette"):
        inflated_silhouette(nothing, ring(0.0, size_px=32))
