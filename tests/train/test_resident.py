from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from render_tiny import tiny_set
from torch import Generator

from roundview.data.render_set import MultiViewSet
from roundview.train.batch import ViewSampler
from roundview.train.resident import ResidentSampler


@dataclass
class Ring:
    """Slots without workers: a rendered set, some of whose slots count as filled."""

    live: MultiViewSet
    version: np.ndarray

    def filled(self) -> np.ndarray:
        return np.flatnonzero((self.version > 0) & (self.version % 2 == 0))


def ring(directory: Path, filled: list[int]) -> Ring:
    version = np.zeros(3, np.int64)
    version[filled] = 2
    return Ring(tiny_set(directory, objects=3), version)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_views_are_of_filled_slots_and_stand_where_their_poses_say(tmp_path: Path) -> None:
    stream = ring(tmp_path, [1])
    batch = ResidentSampler(stream, torch.device("cpu"), free_share=0.0).views(40, 3, seeded())
    assert batch.rgba.shape == (40, 3, 16, 16, 4)
    alpha = torch.from_numpy(stream.live.rgba[1, ..., 3].astype(np.float32) / 255)
    both_ways = torch.cat([alpha, alpha.flip(2)])
    off = (batch.rgba[:, :, None, ..., 3] - both_ways).abs().amax(dim=(-1, -2))
    assert float(off.amin(dim=2).max()) < 1e-6  # Each is one of the slot's pictures, or its mirror.
    # The photo stands at azimuth 0, the others of its ring a multiple of a quarter turn away.
    position = batch.world_from_camera[..., :3, 3]
    azimuth = torch.rad2deg(torch.atan2(position[..., 0], position[..., 2]))
    torch.testing.assert_close(azimuth[:, 0], torch.zeros(40), atol=1e-3, rtol=0)
    away = azimuth[:, 1:] / 90
    torch.testing.assert_close(away, away.round(), atol=1e-3, rtol=0)


def test_mirrored_objects_turn_the_other_way(tmp_path: Path) -> None:
    stream = ring(tmp_path, [0])
    sampler = ResidentSampler(stream, torch.device("cpu"), free_share=0.0)
    chosen = sampler._chosen(64, 2, seeded())  # pyright: ignore[reportPrivateUsage]  its own test
    batch = sampler.views(64, 2, seeded())
    mirrored = chosen.mirrored.bool()
    assert 0 < int(mirrored.sum()) < 64
    index = chosen.index.numpy()
    turned = stream.live.azimuth_deg[0][index[:, 1]] - stream.live.azimuth_deg[0][index[:, 0]]
    turned = np.where(mirrored.numpy(), -turned, turned)
    position = batch.world_from_camera[:, 1, :3, 3]
    azimuth = torch.rad2deg(torch.atan2(position[:, 0], position[:, 2])).numpy()
    np.testing.assert_allclose(np.cos(np.deg2rad(azimuth - turned)), 1, atol=1e-5)
    plain = torch.from_numpy(stream.live.rgba[0][index[~mirrored, 0]]).float()[..., 3] / 255
    torch.testing.assert_close(batch.rgba[~mirrored, 0, ..., 3], plain)


def test_white_stays_white_and_colours_are_those_of_the_picture(tmp_path: Path) -> None:
    stream = ring(tmp_path, [0, 1, 2])
    batch = ResidentSampler(stream, torch.device("cpu")).views(30, 2, seeded())
    empty = batch.rgba[..., 3] == 0
    assert bool((batch.rgba[..., :3][empty] == 1).all())
    assert float(batch.rgba.min()) >= 0
    assert float(batch.rgba.max()) <= 1


def test_changed_slots_are_taken_up_but_not_while_they_are_written(tmp_path: Path) -> None:
    stream = ring(tmp_path, [0, 1])
    sampler = ResidentSampler(stream, torch.device("cpu"))
    assert sampler.refresh() == 0
    stream.version[2] = 3
    assert sampler.refresh() == 0
    stream.version[2] = 4
    assert sampler.refresh() == 1


def test_it_serves_wherever_views_are_drawn(tmp_path: Path) -> None:
    sampler = ResidentSampler(ring(tmp_path, [0]), torch.device("cpu"))
    assert isinstance(sampler, ViewSampler)
    again = [sampler.views(2, 2, seeded(3)).rgba for _ in range(2)]
    assert torch.equal(*again)


def test_an_empty_ring_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wait"):
        ResidentSampler(ring(tmp_path, []), torch.device("cpu"))
