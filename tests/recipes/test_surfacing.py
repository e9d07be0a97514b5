import math
from dataclasses import replace

import pytest
import torch
from fakes import block

from roundview.camera import Cameras
from roundview.gaussians import Gaussians
from roundview.mesh import Mesh
from roundview.recipes.surfacing import (
    DRAWN,
    Meshing,
    all_round,
    fused_mesh,
    moved_gaussians,
    moved_views,
    nearest_rgb,
    normalised_views,
    sharp_views,
)
from roundview.splat.render import render_gaussians
from roundview.surface.raster import render_mesh
from roundview.views import Views


def cloud(count: int = 30) -> Gaussians:
    rng = torch.Generator().manual_seed(1)
    return Gaussians(
        centre=0.3 * torch.randn(count, 3, generator=rng),
        log_scale=-2.5 + 0.3 * torch.randn(count, 3, generator=rng),
        quat_wxyz=torch.randn(count, 4, generator=rng),
        opacity_logit=torch.full((count,), 2.0),
        sh=torch.randn(count, 1, 3, generator=rng),
    )


def test_moving_the_world_and_its_cameras_changes_no_picture() -> None:
    cameras = Cameras.orbit(
        [0.0, 130.0], elevation_deg=20.0, radius=1.5, fov_deg=49.13, size_hw=(24, 24)
    )
    before = render_gaussians(cloud(), cameras)
    shift = torch.tensor([0.2, -0.3, 0.5])
    moved = moved_views(before, 0.7, shift)
    after = render_gaussians(moved_gaussians(cloud(), 0.7, shift), moved.cameras)
    torch.testing.assert_close(after.rgb, before.rgb, rtol=0, atol=2e-4)
    assert moved.depth is not None
    assert after.depth is not None
    torch.testing.assert_close(after.depth, moved.depth, rtol=0, atol=2e-3)


@pytest.mark.parametrize("drawn", [1.0, 0.0])
def test_a_mesh_keeps_the_outline_of_the_photo_whatever_was_drawn(drawn: float) -> None:
    """At 0 the views show nothing at all, as of a thing too thin for the model that drew them."""
    body, mast = block(0.4, 0.4, 0.4), block(0.06, 0.9, 0.06)
    corners = torch.cat([body.vertices, mast.vertices])
    whole = Mesh(corners, torch.cat([body.faces, mast.faces + len(body.vertices)]))
    camera = Cameras.orbit([0.0], elevation_deg=10.0, radius=1.5, fov_deg=49.13, size_hw=(96, 96))
    photo = render_mesh(whole, camera)
    seen = render_mesh(body, all_round(64, count=12))
    assert seen.depth is not None
    seen = replace(seen, alpha=seen.alpha * drawn, depth=seen.depth * drawn)
    found = fused_mesh(seen, photo, Meshing(), DRAWN, resolution=64)
    alpha = render_mesh(found, camera).alpha
    overlap = torch.minimum(alpha, photo.alpha).sum() / torch.maximum(alpha, photo.alpha).sum()
    assert float(overlap) > 0.85
    if drawn:
        plain = fused_mesh(seen, photo, Meshing(outline=None), DRAWN, resolution=64)
        assert float(render_mesh(plain, camera).alpha.sum()) < 0.93 * float(photo.alpha.sum())


def test_views_of_a_shifted_subject_are_brought_to_the_middle() -> None:
    cameras = Cameras.orbit(
        [0.0, 60.0, 120.0, 180.0, 240.0, 300.0],
        elevation_deg=15.0,
        radius=4.0,
        fov_deg=40.0,
        size_hw=(96, 96),
    )
    mesh = block(1.2, 2.0, 1.0)  # Twice the size, and 0.3, 0.1, -0.2 off the middle.
    shift = torch.tensor([0.3, 0.1, -0.2])
    views = render_mesh(type(mesh)(mesh.vertices + shift, mesh.faces), cameras)
    placed, scale, moved = normalised_views(views)
    # All cameras look down, so the middle of a silhouette's box lies a little above the middle.
    torch.testing.assert_close(shift * scale + moved, torch.zeros(3), rtol=0, atol=0.06)
    # The largest silhouette is that of the box from above a corner, so a little over 2 long.
    assert 0.4 < scale < 0.5
    torch.testing.assert_close(placed.rgb, views.rgb)


def test_views_without_a_subject_or_from_one_side_are_refused() -> None:
    cameras = Cameras.orbit(
        [0.0, 90.0], elevation_deg=0.0, radius=2.0, fov_deg=40.0, size_hw=(8, 8)
    )
    empty = Views(torch.ones(2, 8, 8, 3), torch.zeros(2, 8, 8), cameras)
    with pytest.raises(ValueError, match="0 views show a subject"):
        normalised_views(empty)
    same = Views(torch.ones(2, 8, 8, 3), torch.ones(2, 8, 8), cameras[[0, 0]])
    with pytest.raises(ValueError, match="from several sides"):
        normalised_views(same)


def test_cameras_all_round_leave_no_side_unseen() -> None:
    cameras = all_round(16)
    direction = torch.nn.functional.normalize(cameras.origin, dim=-1)
    rng = torch.Generator().manual_seed(0)
    anywhere = torch.nn.functional.normalize(torch.randn(500, 3, generator=rng), dim=-1)
    nearest = (anywhere @ direction.T).amax(dim=1)
    assert math.degrees(math.acos(float(nearest.min()))) < 30
    torch.testing.assert_close(direction.mean(dim=0), torch.zeros(3), rtol=0, atol=0.02)


def test_points_take_the_colour_of_the_solid_gaussians_next_to_them() -> None:
    two = Gaussians(
        centre=torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [0.001, 0, 0]]),
        log_scale=torch.zeros(3, 3),
        quat_wxyz=torch.tensor([[1.0, 0, 0, 0]]).repeat(3, 1),
        opacity_logit=torch.tensor([3.0, 3.0, -9.0]),
        sh=torch.tensor([[[1.0, 0, 0]], [[0, 1.0, 0]], [[0, 0, 1.0]]]),
    )
    rgb = nearest_rgb(two, torch.tensor([[0.0, 0, 0], [0.5, 0, 0]]))
    torch.testing.assert_close(rgb[0], two.base_rgb[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(rgb[1], (two.base_rgb[0] + two.base_rgb[1]) / 2)


def shell(radius: float, count: int = 600) -> Gaussians:
    """A ball's skin of opaque Gaussians."""
    index = torch.arange(count) + 0.5
    height, turn = 1 - 2 * index / count, math.pi * (1 + math.sqrt(5)) * index
    ring = (1 - height**2).sqrt()
    direction = torch.stack([ring * turn.cos(), height, ring * turn.sin()], dim=-1)
    return Gaussians(
        centre=radius * direction,
        log_scale=torch.full((count, 3), 0.02).log(),
        quat_wxyz=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        opacity_logit=torch.full((count,), 4.0),
        sh=torch.zeros(count, 1, 3),
    )


@pytest.mark.parametrize("size_hw", [(64, 64), (64, 96), (90, 64)])
def test_sharp_views_have_the_outlines_of_the_views(size_hw: tuple[int, int]) -> None:
    cameras = Cameras.orbit(
        [0.0, 90.0, 180.0], elevation_deg=10.0, radius=1.5, fov_deg=49.13, size_hw=size_hw
    )
    fitted = shell(0.35)
    drawn = render_gaussians(fitted, cameras)
    # The subject is a little smaller than the cloud, and the second mask has a hole in its middle.
    alpha = render_gaussians(shell(0.345), cameras).alpha
    hole = alpha.clone()
    hole[
        1, size_hw[0] // 2 - 6 : size_hw[0] // 2 + 6, size_hw[1] // 2 - 6 : size_hw[1] // 2 + 6
    ] = 0
    seen = sharp_views(fitted, Views(drawn.rgb, hole, cameras), within_deg=25.0)
    h, w = seen.cameras.size_hw
    assert min(h, w) == 256
    assert w / h == pytest.approx(size_hw[1] / size_hw[0], rel=0.01)
    assert max(h, w) <= 512
    assert len(seen) > 8
    assert seen.depth is not None
    own = seen[[-3, -2, -1]]
    torch.testing.assert_close(
        own.cameras.world_from_camera, cameras.world_from_camera, rtol=0, atol=0
    )
    finer = Views(drawn.rgb, alpha, cameras).resized((h, w)).alpha
    torch.testing.assert_close(own.alpha[[0, 2]], finer[[0, 2]], rtol=0, atol=0.06)
    # The cloud closes the hole, if not wholly.
    torch.testing.assert_close(own.alpha[1], finer[1], rtol=0, atol=0.2)
    # A deviation, 0.02, before the middles of the Gaussians.
    assert own.depth is not None
    assert float(own.depth[own.alpha > 0.99].min()) == pytest.approx(1.13, abs=0.01)
