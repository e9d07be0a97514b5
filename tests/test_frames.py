"""Claims about other people's frames: worked by hand, published tables, and there and back."""

import math

import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras, project
from roundview.frames import (
    blender_from_cameras,
    cameras_from_blender,
    cameras_from_colmap,
    cameras_from_mvdream,
    cameras_from_stable_zero123,
    cameras_from_sv3d,
    cameras_from_zero123,
    colmap_from_cameras,
    isotropic3d_from_angles,
    mvdream_from_cameras,
    opencv_from_opengl,
    opengl_from_opencv,
    order_from_sv3d,
    stable_zero123_from_cameras,
    sv3d_from_cameras,
    sv3d_order,
    yup_from_zup,
    yup_points_from_zup,
    zero123_from_cameras,
    zup_from_yup,
    zup_points_from_yup,
)


def at(*azimuth_deg: float, elevation_deg: float = 0.0, radius: float = 1.5) -> Cameras:
    return Cameras.orbit(
        list(azimuth_deg),
        elevation_deg=elevation_deg,
        radius=radius,
        fov_deg=49.13,
        size_hw=(8, 8),
    )


def scattered() -> Cameras:
    """Cameras all round, above and below, at one distance."""
    return Cameras.orbit(
        [0.0, 33.0, 100.0, 190.0, 275.0, 359.0],
        elevation_deg=[0.0, 20.0, -35.0, 60.0, -80.0, 5.0],
        radius=1.7,
        fov_deg=40.0,
        size_hw=(6, 8),
    )


def assert_same_cameras(got: Cameras, wanted: Cameras, atol: float = 1e-5) -> None:
    torch.testing.assert_close(
        got.world_from_camera, wanted.world_from_camera, rtol=1e-5, atol=atol
    )
    torch.testing.assert_close(got.focal_px, wanted.focal_px)
    assert got.size_hw == wanted.size_hw


def test_opengl_cameras_look_along_their_negative_z() -> None:
    pose = opengl_from_opencv(at(0.0).world_from_camera)[0]
    torch.testing.assert_close(-pose[:3, 2], torch.tensor([0.0, 0.0, -1.0]))  # looks at -Z
    torch.testing.assert_close(pose[:3, 1], torch.tensor([0.0, 1.0, 0.0]))  # y is up
    torch.testing.assert_close(pose[:3, 0], torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(pose[:3, 3], torch.tensor([0.0, 0.0, 1.5]))


def test_camera_axes_return() -> None:
    pose = scattered().world_from_camera.double()
    torch.testing.assert_close(opencv_from_opengl(opengl_from_opencv(pose)), pose, rtol=0, atol=0)


def test_up_becomes_z_and_the_front_becomes_minus_y() -> None:
    ours = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    theirs = torch.tensor([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(zup_points_from_yup(ours), theirs)
    torch.testing.assert_close(yup_points_from_zup(theirs), ours)


def test_poses_turn_as_points_do() -> None:
    pose = scattered().world_from_camera
    turned = zup_from_yup(pose)
    torch.testing.assert_close(turned[:, :3, 3], zup_points_from_yup(pose[:, :3, 3]))
    torch.testing.assert_close(turned[:, :3, 2], zup_points_from_yup(pose[:, :3, 2]))
    torch.testing.assert_close(yup_from_zup(turned), pose)


def test_blender_sees_the_same_pictures() -> None:
    """A point lands on one pixel, whether projected here or by their matrix and axes."""
    cameras = scattered()
    points = torch.tensor([[0.1, 0.2, 0.3], [-0.4, 0.1, -0.2]])
    matrix = blender_from_cameras(cameras)
    homogeneous = torch.cat([zup_points_from_yup(points), torch.ones(2, 1)], dim=1)
    x, y, z = torch.einsum("nij,vj->nvi", matrix, homogeneous).unbind(-1)
    uv, depth = project(points, cameras)
    torch.testing.assert_close(-z, depth)
    torch.testing.assert_close(x / -z * cameras.focal_px[:, None] + 4, uv[..., 0])
    torch.testing.assert_close(-y / -z * cameras.focal_px[:, None] + 3, uv[..., 1])


def test_blender_matrices_return() -> None:
    cameras = scattered()
    again = cameras_from_blender(
        blender_from_cameras(cameras), focal_px=cameras.focal_px, size_hw=cameras.size_hw
    )
    assert_same_cameras(again, cameras)


@pytest.mark.parametrize(
    ("elevation_deg", "azimuth_deg", "radius", "vector"),
    [
        # polar -30 (above), azimuth +45, radius 0: radians, sine, cosine, distance.
        (30.0, 45.0, 1.5, (-0.523599, 0.707107, 0.707107, 0.0)),
        (0.0, -45.0, 1.5, (0.0, -0.707107, 0.707107, 0.0)),
        (-20.0, 180.0, 2.0, (0.349066, 0.0, -1.0, 0.5)),
        (0.0, 0.0, 1.5, (0.0, 0.0, 1.0, 0.0)),
    ],
)
def test_zero123_vectors_are_the_published_ones(
    elevation_deg: float, azimuth_deg: float, radius: float, vector: tuple[float, ...]
) -> None:
    target = at(azimuth_deg, elevation_deg=elevation_deg, radius=radius)
    got = zero123_from_cameras(target, at(0.0))
    torch.testing.assert_close(got, torch.tensor([vector]), rtol=1e-5, atol=2e-6)


def test_zero123_vectors_agree_with_blender_matrices() -> None:
    """The angles that Zero123's own reader takes from its matrices are those of the vector."""
    target, source = scattered(), at(20.0, elevation_deg=10.0)

    def angles(cameras: Cameras) -> tuple[Tensor, Tensor, Tensor]:
        matrix = blender_from_cameras(cameras)
        x, y, z = (-matrix[:, :, :3].mT @ matrix[:, :, 3:])[..., 0].unbind(-1)
        return torch.atan2(torch.hypot(x, y), z), torch.atan2(y, x), (x * x + y * y + z * z).sqrt()

    (polar, azimuth, radius), (polar_0, azimuth_0, radius_0) = angles(target), angles(source)
    turn = (azimuth - azimuth_0) % math.tau
    wanted = torch.stack([polar - polar_0, turn.sin(), turn.cos(), radius - radius_0], dim=1)
    torch.testing.assert_close(zero123_from_cameras(target, source), wanted, rtol=1e-5, atol=1e-5)


def test_zero123_vectors_return() -> None:
    target, source = scattered(), at(20.0, elevation_deg=10.0)
    got = cameras_from_zero123(zero123_from_cameras(target, source), source)
    # Angles go through arc tangents of float32 numbers.
    torch.testing.assert_close(
        got.world_from_camera, target.world_from_camera, rtol=1e-5, atol=1e-5
    )
    assert got.size_hw == source.size_hw


def test_zero123_refuses_to_stand_inside_the_subject() -> None:
    with pytest.raises(ValueError, match="radius"):
        cameras_from_zero123(torch.tensor([[0.0, 0.0, 1.0, -2.0]]), at(0.0))


def test_stable_zero123_holds_the_polar_angle_of_the_photo() -> None:
    source = at(0.0, elevation_deg=30.0)
    got = stable_zero123_from_cameras(at(90.0, elevation_deg=0.0), source)
    wanted = torch.tensor([[math.radians(30), 1.0, 0.0, math.radians(60)]])
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_stable_zero123_vectors_return() -> None:
    source, target = at(15.0, elevation_deg=30.0), at(100.0, 200.0, elevation_deg=-10.0)
    got = cameras_from_stable_zero123(stable_zero123_from_cameras(target, source), source)
    torch.testing.assert_close(
        got.world_from_camera, target.world_from_camera, rtol=1e-5, atol=1e-5
    )
    with pytest.raises(ValueError, match="polar angle"):
        cameras_from_stable_zero123(
            stable_zero123_from_cameras(target, source), at(0.0, elevation_deg=0.0)
        )


def test_mvdream_vector_is_that_of_its_code() -> None:
    """Elevation 30, azimuth 60: computed once by the function of Isotropic3D's release."""
    wanted = [
        *(0.5, -0.4330127, 0.75, 0.75),
        *(0.8660254, 0.25, -0.4330127, -0.4330127),
        *(0.0, 0.8660254, 0.5, 0.5),
        *(0.0, 0.0, 0.0, 1.0),
    ]
    got = mvdream_from_cameras(at(60.0, elevation_deg=30.0, radius=2.3))
    torch.testing.assert_close(got, torch.tensor([wanted]), rtol=1e-5, atol=1e-6)


def test_mvdream_vectors_return() -> None:
    cameras = scattered()
    again = cameras_from_mvdream(
        mvdream_from_cameras(cameras),
        radius=1.7,
        focal_px=cameras.focal_px,
        size_hw=cameras.size_hw,
    )
    assert_same_cameras(again, cameras)


def test_isotropic3d_turns_degrees_into_radians_twice() -> None:
    """Elevation 10, azimuth 95: the first two rows as its release computes them."""
    got = isotropic3d_from_angles(torch.tensor([95.0]), torch.tensor([10.0]))[0]
    wanted = [0.99958128, -8.8139750e-05, 2.8934484e-02, 2.8934482e-02]
    wanted += [2.8934618e-02, 3.0448942e-03, -0.99957669, -0.99957663]
    # The float32 angle itself is good to 1e-7 of a radian.
    torch.testing.assert_close(got[:8], torch.tensor(wanted), rtol=1e-5, atol=1e-6)


def test_sv3d_ends_with_the_photograph() -> None:
    assert sv3d_order(4) == [1, 2, 3, 0]
    assert [sv3d_order(21)[i] for i in order_from_sv3d(21)] == list(range(21))


def test_sv3d_angles_are_its_defaults() -> None:
    """21 frames at linspace(0, 360, 22)[1:] mod 360, the photograph last."""
    ours = Cameras.orbit(
        [360 * i / 21 for i in range(21)],
        elevation_deg=10.0,
        radius=1.5,
        fov_deg=40.0,
        size_hw=(8, 8),
    )
    polar, azimuth = sv3d_from_cameras(ours[sv3d_order(21)])
    wanted = torch.deg2rad(torch.linspace(0, 360, 22)[1:] % 360)
    torch.testing.assert_close(azimuth, wanted, rtol=1e-5, atol=1e-5)
    assert float(azimuth[-1]) == 0.0
    torch.testing.assert_close(polar, torch.full((21,), math.radians(80)))


def test_sv3d_angles_return() -> None:
    cameras = at(120.0, 240.0, 0.0, elevation_deg=25.0)
    polar, azimuth = sv3d_from_cameras(cameras)
    assert_same_cameras(cameras_from_sv3d(polar, azimuth, cameras[2]), cameras)


def test_colmap_camera_in_front_is_a_half_turn_about_x() -> None:
    """At (0, 0, 2) looking down -Z: x stays, y and z change sign; the subject is 2 ahead."""
    quat, translation = colmap_from_cameras(at(0.0, radius=2.0))
    torch.testing.assert_close(quat[0].abs(), torch.tensor([0.0, 1.0, 0.0, 0.0]))
    torch.testing.assert_close(translation[0], torch.tensor([0.0, 0.0, 2.0]))


def test_colmap_poses_return() -> None:
    cameras = scattered()
    quat, translation = colmap_from_cameras(cameras)
    again = cameras_from_colmap(
        quat, translation, focal_px=cameras.focal_px, size_hw=cameras.size_hw
    )
    assert_same_cameras(again, cameras)
