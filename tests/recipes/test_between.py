import pytest
import torch

from roundview.camera import Cameras
from roundview.recipes.between import between_neighbours


def ring(count: int = 16, elevation_deg: float = 12.0, first: float = 0.0) -> Cameras:
    return Cameras.orbit(
        [first + 360.0 * k / count for k in range(count)],
        elevation_deg=elevation_deg,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(64, 64),
    )


def test_sixteen_stand_halfway_between_the_neighbours() -> None:
    placed = between_neighbours(ring(), 16)
    wanted = torch.arange(16) * 22.5 + 11.25
    torch.testing.assert_close(placed.azimuth_deg, wanted, rtol=0, atol=1e-3)
    torch.testing.assert_close(placed.elevation_deg, torch.full((16,), 12.0), rtol=0, atol=1e-4)
    torch.testing.assert_close(placed.origin.norm(dim=1), torch.full((16,), 1.5))
    torch.testing.assert_close(placed.focal_px, ring().focal_px)


@pytest.mark.parametrize("count", [32, 48])
def test_more_share_each_gap_evenly(count: int) -> None:
    placed = between_neighbours(ring(), count)
    each = count // 16
    steps = torch.arange(1, each + 1) * 22.5 / (each + 1)
    torch.testing.assert_close(placed.azimuth_deg[:each], steps, rtol=0, atol=1e-3)
    # The last gap leads back to the first camera.
    torch.testing.assert_close(placed.azimuth_deg[-each:], 337.5 + steps, rtol=0, atol=1e-3)


def test_a_camera_between_two_looks_as_the_orbit_would() -> None:
    placed = between_neighbours(ring(4, first=10.0), 4)
    wanted = ring(4, first=55.0)
    torch.testing.assert_close(
        placed.world_from_camera, wanted.world_from_camera, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("count", [0, 8, 17])
def test_uneven_numbers_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="a multiple of the ring's 16"):
        between_neighbours(ring(), count)
