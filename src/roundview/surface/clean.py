"""From raw isosurfaces to meshes that printers and game engines take.

All functions treat the mesh as geometry: vertices at the same place are joined, texture and vertex
colour are dropped.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..mesh import Mesh, join_vertices

Vertices = NDArray[np.float64]
Faces = NDArray[np.int64]

_ROUNDS = 8
"""Repairs of one mesh before what is left is accepted; two or three do in practice."""


@dataclass(frozen=True)
class Cleaning:
    """Settings of `clean_mesh`; the defaults were chosen by us on fused depth of scanned objects.

    Attributes:
        faces: Most triangles.
        smoothing: Rounds of `smooth`, which take the steps of a grid away.
        min_fraction: Smallest part that stays, as a share of the largest part's area.
    """

    faces: int = 20000
    smoothing: int = 8
    min_fraction: float = 0.02


def clean_mesh(mesh: Mesh, settings: Cleaning = Cleaning()) -> Mesh:
    """Make a mesh closed, free of crumbs and hidden shells, smooth, and small enough.

    Raises:
        ValueError: If nothing is left.
    """
    whole = _closed(mesh)
    whole = remove_inner_shells(keep_largest_components(whole, min_fraction=settings.min_fraction))
    if not len(whole.faces):
        raise ValueError(f"no face of {len(mesh.faces)} survives the cleaning")
    small = decimate(smooth(whole, rounds=settings.smoothing), settings.faces)
    # A reduction can pinch crumbs off.
    return keep_largest_components(small, min_fraction=settings.min_fraction)


def keep_largest_components(mesh: Mesh, *, min_fraction: float = 0.02) -> Mesh:
    """Drop the face-connected parts whose area is under a share of the largest part's.

    Args:
        mesh: The mesh.
        min_fraction: Smallest share that stays, 0 (all) to 1 (only the largest).
    """
    if not 0 <= min_fraction <= 1:
        raise ValueError(f"min_fraction must lie in [0, 1], got {min_fraction}")
    vertices, faces = _arrays(mesh)
    if not len(faces):
        return _mesh(vertices, faces)
    part = _components(faces)
    area = np.bincount(part, _areas(vertices, faces))
    return _mesh(vertices, faces[(area >= min_fraction * area.max())[part]])


def remove_inner_shells(mesh: Mesh) -> Mesh:
    """Drop every part that lies inside another, and turn parts that are inside out.

    A density that is hollow gives a shell around its cavity, which nobody can see.
    """
    vertices, faces = _arrays(mesh)
    if not len(faces):
        return _mesh(vertices, faces)
    part = _components(faces)
    volume = np.bincount(part, _signed_volumes(vertices, faces))
    # Largest first: a shell can only lie inside a larger one.
    order = np.argsort(-np.abs(volume), kind="stable")
    kept: list[Faces] = []
    for index in order:
        own = faces[part == index]
        probe = vertices[own[0]].mean(axis=0)
        if any(abs(_winding(vertices[outer], probe)) > 0.5 for outer in kept):
            continue
        kept.append(own if volume[index] >= 0 else own[:, ::-1])
    return _mesh(vertices, np.concatenate(kept))


def repair(mesh: Mesh) -> Mesh:
    """Make a manifold, perhaps with holes: no face without area, none twice, no shared edges.

    Where more than two faces meet in an edge, the smallest go until two are left that run
    against each other.
    """
    vertices, faces = _arrays(mesh)
    for _ in range(_ROUNDS):
        faces = _without_slivers(vertices, faces)
        excess = _excess_faces(vertices, faces)
        if not len(excess):
            break
        faces = np.delete(faces, excess, axis=0)
    return _mesh(vertices, faces)


def fill_holes(mesh: Mesh, *, max_edges: int = 256) -> Mesh:
    """Close the holes whose rim has at most so many edges, with a fan round their middle.

    The mesh must be a manifold (see `repair`); rims that touch themselves are closed piece by
    piece.
    """
    vertices, faces = _arrays(mesh)
    added_vertices, added_faces = [vertices], [faces]
    count = len(vertices)
    for loop in _hole_loops(faces):
        if len(loop) > max_edges:
            continue
        if len(loop) == 3:
            added_faces.append(np.array([loop]))
            continue
        middle = np.full(len(loop), count)
        added_faces.append(np.stack([loop, np.roll(loop, -1), middle], axis=1))
        added_vertices.append(vertices[loop].mean(axis=0, keepdims=True))
        count += 1
    return _mesh(np.concatenate(added_vertices), np.concatenate(added_faces))


def smooth(mesh: Mesh, *, rounds: int = 8, shrink: float = 0.5, grow: float = -0.526) -> Mesh:
    """Take small bumps away without shrinking the whole.

    Taubin, "A Signal Processing Approach to Fair Surface Design", 1995, with equal weights for
    all neighbours; pass band 0.1 = 1 / shrink + 1 / grow.

    Args:
        mesh: The mesh.
        rounds: Pairs of a shrinking and a growing step; 0 changes nothing.
        shrink: Share of the way to the neighbours' mean in the first step.
        grow: The same in the second step; negative, a little larger.
    """
    from scipy.sparse import coo_matrix  # noqa: PLC0415  scipy is slow to import

    vertices, faces = _arrays(mesh)
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.unique(np.concatenate([sides, sides[:, ::-1]]), axis=0)
    neighbours = np.bincount(both[:, 0], minlength=len(vertices)).astype(np.float64)
    share = 1 / np.maximum(neighbours, 1)
    mean = coo_matrix((share[both[:, 0]], (both[:, 0], both[:, 1])), (len(vertices),) * 2).tocsr()
    for _ in range(rounds):
        for step in (shrink, grow):
            vertices = vertices + step * (mean @ vertices - vertices) * (neighbours > 0)[:, None]
    return _mesh(vertices, faces)


def decimate(mesh: Mesh, faces: int) -> Mesh:
    """Reduce to at most so many triangles and keep the mesh a manifold.

    Garland and Heckbert, "Surface Simplification Using Quadric Error Metrics", 1997, as in
    fast-simplification. Repairs after a reduction may add faces, so it is repeated until the count
    is met. A mesh that is small enough comes back joined and repaired only.

    Args:
        mesh: The mesh.
        faces: Most triangles, at least 4.

    Raises:
        ValueError: If `faces` is under 4.
    """
    if faces < 4:
        raise ValueError(f"faces must be at least 4, the fewest that close a volume, got {faces}")
    mesh = _closed(mesh)
    target = faces
    for _ in range(_ROUNDS):
        if len(mesh.faces) <= faces:
            return mesh
        mesh = _closed(_reduced(mesh, target))
        target = max(4, min(target - 1, target - 2 * (len(mesh.faces) - faces)))
    # Slivers of many tiny parts cannot shrink any further: the smallest parts go instead.
    return _within(mesh, faces)


def _closed(mesh: Mesh) -> Mesh:
    """Repair and fill in turns: a repair opens holes, a filling may touch what is there."""
    for _ in range(_ROUNDS):
        mesh = repair(mesh)
        filled = fill_holes(mesh)
        if len(filled.faces) == len(mesh.faces):
            break
        mesh = filled
    return repair(mesh)


def _reduced(mesh: Mesh, target: int) -> Mesh:
    import fast_simplification  # noqa: PLC0415  only needed here

    vertices, faces = _arrays(mesh)
    reduced = fast_simplification.simplify(vertices, faces.astype(np.int32), target_count=target)
    return _mesh(reduced[0], reduced[1])


def _within(mesh: Mesh, faces: int) -> Mesh:
    vertices, triangles = _arrays(mesh)
    part = _components(triangles)
    area = np.bincount(part, _areas(vertices, triangles))
    order = np.argsort(-area, kind="stable")
    count = np.bincount(part)[order].cumsum()
    kept = order[count <= faces]
    if not len(kept):
        raise ValueError(f"the mesh cannot be reduced to {faces} faces; allow more")
    return _mesh(vertices, triangles[np.isin(part, kept)])


def _arrays(mesh: Mesh) -> tuple[Vertices, Faces]:
    """Join vertices at the same place; drop those without a face."""
    vertices = mesh.vertices.detach().cpu().numpy().astype(np.float64)
    if not len(mesh.faces):
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    joined = join_vertices(mesh.vertices).cpu().numpy()
    first = np.zeros(int(joined.max()) + 1, np.int64)
    first[joined[::-1]] = np.arange(len(joined))[::-1]
    used, faces = np.unique(joined[mesh.faces.cpu().numpy()], return_inverse=True)
    return vertices[first[used]], faces.reshape(-1, 3)


def _mesh(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> Mesh:
    used, renumbered = np.unique(faces, return_inverse=True)
    return Mesh(
        torch.from_numpy(vertices[used].astype(np.float32)),
        torch.from_numpy(renumbered.reshape(-1, 3).astype(np.int64)),
    )


def _doubled_normals(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    return np.cross(b - a, c - a)


def _areas(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    return 0.5 * np.linalg.norm(_doubled_normals(vertices, faces), axis=1)


def _signed_volumes(vertices: Vertices, faces: Faces) -> NDArray[np.float64]:
    """Volume of the tetrahedron of each face with the origin; their sum is what they enclose."""
    return (vertices[faces[:, 0]] * _doubled_normals(vertices, faces)).sum(axis=1) / 6


def _winding(corners: NDArray[np.float64], point: NDArray[np.float64]) -> float:
    """How often a surface goes round a point: 1 inside, 0 outside.

    Van Oosterom and Strackee, "The Solid Angle of a Plane Triangle", 1983, eq. 8.
    """
    a, b, c = np.moveaxis(corners - point, 1, 0)
    la, lb, lc = (np.linalg.norm(side, axis=1) for side in (a, b, c))
    above = (a * np.cross(b, c)).sum(1)
    below = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
    return float(np.arctan2(above, below).sum() / (2 * np.pi))


def _edges(faces: Faces) -> tuple[Faces, NDArray[np.int64]]:
    """List every directed side, all first sides first, and the undirected edge it lies on."""
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    low, high = sides.min(axis=1), sides.max(axis=1)
    key = low * (int(faces.max()) + 1 if len(faces) else 1) + high
    return sides, np.unique(key, return_inverse=True)[1].reshape(-1)


def _components(faces: Faces) -> NDArray[np.int64]:
    """Number the parts that hang together by edges; one number a face."""
    from scipy.sparse import coo_matrix  # noqa: PLC0415  scipy is slow to import
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    _, edge = _edges(faces)
    face = np.tile(np.arange(len(faces)), 3)
    size = len(faces) + int(edge.max()) + 1
    graph = coo_matrix((np.ones(len(face), bool), (face, len(faces) + edge)), (size, size))
    part = connected_components(graph, directed=False)[1][: len(faces)]
    return np.unique(part, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _without_slivers(vertices: Vertices, faces: Faces) -> Faces:
    """Collapse the shortest side of faces without area, and drop faces that occur twice."""
    target = np.arange(len(vertices))
    doubled = np.linalg.norm(_doubled_normals(vertices, faces), axis=1)
    # Twice what `mesh_health` calls degenerate, so that rounding cannot bring one back.
    for face in faces[doubled <= 2e-14]:
        corner = vertices[face]
        length = np.linalg.norm(corner - np.roll(corner, -1, axis=0), axis=1)
        start = int(length.argmin())
        a, b = sorted((int(target[face[start]]), int(target[face[(start + 1) % 3]])))
        target[target == b] = a
    faces = target[faces]
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    return _without_twins(faces)


def _without_twins(faces: Faces) -> Faces:
    """Keep one of faces that coincide, and none of two that turn their backs to each other."""
    _, first, same = np.unique(
        np.sort(faces, axis=1), axis=0, return_index=True, return_inverse=True
    )
    same = same.reshape(-1)
    lowest = np.argmin(faces, axis=1)
    row = np.arange(len(faces))
    rises = faces[row, (lowest + 1) % 3] < faces[row, (lowest + 2) % 3]
    surplus = np.bincount(same, np.where(rises, 1, -1), len(first))
    stays = (surplus[same] != 0) & (rises == (surplus[same] > 0))
    chosen = np.unique(same[stays], return_index=True)[1]
    return faces[np.sort(np.flatnonzero(stays)[chosen])]


def _excess_faces(vertices: Vertices, faces: Faces) -> NDArray[np.int64]:
    """Find faces to drop so that at most one runs along each side of each edge."""
    if not len(faces):
        return np.zeros(0, np.int64)
    sides, edge = _edges(faces)
    way = 2 * edge + (sides[:, 0] < sides[:, 1])
    face = np.tile(np.arange(len(faces)), 3)
    # Of the sides that run the same way, the one of the largest face comes first and stays.
    order = np.lexsort((face, -_areas(vertices, faces)[face], way))
    later = np.concatenate([[False], way[order][1:] == way[order][:-1]])
    return np.unique(face[order[later]])


def _hole_loops(faces: Faces) -> list[NDArray[np.int64]]:
    """Walk along the open sides against their direction; every loop visits a vertex once."""
    if not len(faces):
        return []
    sides, edge = _edges(faces)
    open_sides = sides[np.bincount(edge)[edge] == 1]
    onward: dict[int, list[int]] = {}
    for start, end in open_sides[np.lexsort((open_sides[:, 0], open_sides[:, 1]))]:
        onward.setdefault(int(end), []).append(int(start))
    loops = []
    for first in sorted(onward):
        while onward[first]:
            loops += _walk(onward, first)
    return loops


def _walk(onward: dict[int, list[int]], first: int) -> list[NDArray[np.int64]]:
    """Follow open sides until they end; cut a loop off whenever a vertex comes up again."""
    path, place, loops = [first], {first: 0}, []
    while onward.get(path[-1]):
        following = onward[path[-1]].pop()
        if following in place:
            start = place[following]
            loops.append(np.array(path[start:], np.int64))
            for vertex in path[start + 1 :]:
                del place[vertex]
            del path[start + 1 :]
        else:
            place[following] = len(path)
            path.append(following)
    return [loop for loop in loops if len(loop) >= 3]
