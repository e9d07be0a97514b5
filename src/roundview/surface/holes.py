"""Patches for the holes of a surface."""

import heapq

import numpy as np
from numpy.typing import NDArray

from ..mesh import Mesh
from .decimate import edge_length, faces_beside, split_edge
from .topology import Faces, Vertices, arrays_of, mesh_of, sides_and_edges

_MOST_EXACT = 256
"""Longest rim whose smallest patch is searched for: that takes the cube of its length."""
_COARSE = 1.5
"""Edges of a patch are split until they are at most so many times those of the rim. By us."""
_FLIPPING_ROUNDS = 10
"""Passes over a patch's edges after which flipping ends; three to six do in practice."""
_MOST_SPLITS = 20000
"""Vertices that a patch may get: a bound for rims with tiny edges."""


def fill_holes(mesh: Mesh, *, max_edges: int | None = 256, fair: bool = True) -> Mesh:
    """Close the holes whose rim has at most so many edges.

    Liepa, "Filling Holes in Meshes", 2003: the patch of least area (Barequet and Sharir, 1995),
    split as fine as its surroundings, then made to continue their curvature. Ours splits longest
    edges instead of centres of faces, and minimises the squared Laplacian with equal weights.

    Args:
        mesh: A manifold (see `repair`); rims that touch themselves are closed piece by piece.
        max_edges: Longest rim that is closed; None closes all.
        fair: Split and bend the patches; else they keep to the vertices of the rim.
    """
    vertices, faces = arrays_of(mesh)
    loops = [loop for loop in _hole_loops(faces) if max_edges is None or len(loop) <= max_edges]
    if not loops:
        return mesh_of(vertices, faces)
    taken = _edges_between(faces, np.concatenate(loops))
    added: list[Faces] = []
    fresh: list[NDArray[np.int64]] = []
    for loop in loops:
        patch, vertices = _patch(loop, vertices, taken)
        if fair and len(loop) > 6:
            rim_edge = np.linalg.norm(vertices[loop] - vertices[np.roll(loop, -1)], axis=1).mean()
            first = len(vertices)
            vertices, patch = _refined(vertices, patch, _COARSE * float(rim_edge), taken)
            fresh.append(np.arange(first, len(vertices)))
        taken |= _edges_between(patch, patch.reshape(-1))
        added.append(patch)
    faces = np.concatenate([faces, *added])
    if fresh:
        vertices = _faired(vertices, faces, np.concatenate(fresh))
    return mesh_of(vertices, faces)


def _edges_between(faces: Faces, vertices: NDArray[np.int64]) -> set[tuple[int, int]]:
    """List the edges of faces both of whose ends are among some vertices, lower end first."""
    sides = np.sort(sides_and_edges(faces)[0], axis=1)
    sides = sides[np.isin(sides, vertices).all(axis=1)]
    return {(int(a), int(b)) for a, b in sides}


def _patch(
    loop: NDArray[np.int64], vertices: Vertices, taken: set[tuple[int, int]]
) -> tuple[Faces, Vertices]:
    """Triangulate a rim; round a new vertex in its middle where nothing else will do."""
    if len(loop) <= _MOST_EXACT:
        patch = _least_area(loop, vertices, taken)
        if patch is not None:
            return patch, vertices
    middle = np.full(len(loop), len(vertices))
    fan = np.stack([loop, np.roll(loop, -1), middle], axis=1)
    return fan, np.concatenate([vertices, vertices[loop].mean(axis=0, keepdims=True)])


def _least_area(
    loop: NDArray[np.int64], vertices: Vertices, taken: set[tuple[int, int]]
) -> Faces | None:
    """Find the triangles of least total area between the vertices of a rim.

    Returns:
        The faces, or None if all need an edge that the mesh has already.
    """
    n = len(loop)
    place = vertices[loop]
    cost = np.full((n, n), np.inf)
    best = np.zeros((n, n), np.int64)
    cost[np.arange(n - 1), np.arange(1, n)] = 0
    barred = np.zeros((n, n), bool)
    where = {int(v): at for at, v in enumerate(loop)}
    for a, b in taken:
        if a in where and b in where:
            i, j = sorted((where[a], where[b]))
            barred[i, j] = 1 < j - i < n - 1
    for span in range(2, n):
        i = np.arange(n - span)[:, None]
        j, k = i + span, i + np.arange(1, span)[None]
        area = np.linalg.norm(np.cross(place[k] - place[i], place[j] - place[i]), axis=-1)
        # A sliver has no area, yet no use either.
        side = np.linalg.norm(place[k] - place[i], axis=-1) ** 2 * 1e-6
        total = cost[i, k] + cost[k, j] + area + side
        choice = total.argmin(axis=1)
        row = np.arange(n - span)
        best[row, row + span] = choice + row + 1
        cost[row, row + span] = np.where(barred[row, row + span], np.inf, total[row, choice])
    if not np.isfinite(cost[0, n - 1]):
        return None
    faces, waiting = [], [(0, n - 1)]
    while waiting:
        i, j = waiting.pop()
        if j - i >= 2:
            k = int(best[i, j])
            faces.append((loop[i], loop[k], loop[j]))
            waiting += [(i, k), (k, j)]
    return np.array(faces, np.int64)


def _refined(
    vertices: Vertices, patch: Faces, longest: float, taken: set[tuple[int, int]]
) -> tuple[Vertices, Faces]:
    """Split and flip the inner edges of a patch until none is longer than asked."""
    places, corners = list(vertices), [tuple(face) for face in patch.tolist()]
    beside = faces_beside(corners)
    most = len(vertices) + _MOST_SPLITS
    # From coarse to fine, because flips make the long edges of the first patch short.
    for limit in (4 * longest, 2 * longest, longest):
        _relax(places, corners, beside, taken)
        inner = [edge for edge, both in beside.items() if len(both) == 2]
        queue = [(-edge_length(places, edge), edge) for edge in inner]
        heapq.heapify(queue)
        while queue and -queue[0][0] > limit and len(places) < most:
            edge = heapq.heappop(queue)[1]
            places.append(0.5 * (places[edge[0]] + places[edge[1]]))
            for fresh in split_edge(edge, len(places) - 1, corners, beside):
                heapq.heappush(queue, (-edge_length(places, fresh), fresh))
    _relax(places, corners, beside, taken)
    return np.array(places), np.array(corners, np.int64).reshape(-1, 3)


def _relax(
    places: list[np.ndarray],
    corners: list[tuple[int, int, int]],
    beside: dict[tuple[int, int], list[int]],
    taken: set[tuple[int, int]],
) -> None:
    """Flip inner edges whose opposite angles exceed half a turn, as in a Delaunay triangulation."""
    for _ in range(_FLIPPING_ROUNDS):
        flipped = False
        for edge in [edge for edge, both in beside.items() if len(both) == 2]:
            one, other = beside[edge]
            a, b = _side(corners[one], edge)
            c = next(v for v in corners[one] if v not in edge)
            d = next(v for v in corners[other] if v not in edge)
            across = (min(c, d), max(c, d))
            if across in beside or across in taken:
                continue
            angles = _angle(places, a, c, b) + _angle(places, a, d, b)
            if angles <= np.pi + 1e-6:
                continue
            corners[one], corners[other] = (a, d, c), (d, b, c)
            del beside[edge]
            beside[across] = [one, other]
            moved = beside[min(a, d), max(a, d)]
            moved[moved.index(other)] = one
            moved = beside[min(b, c), max(b, c)]
            moved[moved.index(one)] = other
            flipped = True
        if not flipped:
            break


def _side(face: tuple[int, int, int], edge: tuple[int, int]) -> tuple[int, int]:
    """Give an edge's vertices in the order in which a face runs along them."""
    a, b = edge
    return (a, b) if face[(face.index(a) + 1) % 3] == b else (b, a)


def _angle(places: list[np.ndarray], a: int, apex: int, b: int) -> float:
    one, other = places[a] - places[apex], places[b] - places[apex]
    return float(np.arctan2(np.linalg.norm(np.cross(one, other)), one @ other))


def _faired(vertices: Vertices, faces: Faces, free: NDArray[np.int64]) -> Vertices:
    """Move some vertices to where the squared Laplacian of the surface is least."""
    from scipy.sparse import coo_matrix, diags, eye  # noqa: PLC0415  scipy is slow to import
    from scipy.sparse.linalg import spsolve  # noqa: PLC0415

    if not len(free):
        return vertices
    sides = sides_and_edges(faces)[0]
    both = np.unique(np.concatenate([sides, sides[:, ::-1]]), axis=0)
    count = len(vertices)
    adjacency = coo_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), (count, count)).tocsr()
    degree = np.maximum(np.bincount(both[:, 0], minlength=count), 1)
    laplacian = (eye(count, format="csr") - diags(1 / degree) @ adjacency).tocsr()
    # Only rows next to a free vertex feel it.
    near = np.unique(np.concatenate([free, adjacency[free].indices]))
    system = laplacian[near]
    fixed = vertices.copy()
    fixed[free] = 0
    matrix = system[:, free]
    right = -(matrix.T @ (system @ fixed))
    moved = vertices.copy()
    moved[free] = np.asarray(spsolve((matrix.T @ matrix).tocsc(), right)).reshape(-1, 3)
    return moved


def _hole_loops(faces: Faces) -> list[NDArray[np.int64]]:
    """Walk along the open sides against their direction; every loop visits a vertex once."""
    if not len(faces):
        return []
    sides, edge = sides_and_edges(faces)
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
