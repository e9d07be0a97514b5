"""Other people's frames, in both directions.

Ours (see `camera`): world +Y up, photographed side +Z; camera x right, y down, z forward.

| whose            | world                        | camera axes            | pose they store   |
|------------------|------------------------------|------------------------|-------------------|
| glTF             | +Y up, front +Z: ours        | OpenGL: y up, z back   | world from camera |
| Blender, Zero123 | +Z up, front -Y              | OpenGL                 | camera from world |
| nerfstudio       | +Z up                        | OpenGL                 | world from camera |
| MVDream family   | +Z up, front -Y, unit sphere | OpenGL                 | world from camera |
| COLMAP           | whatever it found: kept      | OpenCV: ours           | camera from world |
| 3DGS PLY         | COLMAP's, so seldom upright  | none: holds no cameras | none              |

Going from +Z up to +Y up turns the world by -90 degrees about x: (x, y, z) becomes (x, z, -y).
A splat PLY that we write is in our world; one from a COLMAP capture must be turned by its maker.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from .camera import Cameras
from .rotation import quat_from_rotation, rotation_from_quat


def opengl_from_opencv(
    world_from_camera: Float[Tensor, "*batch 4 4"],
) -> Float[Tensor, "*batch 4 4"]:
    """Rename camera axes from OpenCV (y down, z forward) to OpenGL and Blender (y up, z back).

    The camera stays where it is and looks where it looked: the second and third columns change
    sign.
    """
    return world_from_camera * torch.tensor([1.0, -1.0, -1.0, 1.0]).to(world_from_camera)


def opencv_from_opengl(
    world_from_camera: Float[Tensor, "*batch 4 4"],
) -> Float[Tensor, "*batch 4 4"]:
    """Rename camera axes from OpenGL to OpenCV; the same sign changes as the other way."""
    return opengl_from_opencv(world_from_camera)


def zup_from_yup(world_from_camera: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Express poses of our world in one with +Z up (Blender, nerfstudio); front becomes -Y."""
    return _zup_from_yup(world_from_camera) @ world_from_camera


def yup_from_zup(world_from_camera: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Express poses of a world with +Z up in ours."""
    return _zup_from_yup(world_from_camera).mT @ world_from_camera


def zup_points_from_yup(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Express points or directions of our world in one with +Z up: (x, y, z) to (x, -z, y)."""
    x, y, z = points.unbind(-1)
    return torch.stack([x, -z, y], dim=-1)


def yup_points_from_zup(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Express points or directions of a world with +Z up in ours: (x, y, z) to (x, z, -y)."""
    x, y, z = points.unbind(-1)
    return torch.stack([x, z, -y], dim=-1)


def blender_from_cameras(cameras: Cameras) -> Float[Tensor, "n 3 4"]:
    """Give the matrices that Zero123's renderings come with: Blender camera from Blender world.

    Liu et al., "Zero-1-to-3: Zero-shot One Image to 3D Object", 2023: the `.npy` file beside each
    picture of their training set.
    """
    pose = zup_from_yup(opengl_from_opencv(cameras.world_from_camera))
    return _inverse(pose)[:, :3]


def cameras_from_blender(
    camera_from_world: Float[Tensor, "n 3 4"],
    *,
    focal_px: Float[Tensor, " n"],
    size_hw: tuple[int, int],
) -> Cameras:
    """Read the matrices that Zero123's renderings come with."""
    pose = _inverse(_homogeneous(camera_from_world))
    return Cameras(opencv_from_opengl(yup_from_zup(pose)), focal_px, size_hw)


def zero123_from_cameras(target: Cameras, source: Cameras) -> Float[Tensor, "n 4"]:
    """Give Zero123's pose vector [d polar, sin d azimuth, cos d azimuth, d radius].

    Liu et al. 2023. The polar angle is measured from the up axis in radians, so a target above the
    source has a negative one; the azimuth grows as ours does.

    Args:
        target: The n cameras to draw.
        source: The camera of the photograph, one or n.
    """
    polar, azimuth, radius = _spherical(target)
    polar_0, azimuth_0, radius_0 = _spherical(source)
    turn = azimuth - azimuth_0
    return torch.stack([polar - polar_0, turn.sin(), turn.cos(), radius - radius_0], dim=-1)


def cameras_from_zero123(pose: Float[Tensor, "n 4"], source: Cameras) -> Cameras:
    """Stand where Zero123's pose vectors say, seen from the photograph's camera.

    Args:
        pose: Vectors as `zero123_from_cameras` gives them.
        source: The camera of the photograph, one or n; its focal length and size are taken over.

    Raises:
        ValueError: If a vector leads to a pole or through it, or to a radius that is not positive.
    """
    polar, azimuth, radius = _spherical(source)
    d_polar, sine, cosine, d_radius = pose.unbind(-1)
    return _on_sphere(
        polar + d_polar, azimuth + torch.atan2(sine, cosine), radius + d_radius, source
    )


def stable_zero123_from_cameras(target: Cameras, source: Cameras) -> Float[Tensor, "n 4"]:
    """Give Stable-Zero123's pose vector: Zero123's, with the source's polar angle in fourth place.

    Stability AI, "Stable Zero123", 2023, as read by threestudio. It knows no distance.
    """
    polar_0 = _spherical(source)[0].expand(len(target))
    return torch.cat([zero123_from_cameras(target, source)[:, :3], polar_0[:, None]], dim=-1)


def cameras_from_stable_zero123(pose: Float[Tensor, "n 4"], source: Cameras) -> Cameras:
    """Stand where Stable-Zero123's pose vectors say, at the source's distance.

    Raises:
        ValueError: If the fourth entries are not the source's polar angle.
    """
    polar_0 = _spherical(source)[0]
    if not torch.allclose(pose[:, 3], polar_0.expand(len(pose)), atol=1e-4):
        raise ValueError(
            f"pose says the photograph's polar angle is {pose[0, 3]:.4g}, but source stands at "
            f"{polar_0[0]:.4g}"
        )
    without_radius = torch.cat([pose[:, :3], torch.zeros_like(pose[:, 3:])], dim=-1)
    return cameras_from_zero123(without_radius, source)


def mvdream_from_cameras(cameras: Cameras) -> Float[Tensor, "n 16"]:
    """Give the camera vectors of MVDream and ImageDream.

    Shi et al., "MVDream: Multi-view Diffusion for 3D Generation", 2023: the 4x4 pose (OpenGL axes,
    Blender world), its distance set to 1, row by row. Their azimuth 0 is our +Z and theirs grows as
    ours does; the distance and the focal length are lost.
    """
    pose = zup_from_yup(opengl_from_opencv(cameras.world_from_camera))
    centre = torch.nn.functional.normalize(pose[:, :3, 3:], dim=1)
    top = torch.cat([pose[:, :3, :3], centre], dim=2)
    return torch.cat([top, pose[:, 3:]], dim=1).flatten(1)


def cameras_from_mvdream(
    vector: Float[Tensor, "n 16"],
    *,
    radius: float,
    focal_px: Float[Tensor, " n"],
    size_hw: tuple[int, int],
) -> Cameras:
    """Read camera vectors of MVDream; the distance and the lens must be told, they hold neither."""
    pose = opencv_from_opengl(yup_from_zup(vector.unflatten(1, (4, 4))))
    scale = torch.tensor([1.0, 1.0, 1.0, radius]).to(pose)
    rows = torch.cat([pose[:, :3] * scale, pose[:, 3:]], dim=1)
    return Cameras(rows, focal_px, size_hw)


def isotropic3d_from_angles(
    azimuth_deg: Float[Tensor, " n"], elevation_deg: Float[Tensor, " n"]
) -> Float[Tensor, "n 16"]:
    """Give the camera vectors that Isotropic3D's published weights were trained with.

    Liu et al., "Isotropic3D: Image-to-3D Generation Based on a Single CLIP Embedding", 2024. Their
    code turns degrees into radians twice, so 360 degrees of azimuth are 6.28 degrees of rotation.
    The weights know nothing else; MVDream's own code (`mvdream_from_cameras`) converts once.
    """
    orbit = Cameras.orbit(
        torch.deg2rad(azimuth_deg).tolist(),
        elevation_deg=torch.deg2rad(elevation_deg).tolist(),
        radius=1.0,
        fov_deg=90.0,
        size_hw=(1, 1),
    )
    return mvdream_from_cameras(orbit).to(azimuth_deg)


def sv3d_order(count: int) -> list[int]:
    """Say which of our views each of SV3D's frames is: theirs end with the photograph's.

    Voleti et al., "SV3D: Novel Multi-view Synthesis and 3D Generation from a Single Image using
    Latent Video Diffusion", 2024. Ours begin with it: `views[sv3d_order(len(views))]` is in their
    order.
    """
    return [(at + 1) % count for at in range(count)]


def order_from_sv3d(count: int) -> list[int]:
    """Say which of SV3D's frames each of our views is; undoes `sv3d_order`."""
    return [(at - 1) % count for at in range(count)]


def sv3d_from_cameras(cameras: Cameras) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Give SV3D's polar angles and azimuths (radians), for cameras in its order.

    Voleti et al. 2024 (SV3D_p): polar = 90 degrees - elevation; azimuth relative to the last
    frame, which is the photograph's, in [0, 2 pi). That theirs grows as ours does is our reading.
    """
    polar, azimuth, _ = _spherical(cameras)
    turn = (azimuth - azimuth[-1:]) % math.tau
    # A turn of -1e-8 would come out as 2 pi, which the network takes for another place.
    return polar, torch.where(turn > math.tau - 1e-5, torch.zeros_like(turn), turn)


def cameras_from_sv3d(
    polar_rad: Float[Tensor, " n"], azimuth_rad: Float[Tensor, " n"], source: Cameras
) -> Cameras:
    """Stand where SV3D's angles say, relative to the photograph's camera.

    Args:
        polar_rad: Angles from the up axis.
        azimuth_rad: Angles relative to the photograph's.
        source: The camera of the photograph (one); gives the distance, the lens and the size.
    """
    _, azimuth, radius = _spherical(source)
    return _on_sphere(polar_rad, azimuth + azimuth_rad, radius.expand(len(polar_rad)), source)


def colmap_from_cameras(cameras: Cameras) -> tuple[Float[Tensor, "n 4"], Float[Tensor, "n 3"]]:
    """Give COLMAP's world-to-camera quaternions (wxyz, w >= 0) and translations.

    Schoenberger and Frahm, "Structure-from-Motion Revisited", 2016: `images.txt` of COLMAP.
    """
    pose = cameras.camera_from_world
    return quat_from_rotation(pose[:, :3, :3]), pose[:, :3, 3]


def cameras_from_colmap(
    quat_wxyz: Float[Tensor, "n 4"],
    translation: Float[Tensor, "n 3"],
    *,
    focal_px: Float[Tensor, " n"],
    size_hw: tuple[int, int],
) -> Cameras:
    """Read COLMAP's world-to-camera poses; its world is kept as it is, upright or not."""
    top = torch.cat([rotation_from_quat(quat_wxyz), translation[..., None]], dim=-1)
    return Cameras(_inverse(_homogeneous(top)), focal_px, size_hw)


def _zup_from_yup(like: Tensor) -> Float[Tensor, "4 4"]:
    rows = [[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    return torch.tensor(rows).to(like)


def _homogeneous(top: Float[Tensor, "n 3 4"]) -> Float[Tensor, "n 4 4"]:
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0]).to(top).expand(len(top), 1, 4)
    return torch.cat([top, bottom], dim=1)


def _inverse(pose: Float[Tensor, "n 4 4"]) -> Float[Tensor, "n 4 4"]:
    rotation = pose[:, :3, :3].mT
    return _homogeneous(torch.cat([rotation, -rotation @ pose[:, :3, 3:]], dim=-1))


def _spherical(
    cameras: Cameras,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Polar angle from +Y, azimuth from +Z towards +X (radians), distance from the origin."""
    x, y, z = cameras.origin.unbind(-1)
    return torch.atan2(torch.hypot(x, z), y), torch.atan2(x, z), cameras.origin.norm(dim=-1)


def _on_sphere(
    polar: Float[Tensor, " n"],
    azimuth: Float[Tensor, " n"],
    radius: Float[Tensor, " n"],
    lens: Cameras,
) -> Cameras:
    if not bool((radius > 0).all()):
        raise ValueError(f"the radius must stay positive, got {radius.min():.3g}")
    orbit = Cameras.orbit(
        torch.rad2deg(azimuth).tolist(),
        elevation_deg=(90 - torch.rad2deg(polar)).tolist(),
        radius=1.0,
        fov_deg=90.0,
        size_hw=lens.size_hw,
    )
    pose = orbit.world_from_camera.to(radius)
    pose[:, :3, 3] *= radius[:, None]
    return replace(orbit, world_from_camera=pose, focal_px=lens.focal_px.expand(len(radius)))
