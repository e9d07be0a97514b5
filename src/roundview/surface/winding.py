"""How often a surface goes round a point: 1 inside, 0 outside, in between near holes."""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..mesh import Mesh, join_vertices

_LEAF = 8
"""Faces at which the hierarchy ends. Chosen by us; 4 to 16 are equally fast on 20,000 faces."""
_PAIRS_AT_ONCE = 1 << 21
"""Points times faces that the reference handles at once: bounds its memory."""


class Hierarchy(NamedTuple):
    """Boxes round ever smaller patches of a surface, and what closes each patch.

    Node 0 is the whole; the halves of node k are 2k + 1 and 2k + 2. Arrays are for the kernel.

    Attributes:
        corner: Corners of the faces, sorted so that every node's lie side by side; (f, 3, 3).
        first: First face of each node, and one past its last; (nodes, 2).
        box: Least and largest coordinates of each node; (nodes, 2, 3).
        rim: Ends of the open sides of all nodes, against the direction in which faces run; a fan
            from them to any point closes the patch. (sides, 2, 3).
        rim_first: First side of each node, and one past its last; (nodes, 2).
    """

    corner: NDArray[np.float64]
    first: NDArray[np.int64]
    box: NDArray[np.float64]
    rim: NDArray[np.float64]
    rim_first: NDArray[np.int64]


def winding_numbers(points: Float[Tensor, "p 3"], mesh: Mesh) -> Float[Tensor, " p"]:
    """Say how often a mesh goes round each point; more than 1/2 means inside.

    Jacobson et al., "Robust Inside-Outside Segmentation using Generalized Winding Numbers", 2013:
    the sum of the faces' solid angles over 4 pi, and its hierarchy (section 4.2), which changes
    nothing in the result: seen from outside the box of a patch, the patch covers the same angle as
    any other surface with its rim, so a fan over the rim stands for it. On a closed mesh the
    numbers are whole; on one with holes they fade from 1 to 0 there, on one that is inside out they
    are negative. By the CPU kernel, in float64; not differentiable.

    Args:
        points: World points, on any device.
        mesh: Any triangles, on any device; they need be neither closed nor connected.

    Returns:
        Winding numbers, in the points' dtype. On the surface itself they may be either side's.
    """
    from .winding_numba import sum_angles  # noqa: PLC0415  numba is slow to import

    found = sum_angles(points.detach().cpu().double().numpy(), hierarchy_of(mesh))
    return torch.from_numpy(found).to(points)


def winding_numbers_reference(points: Float[Tensor, "p 3"], mesh: Mesh) -> Float[Tensor, " p"]:
    """Say what the kernel must compute, face by face; differentiable in the points.

    Van Oosterom and Strackee, "The Solid Angle of a Plane Triangle", 1983, eq. 8.
    """
    corner = mesh.vertices[mesh.faces].to(points)
    parts = points.split(max(1, _PAIRS_AT_ONCE // max(1, len(corner))))
    return torch.cat([_angles(part, corner).sum(dim=1) / (2 * math.pi) for part in parts])


def hierarchy_of(mesh: Mesh) -> Hierarchy:
    """Sort the faces of a mesh into boxes, halving along the longest side each time."""
    vertices, faces = _joined(mesh)
    corner = vertices[faces]
    order = np.arange(len(faces))
    levels = max(0, math.ceil(math.log2(max(1, len(faces)) / _LEAF)))
    middle = corner.mean(axis=1)
    first = []
    for level in range(levels + 1):
        edges = len(faces) * np.arange((1 << level) + 1) // (1 << level)
        first.append(np.stack([edges[:-1], edges[1:]], axis=1))
        if level < levels:
            order = order[_halving(middle[order], edges)]
    box = [_boxes(corner[order], part) for part in first]
    rims = _rims(faces[order], first[-1], levels)
    count = np.concatenate([np.bincount(node, minlength=1 << k) for k, (node, _) in rims])
    last = np.cumsum(count)
    return Hierarchy(
        np.ascontiguousarray(corner[order]),
        np.concatenate(first),
        np.concatenate(box),
        vertices[np.concatenate([sides for _, (_, sides) in rims])],
        np.stack([last - count, last], axis=1),
    )


def _angles(points: Float[Tensor, "p 3"], corner: Float[Tensor, "f 3 3"]) -> Float[Tensor, "p f"]:
    """Halves of the solid angles that faces cover, positive seen from behind."""
    a, b, c = (corner[None] - points[:, None, None]).unbind(2)
    la, lb, lc = a.norm(dim=-1), b.norm(dim=-1), c.norm(dim=-1)
    above = (a * torch.linalg.cross(b, c)).sum(-1)
    below = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return torch.atan2(above, below)


def _joined(mesh: Mesh) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Number vertices by place, so that rims cancel over texture seams; drop faces without area."""
    joined = join_vertices(mesh.vertices.cpu()).numpy()
    vertices = np.zeros((int(joined.max()) + 1 if len(joined) else 0, 3))
    vertices[joined] = mesh.vertices.detach().cpu().double().numpy()
    faces = joined[mesh.faces.cpu().numpy()].reshape(-1, 3)
    return vertices, faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]


def _halving(middle: NDArray[np.float64], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sort every stretch between edges along the axis in which it is longest."""
    node = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    extent = np.maximum.reduceat(middle, edges[:-1]) - np.minimum.reduceat(middle, edges[:-1])
    axis = extent.argmax(axis=1)[node]
    return np.lexsort((middle[np.arange(len(middle)), axis], node))


def _boxes(corner: NDArray[np.float64], first: NDArray[np.int64]) -> NDArray[np.float64]:
    if not len(corner):
        return np.zeros((len(first), 2, 3))
    low = np.minimum.reduceat(corner.min(axis=1), first[:, 0])
    high = np.maximum.reduceat(corner.max(axis=1), first[:, 0])
    return np.stack([low, high], axis=1)


def _rims(
    faces: NDArray[np.int64], leaves: NDArray[np.int64], levels: int
) -> list[tuple[int, tuple[NDArray[np.int64], NDArray[np.int64]]]]:
    """Find the open sides of the nodes of each level, from the root to the leaves.

    Returns:
        Each level with its sides: the node that they belong to, in order, and their ends.
    """
    node = np.tile(np.repeat(np.arange(len(leaves)), leaves[:, 1] - leaves[:, 0]), 3)
    # Turned round: a fan over them must face against the patch to close it.
    sides = np.concatenate([faces[:, [1, 0]], faces[:, [2, 1]], faces[:, [0, 2]]])
    rims = []
    for level in range(levels, -1, -1):
        node, sides = _open_sides(node, sides)
        rims.append((level, (node, sides)))
        # What is open in a node was open in one of its halves.
        node = node // 2
    return rims[::-1]


def _open_sides(
    node: NDArray[np.int64], sides: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Drop the sides that another of the same node runs back along; sort the rest by node."""
    low, high = sides.min(axis=1), sides.max(axis=1)
    count = int(high.max()) + 1 if len(high) else 1
    key, of = np.unique((node * count + low) * count + high, return_inverse=True)
    # How many more sides run from low to high than back.
    surplus = np.bincount(of.reshape(-1), np.where(sides[:, 0] == low, 1, -1), len(key)).astype(int)
    times = np.abs(surplus)
    ends = np.stack([key // count % count, key % count], axis=1)
    ends[surplus < 0] = ends[surplus < 0][:, ::-1]
    return np.repeat(key // (count * count), times), np.repeat(ends, times, axis=0)
