"""Draw training batches from pictures that are kept on the device where the network is.

Copying a batch to a GPU, and choosing it picture by picture, would take longer than a training step
of a small network. Here the pictures lie on the device as bytes, and a batch is one lookup.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from ..data.render_set import MultiViewSet
from ..data.stream import Slots
from .batch import ViewBatch, ViewSampler, pose_batch

REFRESHED = 8
"""Slots that are copied at a draw, if they have changed. Chosen by us: 16 workers draw some 30
objects a second, and a training step takes 20 ms or more."""


@dataclass(frozen=True, eq=False)
class _Choice:
    """Which pictures make a batch, and how they are changed; on the CPU."""

    row: Int[Tensor, " b"]
    index: Int[Tensor, "b v"]
    mirrored: Float[Tensor, " b"]
    channels: Int[Tensor, "b 3"]
    gamma: Float[Tensor, " b"]


class ResidentSampler(ViewSampler):
    """Draws what `ViewSampler` draws, from a ring of streamed objects, on one device.

    Args:
        stream: Where the objects come from; at least one slot must be filled.
        place: Where the pictures are kept, and batches given.
        free_share: As for `ViewSampler`.
    """

    def __init__(self, stream: Slots, place: torch.device, *, free_share: float = 0.25) -> None:
        super().__init__([stream.live], free_share=free_share)
        self.stream, self.place = stream, place
        self._rgba = torch.zeros(stream.live.rgba.shape, dtype=torch.uint8, device=place)
        self._version = np.zeros(len(stream.live), np.int64)
        self._azimuth = np.zeros_like(stream.live.azimuth_deg)
        self._elevation = np.zeros_like(stream.live.elevation_deg)
        self.refresh(len(stream.live))
        if not self._version.any():
            raise ValueError("stream holds no object yet: call its wait() first")

    def refresh(self, most: int = REFRESHED) -> int:
        """Copy slots that have changed, longest unchanged first; say how many."""
        filled = self.stream.filled()
        changed = filled[self.stream.version[filled] != self._version[filled]]
        copied = 0
        for slot in changed[np.argsort(self._version[changed], kind="stable")][:most]:
            before = int(self.stream.version[slot])
            rgba = torch.from_numpy(np.array(self.stream.live.rgba[slot]))
            azimuth = np.array(self.stream.live.azimuth_deg[slot])
            elevation = np.array(self.stream.live.elevation_deg[slot])
            if before % 2 or int(self.stream.version[slot]) != before:
                continue  # A worker was writing.
            self._rgba[slot] = rgba.to(self.place)
            self._azimuth[slot], self._elevation[slot] = azimuth, elevation
            self._version[slot] = before
            copied += 1
        return copied

    def views(self, batch: int, count: int, rng: Generator) -> ViewBatch:
        """Draw `count` views of each of `batch` objects, mirrored and recoloured at random."""
        self.refresh()
        chosen = self._chosen(batch, count, rng)
        at = self.place
        pictures = self._rgba[chosen.row.to(at)[:, None], chosen.index.to(at)].float() / 255
        mirrored = chosen.mirrored.to(at)[:, None, None, None, None] > 0
        pictures = torch.where(mirrored, pictures.flip(3), pictures)
        pictures = _recoloured(pictures, chosen)
        row, index = chosen.row.numpy()[:, None], chosen.index.numpy()
        azimuth = self._azimuth[row, index]
        azimuth = azimuth - azimuth[:, :1]
        azimuth = np.where(chosen.mirrored.numpy()[:, None] > 0, -azimuth, azimuth)
        poses = pose_batch(torch.zeros(batch, count, 1, 1, 4), azimuth, self._elevation[row, index])
        return ViewBatch(
            pictures,
            poses.world_from_camera.to(at),
            poses.focal_ratio.to(at),
            poses.elevation_deg.to(at),
        )

    def _chosen(self, batch: int, count: int, rng: Generator) -> _Choice:
        there = torch.from_numpy(np.flatnonzero(self._version))
        row = there[torch.randint(len(there), (batch,), generator=rng)]
        made: MultiViewSet = self.stream.live
        n, ring = made.settings.ring_views, made.settings.rings
        first = torch.randint(ring, (batch,), generator=rng)[:, None] * n
        in_ring = first + _shuffled(batch, n, count, rng)
        anywhere = _shuffled(batch, made.settings.views, count, rng)
        from_ring = torch.rand(batch, count, generator=rng) >= self.free_share
        from_ring[:, 0] = True
        channels = torch.rand(batch, 3, generator=rng).argsort(dim=1)
        plain = torch.rand(batch, generator=rng) < 0.5
        return _Choice(
            row,
            torch.where(from_ring, in_ring, anywhere),
            (torch.rand(batch, generator=rng) < 0.5).float(),
            torch.where(plain[:, None], torch.arange(3), channels),
            ((torch.rand(batch, generator=rng) * 2 - 1) * 0.35).exp(),
        )


def _shuffled(batch: int, of: int, count: int, rng: Generator) -> Int[Tensor, "b v"]:
    """Give `count` numbers below `of`, each once before any comes again."""
    order = torch.rand(batch, of, generator=rng).argsort(dim=1)
    return order.repeat(1, -(-count // of))[:, :count]


def _recoloured(rgba: Float[Tensor, "b v h w 4"], chosen: _Choice) -> Float[Tensor, "b v h w 4"]:
    """Permute the channels and bend the brightness of each object; white stays white."""
    channels = chosen.channels.to(rgba.device)[:, None, None, None, :]
    rgb = rgba[..., :3].gather(-1, channels.expand(*rgba.shape[:-1], 3))
    gamma = chosen.gamma.to(rgba)[:, None, None, None, None]
    return torch.cat([rgb.clamp(min=1e-4) ** gamma, rgba[..., 3:]], dim=-1)
