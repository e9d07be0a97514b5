"""Meshes of exactly as many triangles as were asked for."""

import heapq

import numpy as np

from ..mesh import Mesh
from .topology import (
    Faces,
    Vertices,
    areas,
    arrays_of,
    components,
    doubled_normals,
    mesh_of,
    sides_and_edges,
)


class TooManyTunnels(ValueError):  # noqa: N818  says what is wrong with the mesh
    """A mesh whose topology needs more triangles than were asked for."""


def decimate(mesh: Mesh, faces: int, *, exact: bool = False) -> Mesh:
    """Reduce a mesh to so many triangles, by collapsing the edges that matter least.

    Garland and Heckbert, "Surface Simplification Using Quadric Error Metrics", 1997, with planes
    weighted by area. A collapse that would change the topology (Dey et al., "Topology Preserving
    Edge Contraction", 1999), turn a face over or make it a sliver waits for a better moment. Ours
    also adds a little of the distance between old and new vertices, which makes the best place
    unique on flat parts, and spreads vertices evenly there.

    Exactly `faces` triangles come out if that many go in, with two exceptions. A closed mesh has an
    even number of them, so an odd budget gives one less. And a part cannot have fewer than 4: where
    there are more than `faces` / 4 parts, the smallest go first.

    Args:
        mesh: A mesh without edges of three faces (see `repair`); holes stay.
        faces: Most triangles, at least 4.
        exact: Split the longest edges of a mesh that has fewer, until it has as many; the shape
            stays as it is.

    Returns:
        The mesh, its vertices joined, without texture.

    Raises:
        ValueError: If `faces` is under 4.
        TooManyTunnels: If the mesh has so many tunnels that it cannot be that small.
    """
    if faces < 4:
        raise ValueError(f"faces must be at least 4, the fewest that close a volume, got {faces}")
    vertices, triangles = arrays_of(mesh)
    if len(triangles) > faces:
        triangles = _largest_parts(vertices, triangles, faces // 4)
    if len(triangles) > faces:
        vertices, triangles = _collapsed(vertices, triangles, faces)
    if exact and len(triangles):
        vertices, triangles = _subdivided(vertices, triangles, faces)
    return mesh_of(vertices, triangles)


def _largest_parts(vertices: Vertices, faces: Faces, count: int) -> Faces:
    part = components(faces)
    area = np.bincount(part, areas(vertices, faces))
    return faces[np.isin(part, np.argsort(-area, kind="stable")[:count])]


def _collapsed(vertices: Vertices, faces: Faces, target: int) -> tuple[Vertices, Faces]:
    from .decimate_numba import collapse  # noqa: PLC0415  numba is slow to import

    # One size for all, so that the limits mean the same.
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    size = float((high - low).max()) or 1.0
    places, triangles = collapse((vertices - low) / size, faces, target)
    if len(triangles) > target:
        raise TooManyTunnels(
            f"the mesh cannot be reduced from {len(faces)} to {target} faces, only to "
            f"{len(triangles)}; allow more"
        )
    return places * size + low, triangles


def _subdivided(vertices: Vertices, faces: Faces, target: int) -> tuple[Vertices, Faces]:
    """Split until there are `target` faces, or one less if none with one new face is left."""
    while 4 * len(faces) <= target:
        vertices, faces = _quartered(vertices, faces)
    places, corners = list(vertices), [tuple(face) for face in faces.tolist()]
    beside = faces_beside(corners)
    queue = [(-edge_length(places, edge), edge) for edge in beside]
    heapq.heapify(queue)
    while queue and len(corners) < target:
        edge = heapq.heappop(queue)[1]
        if len(corners) + len(beside[edge]) > target:
            continue
        places.append(0.5 * (places[edge[0]] + places[edge[1]]))
        for fresh in split_edge(edge, len(places) - 1, corners, beside):
            heapq.heappush(queue, (-edge_length(places, fresh), fresh))
    return np.array(places), np.array(corners, np.int64).reshape(-1, 3)


def _quartered(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """Cut every face into four at the middles of its edges."""
    sides, edge = sides_and_edges(faces)
    first = np.unique(edge, return_index=True)[1]
    middle = vertices[sides[first]].mean(axis=1)
    ab, bc, ca = (len(vertices) + edge).reshape(3, -1)
    a, b, c = faces.T
    fresh = np.concatenate(
        [np.stack(face, axis=1) for face in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    )
    return np.concatenate([vertices, middle]), fresh


def faces_beside(corners: list[tuple[int, int, int]]) -> dict[tuple[int, int], list[int]]:
    """List the faces at each edge, named by its vertices, lower first."""
    beside: dict[tuple[int, int], list[int]] = {}
    for index, face in enumerate(corners):
        for k in range(3):
            beside.setdefault(_ordered(face[k], face[(k + 1) % 3]), []).append(index)
    return beside


def split_edge(
    edge: tuple[int, int],
    middle: int,
    corners: list[tuple[int, int, int]],
    beside: dict[tuple[int, int], list[int]],
) -> list[tuple[int, int]]:
    """Cut the faces beside an edge in two at a vertex, in place.

    Args:
        edge: A key of `beside`.
        middle: The number of the new vertex.
        corners: All faces.
        beside: See `faces_beside`.

    Returns:
        The new edges.
    """
    halves = [_ordered(edge[0], middle), _ordered(edge[1], middle)]
    across = []
    beside[halves[0]], beside[halves[1]] = [], []
    for index in beside.pop(edge):
        face = corners[index]
        at = next(k for k in range(3) if {face[k], face[(k + 1) % 3]} == set(edge))
        a, b, c = face[at], face[(at + 1) % 3], face[(at + 2) % 3]
        corners[index] = (a, middle, c)
        corners.append((middle, b, c))
        beside[_ordered(a, middle)].append(index)
        beside[_ordered(b, middle)].append(len(corners) - 1)
        outer = beside[_ordered(b, c)]
        outer[outer.index(index)] = len(corners) - 1
        across.append(_ordered(middle, c))
        beside.setdefault(across[-1], []).extend([index, len(corners) - 1])
    return halves + across


def _ordered(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


def edge_length(places: list[np.ndarray], edge: tuple[int, int]) -> float:
    """Measure an edge."""
    return float(np.linalg.norm(places[edge[0]] - places[edge[1]]))


def flipped_faces(mesh: Mesh, *, angle_deg: float = 150.0) -> int:
    """Count pairs of neighbours whose normals differ by more than an angle: folds of a surface."""
    vertices, faces = arrays_of(mesh)
    if not len(faces):
        return 0
    normal = doubled_normals(vertices, faces)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    edge = sides_and_edges(faces)[1]
    order = np.argsort(edge, kind="stable")
    face = np.tile(np.arange(len(faces)), 3)[order]
    pair = np.flatnonzero(edge[order][1:] == edge[order][:-1])
    cosine = (normal[face[pair]] * normal[face[pair + 1]]).sum(axis=1)
    return int((cosine < np.cos(np.deg2rad(angle_deg))).sum())
