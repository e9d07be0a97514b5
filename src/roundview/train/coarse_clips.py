"""Draw coarse clips beside a training: a first stage takes longer than a step that learns from it.

A second thread draws clips into memory while the network trains on those that are there already, so
each is seen some times, mirrored and recoloured anew. Which ones are there at a step is up to the
clock; what the n-th clip is, is not.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType

import numpy as np
import torch
from torch import Generator, Tensor

from ..data.objects import is_scan
from ..data.render_set import MultiViewSet
from ..diffusion.orbit import LatentOrbitModel
from .batch import recoloured
from .rings import RingBatch, RingSampler
from .video_refiner import CoarseBatch, Coarsen, RefinerEncoders, coarse_batch, drawn_batch

_SEEDS_APART = 7919
"""Between the streams of two clips; a prime, chosen by us."""
_WAIT_S = 0.5
_DRAW_STEPS = (1, 2, 4, 4)
"""Sampler steps of the first stage, each as likely; the recipe takes 4."""
_SPOILT = 0.15
"""Share of the clips that are true ones spoilt. Chosen by us."""


class CoarseClips:
    """Keeps clips as bytes, and makes more of them until there are enough.

    A context: the drawing begins with it and ends with it.

    Args:
        make: Draws one clip, with its depth. Called on a thread of its own.
        count: Clips to make.
        first: Clips that must be there before any is given.
        seed: Of all clips.
    """

    def __init__(
        self, make: Callable[[Generator], CoarseBatch], *, count: int, first: int, seed: int
    ) -> None:
        self.make, self.count, self.first, self.seed = make, count, min(first, count), seed
        self._kept: list[tuple[Tensor, Tensor, Tensor, float]] = []
        self._error: BaseException | None = None
        self._stopped = threading.Event()
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="coarse clips", daemon=True)

    def __enter__(self) -> "CoarseClips":
        """Begin to draw."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End with the clip that is being drawn."""
        self._stopped.set()
        self._thread.join()

    def __len__(self) -> int:
        """Count the clips that are there."""
        return len(self._kept)

    def take(self, clips: int, rng: Generator) -> CoarseBatch:
        """Give some of the clips, half of them mirrored, all recoloured.

        Raises:
            RuntimeError: If a clip could not be drawn.
        """
        with self._more:
            while len(self._kept) < self.first and self._error is None:
                self._more.wait(_WAIT_S)
        if self._error is not None:
            raise RuntimeError("a coarse clip could not be drawn") from self._error
        chosen = torch.randint(len(self._kept), (clips,), generator=rng).tolist()
        given = [self._changed(k, rng) for k in chosen]
        elevation = torch.tensor([self._kept[k][3] for k in chosen])
        truth, coarse, depth = (torch.stack(part) for part in zip(*given, strict=True))
        return CoarseBatch(RingBatch(truth, elevation), coarse, depth)

    def _changed(self, index: int, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
        truth, coarse, depth = (part.float() / 255 for part in self._kept[index][:3])
        frames = len(truth)
        if float(torch.rand((), generator=rng)) < 0.5:
            # A mirror image is seen the other way round, see `rings.ring_order`.
            back = -torch.arange(frames) % frames
            truth, coarse, depth = (part[back].flip(-1) for part in (truth, coarse, depth))
        both = recoloured(torch.cat([truth, coarse]).movedim(1, -1), rng).movedim(-1, 1)
        return both[:frames].contiguous(), both[frames:].contiguous(), depth

    def _run(self) -> None:
        try:
            for number in range(self.count):
                if self._stopped.is_set():
                    return
                rng = Generator().manual_seed(self.seed + _SEEDS_APART * (number + 1))
                with torch.no_grad():
                    made = self.make(rng)
                assert made.depth is not None
                parts = (made.rings.rgba[0], made.coarse[0], made.depth[0])
                truth, coarse, depth = (_bytes(part) for part in parts)
                elevation = float(made.rings.elevation_deg[0])
                with self._more:
                    self._kept.append((truth, coarse, depth, elevation))
                    self._more.notify_all()
        except BaseException as error:  # It is raised where clips are taken.
            with self._more:
                self._error = error
                self._more.notify_all()


def coarse_clip(
    rings: RingSampler, encoders: RefinerEncoders, frames: int, rng: Generator
) -> CoarseBatch:
    """Draw a ring, make it coarse, and estimate its depth."""
    ring = rings.rings(1, frames, rng)
    made = coarse_batch(ring, rng) if encoders.coarsen is None else encoders.coarsen(ring, rng)
    depth = encoders.depth_maps(made.coarse.flatten(0, 1)).float()
    return replace(made, depth=depth.unflatten(0, (1, frames)))


def drawn_or_spoilt(orbit: LatentOrbitModel) -> Coarsen:
    """Let a first stage draw most clips, in one to four steps, and spoil true ones for the rest."""

    def coarsen(rings: RingBatch, rng: Generator) -> CoarseBatch:
        if float(torch.rand((), generator=rng)) < _SPOILT:
            return coarse_batch(rings, rng)
        steps = _DRAW_STEPS[int(torch.randint(len(_DRAW_STEPS), (), generator=rng))]
        return drawn_batch(rings, orbit, rng, draw_px=orbit.size_px, steps=steps)

    return coarsen


def scans_oftener(sets: list[MultiViewSet], times: float = 8.0) -> list[np.ndarray]:
    """Say how often each object of some sets is drawn: scans (GSO, YCB) so much oftener.

    They are few among the training objects, but look most like what users photograph.
    """
    return [np.array([times if is_scan(name) else 1.0 for name in part.names]) for part in sets]


def _bytes(part: Tensor) -> Tensor:
    return (255 * part.float().cpu()).round().clamp(0, 255).to(torch.uint8)
