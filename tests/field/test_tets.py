from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.field.tets import (
    TetGrid,
    deformed,
    marching_tets,
    sign_change_loss,
    tet_edges,
    tet_grid,
    tets_from_density,
)
from roundview.mesh import Mesh, mesh_health

GOLDEN = Path(__file__).parents[1] / "golden" / "marching_tets.npz"


def volume(vertices: Tensor, faces: Tensor) -> float:
    a, b, c = vertices.detach().double()[faces].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def sphere(grid: TetGrid, radius: float) -> Tensor:
    return grid.positions.norm(dim=-1) - radius


def test_one_tetrahedron_by_hand() -> None:
    corner = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    vertices, faces = marching_tets(
        torch.tensor([-1.0, 1, 1, 3]), corner, torch.tensor([[0, 1, 2, 3]])
    )
    assert _as_set(faces) == {(0, 1, 2)}
    torch.testing.assert_close(vertices, torch.tensor([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.25]]))


@pytest.mark.parametrize("case", range(16))
def test_every_case_faces_from_inside_to_outside(case: int) -> None:
    corner = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    outside = torch.tensor([(case >> k) & 1 for k in range(4)], dtype=torch.float32)
    vertices, faces = marching_tets(2 * outside - 1, corner, torch.tensor([[0, 1, 2, 3]]))
    assert len(faces) == [0, 1, 2, 1, 0][int(outside.sum())]
    if not len(faces):
        return
    way = corner[outside > 0].mean(dim=0) - corner[outside == 0].mean(dim=0)
    a, b, c = vertices[faces].unbind(1)
    assert bool(((torch.linalg.cross(b - a, c - a) * way).sum(-1) > 0).all())


def test_grid_fills_the_cube_with_upright_tetrahedra() -> None:
    grid = tet_grid(3, half_width=0.6)
    a, b, c, d = grid.positions[grid.tets].unbind(1)
    six = torch.linalg.det(torch.stack([b - a, c - a, d - a], dim=1))
    assert bool((six > 0).all())
    assert float(six.sum()) / 6 == pytest.approx(1.2**3, rel=1e-5)
    assert (len(grid.tets), len(grid.positions)) == (6 * 27, 64)
    assert grid.step == pytest.approx(0.4)


def test_neighbours_meet_face_to_face() -> None:
    tets = tet_grid(2).tets
    triples = torch.cat([tets[:, [k for k in range(4) if k != left]] for left in range(4)])
    uses = torch.unique(triples.sort(dim=1).values, dim=0, return_counts=True)[1]
    assert set(uses.tolist()) == {1, 2}
    assert int((uses == 1).sum()) == 6 * 4 * 2  # Two triangles on each square of the skin.


def test_surface_of_a_sphere_is_closed_and_faces_outward() -> None:
    grid = tet_grid(16)
    vertices, faces = marching_tets(sphere(grid, 0.4), grid.positions, grid.tets)
    health = mesh_health(Mesh(vertices, faces))
    assert health.watertight
    assert health.shells == 1
    assert volume(vertices, faces) == pytest.approx(4 / 3 * torch.pi * 0.4**3, rel=0.03)


def test_no_crossing_gives_no_face() -> None:
    grid = tet_grid(2)
    for value in (1.0, -1.0):
        vertices, faces = marching_tets(torch.full((27,), value), grid.positions, grid.tets)
        assert vertices.shape == faces.shape == (0, 3)
        assert float(sign_change_loss(torch.full((27,), value), tet_edges(grid.tets))) == 0


def test_original_routine_gives_the_same_surface_and_gradients() -> None:
    # Its field is positive inside, so both give faces that look inward.
    golden = {name: torch.from_numpy(array) for name, array in np.load(GOLDEN).items()}
    level = golden["level"][:, 0].requires_grad_()
    offset = golden["deform"].requires_grad_()
    positions = deformed(golden["grid_v"], offset, reach=1 / 6)
    vertices, faces = marching_tets(level, positions, golden["tets"].long())
    torch.testing.assert_close(vertices.detach(), golden["v"], atol=1e-5, rtol=1e-5)
    assert _as_set(faces) == _as_set(golden["f"].long())
    vertices.square().sum().backward()
    assert level.grad is not None
    assert offset.grad is not None
    # The original divides after it sums, so small distances round differently.
    torch.testing.assert_close(level.grad, golden["g_level"][:, 0], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(offset.grad, golden["g_deform"], atol=1e-4, rtol=1e-4)


def _as_set(faces: Tensor) -> set[tuple[int, ...]]:
    """Faces from their lowest vertex on, so that only the winding counts."""
    return {tuple(np.roll(face, -int(np.argmin(face))).tolist()) for face in faces.numpy()}


def test_gradients_are_those_of_finite_differences() -> None:
    grid = tet_grid(2)
    rng = torch.Generator().manual_seed(0)
    sdf = (torch.rand(27, generator=rng).double() - 0.5).requires_grad_()
    positions = grid.positions.double().requires_grad_()

    def vertices(s: Tensor, p: Tensor) -> Tensor:
        return marching_tets(s, p, grid.tets)[0]

    assert torch.autograd.gradcheck(vertices, (sdf, positions), eps=1e-7, atol=1e-5)


def test_sphere_is_fitted_by_descent_to_a_hundredth_of_its_radius() -> None:
    grid = tet_grid(8)
    sdf = sphere(grid, 0.25).requires_grad_()
    offset = torch.zeros_like(grid.positions).requires_grad_()
    descent = torch.optim.Adam([sdf, offset], lr=0.01)
    slower = torch.optim.lr_scheduler.ExponentialLR(descent, 0.97)
    edges = tet_edges(grid.tets)
    for _ in range(120):
        positions = deformed(grid.positions, offset, reach=0.5 * grid.step)
        vertices, _ = marching_tets(sdf, positions, grid.tets)
        descent.zero_grad()
        loss = (vertices.norm(dim=-1) - 0.4).square().sum()
        (loss + 1e-4 * sign_change_loss(sdf, edges)).backward()
        descent.step()
        slower.step()
    positions = deformed(grid.positions, offset, reach=0.5 * grid.step)
    vertices, faces = marching_tets(sdf.detach(), positions.detach(), grid.tets)
    assert mesh_health(Mesh(vertices, faces)).shells == 1
    off = (vertices.norm(dim=-1) - 0.4).abs()
    assert float(off.square().mean().sqrt()) < 0.004
    # Single corners next to a change of sign are caught where two edges ask for opposite moves.
    assert float(off.max()) < 0.012


def test_sign_changes_cost_by_hand_and_a_floater_costs_more() -> None:
    loss = sign_change_loss(torch.tensor([-1.0, 2.0, 3.0]), torch.tensor([[0, 1], [1, 2]]))
    # One edge is crossed: log(1 + e^1) for the first end and log(1 + e^2) for the second.
    assert float(loss) == pytest.approx(np.log1p(np.e) + np.log1p(np.e**2), rel=1e-6)
    sdf = torch.tensor([-1.0, 1.0]).requires_grad_()
    sign_change_loss(sdf, torch.tensor([[0, 1]])).backward()
    assert sdf.grad is not None
    assert sdf.grad[0] < 0 < sdf.grad[1]  # Descent brings the two together.


def test_density_becomes_distances_with_its_surface() -> None:
    def density(points: Tensor) -> Tensor:
        return 30 * (-points.square().sum(-1) / 0.08).exp()

    radius = (0.08 * np.log(30 / 10)) ** 0.5
    sdf, grid = tets_from_density(density, 10.0, resolution=24)
    vertices, faces = marching_tets(sdf, grid.positions, grid.tets)
    assert mesh_health(Mesh(vertices, faces)).watertight
    assert float((vertices.norm(dim=-1) - radius).abs().max()) < 0.02 * radius
    near = (grid.positions.norm(dim=-1) - radius).abs() < grid.step
    true = grid.positions.norm(dim=-1) - radius
    assert float((sdf - true)[near].abs().max()) < 0.2 * grid.step


def test_density_up_to_the_border_is_closed_there() -> None:
    sdf, grid = tets_from_density(lambda p: 1 + p.sum(-1) * 0.1, 0.5, resolution=4)
    vertices, faces = marching_tets(sdf, grid.positions, grid.tets)
    assert mesh_health(Mesh(vertices, faces)).watertight


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="resolution"):
        tet_grid(0)
    with pytest.raises(ValueError, match="highest value"):
        tets_from_density(lambda p: p[:, 0] * 0, 1.0, resolution=2)
