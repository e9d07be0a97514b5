import math

import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras, rays
from roundview.gaussians import Gaussians
from roundview.mesh import Mesh, bounds, mesh_health
from roundview.surface.isosurface import (
    density_from_gaussians,
    density_grid_from_gaussians,
    fuse_depth_reference,
    grid_points,
    mesh_from_density,
    mesh_from_depth,
)
from roundview.views import Views


def sphere(points: Tensor) -> Tensor:
    return 0.4 - points.norm(dim=-1)


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def cloud(count: int, seed: int = 0) -> Gaussians:
    rng = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.rand(count, 3, generator=rng) - 0.5,
        torch.rand(count, 3, generator=rng) * 3 - 5,
        torch.randn(count, 4, generator=rng),
        torch.randn(count, generator=rng) * 2,
        torch.zeros(count, 1, 3),
    )


def orbit(count: int, elevation_deg: float, size: int = 64) -> Cameras:
    return Cameras.orbit(
        [360 * i / count for i in range(count)],
        elevation_deg=elevation_deg,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(size, size),
    )


def sphere_views(cameras: Cameras, radius: float = 0.4) -> Views:
    """Draw the exact depth of a sphere at the origin."""
    ray = rays(cameras)
    square = ray.square().sum(-1)
    half_b = (ray * cameras.origin[:, None, None]).sum(-1)
    inside = half_b**2 - square * (cameras.origin.square().sum(-1)[:, None, None] - radius**2)
    hit = inside > 0
    depth = torch.where(hit, (-half_b - inside.clamp(min=0).sqrt()) / square, 0.0)
    return Views(torch.ones(*depth.shape, 3), hit.float(), cameras, depth)


def test_sphere_is_closed_round_and_faces_outward() -> None:
    mesh = mesh_from_density(sphere, level=0.0, half_width=0.5, resolution=48)
    health = mesh_health(mesh)
    assert health.watertight
    assert health.shells == 1
    assert health.degenerate_faces == 0
    # The chord of a 1/47 grid lies within a hundredth of a step of the sphere.
    torch.testing.assert_close(
        mesh.vertices.norm(dim=-1), torch.full((len(mesh.vertices),), 0.4), atol=5e-4, rtol=0
    )
    assert volume(mesh) == pytest.approx(4 / 3 * math.pi * 0.4**3, rel=0.01)


def test_axes_of_the_grid_are_x_y_z() -> None:
    def brick(points: Tensor) -> Tensor:
        return (
            torch.tensor([0.4, 0.2, 0.1]) - (points - torch.tensor([0.05, 0.1, 0.2])).abs()
        ).amin(-1)

    low, high = bounds(mesh_from_density(brick, level=0.0, half_width=0.5, resolution=64).vertices)
    torch.testing.assert_close(low, torch.tensor([-0.35, -0.1, 0.1]), atol=2e-3, rtol=0)
    torch.testing.assert_close(high, torch.tensor([0.45, 0.3, 0.3]), atol=2e-3, rtol=0)


def test_grid_and_function_give_the_same_mesh() -> None:
    grid = sphere(grid_points(20, 0.5)).reshape(20, 20, 20)
    a = mesh_from_density(grid, level=0.0, half_width=0.5)
    b = mesh_from_density(sphere, level=0.0, half_width=0.5, resolution=20)
    assert torch.equal(a.vertices, b.vertices)
    assert torch.equal(a.faces, b.faces)


def test_subject_that_fills_the_grid_is_closed_at_the_border() -> None:
    mesh = mesh_from_density(torch.ones(5, 5, 5), level=0.5, half_width=0.5)
    assert mesh_health(mesh).watertight
    assert volume(mesh) > 0.9


def test_empty_field_is_refused() -> None:
    with pytest.raises(ValueError, match="highest value"):
        mesh_from_density(torch.zeros(4, 4, 4), level=0.5, half_width=0.5)


def test_density_of_one_gaussian_by_hand() -> None:
    one = Gaussians(
        torch.zeros(1, 3),
        torch.log(torch.tensor([[0.1, 0.2, 0.1]])),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        torch.logit(torch.tensor([0.6])),
        torch.zeros(1, 1, 3),
    )
    points = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0, 0.2, 0], [0.31, 0, 0]])
    expected = torch.tensor([0.6, 0.6 * math.exp(-0.5), 0.6 * math.exp(-0.5), 0.0])
    # The floor that keeps flat Gaussians invertible adds up to 4e-4 of a variance.
    torch.testing.assert_close(density_from_gaussians(one)(points), expected, atol=2e-4, rtol=0)


@pytest.mark.kernel
@pytest.mark.parametrize(("count", "resolution"), [(0, 5), (1, 2), (1, 7), (60, 23), (60, 32)])
def test_density_kernel_matches_reference(count: int, resolution: int) -> None:
    gaussians = cloud(count)
    grid = density_grid_from_gaussians(gaussians, resolution=resolution, half_width=0.6)
    step = 1.2 / (resolution - 1)
    expected = density_from_gaussians(gaussians, blur=0.5 * step)(grid_points(resolution, 0.6))
    difference = (grid.flatten() - expected).abs()
    # A node on a Gaussian's rim may count on one side only; there the term is at most 0.0112.
    assert float(difference.max()) < 0.012
    assert float((difference > 1e-4).float().mean()) < 1e-3


def test_flat_gaussian_is_not_lost_between_nodes() -> None:
    flat = Gaussians(
        torch.tensor([[0.013, 0.0, 0.0]]),
        torch.log(torch.tensor([[1e-6, 0.2, 0.2]])),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        torch.tensor([4.0]),
        torch.zeros(1, 1, 3),
    )
    assert float(density_grid_from_gaussians(flat, resolution=16, half_width=0.5).max()) > 0.5


def test_depth_of_a_sphere_fuses_to_the_sphere() -> None:
    from roundview.views import concatenate_views  # noqa: PLC0415  one test joins views

    rings = [sphere_views(orbit(8, e)) for e in (-50.0, 0.0, 50.0)]
    mesh = mesh_from_depth(concatenate_views(rings), resolution=64, half_width=0.5)
    health = mesh_health(mesh)
    assert health.watertight
    assert health.shells == 1
    radius = mesh.vertices.norm(dim=-1)
    # A pixel is 0.02 wide and a grid step 0.016: the surface must be better than either.
    assert float((radius - 0.4).abs().mean()) < 0.004
    assert float((radius - 0.4).abs().max()) < 0.02
    assert volume(mesh) == pytest.approx(4 / 3 * math.pi * 0.4**3, rel=0.03)


def test_point_outside_one_silhouette_is_empty() -> None:
    views = sphere_views(orbit(6, 10.0))
    blind = torch.zeros_like(views.alpha)
    blind[1:] = views.alpha[1:]
    cut = Views(views.rgb, blind, views.cameras, views.depth)
    with pytest.raises(ValueError, match="nothing to mesh"):
        mesh_from_depth(cut, resolution=24)


def test_one_wrong_depth_map_digs_no_tunnel() -> None:
    views = sphere_views(orbit(16, 15.0))
    assert views.depth is not None
    wrong = views.depth.clone()
    wrong[0, 30:34, 30:34] = 2.2  # Sees far through the sphere, at its middle.
    mesh = mesh_from_depth(
        Views(views.rgb, views.alpha, views.cameras, wrong), resolution=64, hidden_weight=0.15
    )
    assert mesh_health(mesh).shells == 1
    assert volume(mesh) == pytest.approx(4 / 3 * math.pi * 0.4**3, rel=0.08)


def test_views_without_depth_are_refused() -> None:
    views = sphere_views(orbit(2, 0.0))
    with pytest.raises(ValueError, match="depth"):
        mesh_from_depth(Views(views.rgb, views.alpha, views.cameras))


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("size_hw", "count", "fading"),
    [((24, 24), 3, 0.0), ((7, 13), 1, 2.0), ((1, 1), 2, 0.0), ((33, 20), 5, 2.0)],
)
def test_fusion_kernel_matches_reference(
    size_hw: tuple[int, int], count: int, fading: float
) -> None:
    from roundview.surface.isosurface import depth_evidence  # noqa: PLC0415  for this test only
    from roundview.surface.isosurface_numba import fuse_depth  # noqa: PLC0415  numba is slow

    rng = torch.Generator().manual_seed(count)
    cameras = Cameras.orbit(
        [70.0 * i for i in range(count)],
        elevation_deg=20.0,
        radius=0.9,
        fov_deg=40.0,
        size_hw=size_hw,
    )
    views = sphere_views(cameras)
    assert views.depth is not None
    noise = 1 + 0.2 * torch.rand(views.depth.shape, generator=rng)
    ragged = views.alpha * torch.rand(views.alpha.shape, generator=rng)
    views = Views(views.rgb, ragged, cameras, views.depth * noise)
    resolution, half_width, truncation = 21, 0.7, 0.15
    step = 2 * half_width / (resolution - 1)
    depth, trust, inside_px = (t.numpy() for t in depth_evidence(views))
    grid = fuse_depth(
        depth,
        trust,
        inside_px,
        cameras.camera_from_world.numpy(),
        cameras.focal_px.numpy(),
        (truncation, 0.05, fading),
        (-half_width, step, resolution),
    )
    expected = fuse_depth_reference(
        views,
        grid_points(resolution, half_width),
        truncation=truncation,
        hidden_weight=0.05,
        fading=fading,
    )
    difference = (torch.from_numpy(grid).flatten() - expected).abs()
    # Nodes that project onto the line between two pixels may pick either of them.
    assert float((difference > 1e-4).float().mean()) < 2e-3


def test_fading_votes_leave_a_thin_wall_thin() -> None:
    # A wall from z = -0.02 to 0.02 seen from both sides, truncation 0.1. Where it ends, z beyond
    # its face: full votes of both sides, (0.04 + d) - d > 0, hold until the far one is hidden at
    # d = 0.06; faded ones, (0.04 + d) (1 - (0.04 + d) / 0.1)^2 - d, cancel at d = 0.0120.
    cameras = Cameras.orbit(
        [0.0, 180.0], elevation_deg=0.0, radius=2.0, fov_deg=40.0, size_hw=(9, 9)
    )
    alpha = torch.ones(2, 9, 9)
    views = Views(torch.ones(2, 9, 9, 3), alpha, cameras, depth=1.98 * alpha)
    beyond = torch.linspace(0.0, 0.1, 1001)
    points = torch.stack([0 * beyond, 0 * beyond, 0.02 + beyond], dim=-1)
    ends = []
    for fading in (0.0, 2.0):
        field = fuse_depth_reference(
            views, points, truncation=0.1, hidden_weight=0.0, fading=fading
        )
        ends.append(float(beyond[field > 0].max()))
    assert ends == pytest.approx([0.06, 0.0120], abs=2e-4)


def test_blur_takes_bumps_away_and_keeps_the_size() -> None:
    cameras = Cameras.orbit(
        [45.0 * k for k in range(8)] * 2,
        elevation_deg=[20.0] * 8 + [-40.0] * 8,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(64, 64),
    )
    direction = rays(cameras)
    unit = direction / direction.norm(dim=-1, keepdim=True)
    along = -(cameras.origin[:, None, None] * unit).sum(dim=-1)
    gap = cameras.origin.square().sum(dim=-1)[:, None, None] - along**2
    hit = gap < 0.3**2
    near = along - (0.3**2 - gap).clamp(min=0).sqrt()
    noise = 0.02 * torch.randn(near.shape, generator=torch.Generator().manual_seed(0))
    depth = (near + noise) / direction.norm(dim=-1) * hit
    views = Views(torch.ones(16, 64, 64, 3), hit.float(), cameras, depth=depth)

    def radii(blur: float) -> torch.Tensor:
        return mesh_from_depth(views, resolution=48, blur=blur).vertices.norm(dim=-1)

    rough, smooth = radii(0.0), radii(0.04)
    assert float(smooth.std()) < 0.6 * float(rough.std())
    assert abs(float(smooth.mean()) - 0.3) < 0.02
