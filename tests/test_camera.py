"""Claims about cameras: where they stand, what they see, and that lifting undoes projecting."""

import math

import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras, concatenate_cameras, lift, project, rays


def orbit(*azimuth_deg: float, elevation_deg: float = 0.0) -> Cameras:
    return Cameras.orbit(
        list(azimuth_deg),
        elevation_deg=elevation_deg,
        radius=2.0,
        fov_deg=90.0,
        size_hw=(4, 6),
    )


def in_double(cameras: Cameras) -> Cameras:
    """The same poses in float64, made exactly orthonormal."""
    pose = cameras.world_from_camera.double()
    u, _, v = torch.linalg.svd(pose[:, :3, :3])
    pose[:, :3, :3] = u @ v
    return Cameras(pose, cameras.focal_px.double(), cameras.size_hw)


@pytest.mark.parametrize(
    ("azimuth_deg", "elevation_deg", "eye"),
    [
        (0.0, 0.0, (0.0, 0.0, 2.0)),
        (90.0, 0.0, (2.0, 0.0, 0.0)),
        (180.0, 0.0, (0.0, 0.0, -2.0)),
        (0.0, 30.0, (0.0, 1.0, math.sqrt(3))),
        (90.0, -30.0, (math.sqrt(3), -1.0, 0.0)),
    ],
)
def test_orbit_stands_where_the_convention_says(
    azimuth_deg: float, elevation_deg: float, eye: tuple[float, ...]
) -> None:
    cameras = orbit(azimuth_deg, elevation_deg=elevation_deg)
    torch.testing.assert_close(cameras.origin[0], torch.tensor(eye), rtol=1e-6, atol=1e-6)
    assert float(cameras.azimuth_deg[0]) == pytest.approx(azimuth_deg, abs=1e-4)
    assert float(cameras.elevation_deg[0]) == pytest.approx(elevation_deg, abs=1e-4)


def test_orbit_cameras_are_upright_and_look_at_the_subject() -> None:
    cameras = orbit(0.0, 33.0, 210.0, elevation_deg=20.0)
    r = cameras.world_from_camera[:, :3, :3]
    torch.testing.assert_close(r @ r.mT, torch.eye(3).expand_as(r), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.linalg.det(r), torch.ones(3))
    torch.testing.assert_close(r[:, :, 2], -cameras.origin / 2)  # forward, to the origin
    torch.testing.assert_close(r[:, 1, 0], torch.zeros(3))  # right is level
    assert bool((r[:, 1, 1] < 0).all())  # y points down


def test_orbit_takes_an_elevation_each() -> None:
    cameras = Cameras.orbit(
        [0.0, 90.0], elevation_deg=[10.0, -40.0], radius=1.0, fov_deg=50.0, size_hw=(8, 8)
    )
    torch.testing.assert_close(cameras.elevation_deg, torch.tensor([10.0, -40.0]))


def test_the_field_of_view_is_vertical() -> None:
    """Fov 90 and height 4 give a focal length of 2 px, whatever the width."""
    assert float(orbit(0.0).focal_px[0]) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elevation_deg": 90.0}, "elevation_deg"),
        ({"elevation_deg": float("nan")}, "elevation_deg"),
        ({"elevation_deg": [0.0]}, "1 entries for 2"),
        ({"radius": 0.0}, "radius"),
        ({"radius": float("nan")}, "radius"),
        ({"fov_deg": 180.0}, "fov_deg"),
        ({"size_hw": (0, 4)}, "size_hw"),
    ],
)
def test_impossible_orbits_are_refused(change: dict[str, object], message: str) -> None:
    wanted: dict[str, object] = {
        "elevation_deg": 0.0,
        "radius": 1.0,
        "fov_deg": 50.0,
        "size_hw": (4, 4),
    }
    with pytest.raises(ValueError, match=message):
        Cameras.orbit([0.0, 10.0], **(wanted | change))  # pyright: ignore[reportArgumentType]


def test_cameras_that_form_no_image_are_refused() -> None:
    with pytest.raises(ValueError, match="focal_px must be positive"):
        Cameras(torch.eye(4)[None], torch.tensor([0.0]), (4, 4))
    with pytest.raises(ValueError, match="size_hw"):
        Cameras(torch.eye(4)[None], torch.tensor([1.0]), (4, 0))


def test_inverse_poses_are_inverse() -> None:
    cameras = in_double(orbit(0.0, 77.0, elevation_deg=35.0))
    product = cameras.camera_from_world @ cameras.world_from_camera
    torch.testing.assert_close(product, torch.eye(4).double().expand(2, 4, 4), rtol=0, atol=1e-9)


def test_some_cameras_can_be_taken_and_joined_again() -> None:
    cameras = orbit(0.0, 90.0, 180.0)
    assert len(cameras[1]) == 1
    assert cameras[[2, 0]].azimuth_deg.tolist() == pytest.approx([180.0, 0.0])
    joined = concatenate_cameras([cameras[:1], cameras[1:]])
    assert torch.equal(joined.world_from_camera, cameras.world_from_camera)
    with pytest.raises(ValueError, match="share one size"):
        concatenate_cameras([cameras, cameras.resized((8, 12))])
    with pytest.raises(ValueError, match="share one size"):
        concatenate_cameras([])


def test_resizing_keeps_what_is_seen() -> None:
    """A point at a quarter of the picture stays at a quarter."""
    points = torch.tensor([[0.3, 0.4, 0.1]])
    small, _ = project(points, orbit(20.0))
    large, _ = project(points, orbit(20.0).resized((8, 12)))
    torch.testing.assert_close(large, small * 2)


@pytest.mark.parametrize(
    ("point", "pixel", "depth"),
    [
        ((0.0, 0.0, 0.0), (3.0, 2.0), 2.0),  # the middle of 4 x 6 pixels
        ((1.0, 0.0, 0.0), (4.0, 2.0), 2.0),  # +X is right: f x / z = 2 * 1 / 2
        ((0.0, 1.0, 0.0), (3.0, 1.0), 2.0),  # +Y is up, so v falls
        ((0.0, 0.0, 1.0), (3.0, 2.0), 1.0),  # towards the camera
        ((1.0, 0.0, 1.0), (5.0, 2.0), 1.0),
    ],
)
def test_points_appear_where_the_pinhole_says(
    point: tuple[float, ...], pixel: tuple[float, ...], depth: float
) -> None:
    uv, z = project(torch.tensor([point]), orbit(0.0))
    torch.testing.assert_close(uv[0, 0], torch.tensor(pixel), rtol=1e-5, atol=1e-5)
    assert float(z[0, 0]) == pytest.approx(depth, rel=1e-5)


def test_points_on_the_focal_plane_stay_finite() -> None:
    uv, depth = project(torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 3.0]]), orbit(0.0))
    assert bool(uv.isfinite().all())
    assert depth[0].tolist() == pytest.approx([0.0, -1.0], abs=1e-6)


def test_rays_have_depth_one() -> None:
    """The top-left pixel centre of 4 x 6 at focal 2: slope (-2.5, -1.5) / 2, y down."""
    direction = rays(orbit(0.0))
    torch.testing.assert_close(direction[0, 0, 0], torch.tensor([-1.25, 0.75, -1.0]))
    torch.testing.assert_close(direction[0, 3, 5], torch.tensor([1.25, -0.75, -1.0]))


def test_lift_at_the_orbit_radius_is_centred_on_the_subject() -> None:
    points = lift(torch.full((1, 4, 6), 2.0), orbit(0.0))
    torch.testing.assert_close(points[0, 0, 0], torch.tensor([-2.5, 1.5, 0.0]))
    torch.testing.assert_close(points.mean(dim=(1, 2)), torch.zeros(1, 3), rtol=0, atol=1e-6)


def test_lifting_undoes_projecting() -> None:
    cameras = in_double(orbit(10.0, 130.0, 250.0, elevation_deg=25.0))
    depth = 1 + torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0)).double()
    points = lift(depth, cameras)
    for at in range(3):
        uv, z = project(points[at].reshape(-1, 3), cameras[at])
        torch.testing.assert_close(z[0], depth[at].reshape(-1), rtol=1e-9, atol=0)
        torch.testing.assert_close(uv[0], _pixel_centres(4, 6), rtol=1e-9, atol=1e-9)


def test_lift_refuses_maps_of_another_size() -> None:
    with pytest.raises(ValueError, match="depth is 3x6"):
        lift(torch.ones(1, 3, 6), orbit(0.0))


def test_projection_has_the_right_gradient() -> None:
    cameras = in_double(orbit(40.0, elevation_deg=10.0))
    points = (torch.rand(4, 3, dtype=torch.float64) - 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: project(p, cameras), (points,))


def _pixel_centres(h: int, w: int) -> Tensor:
    v, u = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    return torch.stack([u, v], dim=-1).reshape(-1, 2).double()
