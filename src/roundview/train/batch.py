"""Draw training batches from rendered sets: a photo and views of the same object, augmented."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..camera import Cameras
from ..data.render_set import MultiViewSet
from ..diffusion.orbit import DISTANCE, FOV_DEG


@dataclass(frozen=True, eq=False)
class ViewBatch:
    """Views of b objects; the first view of each is the photo, and azimuths count from it.

    Attributes:
        rgba: Colour over white and alpha, [0, 1].
        world_from_camera: Poses, in a world whose +Z side is the photographed one.
        focal_ratio: Focal lengths as shares of the image height.
        elevation_deg: Elevations.
    """

    rgba: Float[Tensor, "b v h w 4"]
    world_from_camera: Float[Tensor, "b v 4 4"]
    focal_ratio: Float[Tensor, "b v"]
    elevation_deg: Float[Tensor, "b v"]


class ViewSampler:
    """Draws batches from sets of rendered objects.

    Args:
        sets: Rendered sets of one picture size.
        weights: How often each object is drawn, one array a set; even by default.
        free_share: Share of the target views taken from all round instead of the photo's ring.
    """

    def __init__(
        self,
        sets: list[MultiViewSet],
        weights: list[np.ndarray] | None = None,
        free_share: float = 0.25,
    ) -> None:
        self.sets = sets
        self.free_share = free_share
        weights = weights or [np.ones(len(part)) for part in sets]
        self._where = [(s, o) for s, part in enumerate(sets) for o in range(len(part))]
        total = np.concatenate(weights)
        self._weight = torch.from_numpy(total / total.sum())

    def views(self, batch: int, count: int, rng: Generator) -> ViewBatch:
        """Draw `count` views of each of `batch` objects, mirrored and recoloured at random."""
        chosen = torch.multinomial(self._weight, batch, replacement=True, generator=rng).tolist()
        pictures, azimuths, elevations = [], [], []
        for where in chosen:
            part, row = self.sets[self._where[where][0]], self._where[where][1]
            index = self._choose(part, count, rng)
            rgba = part.rgba[row, index].astype(np.float32) / 255
            azimuth = part.azimuth_deg[row, index] - part.azimuth_deg[row, index[0]]
            if float(torch.rand((), generator=rng)) < 0.5:  # The object's mirror image.
                rgba, azimuth = rgba[:, :, ::-1], -azimuth
            pictures.append(recoloured(torch.from_numpy(rgba.copy()), rng))
            azimuths.append(azimuth)
            elevations.append(part.elevation_deg[row, index])
        return pose_batch(torch.stack(pictures), np.stack(azimuths), np.stack(elevations))

    def _choose(self, part: MultiViewSet, count: int, rng: Generator) -> np.ndarray:
        """Pick the photo from a ring, most targets from that ring, the rest from anywhere."""
        made = part.settings
        ring = int(torch.randint(made.rings, (), generator=rng)) * made.ring_views
        in_ring = torch.randperm(made.ring_views, generator=rng).numpy() + ring
        anywhere = torch.randperm(made.views, generator=rng).numpy()
        from_ring = torch.rand(count, generator=rng).numpy() >= self.free_share
        index = np.where(from_ring, np.resize(in_ring, count), np.resize(anywhere, count))
        index[0] = in_ring[0]
        return index


def pose_batch(
    rgba: Float[Tensor, "b v h w 4"], azimuth_deg: np.ndarray, elevation_deg: np.ndarray
) -> ViewBatch:
    """Add the poses of the standard distance and field of view to pictures."""
    b, v, h, w = rgba.shape[:4]
    cameras = Cameras.orbit(
        azimuth_deg.reshape(-1).tolist(),
        elevation_deg=elevation_deg.reshape(-1).tolist(),
        radius=DISTANCE,
        fov_deg=FOV_DEG,
        size_hw=(h, w),
    )
    return ViewBatch(
        rgba,
        cameras.world_from_camera.reshape(b, v, 4, 4),
        cameras.focal_px.reshape(b, v) / h,
        torch.from_numpy(elevation_deg.reshape(b, v).astype(np.float32)),
    )


def recoloured(rgba: Float[Tensor, "v h w 4"], rng: Generator) -> Float[Tensor, "v h w 4"]:
    """Permute the channels of half of the objects and bend their brightness a little.

    White stays white under both, so the background needs no care.
    """
    rgb = rgba[..., :3]
    if float(torch.rand((), generator=rng)) < 0.5:
        rgb = rgb[..., torch.randperm(3, generator=rng)]
    gamma = float(torch.empty(()).uniform_(-0.35, 0.35, generator=rng).exp())
    return torch.cat([rgb.clamp(min=1e-4) ** gamma, rgba[..., 3:]], dim=-1)
