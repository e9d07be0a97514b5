"""Random cameras for distillation, as threestudio draws them, in our frames.

Guo et al., "threestudio: a unified framework for 3D content generation", 2023. Its azimuth 0 is the
photograph's side, as ours is; its frames are converted by drawing in ours from the start.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..camera import Cameras


@dataclass(frozen=True)
class Range:
    """Even numbers between two ends."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse ends in the wrong order."""
        if not self.low <= self.high:
            raise ValueError(f"a range must not fall, got {self.low} to {self.high}")

    def at(self, share: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Give the numbers at shares of the way."""
        return self.low + (self.high - self.low) * share


@dataclass(frozen=True)
class RandomCameras:
    """Where to look from.

    Attributes:
        size_px: Side of the pictures.
        elevation_deg: Half of the batches are even in the angle, half over the sphere.
        azimuth_deg: Relative to the photograph's side.
        distance: Of the cameras; with `fit_distance` multiplied by 1 / tan(fov / 2).
        fov_deg: Vertical.
        fit_distance: Keep the subject the same size whatever the field of view (MVDream).
        spread_azimuth: Give each camera of a batch its own part of the azimuths.
        views: Cameras of one object: they share all but the azimuth, and stand at equal turns.
        progressive_steps: Steps over which elevation and azimuth grow from the photograph's to
            their whole range; 0 for none. Steps count from 0.
        camera_jitter: Largest shift of a centre along each axis, world units.
        target_jitter: Deviation of the point looked at.
        up_jitter: Deviation of the up direction.
    """

    size_px: int
    elevation_deg: Range = Range(-10.0, 60.0)
    azimuth_deg: Range = Range(-180.0, 180.0)
    distance: Range = Range(3.8, 3.8)
    fov_deg: Range = Range(20.0, 20.0)
    fit_distance: bool = False
    spread_azimuth: bool = True
    views: int = 1
    progressive_steps: int = 0
    camera_jitter: float = 0.0
    target_jitter: float = 0.0
    up_jitter: float = 0.0

    def draw(
        self, count: int, rng: Generator, *, step: int = 0, photo_elevation_deg: float = 0.0
    ) -> Cameras:
        """Draw cameras.

        Args:
            count: How many; a multiple of `views`.
            rng: CPU generator.
            step: Of the run, for ranges that grow.
            photo_elevation_deg: Where they grow from.

        Raises:
            ValueError: If `count` is no multiple of `views`.
        """
        if count < 1 or count % self.views:
            raise ValueError(f"count must be a multiple of {self.views}, got {count}")
        objects = count // self.views
        grown = min(1.0, step / self.progressive_steps) if self.progressive_steps else 1.0
        elevation = _elevations(
            _grown(self.elevation_deg, photo_elevation_deg, grown), objects, rng
        ).repeat_interleave(self.views)
        azimuth = self._azimuths(objects, _grown(self.azimuth_deg, 0.0, grown), rng)
        fov = self.fov_deg.at(_uniform(objects, rng)).repeat_interleave(self.views)
        distance = self.distance.at(_uniform(objects, rng)).repeat_interleave(self.views)
        if self.fit_distance:
            distance = distance / torch.deg2rad(fov / 2).tan()
        e, a = torch.deg2rad(elevation), torch.deg2rad(azimuth)
        outward = torch.stack([e.cos() * a.sin(), e.sin(), e.cos() * a.cos()], dim=-1)
        pose = self._poses(outward * distance[:, None], rng)
        focal = 0.5 * self.size_px / torch.deg2rad(fov / 2).tan()
        return Cameras(pose, focal, (self.size_px, self.size_px))

    def _azimuths(self, objects: int, within: Range, rng: Generator) -> Float[Tensor, " n"]:
        share = _uniform(objects, rng)
        if self.views > 1:
            # Equal turns from one random start, as MVDream's four views.
            turn = torch.arange(self.views) * (360 / self.views)
            return (within.at(share)[:, None] + turn).flatten()
        if self.spread_azimuth:
            share = (torch.arange(objects) + share) / objects
        return within.at(share)

    def _poses(self, centre: Float[Tensor, "n 3"], rng: Generator) -> Float[Tensor, "n 4 4"]:
        shape = tuple(centre.shape)
        up = torch.tensor([0.0, 1.0, 0.0]).expand(shape)
        target = torch.zeros(shape)
        if self.camera_jitter:
            centre = centre + self.camera_jitter * (2 * torch.rand(shape, generator=rng) - 1)
        if self.target_jitter:
            target = self.target_jitter * torch.randn(shape, generator=rng)
        if self.up_jitter:
            up = up + self.up_jitter * torch.randn(shape, generator=rng)
        unit = torch.nn.functional.normalize
        forward = unit(target - centre, dim=-1)
        right = unit(torch.linalg.cross(forward, up), dim=-1)
        down = torch.linalg.cross(forward, right)
        pose = torch.eye(4).repeat(len(centre), 1, 1)
        pose[:, :3] = torch.stack([right, down, forward, centre], dim=-1)
        return pose


HIFI123_CAMERAS = RandomCameras(64)
"""HiFi-123, supplement 2.3: field of view 20 degrees, distance 3.8, elevation -10 to 60."""
ISOTROPIC3D_CAMERAS = RandomCameras(
    64,
    elevation_deg=Range(0.0, 30.0),
    azimuth_deg=Range(-180.0, 180.0),
    distance=Range(0.8, 1.0),
    fov_deg=Range(15.0, 60.0),
    fit_distance=True,
    views=4,
)
"""MVDream's and Isotropic3D's: four views at equal turns, the subject always as large."""
THREESTUDIO_CAMERAS = RandomCameras(
    64,
    elevation_deg=Range(-10.0, 90.0 - 1e-3),
    distance=Range(1.0, 1.5),
    fov_deg=Range(40.0, 70.0),
    camera_jitter=0.1,
    target_jitter=0.2,
    up_jitter=0.02,
)
"""threestudio's own defaults, jitter included; straight up is left out, where up is undefined."""


def at_resolution(
    cameras: RandomCameras, step: int, schedule: tuple[tuple[int, int], ...]
) -> RandomCameras:
    """Draw larger pictures later: ((0, 64), (5000, 256)) is 64 px, from step 5,000 on 256 px.

    Raises:
        ValueError: If the schedule says nothing of this step.
    """
    sizes = [size_px for begin, size_px in schedule if begin <= step]
    if not sizes:
        raise ValueError(f"the schedule {schedule} says nothing of step {step}")
    return replace(cameras, size_px=sizes[-1])


def _grown(whole: Range, start: float, share: float) -> Range:
    """Shrink a range towards a point, which may lie outside of it."""
    return Range(
        start + (whole.low - start) * share,
        start + (whole.high - start) * share,
    )


def _elevations(within: Range, count: int, rng: Generator) -> Float[Tensor, " n"]:
    if float(torch.rand((), generator=rng)) < 0.5:
        return within.at(_uniform(count, rng))
    # Areas of a sphere grow with the sine of the elevation.
    ends = Range(math.sin(math.radians(within.low)), math.sin(math.radians(within.high)))
    return torch.rad2deg(ends.at(_uniform(count, rng)).asin())


def _uniform(count: int, rng: Generator) -> Float[Tensor, " n"]:
    return torch.rand(count, generator=rng)
