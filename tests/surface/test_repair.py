import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.mesh import Mesh, mesh_health
from roundview.surface.holes import fill_holes
from roundview.surface.isosurface import mesh_from_density
from roundview.surface.repair import (
    closed_mesh,
    facing_alike,
    facing_outward,
    repair,
    split_pinches,
)

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


def together(*parts: Mesh) -> Mesh:
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts])
    return Mesh(
        torch.cat([part.vertices for part in parts]),
        torch.cat([part.faces + int(o) for part, o in zip(parts, offsets, strict=False)]),
    )


def ball(radius: float = 0.4, resolution: int = 24) -> Mesh:
    def inside(points: Tensor) -> Tensor:
        return radius - points.norm(dim=-1)

    return mesh_from_density(inside, level=0.0, half_width=0.5, resolution=resolution)


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.vertices[mesh.faces].double().unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def test_face_twice_and_fin_and_sliver_go() -> None:
    extra = torch.tensor([[0, 1, 3], [0, 1, 8], [2, 2, 3]])
    mesh = Mesh(
        torch.cat([cube().vertices, torch.tensor([[-0.6, 0.0, -0.7]])]),
        torch.cat([CUBE_FACES, extra]),
    )
    assert mesh_health(mesh).non_manifold_edges > 0
    health = mesh_health(fill_holes(repair(mesh)))
    assert health.watertight
    assert health.faces == 12


def test_two_faces_back_to_back_vanish() -> None:
    flap = torch.tensor([[8, 9, 10], [9, 8, 10]])
    mesh = Mesh(torch.cat([cube().vertices, torch.eye(3) + 2]), torch.cat([CUBE_FACES, flap]))
    assert mesh_health(repair(mesh)).shells == 1


def test_sliver_with_three_corners_on_a_line_is_collapsed() -> None:
    # Corner 8 lies on the edge 0-1, so the middle triangle has no area.
    vertices = torch.cat([cube().vertices, (cube().vertices[0] + cube().vertices[1])[None] / 2])
    split = torch.tensor([[0, 8, 3], [8, 1, 3]])
    mesh = Mesh(vertices, torch.cat([CUBE_FACES[1:], split, torch.tensor([[0, 1, 8]])]))
    health = mesh_health(fill_holes(repair(mesh)))
    assert health.degenerate_faces == 0
    assert health.watertight


def test_two_cubes_that_touch_in_an_edge_part_into_two() -> None:
    other = Mesh(cube().vertices + torch.tensor([1.0, 1.0, 0.0]), CUBE_FACES)
    touching = together(cube(), other)
    assert mesh_health(touching).non_manifold_edges == 1
    health = mesh_health(repair(touching))
    assert health.non_manifold_edges == 0
    assert health.watertight
    assert (health.shells, health.vertices) == (2, 16)
    assert volume(repair(touching)) == pytest.approx(2.0, rel=0.01)


def test_two_cubes_that_touch_in_a_corner_get_a_vertex_each() -> None:
    touching = together(cube(), cube(1.0, 1.0))
    vertices, _ = split_pinches(*_arrays(touching))
    assert len(vertices) == 16
    apart = np.unique(vertices, axis=0)
    assert len(apart) == 16


def _arrays(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    from roundview.surface.topology import arrays_of  # noqa: PLC0415  for this test only

    return arrays_of(mesh)


def test_turned_faces_are_turned_back() -> None:
    mesh = ball()
    some = torch.rand(len(mesh.faces), generator=torch.Generator().manual_seed(0)) < 0.3
    mixed = Mesh(mesh.vertices, torch.where(some[:, None], mesh.faces.flip(1), mesh.faces))
    assert not mesh_health(mixed).watertight
    assert mesh_health(repair(mixed)).watertight
    assert volume(repair(mixed)) == pytest.approx(volume(mesh), rel=1e-6)


def test_parts_turn_outward_even_with_a_hole() -> None:
    inward = Mesh(ball().vertices + 3, ball().faces.flip(1)[5:])
    mesh = facing_outward(together(cube(inside_out=True), inward))
    assert volume(fill_holes(mesh)) == pytest.approx(1 + volume(ball()), rel=1e-3)


def test_moebius_band_stays_as_it_is() -> None:
    band = np.array([[k, (k + 1) % 5, (k + 2) % 5] for k in range(5)])
    assert np.array_equal(facing_alike(band), band)


def test_smaller_of_three_faces_at_an_edge_goes() -> None:
    far = torch.tensor([[-0.9, 0.0, -0.9]])
    mesh = Mesh(
        torch.cat([cube().vertices, far]), torch.cat([CUBE_FACES, torch.tensor([[0, 1, 8]])])
    )
    health = mesh_health(repair(mesh))
    assert health.non_manifold_edges == 0


def test_all_damage_at_once_is_closed() -> None:
    mesh = ball()
    rng = torch.Generator().manual_seed(5)
    keep = torch.rand(len(mesh.faces), generator=rng) > 0.05
    turned = torch.rand(int(keep.sum()), generator=rng) < 0.2
    faces = mesh.faces[keep]
    faces = torch.where(turned[:, None], faces.flip(1), faces)
    fins = torch.randint(0, len(mesh.vertices), (5, 3), generator=rng)
    health = mesh_health(closed_mesh(Mesh(mesh.vertices, torch.cat([faces, faces[:9], fins]))))
    assert health.watertight
    assert health.degenerate_faces == 0


def test_empty_mesh_stays_empty() -> None:
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    for verb in (repair, closed_mesh, facing_outward):
        assert len(verb(empty).faces) == 0
