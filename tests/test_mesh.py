"""Claims about meshes: normals and health of solids whose answers are known."""

import math

import pytest
import torch

from roundview.mesh import (
    Asset,
    Mesh,
    bounds,
    centred,
    face_normals,
    join_vertices,
    mesh_health,
    vertex_normals,
)


def cube(side: float = 1.0) -> Mesh:
    """Corners at +-side/2, twelve triangles, counter-clockwise from outside."""
    corners = torch.tensor(
        [[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]
    )
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = [[q[0], q[i], q[i + 1]] for q in quads for i in (1, 2)]
    return Mesh(corners * side, torch.tensor(faces))


def split(mesh: Mesh) -> Mesh:
    """Give every face its own three vertices, as texture seams do."""
    return Mesh(
        mesh.vertices[mesh.faces].reshape(-1, 3), torch.arange(mesh.faces.numel()).reshape(-1, 3)
    )


def joined(a: Mesh, b: Mesh) -> Mesh:
    vertices = torch.cat([a.vertices, b.vertices])
    return Mesh(vertices, torch.cat([a.faces, b.faces + len(a.vertices)]))


def test_faces_must_name_vertices_that_exist() -> None:
    with pytest.raises(ValueError, match=r"0\.\.3, but there are 3"):
        Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 3]]))
    with pytest.raises(ValueError, match=r"-1\.\.1"):
        Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, -1]]))
    assert len(Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)).faces) == 0


def test_counter_clockwise_faces_look_at_the_viewer() -> None:
    triangle = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(face_normals(triangle), torch.tensor([[0.0, 0.0, 1.0]]))


def test_normals_of_a_cube_point_outwards() -> None:
    mesh = cube()
    middle = mesh.vertices[mesh.faces].mean(dim=1)
    assert bool(((face_normals(mesh) * middle).sum(-1) > 0.1).all())


def test_a_flat_face_has_no_normal() -> None:
    flat = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(face_normals(flat), torch.zeros(1, 3))
    torch.testing.assert_close(vertex_normals(flat), torch.tensor([[0.0, 1.0, 0.0]]).expand(3, 3))


def test_vertex_normals_are_unit_and_smooth_over_seams() -> None:
    whole, apart = cube(), split(cube())
    normals = vertex_normals(apart)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(36))
    torch.testing.assert_close(normals, vertex_normals(whole)[whole.faces.reshape(-1)])


def test_vertex_normals_are_weighted_by_area() -> None:
    """Where a square of area 2 that faces +Z meets one of area 1 that faces +X: 2 to 1."""
    vertices = torch.tensor([[0.0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 5], [0, 5, 4]])
    got = vertex_normals(Mesh(vertices, faces))[0]
    torch.testing.assert_close(got, torch.tensor([1.0, 0.0, 2.0]) / math.sqrt(5))


def test_vertices_at_one_place_share_a_number() -> None:
    number = join_vertices(torch.tensor([[1.0, 2, 3], [0, 0, 0], [1, 2, 3], [-0.0, 0, 0]]))
    assert number[0] == number[2]
    assert number[1] == number[3]  # minus nought is nought
    assert number[0] != number[1]
    assert join_vertices(torch.zeros(0, 3)).tolist() == []


def test_a_cube_is_healthy_with_and_without_seams() -> None:
    for mesh, vertices in ((cube(), 8), (split(cube()), 36)):
        health = mesh_health(mesh)
        assert health.watertight
        assert (health.faces, health.vertices, health.shells) == (12, vertices, 1)
        assert (health.degenerate_faces, health.non_manifold_edges) == (0, 0)
        assert health.boundary_edges == 0


def test_a_missing_face_leaves_three_open_edges() -> None:
    mesh = cube()
    health = mesh_health(Mesh(mesh.vertices, mesh.faces[1:]))
    assert not health.watertight
    assert health.boundary_edges == 3


def test_a_turned_face_is_not_manifold() -> None:
    """Its three edges run the same way as their neighbours'."""
    mesh = cube()
    faces = mesh.faces.clone()
    faces[0] = faces[0].flip(0)
    health = mesh_health(Mesh(mesh.vertices, faces))
    assert not health.watertight
    assert (health.non_manifold_edges, health.boundary_edges) == (3, 0)


def test_a_fin_is_not_manifold() -> None:
    mesh = cube()
    fin = torch.tensor([[0, 1, 8]])
    vertices = torch.cat([mesh.vertices, torch.tensor([[9.0, 9.0, 9.0]])])
    health = mesh_health(Mesh(vertices, torch.cat([mesh.faces, fin])))
    assert (health.non_manifold_edges, health.boundary_edges) == (1, 2)
    assert not health.watertight


def test_shells_are_counted_by_shared_edges() -> None:
    """Two cubes apart, and two that touch at one corner only."""
    for shift in (5.0, 1.0):
        other = cube()
        both = joined(cube(), Mesh(other.vertices + shift, other.faces))
        assert mesh_health(both).shells == 2
        assert mesh_health(both).watertight


def test_degenerate_faces_are_counted_and_not_blamed_for_holes() -> None:
    mesh = cube()
    health = mesh_health(Mesh(mesh.vertices, torch.cat([mesh.faces, torch.tensor([[0, 0, 1]])])))
    assert health.degenerate_faces == 1
    assert health.watertight


def test_nothing_is_not_watertight() -> None:
    health = mesh_health(Mesh(torch.zeros(2, 3), torch.zeros(0, 3, dtype=torch.int64)))
    assert (health.faces, health.shells, health.watertight) == (0, 0, False)


def test_bounds_and_centring_by_hand() -> None:
    mesh = Mesh(torch.tensor([[1.0, 2, 3], [5, 2, 4], [1, 3, 3]]), torch.tensor([[0, 1, 2]]))
    assert bounds(mesh.vertices).tolist() == [[1, 2, 3], [5, 3, 4]]
    moved, scale, shift = centred(mesh)
    assert scale == 0.25
    assert shift.tolist() == [-0.75, -0.625, -0.875]
    torch.testing.assert_close(moved.vertices, mesh.vertices * scale + shift)
    torch.testing.assert_close(
        bounds(moved.vertices), torch.tensor([[-0.5, -0.125, -0.125], [0.5, 0.125, 0.125]])
    )


def test_what_has_no_size_is_refused() -> None:
    with pytest.raises(ValueError, match="no bounds"):
        bounds(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="all coincide"):
        centred(Mesh(torch.ones(3, 3), torch.tensor([[0, 1, 2]])))


def test_records_are_not_shared_between_assets() -> None:
    assert Asset(cube()).record is not Asset(cube()).record
