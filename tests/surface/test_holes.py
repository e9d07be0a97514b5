import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.mesh import Mesh, mesh_health
from roundview.surface.decimate import flipped_faces
from roundview.surface.holes import fill_holes
from roundview.surface.isosurface import mesh_from_density

CUBE_CORNERS = torch.tensor([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
CUBE_FACES = torch.tensor(
    [
        *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]),
        *([2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),
    ]
)


def cube(size: float = 1.0, shift: float = 0.0, *, inside_out: bool = False) -> Mesh:
    faces = CUBE_FACES.flip(1) if inside_out else CUBE_FACES
    return Mesh((CUBE_CORNERS - 0.5) * size + shift, faces)


def ball(radius: float = 0.4, resolution: int = 24) -> Mesh:
    def inside(points: Tensor) -> Tensor:
        return radius - points.norm(dim=-1)

    return mesh_from_density(inside, level=0.0, half_width=0.5, resolution=resolution)


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.vertices[mesh.faces].double().unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("missing", [[0], [0, 1], [0, 1, 2, 3], [0, 3]])
def test_holes_are_closed(missing: list[int]) -> None:
    stay = [i for i in range(12) if i not in missing]
    mesh = fill_holes(Mesh(cube().vertices, CUBE_FACES[stay]))
    assert mesh_health(mesh).watertight
    assert volume(mesh) == pytest.approx(1.0)


def test_hole_with_a_long_rim_stays_open() -> None:
    open_box = Mesh(cube().vertices, CUBE_FACES[2:])
    assert mesh_health(fill_holes(open_box, max_edges=3)).boundary_edges == 4


def without_cap(mesh: Mesh, above: float) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces[mesh.vertices[mesh.faces].amin(dim=1)[:, 1] < above])


def test_patch_continues_the_curve_of_a_ball() -> None:
    open_ball = without_cap(ball(resolution=32), 0.3)
    flat, fair = fill_holes(open_ball, fair=False), fill_holes(open_ball)
    whole = volume(ball(resolution=32))
    assert mesh_health(fair).watertight
    assert mesh_health(flat).watertight
    assert abs(volume(fair) - whole) < 0.3 * abs(volume(flat) - whole)
    assert flipped_faces(fair) == 0
    # The ball reaches 0.4, the rim 0.3; the jagged rim's slope takes the patch to most of that.
    assert 0.36 < float(fair.vertices[:, 1].max()) < 0.42


def test_patch_is_about_as_fine_as_what_is_round_it() -> None:
    open_ball = without_cap(ball(resolution=32), 0.3)
    added = len(fill_holes(open_ball).faces) - len(open_ball.faces)
    missing = len(ball(resolution=32).faces) - len(open_ball.faces)
    assert 0.5 * missing < added < 2 * missing


def test_long_rim_gets_a_fan_where_all_must_close() -> None:
    turn = torch.arange(300) * (2 * torch.pi / 300)
    rim = torch.stack([turn.cos(), turn.sin(), torch.zeros(300)], dim=1)
    cone = Mesh(
        torch.cat([rim, torch.tensor([[0.0, 0, -1]])]),
        torch.tensor([[(k + 1) % 300, k, 300] for k in range(300)]),
    )
    assert mesh_health(fill_holes(cone)).boundary_edges == 300
    health = mesh_health(fill_holes(cone, max_edges=None, fair=False))
    assert health.watertight
    assert health.degenerate_faces == 0


def test_no_edge_of_a_patch_is_one_that_the_mesh_has() -> None:
    # The rim 0 1 2 3 is closed across 0-2 or 1-3; a flap outside has taken 0-2 already.
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1.2, 1.2, 0], [0, 1, 0], [0.5, 0.5, -1]])
    walls = torch.tensor([[1, 0, 4], [2, 1, 4], [3, 2, 4], [0, 3, 4]])
    flap = torch.tensor([[0, 2, 5]])
    mesh = Mesh(torch.cat([vertices, torch.tensor([[0.5, 0.5, 3.0]])]), torch.cat([walls, flap]))
    closed = fill_holes(mesh)
    assert mesh_health(closed).non_manifold_edges == 0


def test_empty_and_closed_meshes_stay() -> None:
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    assert len(fill_holes(empty).faces) == 0
    assert len(fill_holes(cube()).faces) == 12
    assert np.isclose(volume(fill_holes(cube())), 1)
