import numpy as np
import pytest
import torch

from roundview.mesh import Mesh, mesh_health
from roundview.surface.decimate import decimate, flipped_faces
from roundview.surface.isosurface import mesh_from_density


def ball(resolution: int = 24) -> Mesh:
    return mesh_from_density(
        lambda points: 0.4 - points.norm(dim=-1), level=0.0, half_width=0.5, resolution=resolution
    )


def ring(resolution: int = 32) -> Mesh:
    def inside(points: torch.Tensor) -> torch.Tensor:
        return 0.13 - torch.hypot(torch.hypot(points[:, 0], points[:, 2]) - 0.3, points[:, 1])

    return mesh_from_density(inside, level=0.0, half_width=0.5, resolution=resolution)


def sheet(cells: int) -> Mesh:
    axis = torch.linspace(0, 1, cells + 1)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    corner = torch.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]
    faces = torch.cat([torch.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    return Mesh(torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3), faces)


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.vertices[mesh.faces].double().unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def area(mesh: Mesh) -> float:
    a, b, c = mesh.vertices[mesh.faces].double().unbind(1)
    return float(torch.linalg.cross(b - a, c - a).norm(dim=-1).sum() / 2)


@pytest.mark.parametrize("faces", [4, 6, 12, 100, 1000, 2000])
def test_even_budget_is_met_exactly_and_the_mesh_stays_closed(faces: int) -> None:
    mesh = decimate(ball(), faces)
    health = mesh_health(mesh)
    assert health.faces == faces
    assert health.watertight
    assert health.shells == 1
    assert health.degenerate_faces == 0
    assert health.non_manifold_edges == 0
    if faces >= 100:
        # A ball's 80 faces with their corners on the sphere lose 13% of it.
        assert volume(mesh) == pytest.approx(volume(ball()), rel=0.05 if faces == 100 else 0.01)
        assert flipped_faces(mesh) == 0


def test_odd_budget_of_a_closed_mesh_gives_one_less() -> None:
    assert len(decimate(ball(), 501).faces) == 500
    assert len(decimate(ball(8), 501, exact=True).faces) == 500


def test_hole_of_a_ring_stays() -> None:
    mesh = decimate(ring(), 200)
    health = mesh_health(mesh)
    assert (health.faces, health.watertight) == (200, True)
    assert health.vertices == 100  # As many as half the faces: a torus.
    assert volume(mesh) == pytest.approx(volume(ring()), rel=0.05)


@pytest.mark.parametrize("faces", [4, 7, 50, 51])
def test_open_sheet_meets_odd_and_even_and_keeps_its_outline(faces: int) -> None:
    mesh = decimate(sheet(8), faces)
    assert len(mesh.faces) == faces
    assert area(mesh) == pytest.approx(1.0, abs=1e-4)
    assert mesh_health(mesh).non_manifold_edges == 0


def test_vertices_of_a_coarse_ball_lie_round_the_sphere() -> None:
    radius = decimate(ball(48), 500).vertices.norm(dim=-1)
    # Between the sphere and the circumscribed one: edges of 500 faces are 0.09 long.
    assert float((radius - 0.4).abs().max()) < 0.005


def test_two_shells_share_a_tiny_budget_and_the_smallest_of_three_goes() -> None:
    parts = [(ball(12), 0.0), (ball(12), 2.0), (ball(8), 4.0)]
    count = np.cumsum([0] + [len(part.vertices) for part, _ in parts])
    mesh = Mesh(
        torch.cat([part.vertices * (1 if far < 4 else 0.1) + far for part, far in parts]),
        torch.cat([part.faces + int(n) for (part, _), n in zip(parts, count, strict=False)]),
    )
    small = decimate(mesh, 8)
    assert mesh_health(small).shells == 2
    assert float(small.vertices.max()) < 3


def test_small_mesh_is_left_alone_unless_the_count_must_be_exact() -> None:
    few = ball(6)
    assert len(decimate(few, 9000).faces) == len(few.faces)
    for faces in (len(few.faces) + 2, 1000, 5000):
        many = decimate(few, faces, exact=True)
        health = mesh_health(many)
        assert (health.faces, health.watertight, health.degenerate_faces) == (faces, True, 0)
        assert volume(many) == pytest.approx(volume(few), rel=1e-5)


def test_open_sheet_is_split_to_an_odd_count() -> None:
    assert len(decimate(sheet(2), 33, exact=True).faces) == 33


def test_same_mesh_gives_the_same_bytes() -> None:
    assert torch.equal(decimate(ring(), 300).vertices, decimate(ring(), 300).vertices)


def test_scale_does_not_matter() -> None:
    mesh = ring(20)
    far = decimate(Mesh(mesh.vertices * 1000 + 5, mesh.faces), 300)
    assert len(far.faces) == 300
    # Edges of equal cost may go in another order.
    assert volume(far) == pytest.approx(1e9 * volume(decimate(mesh, 300)), rel=0.01)


def test_impossible_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        decimate(ball(6), 3)


def test_empty_mesh_stays_empty() -> None:
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    assert len(decimate(empty, 100, exact=True).faces) == 0
    assert flipped_faces(empty) == 0


def test_fold_is_counted() -> None:
    folded = Mesh(
        torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.1, 1, 0.01]]),
        torch.tensor([[0, 1, 2], [1, 0, 3]]),
    )
    assert flipped_faces(folded) == 1
