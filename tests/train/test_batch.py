from pathlib import Path

import numpy as np
import torch
from render_tiny import tiny_set

from roundview.train.batch import ViewSampler, pose_batch


def test_the_photo_stands_at_azimuth_0_and_shares_its_ring(tmp_path: Path) -> None:
    sampler = ViewSampler([tiny_set(tmp_path)], free_share=0.0)
    batch = sampler.views(4, 3, torch.Generator().manual_seed(0))
    assert batch.rgba.shape == (4, 3, 16, 16, 4)
    origin = batch.world_from_camera[:, :, :3, 3]
    torch.testing.assert_close(origin[:, 0, 0], torch.zeros(4), rtol=0, atol=1e-5)
    assert bool((origin[:, 0, 2] > 0).all())
    assert bool((batch.elevation_deg == batch.elevation_deg[:, :1]).all())


def test_the_same_generator_state_draws_the_same_batch(tmp_path: Path) -> None:
    sampler = ViewSampler([tiny_set(tmp_path)])
    a, b = (sampler.views(3, 4, torch.Generator().manual_seed(9)) for _ in range(2))
    assert torch.equal(a.rgba, b.rgba)
    assert torch.equal(a.world_from_camera, b.world_from_camera)


def test_weights_decide_which_objects_are_drawn(tmp_path: Path) -> None:
    made = tiny_set(tmp_path)
    only_second = ViewSampler([made], [np.array([0.0, 1.0])], free_share=0.0)
    batch = only_second.views(8, 1, torch.Generator().manual_seed(0))
    elevations = {round(float(e), 3) for e in batch.elevation_deg[:, 0]}
    assert elevations <= {round(float(e), 3) for e in made.elevation_deg[1]}


def test_white_stays_white_under_recolouring(tmp_path: Path) -> None:
    batch = ViewSampler([tiny_set(tmp_path)]).views(8, 2, torch.Generator().manual_seed(1))
    outside = batch.rgba[..., 3] == 0
    torch.testing.assert_close(batch.rgba[..., :3][outside].min(), torch.tensor(1.0))


def test_poses_follow_the_conventions() -> None:
    batch = pose_batch(torch.zeros(1, 2, 8, 8, 4), np.array([[0.0, 90.0]]), np.zeros((1, 2)))
    expected = torch.tensor([[0.0, 0.0, 1.5], [1.5, 0.0, 0.0]])
    torch.testing.assert_close(batch.world_from_camera[0, :, :3, 3], expected, rtol=0, atol=1e-6)
