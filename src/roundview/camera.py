"""Pinhole cameras and the frames they live in. The conventions here hold for the whole package.

World:  right-handed, +Y up, the photographed side of the subject faces +Z (the glTF frame).
Camera: x right, y down, z forward (the OpenCV frame). Lengths are world units, angles degrees.
Pixels: (u, v) = (right, down); the centre of the top-left pixel is (0.5, 0.5).
Depth:  distance along the optical axis, not along the ray.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Cameras:
    """A batch of pinhole cameras that share one image size.

    `world_from_camera` maps camera points to world points: p_world = world_from_camera @ p_camera.
    The optical axis pierces the image at its centre; pixels are square.
    """

    world_from_camera: Float[Tensor, "n 4 4"]
    focal_px: Float[Tensor, " n"]
    size_hw: tuple[int, int]

    def __post_init__(self) -> None:
        """Refuse cameras that cannot form an image."""
        if min(self.size_hw) < 1:
            raise ValueError(f"size_hw must be at least 1x1, got {self.size_hw}")
        if not bool((self.focal_px > 0).all()):
            raise ValueError(f"focal_px must be positive, got {self.focal_px.min():.3g}")

    @classmethod
    def orbit(
        cls,
        azimuth_deg: Sequence[float],
        *,
        elevation_deg: float | Sequence[float],
        radius: float,
        fov_deg: float,
        size_hw: tuple[int, int],
    ) -> "Cameras":
        """Place cameras on a sphere round the origin, all looking at it, none rolled.

        Azimuth 0 is the photograph's side (+Z) and grows towards +X; elevation grows towards +Y.

        Args:
            azimuth_deg: One azimuth for each camera.
            elevation_deg: One elevation for all, or one for each; strictly between -90 and 90.
            radius: Distance from the origin, world units.
            fov_deg: Vertical field of view.
            size_hw: Image size.

        Raises:
            ValueError: If an elevation is out of range or the lists differ in length.
        """
        azimuth = torch.deg2rad(torch.tensor([float(a) for a in azimuth_deg]))
        if isinstance(elevation_deg, Sequence):
            elevations = [float(e) for e in elevation_deg]
        else:
            elevations = [float(elevation_deg)] * len(azimuth)
        if len(elevations) != len(azimuth):
            raise ValueError(
                f"elevation_deg has {len(elevations)} entries for {len(azimuth)} azimuths"
            )
        if not all(-90 < e < 90 for e in elevations):
            raise ValueError(f"elevation_deg must lie between -90 and 90, got {elevation_deg}")
        if not radius > 0 or not 0 < fov_deg < 180:
            raise ValueError(f"radius and fov_deg must be positive, got {radius} and {fov_deg}")
        e = torch.deg2rad(torch.tensor(elevations))
        outward = torch.stack([e.cos() * azimuth.sin(), e.sin(), e.cos() * azimuth.cos()], dim=-1)
        focal = 0.5 * size_hw[0] / math.tan(math.radians(fov_deg) / 2)
        return cls(_looking_inward(outward, radius), torch.full_like(azimuth, focal), size_hw)

    def __len__(self) -> int:
        """Count the cameras."""
        return int(self.focal_px.shape[0])

    def __getitem__(self, index: int | slice | list[int]) -> "Cameras":
        """Take some of the cameras; one camera stays a batch of one."""
        at = [index] if isinstance(index, int) else index
        return replace(
            self, world_from_camera=self.world_from_camera[at], focal_px=self.focal_px[at]
        )

    @property
    def camera_from_world(self) -> Float[Tensor, "n 4 4"]:
        """The inverse poses."""
        rotation = self.world_from_camera[:, :3, :3].mT
        shift = -rotation @ self.world_from_camera[:, :3, 3:]
        top = torch.cat([rotation, shift], dim=-1)
        return torch.cat([top, self.world_from_camera[:, 3:]], dim=1)

    @property
    def origin(self) -> Float[Tensor, "n 3"]:
        """The camera centres in the world."""
        return self.world_from_camera[:, :3, 3]

    @property
    def elevation_deg(self) -> Float[Tensor, " n"]:
        """Elevation of each centre above the world's horizon, seen from the origin."""
        centre = self.origin
        return torch.rad2deg(torch.atan2(centre[:, 1], centre[:, [0, 2]].norm(dim=-1)))

    @property
    def azimuth_deg(self) -> Float[Tensor, " n"]:
        """Azimuth of each centre: 0 at +Z, 90 at +X, in [0, 360)."""
        centre = self.origin
        return torch.rad2deg(torch.atan2(centre[:, 0], centre[:, 2])) % 360

    def resized(self, size_hw: tuple[int, int]) -> "Cameras":
        """The same cameras with another pixel count; the vertical field of view is kept."""
        return replace(
            self, focal_px=self.focal_px * (size_hw[0] / self.size_hw[0]), size_hw=size_hw
        )

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras on another device."""
        return replace(
            self,
            world_from_camera=self.world_from_camera.to(device),
            focal_px=self.focal_px.to(device),
        )


def concatenate_cameras(parts: Sequence[Cameras]) -> Cameras:
    """Join batches of one image size.

    Raises:
        ValueError: If there are none or the sizes differ.
    """
    if len({part.size_hw for part in parts}) != 1:
        raise ValueError(f"cameras must share one size, got {[part.size_hw for part in parts]}")
    return Cameras(
        torch.cat([part.world_from_camera for part in parts]),
        torch.cat([part.focal_px for part in parts]),
        parts[0].size_hw,
    )


def rays(cameras: Cameras) -> Float[Tensor, "n h w 3"]:
    """Give the world direction through each pixel centre, scaled to depth 1.

    `origin + depth * ray` is the world point at that depth along the axis; the rays are therefore
    not of unit length away from the centre.
    """
    h, w = cameras.size_hw
    v = (torch.arange(h) + 0.5).to(cameras.focal_px)[:, None].expand(h, w)
    u = (torch.arange(w) + 0.5).to(cameras.focal_px)[None, :].expand(h, w)
    slope = torch.stack([u - w / 2, v - h / 2], dim=-1) / cameras.focal_px[:, None, None, None]
    in_camera = torch.cat([slope, torch.ones_like(slope[..., :1])], dim=-1)
    return torch.einsum("nij,nhwj->nhwi", cameras.world_from_camera[:, :3, :3], in_camera)


def lift(depth: Float[Tensor, "n h w"], cameras: Cameras) -> Float[Tensor, "n h w 3"]:
    """Turn depth maps into world points, one per pixel.

    Args:
        depth: Distance along the optical axis (not along the ray), world units.
        cameras: The n cameras that saw the maps; their `size_hw` must be (h, w).

    Returns:
        World points seen through the pixel centres.

    Raises:
        ValueError: If the maps are not of the cameras' size.
    """
    h, w = depth.shape[1:]
    if (h, w) != cameras.size_hw:
        raise ValueError(f"depth is {h}x{w} but the cameras are {cameras.size_hw}")
    return cameras.origin[:, None, None] + depth[..., None] * rays(cameras)


def project(
    points: Float[Tensor, "v 3"], cameras: Cameras
) -> tuple[Float[Tensor, "n v 2"], Float[Tensor, "n v"]]:
    """Find where world points appear in each camera.

    Returns:
        Pixel coordinates (u, v), meaningful only where depth is positive, and depth along the axis.
    """
    pose = cameras.camera_from_world
    p_camera = torch.einsum("nij,vj->nvi", pose[:, :3, :3], points) + pose[:, None, :3, 3]
    depth = p_camera[..., 2]
    # A point on the focal plane has no image; the guard keeps its coordinates finite.
    safe = torch.where(depth.abs() < 1e-9, torch.full_like(depth, 1e-9), depth)
    h, w = cameras.size_hw
    middle = torch.tensor([w / 2, h / 2]).to(points)
    return p_camera[..., :2] / safe[..., None] * cameras.focal_px[:, None, None] + middle, depth


def _looking_inward(outward: Float[Tensor, "n 3"], radius: float) -> Float[Tensor, "n 4 4"]:
    forward = -outward
    up = torch.tensor([0.0, 1.0, 0.0]).expand_as(forward)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    pose = torch.eye(4).repeat(len(outward), 1, 1)
    pose[:, :3, :3] = torch.stack([right, down, forward], dim=-1)
    pose[:, :3, 3] = outward * radius
    return pose
