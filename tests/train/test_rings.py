from pathlib import Path

import numpy as np
import pytest
import torch
from families_tiny import seeded
from render_tiny import tiny_set

from roundview.data.render_set import MultiViewSet, RenderSettings
from roundview.train.rings import RingSampler, ring_order


def numbered() -> MultiViewSet:
    """One object; every pixel of view k is k, but the left column of the picture, which is 255."""
    settings = RenderSettings(4, rings=2, ring_views=8, free_views=1)
    rgba = np.broadcast_to(
        np.arange(17, dtype=np.uint8)[None, :, None, None, None], (1, 17, 4, 4, 4)
    )
    rgba = rgba.copy()
    rgba[:, :, :, 0] = 255
    elevation = np.concatenate([np.full(8, -5.0), np.full(8, 30.0), [70.0]]).astype(np.float32)
    azimuth = np.concatenate([np.arange(8) * 45.0, 10 + np.arange(8) * 45.0, [3.0]])
    return MultiViewSet(
        rgba, azimuth.astype(np.float32)[None], elevation[None], ["counted"], settings
    )


def test_a_ring_turns_so_that_any_view_is_first() -> None:
    assert ring_order(8, 4, 3).tolist() == [3, 5, 7, 1]
    assert ring_order(8, 8, 6).tolist() == [6, 7, 0, 1, 2, 3, 4, 5]


def test_the_mirror_image_is_seen_the_other_way_round() -> None:
    assert ring_order(8, 4, 3, mirrored=True).tolist() == [3, 1, 7, 5]


def test_rings_are_of_one_elevation_in_order_and_begin_anywhere() -> None:
    sampler = RingSampler([numbered()], augment=False)
    batch = sampler.rings(200, 4, seeded())
    view = (batch.rgba[:, :, 0, 0, 1] * 255).round().long()
    ring = view[:, 0] // 8
    torch.testing.assert_close(batch.elevation_deg, torch.tensor([-5.0, 30.0])[ring])
    assert bool((view // 8 == ring[:, None]).all())
    assert bool((view[:, 1:] % 8 == (view[:, :-1] + 2) % 8).all())
    assert view[:, 0].unique().tolist() == list(range(16))


def test_half_of_the_objects_are_flipped_and_turn_backwards() -> None:
    made = numbered()
    batch = RingSampler([made]).rings(400, 8, seeded())
    flipped = batch.rgba[:, 0, 3, 0, 0] < 1
    # The alpha channel is not recoloured, so it still counts the views.
    view = (batch.rgba[:, :, 3, 0, 1] * 255).round().long()
    turn = (view[:, 1] - view[:, 0]) % 8
    assert bool((turn == torch.where(flipped, 7, 1)).all())
    # 400 tosses: deviation 0.025.
    assert abs(float(flipped.float().mean()) - 0.5) < 0.1


def test_weights_choose_the_objects(tmp_path: Path) -> None:
    pictures = tiny_set(tmp_path)
    only_second = RingSampler([pictures], [np.array([0.0, 1.0])], augment=False)
    batch = only_second.rings(3, 4, seeded())
    wanted = torch.from_numpy(pictures.rgba[1].astype(np.float32) / 255).movedim(-1, 1)
    for frame in batch.rgba[:, 0]:
        assert bool((wanted == frame).flatten(1).all(dim=1).any())


def test_frames_must_divide_the_ring() -> None:
    with pytest.raises(ValueError, match="frames must divide a ring's 8, got 3"):
        RingSampler([numbered()]).rings(1, 3, seeded())
