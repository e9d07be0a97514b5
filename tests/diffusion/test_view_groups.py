"""Cameras fall into groups at equal turns; what a group lacks is added."""

import torch

from roundview.camera import Cameras, concatenate_cameras
from roundview.diffusion.view_groups import equal_turns, in_groups


def four(elevation_deg: float = 10.0, start_deg: float = 0.0) -> Cameras:
    return Cameras.orbit(
        [start_deg + 90.0 * k for k in range(4)],
        elevation_deg=elevation_deg,
        radius=2.0,
        fov_deg=40.0,
        size_hw=(16, 16),
    )


def test_groups_are_told_from_other_cameras() -> None:
    both = concatenate_cameras([four(), four(30.0, 77.0)])
    assert equal_turns(both, 4)
    assert not equal_turns(both[[0, 1, 2, 7, 4, 5, 6, 3]], 4)  # Two elevations in a group.
    assert not equal_turns(four()[[0, 2, 1, 3]], 4)


def test_a_ring_is_drawn_in_groups_and_comes_back_in_its_order() -> None:
    ring = Cameras.orbit(
        [45.0 * k for k in range(8)],
        elevation_deg=10.0,
        radius=2.0,
        fov_deg=40.0,
        size_hw=(16, 16),
    )
    whole, wanted = in_groups(ring, 4)
    assert wanted == [0, 4, 1, 5, 2, 6, 3, 7]
    again = whole[wanted]
    torch.testing.assert_close(again.world_from_camera, ring.world_from_camera)
    torch.testing.assert_close(again.focal_px, ring.focal_px)


def test_what_a_group_lacks_is_drawn_too() -> None:
    few = concatenate_cameras([four()[[2, 1]], four(30.0, 20.0)[[3]]])
    whole, wanted = in_groups(few, 4)
    assert (len(whole), wanted) == (8, [0, 3, 4])
    torch.testing.assert_close(whole[wanted].origin, few.origin)
    assert in_groups(four(), 4)[1] == [0, 1, 2, 3]
