"""Regularisers worked by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from roundview.diffusion.regularisers import (
    depth_variance_loss,
    eikonal_loss,
    jittered,
    laplacian_loss,
    mesh_edges,
    normal_consistency,
    normal_field_smoothness,
    normal_loss,
    normal_map_smoothness,
    opaqueness_loss,
    orientation_loss,
    pearson_depth_loss,
    sparsity_loss,
)

TETRAHEDRON = torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])


def test_only_normals_that_face_away_are_punished() -> None:
    # Two rays along -z. The first meets a normal towards it and, with weight 0.5, one 60 degrees
    # off its direction; the second meets nothing.
    away = torch.tensor([math.sin(math.pi / 3), 0.0, -0.5])
    normals = torch.stack([torch.tensor([0.0, 0.0, 1.0]), away]).expand(2, 2, 3)
    weights = torch.tensor([[0.4, 0.5], [0.0, 0.0]], requires_grad=True)
    direction = torch.tensor([[0.0, 0.0, -1.0]]).expand(2, 3)
    loss = orientation_loss(weights, normals, direction)
    assert float(loss.detach()) == pytest.approx(0.5 * 0.25)
    assert not loss.requires_grad  # Weights are held fixed.


def test_sparsity_and_opaqueness() -> None:
    assert float(sparsity_loss(torch.zeros(4))) == pytest.approx(0.1)
    assert float(sparsity_loss(torch.full((4,), 0.75**0.5))) == pytest.approx(0.76**0.5)
    assert float(opaqueness_loss(torch.full((3,), 0.5))) == pytest.approx(math.log(2))
    assert float(opaqueness_loss(torch.tensor([0.0, 1.0]))) < 0.01


def test_rays_that_stop_twice_are_punished() -> None:
    weights = torch.tensor([[0.4, 0.4], [0.8, 0.0], [0.1, 0.1]])
    depth = torch.tensor([[1.0, 3.0], [1.0, 3.0], [0.0, 9.0]])
    # The first ray has variance 1, the second 0; the third is too thin to count.
    assert float(depth_variance_loss(weights, depth)) == pytest.approx(0.5)
    assert float(depth_variance_loss(weights[2:], depth[2:])) == 0


def test_smooth_normals_cost_nothing() -> None:
    flat = torch.ones(1, 3, 3, 3)
    assert float(normal_map_smoothness(flat)) == 0
    step = flat.clone()
    step[:, :, 2] = 0  # One of two differences across is 1.
    assert float(normal_map_smoothness(step)) == pytest.approx(0.5)
    assert float(normal_map_smoothness(step.transpose(1, 2))) == pytest.approx(0.5)
    assert float(normal_field_smoothness(torch.ones(2, 3), torch.zeros(2, 3))) == 1


def test_points_are_moved_a_little_and_alike_for_a_seed() -> None:
    points = torch.zeros(1000, 3)
    moved = jittered(points, torch.Generator().manual_seed(0))
    assert float(moved.std()) == pytest.approx(0.01, rel=0.05)
    assert torch.equal(moved, jittered(points, torch.Generator().manual_seed(0)))


def test_eikonal_wants_a_slope_of_one() -> None:
    gradient = torch.tensor([[0.0, 0.6, 0.8], [0.0, 3.0, 0.0]], requires_grad=True)
    assert float(eikonal_loss(gradient).detach()) == pytest.approx(2)
    still = torch.zeros(1, 3, requires_grad=True)
    eikonal_loss(still).backward()
    assert still.grad is not None
    assert bool(torch.isfinite(still.grad).all())


def test_every_edge_of_a_mesh_is_given_once() -> None:
    edges = mesh_edges(TETRAHEDRON)
    assert edges.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]


def test_normals_of_neighbours_are_compared() -> None:
    normals = torch.tensor([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0]])
    edges = torch.tensor([[0, 1], [0, 2]])
    assert float(normal_consistency(normals, edges)) == pytest.approx((1 + 2) / 2)


def test_a_vertex_in_the_middle_of_its_neighbours_costs_nothing() -> None:
    line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [9, 9, 9]], requires_grad=True)
    loss = laplacian_loss(line, torch.tensor([[0, 1], [1, 2]]))
    # Ends are 1 off, the middle and the lonely one 0.
    assert float(loss.detach()) == pytest.approx(2 / 4)
    loss.backward()
    assert line.grad is not None
    assert bool(torch.isfinite(line.grad).all())


def test_depth_is_compared_up_to_scale_and_shift() -> None:
    depth = torch.arange(9.0).reshape(1, 3, 3).repeat(3, 1, 1)
    truth = torch.stack([2 * depth[0] + 5, -depth[0], torch.full((3, 3), 4.0)])
    mask = torch.ones(3, 3, 3, dtype=torch.bool)
    mask[:, 0, 0] = False
    truth[:, 0, 0] = 1e3  # Outside the mask anything goes.
    loss = pearson_depth_loss(depth, truth, mask)
    torch.testing.assert_close(loss, torch.tensor([0.0, 2.0, 1.0]), rtol=1e-5, atol=1e-5)


def test_normals_are_compared_inside_the_mask() -> None:
    normals = torch.zeros(1, 1, 3, 3)
    normals[..., 2] = 2.0
    truth = torch.tensor([[[[0.0, 0, 1], [0, 1, 0], [0, 0, -1]]]])
    mask = torch.tensor([[[True, True, False]]])
    assert float(normal_loss(normals, truth, mask)) == pytest.approx(0.5)
    assert float(normal_loss(normals, truth, torch.zeros_like(mask))) == 0


@pytest.mark.parametrize("loss", [sparsity_loss, opaqueness_loss])
def test_slopes_are_those_of_finite_differences(loss: Callable[[Tensor], Tensor]) -> None:
    opacity = torch.linspace(0.05, 0.95, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (opacity,))


def test_mesh_losses_have_the_slopes_of_finite_differences() -> None:
    rng = torch.Generator().manual_seed(0)
    edges = mesh_edges(TETRAHEDRON)

    def both(vertices: Tensor) -> tuple[Tensor, Tensor]:
        return laplacian_loss(vertices, edges), normal_consistency(vertices, edges)

    vertices = torch.randn(4, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(both, (vertices,))
