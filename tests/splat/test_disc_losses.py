"""Losses of discs: planes and pairs worked by hand."""

import math

import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras, rays
from roundview.gaussians import Gaussians
from roundview.splat.disc_losses import (
    distortion_loss,
    normal_consistency,
    normals_of_depth,
    surface_depth,
)
from roundview.splat.discs import Discs, render_discs
from roundview.views import Views


def front(n: int = 1, size_hw: tuple[int, int] = (5, 7)) -> Cameras:
    return Cameras.orbit(
        [0.0, 40.0][:n], elevation_deg=0.0, radius=2.0, fov_deg=30.0, size_hw=size_hw
    )


def plane_depth(normal: Tensor, cameras: Cameras) -> Tensor:
    """Depth of the plane through the origin: normal . (origin + depth ray) = 0."""
    direction = torch.einsum("nhwi,i->nhw", rays(cameras), normal)
    return -(cameras.origin @ normal)[:, None, None] / direction


def discs(depth: Tensor, normal: Tensor, alpha: float, cameras: Cameras) -> Discs:
    shape = depth.shape
    views = Views(
        torch.ones(*shape, 3),
        torch.full(shape, alpha),
        cameras,
        depth=depth,
        normal=normal.expand(*shape, 3),
    )
    return Discs(views, depth, torch.zeros(shape))


def test_surface_depth_lies_between_mean_and_median() -> None:
    cameras = front()
    seen = discs(torch.full((1, 5, 7), 2.0), torch.tensor([0.0, 0.0, 1.0]), 1.0, cameras)
    seen = Discs(seen.views, torch.full((1, 5, 7), 3.0), seen.distortion)
    for share, depth in ((0.0, 2.0), (1.0, 3.0), (0.25, 2.25)):
        mixed = surface_depth(seen, median_share=share)
        torch.testing.assert_close(mixed, torch.full((1, 5, 7), depth))


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    seen = discs(torch.ones(1, 5, 7), torch.tensor([0.0, 0.0, 1.0]), 1.0, front())
    with pytest.raises(ValueError, match="median_share"):
        surface_depth(seen, median_share=share)


@pytest.mark.parametrize("tilt_deg", [-25.0, 0.0, 35.0])
def test_normals_of_a_plane_are_its_own(tilt_deg: float) -> None:
    cameras = front(2)
    tilt = math.radians(tilt_deg)
    plane = torch.tensor([math.sin(tilt) * 0.6, math.sin(tilt) * 0.8, math.cos(tilt)])
    normal = normals_of_depth(plane_depth(plane, cameras), cameras)
    torch.testing.assert_close(
        normal[:, 1:-1, 1:-1], plane.expand(2, 3, 5, 3), rtol=1e-4, atol=1e-4
    )
    assert torch.equal(normal[:, 0], torch.zeros(2, 7, 3))
    assert torch.equal(normal[:, :, -1], torch.zeros(2, 5, 3))


def test_there_is_no_normal_beside_a_hole() -> None:
    cameras = front()
    depth = torch.full((1, 5, 7), 2.0)
    depth[0, 2, 3] = 0.0
    normal = normals_of_depth(depth, cameras)
    known = normal.norm(dim=-1)[0, 1:-1, 1:-1]
    # The hole and its four neighbours know nothing.
    expected = torch.tensor([[1, 1, 0, 1, 1], [1, 0, 0, 0, 1], [1, 1, 0, 1, 1]]).float()
    torch.testing.assert_close(known, expected)


def test_consistency_is_the_share_of_alpha_times_one_minus_the_cosine() -> None:
    cameras = front()
    depth = torch.full((1, 5, 7), 2.0)
    # Depth says +Z; the discs lean by 60 degrees. 15 of 35 pixels have neighbours all round.
    leaning = torch.tensor([math.sin(math.pi / 3), 0.0, 0.5])
    loss = normal_consistency(discs(depth, leaning, 0.8, cameras), median_share=0.0)
    torch.testing.assert_close(loss, torch.tensor([0.8 * 0.5 * 15 / 35]))
    straight = torch.tensor([0.0, 0.0, 1.0])
    loss = normal_consistency(discs(depth, straight, 0.8, cameras), median_share=1.0)
    torch.testing.assert_close(loss, torch.zeros(1))


def test_consistency_does_not_pull_at_alpha() -> None:
    cameras = front()
    depth = torch.full((1, 5, 7), 2.0, requires_grad=True)
    seen = discs(depth, torch.tensor([0.6, 0.0, 0.8]), 0.5, cameras)
    seen.views.alpha.requires_grad_()
    normal_consistency(seen, median_share=0.5).sum().backward()
    assert seen.views.alpha.grad is None
    assert depth.grad is not None
    assert float(depth.grad.abs().sum()) > 0


def test_views_without_depth_are_refused() -> None:
    seen = discs(torch.ones(1, 5, 7), torch.tensor([0.0, 0.0, 1.0]), 1.0, front())
    views = Views(seen.views.rgb, seen.views.alpha, seen.views.cameras)
    bare = Discs(views, seen.median_depth, seen.distortion)
    with pytest.raises(ValueError, match="render_discs"):
        surface_depth(bare, median_share=0.0)


def test_distortion_falls_as_discs_come_together() -> None:
    two = Gaussians(
        torch.tensor([[0.0, 0.0, 0.2], [0.0, 0.0, -0.2]], requires_grad=True),
        torch.full((2, 3), -0.5),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(2, 1),
        torch.zeros(2),
        torch.zeros(2, 1, 3),
    )
    loss = distortion_loss(render_discs(two, front()))
    loss.sum().backward()
    assert two.centre.grad is not None
    # A step against the gradient moves the nearer one back and the farther one forward.
    assert float(two.centre.grad[0, 2]) > 0 > float(two.centre.grad[1, 2])
