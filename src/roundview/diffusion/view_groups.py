"""Cameras in groups that stand at equal turns round a subject, as multi-view models want them."""

import math

import torch

from ..camera import Cameras

_SAME_DEG = 0.5
"""Cameras no farther apart count as one; ours, well below what these models tell apart."""


def in_groups(cameras: Cameras, frames: int) -> tuple[Cameras, list[int]]:
    """Complete cameras to groups at equal turns and one elevation, as few as will do.

    Args:
        cameras: That look at the origin, all from one distance and with one lens.
        frames: Of a group.

    Returns:
        Whole groups one after another, and which of theirs each of the cameras is. Cameras that
        are such groups already stay as they are.
    """
    if len(cameras) and len(cameras) % frames == 0 and equal_turns(cameras, frames):
        return cameras, list(range(len(cameras)))
    turn = 360 / frames
    begun: list[tuple[float, float]] = []
    wanted = []
    for azimuth_deg, elevation_deg in zip(
        cameras.azimuth_deg.tolist(), cameras.elevation_deg.tolist(), strict=True
    ):
        for group, (first_deg, level_deg) in enumerate(begun):
            turns = round((azimuth_deg - first_deg) / turn)
            off = abs(azimuth_deg - first_deg - turns * turn)
            if off < _SAME_DEG and abs(elevation_deg - level_deg) < _SAME_DEG:
                wanted.append(group * frames + turns % frames)
                break
        else:
            wanted.append(len(begun) * frames)
            begun.append((azimuth_deg, elevation_deg))
    half = 0.5 * cameras.size_hw[0] / float(cameras.focal_px[0])
    whole = Cameras.orbit(
        [first_deg + k * turn for first_deg, _ in begun for k in range(frames)],
        elevation_deg=[level_deg for _, level_deg in begun for _ in range(frames)],
        radius=float(cameras.origin[0].norm()),
        fov_deg=math.degrees(2 * math.atan(half)),
        size_hw=cameras.size_hw,
    )
    return whole, wanted


def equal_turns(cameras: Cameras, frames: int) -> bool:
    """Say whether cameras are groups of `frames` at equal turns, each at one elevation."""
    azimuth = cameras.azimuth_deg.unflatten(0, (-1, frames))
    turn = torch.arange(frames).to(azimuth) * (360 / frames)
    off = ((azimuth - azimuth[:, :1] - turn + 180) % 360 - 180).abs()
    elevation = cameras.elevation_deg.unflatten(0, (-1, frames))
    tilt = (elevation - elevation[:, :1]).abs()
    return max(float(off.max()), float(tilt.max())) <= _SAME_DEG
