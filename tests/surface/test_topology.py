import numpy as np
import pytest
import torch

from roundview.mesh import Mesh
from roundview.surface.topology import (
    areas,
    arrays_of,
    components,
    connected,
    doubled_normals,
    mesh_of,
    sides_and_edges,
    signed_volumes,
)

CORNERS = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def test_arrays_join_places_and_forget_the_unused() -> None:
    soup = Mesh(
        torch.from_numpy(np.concatenate([CORNERS[TETRAHEDRON].reshape(-1, 3), [[9, 9, 9]]])),
        torch.arange(12).reshape(4, 3),
    )
    vertices, faces = arrays_of(soup)
    assert len(vertices) == 4
    np.testing.assert_allclose(vertices[faces], CORNERS[TETRAHEDRON])


def test_there_and_back_changes_nothing_but_the_numbers() -> None:
    vertices, faces = arrays_of(mesh_of(CORNERS, TETRAHEDRON[1:]))
    np.testing.assert_allclose(vertices[faces], CORNERS[TETRAHEDRON[1:]])
    assert len(mesh_of(CORNERS, TETRAHEDRON[:1]).vertices) == 3


def test_empty_mesh_gives_empty_arrays() -> None:
    vertices, faces = arrays_of(Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int64)))
    assert vertices.shape == faces.shape == (0, 3)
    assert len(components(faces)) == 0


def test_area_normal_and_volume_by_hand() -> None:
    np.testing.assert_allclose(doubled_normals(CORNERS, TETRAHEDRON)[0], [0, 0, -1])
    np.testing.assert_allclose(areas(CORNERS, TETRAHEDRON), [0.5, 0.5, 0.5, 3**0.5 / 2])
    assert signed_volumes(CORNERS, TETRAHEDRON).sum() == pytest.approx(1 / 6)


def test_every_edge_of_a_closed_mesh_has_two_sides_that_run_apart() -> None:
    sides, edge = sides_and_edges(TETRAHEDRON)
    assert np.bincount(edge).tolist() == [2] * 6
    for number in range(6):
        there, back = sides[edge == number]
        assert there.tolist() == back[::-1].tolist()


def test_parts_hang_together_by_edges_not_by_corners() -> None:
    faces = np.array([[0, 1, 2], [2, 1, 3], [3, 4, 5]])
    part = components(faces)
    assert part[0] == part[1] != part[2]
    assert connected(np.array([0]), np.array([2]), 3).tolist() == [0, 1, 0]
