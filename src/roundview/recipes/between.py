"""Cameras between those of a ring, for views that a reconstruction adds to what was drawn."""

import torch

from ..camera import Cameras


def between_neighbours(ring: Cameras, count: int) -> Cameras:
    """Place cameras evenly between the neighbours on a closed ring, as many in each gap.

    Args:
        ring: One ring round the origin, in the order of azimuth, all at one elevation.
        count: Cameras in all, a multiple of the ring's.

    Raises:
        ValueError: If there cannot be as many in each gap, or there is none.
    """
    if count < 1 or count % len(ring):
        raise ValueError(f"count must be a multiple of the ring's {len(ring)}, got {count}")
    each = count // len(ring)
    azimuth = ring.azimuth_deg
    gap = (azimuth.roll(-1) - azimuth) % 360
    share = torch.arange(1, each + 1) / (each + 1)
    placed = azimuth[:, None] + gap[:, None] * share
    h = ring.size_hw[0]
    return Cameras.orbit(
        placed.flatten().tolist(),
        elevation_deg=float(ring.elevation_deg[0]),
        radius=float(ring.origin[0].norm()),
        fov_deg=float(2 * torch.rad2deg((0.5 * h / ring.focal_px[0]).atan())),
        size_hw=ring.size_hw,
    )
