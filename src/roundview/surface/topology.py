"""Meshes as arrays of joined vertices and faces: what cleaning, repair and reduction share."""

import numpy as np
import torch
from numpy.typing import NDArray

from ..mesh import Mesh, join_vertices

Vertices = NDArray[np.float64]
Faces = NDArray[np.int64]


def arrays_of(mesh: Mesh) -> tuple[Vertices, Faces]:
    """Join vertices at the same place; drop those without a face."""
    vertices = mesh.vertices.detach().cpu().numpy().astype(np.float64)
    if not len(mesh.faces):
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    joined = join_vertices(mesh.vertices).cpu().numpy()
    first = np.zeros(int(joined.max()) + 1, np.int64)
    first[joined[::-1]] = np.arange(len(joined))[::-1]
    used, faces = np.unique(joined[mesh.faces.cpu().numpy()], return_inverse=True)
    return vertices[first[used]], faces.reshape(-1, 3)


def mesh_of(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> Mesh:
    """Make a mesh of what faces use; vertices without a face go."""
    used, renumbered = np.unique(faces, return_inverse=True)
    return Mesh(
        torch.from_numpy(vertices[used].astype(np.float32)),
        torch.from_numpy(renumbered.reshape(-1, 3).astype(np.int64)),
    )


def doubled_normals(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    """Give normals of twice the faces' areas."""
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    return np.cross(b - a, c - a)


def areas(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    """Give the area of each face."""
    return 0.5 * np.linalg.norm(doubled_normals(vertices, faces), axis=1)


def signed_volumes(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    """Volume of the tetrahedron of each face with the origin; their sum is what they enclose."""
    return (vertices[faces[:, 0]] * doubled_normals(vertices, faces)).sum(axis=1) / 6


def sides_and_edges(faces: Faces) -> tuple[Faces, NDArray[np.int64]]:
    """List every directed side, all first sides first, and the undirected edge it lies on."""
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    low, high = sides.min(axis=1), sides.max(axis=1)
    key = low * (int(faces.max()) + 1 if len(faces) else 1) + high
    return sides, np.unique(key, return_inverse=True)[1].reshape(-1)


def components(faces: Faces) -> NDArray[np.int64]:
    """Number the parts that hang together by edges; one number a face."""
    edge = sides_and_edges(faces)[1]
    face = np.tile(np.arange(len(faces)), 3)
    count = int(edge.max()) + 1 if len(edge) else 0
    return connected(face, len(faces) + edge, len(faces) + count)[: len(faces)]


def connected(one: NDArray[np.int64], other: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Number what pairs link together, in the order of first members; one number a member."""
    from scipy.sparse import coo_matrix  # noqa: PLC0415  scipy is slow to import
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    graph = coo_matrix((np.ones(len(one), bool), (one, other)), (count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)
