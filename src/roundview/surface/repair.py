"""Manifolds from triangles of any kind: twins, slivers, pinches, turned faces, holes."""

import numpy as np
from numpy.typing import NDArray

from ..mesh import Mesh
from .holes import fill_holes
from .topology import (
    Faces,
    Vertices,
    areas,
    arrays_of,
    components,
    connected,
    doubled_normals,
    mesh_of,
    sides_and_edges,
    signed_volumes,
)

_ROUNDS = 8
"""Repairs of one mesh before what is left is accepted; two or three do in practice."""
_APART = 1e-3
"""How far a pinched vertex moves towards the middle of its faces. Chosen by us: it cannot be seen,
and float32 keeps it apart from its twin.
"""


def closed_mesh(mesh: Mesh, *, max_edges: int | None = 256) -> Mesh:
    """Repair and fill in turns: a repair opens holes, a filling may touch what is there.

    Args:
        mesh: Any triangles.
        max_edges: Longest rim that is closed; None closes all.
    """
    for _ in range(_ROUNDS):
        mesh = repair(mesh)
        filled = fill_holes(mesh, max_edges=max_edges)
        if len(filled.faces) == len(mesh.faces):
            break
        mesh = filled
    return repair(mesh)


def repair(mesh: Mesh) -> Mesh:
    """Make a manifold, perhaps with holes; all faces of a part look to one side of it.

    No face is left without area, or twice. Of three faces at an edge the smallest of those that run
    the same way goes; where two surfaces touch in an edge or a corner, they are set apart by a
    thousandth of a face.
    """
    vertices, faces = arrays_of(mesh)
    for _ in range(_ROUNDS):
        faces = facing_alike(_without_slivers(vertices, faces))
        excess = _excess_faces(vertices, faces)
        faces = np.delete(faces, excess, axis=0)
        pinches = len(vertices)
        vertices, faces = split_pinches(vertices, faces)
        if not len(excess) and pinches == len(vertices):
            break
    return mesh_of(vertices, faces)


def facing_outward(mesh: Mesh) -> Mesh:
    """Turn faces until neighbours agree, and parts until they enclose a positive volume."""
    vertices, faces = arrays_of(mesh)
    if not len(faces):
        return mesh_of(vertices, faces)
    faces = facing_alike(faces)
    part = components(faces)
    # Round each part's own middle, so that the sign is right for parts with holes too.
    middle = np.stack(
        [np.bincount(part, vertices[faces].mean(axis=1)[:, axis]) for axis in range(3)], axis=1
    )
    corner = vertices[faces] - (middle / np.bincount(part)[:, None])[part][:, None]
    own = np.arange(3 * len(faces)).reshape(-1, 3)
    volume = np.bincount(part, signed_volumes(corner.reshape(-1, 3), own))
    turned = (volume < 0)[part]
    return mesh_of(vertices, np.where(turned[:, None], faces[:, ::-1], faces))


def facing_alike(faces: Faces) -> Faces:
    """Turn the fewest faces of each part so that neighbours run against each other in their edge.

    Parts with one side only, such as a Moebius band, stay as they are.
    """
    if not len(faces):
        return faces
    one, other, agree = _neighbours(faces)
    if agree.all():
        return faces
    # Every face twice, as it is and turned: what must go together is linked.
    count = len(faces)
    links = (
        np.concatenate([one, one + count]),
        np.concatenate(
            [np.where(agree, other, other + count), np.where(agree, other + count, other)]
        ),
    )
    label = connected(*links, 2 * count)
    as_is, turned = label[:count], label[count:]
    # Of the two ways to turn a part, the one under which more faces stay.
    stays = np.bincount(as_is, minlength=2 * count)
    flip = stays[as_is] < stays[turned]
    tie = stays[as_is] == stays[turned]
    flip |= tie & (as_is > turned)
    return np.where(flip[:, None], faces[:, ::-1], faces)


def split_pinches(vertices: Vertices, faces: Faces) -> tuple[Vertices, Faces]:
    """Give every fan of faces round a vertex its own vertex, a little apart from the others.

    Fans hang together by edges of two faces that run against each other.
    """
    if not len(faces):
        return vertices, faces
    sides, edge = sides_and_edges(faces)
    order, pair = _pairs(sides, edge)
    there, back = order[pair], order[pair + 1]
    opposed = sides[there, 0] == sides[back, 1]
    there, back = there[opposed], back[opposed]
    # Side k F + f begins at corner k F + f and ends at the next corner of the face.
    end = (np.arange(len(sides)) + len(faces)) % len(sides)
    fan = connected(
        np.concatenate([there, end[there]]), np.concatenate([end[back], back]), len(sides)
    )
    corner = faces.T.reshape(-1)
    owner = np.zeros(int(fan.max()) + 1, np.int64)
    owner[fan] = corner
    first = np.zeros(len(vertices), np.int64)
    first[owner[::-1]] = np.arange(len(owner))[::-1]
    further = np.flatnonzero(first[owner] != np.arange(len(owner)))
    if not len(further):
        return vertices, faces
    number = owner.copy()
    number[further] = len(vertices) + np.arange(len(further))
    middle = np.tile(vertices[faces].mean(axis=1), (3, 1))
    size = np.bincount(fan)[:, None]
    mean = np.stack([np.bincount(fan, middle[:, axis]) for axis in range(3)], axis=1) / size
    place = vertices[owner[further]]
    place = place + _APART * (mean[further] - place)
    return np.concatenate([vertices, place]), number[fan].reshape(3, -1).T


def _neighbours(
    faces: Faces,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """List the pairs of faces that share an edge with no third, and whether they agree."""
    sides, edge = sides_and_edges(faces)
    order, pair = _pairs(sides, edge)
    there, back = order[pair], order[pair + 1]
    count = len(faces)
    return there % count, back % count, sides[there, 0] == sides[back, 1]


def _pairs(sides: Faces, edge: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort sides by edge; say where a pair of one edge begins that has no third side."""
    order = np.argsort(edge, kind="stable")
    pair = np.flatnonzero(edge[order][1:] == edge[order][:-1]) if len(sides) > 1 else order[:0]
    return order, pair[np.bincount(edge)[edge[order[pair]]] == 2]


def _without_slivers(vertices: Vertices, faces: Faces) -> Faces:
    """Collapse the shortest side of faces without area, and drop faces that occur twice."""
    target = np.arange(len(vertices))
    doubled = np.linalg.norm(doubled_normals(vertices, faces), axis=1)
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
    """Find faces to drop where more run along an edge one way than the other.

    Two and two are surfaces that touch, and one is a rim: those stay.
    """
    if not len(faces):
        return np.zeros(0, np.int64)
    sides, edge = sides_and_edges(faces)
    rises = sides[:, 0] < sides[:, 1]
    up, down = np.bincount(edge, rises), np.bincount(edge, ~rises)
    spare = np.where(np.maximum(up, down) > 1, np.abs(up - down) - ((up == 0) | (down == 0)), 0)
    way = 2 * edge + rises
    face = np.tile(np.arange(len(faces)), 3)
    # Of the sides that run the same way, those of the smallest faces come first and go.
    order = np.lexsort((face, areas(vertices, faces)[face], way))
    begins = np.concatenate([[True], way[order][1:] != way[order][:-1]])
    rank = np.arange(len(order)) - np.flatnonzero(begins)[begins.cumsum() - 1]
    more = (rises == (up > down)[edge])[order]
    return np.unique(face[order[more & (rank < spare[edge[order]])]])
