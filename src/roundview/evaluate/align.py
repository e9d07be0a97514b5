"""Bring a measured shape to the truth before they are compared, and say so.

Published protocols differ in what they forgive: nothing, a turn about the vertical, or place, size
and turn together. Each is a choice by name here, and every table tells which was made.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Generator

from ..mesh import Mesh
from ..metrics.surface import sample_surface

Alignment = Literal["none", "yaw", "icp"]

ALIGNMENTS: dict[Alignment, str] = {
    "none": "none",
    "yaw": "yaw: turned about the vertical axis to the least Chamfer distance, nothing else",
    "icp": "icp: best of eight turns, then turned, moved and scaled as a whole (similarity ICP)",
}
"""What each is called in tables."""

_POINTS = 2000
_ICP_STEPS = 40


@dataclass(frozen=True)
class Aligned:
    """A mesh after alignment, and what was done to it: p_aligned = scale * rotation @ p + shift."""

    mesh: Mesh
    scale: float
    rotation: np.ndarray
    shift: np.ndarray

    @property
    def turn_deg(self) -> float:
        """Angle of the rotation, degrees, 0 to 180."""
        return math.degrees(math.acos(float(np.clip((np.trace(self.rotation) - 1) / 2, -1, 1))))


def align(mesh: Mesh, truth: Mesh, how: Alignment, rng: Generator) -> Aligned:
    """Move a mesh to the truth, as far as `how` allows.

    `yaw` tries every 5 degrees, then every half degree round the best. `icp` is Besl and McKay, "A
    Method for Registration of 3-D Shapes", 1992, on 2,000 points of each surface, matched both
    ways (matching one way favours shrinking), each step solved with scale by Umeyama,
    "Least-Squares Estimation of Transformation Parameters Between Two Point Patterns", 1991,
    eq. 39 to 43; it starts from eight turns about the vertical and the closest end is taken.

    Args:
        mesh: What is measured; an empty one is left alone.
        truth: The truth.
        how: What may be changed.
        rng: Draws the points.
    """
    points = sample_surface(mesh, _POINTS, rng).points.double().numpy()
    target = sample_surface(truth, _POINTS, rng).points.double().numpy()
    pose = (1.0, np.eye(3), np.zeros(3))
    if how != "none" and len(points) and len(target):
        pose = _yaw(points, target) if how == "yaw" else _icp(points, target)
    scale, rotation, shift = pose
    vertices = mesh.vertices.detach().double().numpy() @ (scale * rotation).T + shift
    moved = replace(mesh, vertices=torch.from_numpy(vertices).to(mesh.vertices))
    return Aligned(moved, scale, rotation, shift)


def _yaw(points: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    best = 0.0
    for step, count in ((5.0, 36), (0.5, 9)):
        tried = [best + step * k for k in range(-count, count + 1)]
        best = min(tried, key=lambda angle: _distance(points @ _turn(angle).T, target))
    return 1.0, _turn(best), np.zeros(3)


def _icp(points: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    ends = [_refined(points, target, _turn(45.0 * k)) for k in range(8)]
    return min(ends, key=lambda pose: _distance(_moved(points, pose), target))


def _refined(
    points: np.ndarray, target: np.ndarray, rotation: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    from scipy.spatial import KDTree  # noqa: PLC0415  slow to import

    pose = (1.0, rotation, target.mean(axis=0) - rotation @ points.mean(axis=0))
    tree = KDTree(target)
    for _ in range(_ICP_STEPS):
        now = _moved(points, pose)
        there, back = tree.query(now)[1], KDTree(now).query(target)[1]
        pose = _fitted(
            np.concatenate([points, points[back]]), np.concatenate([target[there], target])
        )
    return pose


def _fitted(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Find the similarity that takes x to y with the least squared error."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    u, d, vt = np.linalg.svd((y - mean_y).T @ (x - mean_x) / len(x))
    # A mirror image is no turn.
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * sign) @ vt
    scale = float((d * sign).sum() / (x - mean_x).var(axis=0).sum())
    return scale, rotation, mean_y - scale * rotation @ mean_x


def _moved(points: np.ndarray, pose: tuple[float, np.ndarray, np.ndarray]) -> np.ndarray:
    scale, rotation, shift = pose
    return points @ (scale * rotation).T + shift


def _turn(angle_deg: float) -> np.ndarray:
    """Turn about +Y, from +Z towards +X, as azimuths grow."""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def _distance(points: np.ndarray, target: np.ndarray) -> float:
    from scipy.spatial import KDTree  # noqa: PLC0415  slow to import

    there, back = KDTree(target).query(points)[0], KDTree(points).query(target)[0]
    return float(np.mean(there) + np.mean(back))
