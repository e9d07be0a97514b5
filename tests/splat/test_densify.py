import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.splat.cloud import CENTRE, LOG_SCALE, OPACITY, QUAT, CloudAdam
from roundview.splat.densify import Growth, Pull, densify_and_prune


def rows(count: int, *, scale: float = 0.1, opacity: float = 0.6) -> Tensor:
    table = torch.zeros(count, 14)
    table[:, 0] = torch.arange(count)
    table[:, LOG_SCALE] = torch.log(torch.tensor(scale))
    table[:, QUAT] = torch.tensor([1.0, 0, 0, 0])
    table[:, OPACITY] = torch.logit(torch.tensor(opacity))
    return table


def camera(side: int = 10) -> Cameras:
    return Cameras.orbit([0.0], elevation_deg=0.0, radius=2.0, fov_deg=90.0, size_hw=(side, side))


def pulled(cloud: CloudAdam, strengths: list[float]) -> Pull:
    pull = Pull(len(cloud.rows), cloud.rows)
    cloud.rows.grad = torch.zeros_like(cloud.rows)
    cloud.rows.grad[:, 0] = torch.tensor(strengths)
    pull.add(cloud, camera())
    cloud.rows.grad = None
    return pull


def growth(most: int = 100, *, share: float = 0.5, split_scale: float = 1.0) -> Growth:
    return Growth(most=most, share=share, split_scale=split_scale, min_opacity=0.01)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_pull_is_the_gradient_by_the_place_in_the_picture() -> None:
    cloud = CloudAdam(rows(1))
    with torch.no_grad():
        cloud.rows[0, CENTRE] = torch.tensor([0.2, -0.1, 0.5])  # depth 1.5 from the camera at z = 2
    view = camera()
    # u = half_width + focal x / depth, so for a loss of 3 u the gradient by x is 3 focal / depth.
    focal, depth, half_width = float(view.focal_px[0]), 1.5, 5.0
    cloud.rows.grad = torch.zeros_like(cloud.rows)
    cloud.rows.grad[0, 0] = 3 * focal / depth
    pull = Pull(1, cloud.rows)
    pull.add(cloud, view)
    torch.testing.assert_close(pull.mean, torch.tensor([3.0 * half_width]))


def test_pull_is_the_mean_over_the_views_that_saw_it() -> None:
    cloud = CloudAdam(rows(3)[:, :].clone())
    with torch.no_grad():
        cloud.rows[:, CENTRE] = 0
    pull = Pull(3, cloud.rows)
    for strengths in ([1.0, 2.0, 0.0], [3.0, 0.0, 0.0]):
        cloud.rows.grad = torch.zeros_like(cloud.rows)
        cloud.rows.grad[:, 0] = torch.tensor(strengths)
        pull.add(cloud, camera())
    # At depth 2, with a focal length of half the width, a unit of gradient counts 2.
    torch.testing.assert_close(pull.mean, torch.tensor([4.0, 4.0, 0.0]))


def test_the_hardest_pulled_get_a_twin_that_covers_as_much() -> None:
    cloud = CloudAdam(rows(4))
    densify_and_prune(cloud, pulled(cloud, [0.1, 5.0, 0.2, 4.0]), growth(), rng())
    assert cloud.rows.detach()[:, 0].tolist() == [0, 2, 1, 3, 1, 3]
    opacity = cloud.rows.detach()[:, OPACITY].sigmoid()
    torch.testing.assert_close(opacity[:2], torch.full((2,), 0.6))
    # Two of them one behind the other: 1 - (1 - o')^2 = 0.6.
    torch.testing.assert_close(1 - (1 - opacity[2:]).square(), torch.full((4,), 0.6))


def test_large_ones_are_split_into_smaller_ones_beside_each_other() -> None:
    cloud = CloudAdam(rows(2))
    densify_and_prune(cloud, pulled(cloud, [0.0, 1.0]), growth(share=1.0, split_scale=0.05), rng())
    assert len(cloud.rows) == 3
    halves = cloud.rows.detach()[1:]
    torch.testing.assert_close(halves[:, LOG_SCALE].exp(), torch.full((2, 3), 0.1 / 1.6))
    apart = (halves[:, CENTRE] - torch.tensor([1.0, 0, 0])).norm(dim=-1)
    assert bool((apart > 0).all())
    assert bool((apart < 0.6).all())
    assert not torch.equal(halves[0, CENTRE], halves[1, CENTRE])


def test_the_limits_hold() -> None:
    cloud = CloudAdam(rows(10))
    densify_and_prune(cloud, pulled(cloud, [1.0] * 10), growth(most=12), rng())
    assert len(cloud.rows) == 12
    densify_and_prune(cloud, pulled(cloud, [1.0] * 12), growth(most=12), rng())
    assert len(cloud.rows) == 12


def test_the_unseen_get_no_twin() -> None:
    cloud = CloudAdam(rows(4))
    densify_and_prune(cloud, pulled(cloud, [0.0] * 4), growth(share=1.0), rng())
    assert len(cloud.rows) == 4


def test_the_faint_go_however_hard_they_are_pulled() -> None:
    table = rows(4)
    table[1, OPACITY] = torch.logit(torch.tensor(0.005))
    cloud = CloudAdam(table)
    densify_and_prune(cloud, pulled(cloud, [0.0, 9.0, 0.0, 0.0]), growth(share=1.0), rng())
    assert cloud.rows.detach()[:, 0].tolist() == [0, 2, 3]


def test_an_all_faint_cloud_is_left_alone() -> None:
    cloud = CloudAdam(rows(3, opacity=0.001))
    densify_and_prune(cloud, pulled(cloud, [1.0] * 3), growth(), rng())
    assert len(cloud.rows) == 3


def test_pull_needs_a_gradient() -> None:
    with pytest.raises(ValueError, match="no gradient"):
        Pull(1, torch.zeros(1)).add(CloudAdam(rows(1)), camera())
