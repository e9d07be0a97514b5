from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from families_tiny import seeded, squares
from render_tiny import tiny_set
from torch import Generator

from roundview.train.coarse_clips import CoarseClips, coarse_clip, scans_oftener
from roundview.train.rings import RingBatch, RingSampler
from roundview.train.video_refiner import CoarseBatch, RefinerEncoders


def numbered(numbers: list[int]) -> Callable[[Generator], CoarseBatch]:
    """Make clips of two frames, whose alpha and depth tell the clip, the frame and the column."""

    def make(rng: Generator) -> CoarseBatch:
        numbers.append(int(torch.randint(250, (), generator=rng)))
        frame = torch.tensor([0.0, 0.5]).reshape(1, 2, 1, 1, 1)
        column = torch.tensor([0.0, 0.25]).reshape(1, 1, 1, 1, 2)
        rgba = (frame + column).expand(1, 2, 4, 2, 2)
        rings = RingBatch(rgba, torch.tensor([float(numbers[-1])]))
        return CoarseBatch(rings, 1 - rgba, rgba[:, :, 3])

    return make


def test_clips_are_the_same_at_every_run() -> None:
    runs: list[list[int]] = [[], []]
    for numbers in runs:
        with CoarseClips(numbered(numbers), count=5, first=5, seed=3) as clips:
            given = clips.take(4, seeded())
            assert len(clips) == 5
        assert set(given.rings.elevation_deg.int().tolist()) <= set(numbers)
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 1


def test_truth_coarse_and_depth_are_mirrored_together_and_read_backwards() -> None:
    plain = torch.tensor([[0.0, 0.25], [0.5, 0.75]])  # Two frames of two columns.
    seen: set[bool] = set()
    with CoarseClips(numbered([]), count=1, first=1, seed=0) as clips:
        for k in range(20):
            given = clips.take(1, seeded(k))
            truth, coarse = given.rings.rgba[0, :, 3, 0], given.coarse[0, :, 3, 0]
            # Frame 0 stays first; of two frames the other stays second.
            mirrored = bool(truth[0, 0] > 0.1)
            seen.add(mirrored)
            wanted = plain.flip(1) if mirrored else plain
            torch.testing.assert_close(truth, wanted, atol=2e-3, rtol=0)
            torch.testing.assert_close(coarse, 1 - wanted, atol=4e-3, rtol=0)
            assert given.depth is not None
            torch.testing.assert_close(given.depth[0, :, 0], wanted, atol=2e-3, rtol=0)
    assert seen == {True, False}


def test_a_mirrored_ring_goes_on_from_its_last_view() -> None:
    def make(rng: Generator) -> CoarseBatch:
        del rng
        rgba = torch.arange(4.0).reshape(1, 4, 1, 1, 1).expand(1, 4, 4, 2, 2) / 4
        return CoarseBatch(RingBatch(rgba, torch.zeros(1)), rgba, rgba[:, :, 3])

    found: set[tuple[int, ...]] = set()
    with CoarseClips(make, count=1, first=1, seed=0) as clips:
        for k in range(20):
            alpha = clips.take(1, seeded(k)).coarse[0, :, 3, 0, 0]
            found.add(tuple((4 * alpha).round().int().tolist()))
    assert found == {(0, 1, 2, 3), (0, 3, 2, 1)}


def test_what_fails_on_the_thread_is_raised_where_clips_are_taken() -> None:
    def make(rng: Generator) -> CoarseBatch:
        raise KeyError(f"no ring of {rng.initial_seed()}")

    with (
        CoarseClips(make, count=3, first=2, seed=0) as clips,
        pytest.raises(RuntimeError, match="could not be drawn"),
    ):
        clips.take(1, seeded())


def test_the_drawing_ends_with_the_training() -> None:
    numbers: list[int] = []
    with CoarseClips(numbered(numbers), count=1_000_000, first=1, seed=0) as clips:
        clips.take(1, seeded())
    made = len(numbers)
    assert made < 1_000_000
    assert len(clips) == made


def test_a_clip_has_the_depth_of_its_coarse_frames(tmp_path: Path) -> None:
    rings = RingSampler([tiny_set(tmp_path, objects=1)], augment=False)

    def faded(ring: RingBatch, rng: Generator) -> CoarseBatch:
        return CoarseBatch(ring, ring.rgba * float(torch.rand((), generator=rng)))

    encoders = RefinerEncoders(squares(), lambda rgba: rgba.mean(dim=1), faded)
    made = coarse_clip(rings, encoders, 4, seeded())
    assert made.depth is not None
    torch.testing.assert_close(made.depth[0], made.coarse[0].mean(dim=1))


def test_scans_are_drawn_oftener(tmp_path: Path) -> None:
    some = tiny_set(tmp_path)
    scans = replace(some, names=["gso/cup", "kenney/cup"])
    weights = scans_oftener([some, scans], times=3.0)
    np.testing.assert_array_equal(weights[0], [1.0, 1.0])
    np.testing.assert_array_equal(weights[1], [3.0, 1.0])
