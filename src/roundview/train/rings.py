"""Draw whole rings of views: evenly spaced in azimuth at one elevation, any of them first."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..data.render_set import MultiViewSet
from .batch import recoloured


@dataclass(frozen=True, eq=False)
class RingBatch:
    """Rings of t views of b objects; frame k stands at azimuth 360 k / t, frame 0 is the photo.

    Attributes:
        rgba: Colour over white and alpha, [0, 1].
        elevation_deg: Of the photo and all views.
    """

    rgba: Float[Tensor, "b t 4 h w"]
    elevation_deg: Float[Tensor, " b"]


class RingSampler:
    """Draws rings from sets of rendered objects.

    Args:
        sets: Rendered sets of one picture size.
        weights: How often each object is drawn, one array a set; even by default.
        augment: Mirror and recolour half of the objects each.
    """

    def __init__(
        self,
        sets: list[MultiViewSet],
        weights: list[np.ndarray] | None = None,
        *,
        augment: bool = True,
    ) -> None:
        self.sets, self.augment = sets, augment
        total = np.concatenate(weights or [np.ones(len(part)) for part in sets])
        self._where = [(s, o) for s, part in enumerate(sets) for o in range(len(part))]
        self._weight = torch.from_numpy(total / total.sum())

    def rings(self, batch: int, frames: int, rng: Generator) -> RingBatch:
        """Draw a ring of each of `batch` objects and rotate it at random.

        Raises:
            ValueError: If a set's rings cannot be thinned to so many frames.
        """
        pictures, elevations = [], []
        for part, row in self.pick(batch, rng):
            made = part.settings
            if made.ring_views % frames:
                raise ValueError(f"frames must divide a ring's {made.ring_views}, got {frames}")
            start = made.ring_views * int(torch.randint(made.rings, (), generator=rng))
            first = int(torch.randint(made.ring_views, (), generator=rng))
            mirrored = self.augment and float(torch.rand((), generator=rng)) < 0.5
            index = start + ring_order(made.ring_views, frames, first, mirrored=mirrored)
            rgba = part.rgba[row, index].astype(np.float32) / 255
            rgba = torch.from_numpy((rgba[:, :, ::-1] if mirrored else rgba).copy())
            pictures.append(recoloured(rgba, rng) if self.augment else rgba)
            elevations.append(float(part.elevation_deg[row, start]))
        return RingBatch(
            torch.stack(pictures).movedim(-1, 2).contiguous(), torch.tensor(elevations)
        )

    def pick(self, batch: int, rng: Generator) -> list[tuple[MultiViewSet, int]]:
        """Draw objects by their weights: sets, and rows in them."""
        chosen = torch.multinomial(self._weight, batch, replacement=True, generator=rng).tolist()
        return [(self.sets[self._where[k][0]], self._where[k][1]) for k in chosen]


def ring_order(ring_views: int, frames: int, first: int, *, mirrored: bool = False) -> np.ndarray:
    """Say which views of a ring are the frames when view `first` becomes frame 0.

    The mirror image of an object is seen the other way round: its ring is read backwards, and its
    pictures are to be flipped.
    """
    turn = -1 if mirrored else 1
    return (first + turn * np.arange(frames) * (ring_views // frames)) % ring_views
