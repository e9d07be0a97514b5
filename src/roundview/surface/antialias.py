"""Smooth the outlines of a rasterised mesh, so that pictures change smoothly as the mesh moves.

A z-buffer gives every pixel wholly to one face: no picture changes until a vertex moves so far that
a pixel changes hands, so there is no slope to follow. Here the two pixels on the two sides of an
outline share its colours by how far the outline reaches into each.

Laine et al., "Modular Primitives for High-Performance Differentiable Rendering", 2020, section 3.3:
where an edge that is an outline passes between the centres of two neighbouring pixels, the pixel
that it lies in takes from its neighbour's colour by the distance of the edge from the border of the
two. Steep edges act on horizontal pairs, flat ones on vertical pairs; so the sum over a row is the
exact area of what an edge cuts off there. Ours differs in two ways. The paper looks at the three
edges of the nearer pixel's face; we follow every outline from pixel to pixel, which also finds
those whose faces are thinner than a pixel, as most are where a fine mesh turns away. And a pixel
gives away no more than all of itself, however many outlines cross it.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..mesh import Mesh, join_vertices
from .raster import NEAR


class Edges(NamedTuple):
    """The edges of a mesh, each once.

    Attributes:
        ends: The two vertices; of vertices at one place, always the same.
        opposite: The third corners of the faces on its two sides; -1 where there is no second. An
            edge of three or more faces counts as the rim of each.
    """

    ends: Int[Tensor, "e 2"]
    opposite: Int[Tensor, "e 2"]


class Crossings(NamedTuple):
    """Where outlines pass between the centres of two neighbouring pixels.

    Pixels are numbered through all views, row by row; so are the vertices of all views.

    Attributes:
        first: The left or upper pixel.
        second: The right or lower one.
        down: Whether the pair is vertical.
        ends: The two vertices of the edge.
        line: Where on the other axis both centres lie: v of a horizontal pair, u of a vertical one.
        border: Where the pixels meet on the axis that joins them.
    """

    first: Int[Tensor, " k"]
    second: Int[Tensor, " k"]
    down: Bool[Tensor, " k"]
    ends: Int[Tensor, "k 2"]
    line: Float[Tensor, " k"]
    border: Float[Tensor, " k"]


def edges_of(mesh: Mesh) -> Edges:
    """List the edges of a mesh; vertices at the same place count as one, as at texture seams.

    Only the faces and what lies together matter, so a mesh that moves keeps its edges.
    """
    joined = join_vertices(mesh.vertices).cpu().numpy()
    faces = mesh.faces.cpu().numpy()
    # A face with two corners at one place has no inside, and the edges beside it are joined.
    at = joined[faces].reshape(-1, 3)
    solid = (at[:, 0] != at[:, 1]) & (at[:, 1] != at[:, 2]) & (at[:, 2] != at[:, 0])
    corner, at = faces[solid], at[solid]
    representative = np.full(len(joined) + 1, -1)
    representative[joined[::-1]] = np.arange(len(joined))[::-1]
    sides = np.concatenate([at[:, [1, 2]], at[:, [2, 0]], at[:, [0, 1]]])
    opposite = np.concatenate([corner[:, 0], corner[:, 1], corner[:, 2]])
    sides.sort(axis=1)
    order = np.lexsort((sides[:, 1], sides[:, 0]))
    sides, opposite = sides[order], opposite[order]
    starts = np.flatnonzero(np.r_[True, (sides[1:] != sides[:-1]).any(axis=1)][: len(sides)])
    uses = np.diff(np.r_[starts, len(sides)])
    paired = np.zeros(len(sides), bool)
    paired[starts[uses == 2]] = True
    kept = np.ones(len(sides), bool)
    kept[starts[uses == 2] + 1] = False
    second = np.where(paired, np.roll(opposite, -1), -1)
    return Edges(
        torch.from_numpy(representative[sides[kept]].reshape(-1, 2)),
        torch.from_numpy(np.stack([opposite, second], axis=1)[kept].reshape(-1, 2)),
    )


def antialiased(
    picture: Float[Tensor, "n h w c"], pixel: Float[Tensor, "n v 2"], crossings: Crossings
) -> Float[Tensor, "n h w c"]:
    """Blend the pixels on the two sides of outlines.

    Differentiable in the colours and in where the vertices appear. Each crossing gives the pixel
    that it lies in a share |x - border| of its neighbour, where x is where the edge meets the line
    through both centres: 0 at the border, a half at the centres.

    Args:
        picture: Any channels; colours premultiplied by alpha, if there is alpha.
        pixel: Pixel coordinates (u, v) of the vertices, as `project` gives them.
        crossings: What `find_crossings` found for these vertices.
    """
    n, h, w, c = picture.shape
    colour = picture.reshape(n * h * w, c)
    start, end = pixel.reshape(-1, 2)[crossings.ends].unbind(1)
    down = crossings.down[:, None]
    # (across, along): the axis that joins the pixels, and the other.
    start, end = (torch.where(down, p.flip(-1), p) for p in (start, end))
    share = (crossings.line.to(start) - start[:, 1]) / (end[:, 1] - start[:, 1])
    beyond = start[:, 0] + share * (end[:, 0] - start[:, 0]) - crossings.border.to(start)
    inside_second = beyond > 0
    taker = torch.where(inside_second, crossings.second, crossings.first)
    giver = torch.where(inside_second, crossings.first, crossings.second)
    weight = beyond.abs().clamp(max=0.5)
    total = weight.new_zeros(n * h * w).index_add(0, taker, weight)
    weight = weight / total[taker].clamp(min=1)
    taken = weight[:, None] * (colour[giver] - colour[taker])
    return colour.index_add(0, taker, taken).reshape(picture.shape)


def find_crossings(
    face_at: Int[Tensor, "n h w"],
    depth: Float[Tensor, "n h w"],
    pixel: Float[Tensor, "n v 2"],
    away: Float[Tensor, "n v"],
    edges: Edges,
) -> Crossings:
    """Find the outlines between pixels of a picture, by the CPU kernel.

    An edge is an outline where the faces on its two sides appear on one side of it. It counts
    between two pixels that show different faces, if the nearer one lies on its faces' side and it
    is itself nearer than what the other pixel shows; of several the one farthest from the nearer
    pixel's centre.

    Args:
        face_at: The face at each pixel centre, -1 for none.
        depth: Its depth, along the axis.
        pixel: Pixel coordinates (u, v) of the vertices.
        away: Depth of the vertices.
        edges: Of the mesh.

    Returns:
        The crossings, ordered by view, horizontal pairs first, then by pixel.
    """
    from ..kernels import run_jobs  # noqa: PLC0415  numba takes a second to import
    from .antialias_numba import find_crossings_kernel  # noqa: PLC0415

    n, h, w = face_at.shape
    edge_at = np.full((n, 2, h, w), -1, np.int32)
    run_jobs(
        find_crossings_kernel,
        n,
        face_at.numpy().astype(np.int32, copy=False),
        np.ascontiguousarray(depth.detach().numpy(), np.float32),
        np.ascontiguousarray(pixel.detach().numpy(), np.float32),
        np.ascontiguousarray(away.detach().numpy(), np.float32),
        edges.ends.numpy(),
        edges.opposite.numpy(),
        edge_at,
    )
    return listed(torch.from_numpy(edge_at), edges, pixel)


def find_crossings_reference(
    face_at: Int[Tensor, "n h w"],
    depth: Float[Tensor, "n h w"],
    pixel: Float[Tensor, "n v 2"],
    away: Float[Tensor, "n v"],
    edges: Edges,
) -> Crossings:
    """Say what `find_crossings` must compute; slow, for tests and readers."""
    n, h, w = face_at.shape
    edge_at = torch.full((n, 2, h, w), -1, dtype=torch.int32)
    farthest = torch.full((n, 2, h, w), -torch.inf, dtype=torch.float64)
    for view in range(n):
        place = pixel[view].detach().double()
        for number, (ends, opposite) in enumerate(zip(*edges, strict=True)):
            side = _outline_side(place, ends, opposite)
            if side == 0 or bool((away[view, ends] <= NEAR).any()):
                continue
            for down, first, second, at, share in _met_pairs(place[ends].tolist(), (h, w)):
                # Whether the faces beside the edge lie towards the first pixel.
                backwards = _turn(place[ends], place[ends[0]] - torch.tensor([1 - down, down])) > 0
                near, far = (first, second) if backwards == (side > 0) else (second, first)
                if face_at[view][near] < 0 or face_at[view][near] == face_at[view][far]:
                    continue
                limit = 1 / depth[view][far] if face_at[view][far] >= 0 else 0.0
                inverse = (1 - share) / away[view, ends[0]] + share / away[view, ends[1]]
                reach = at if near == first else -at
                pair = (view, down, *first)
                if min(1 / depth[view][near], inverse) > limit and reach > farthest[pair]:
                    farthest[pair], edge_at[pair] = reach, number
    return listed(edge_at, edges, pixel)


def _turn(segment: Float[Tensor, "2 2"], point: Float[Tensor, " 2"]) -> float:
    """Say to which side of a segment a point lies."""
    (dx, dy), (px, py) = (segment[1] - segment[0]).tolist(), (point - segment[0]).tolist()
    return dx * py - dy * px


def _outline_side(
    place: Float[Tensor, "v 2"], ends: Int[Tensor, " 2"], opposite: Int[Tensor, " 2"]
) -> float:
    """Say to which side of an edge its faces lie: above or below 0; 0 if one lies on each."""
    turns = [_turn(place[ends], place[corner]) for corner in opposite.tolist() if corner >= 0]
    return 0.0 if len(turns) == 2 and turns[0] * turns[1] < 0 else max(turns, key=abs)


def _met_pairs(
    segment: list[list[float]], size_hw: tuple[int, int]
) -> Iterator[tuple[int, tuple[int, int], tuple[int, int], float, float]]:
    """Walk along an edge: whether down, the two pixels, where between them, and how far along."""
    (x0, y0), (x1, y1) = segment
    down = int(abs(x1 - x0) > abs(y1 - y0))
    (across0, along0), (across1, along1) = ((y0, x0), (y1, x1)) if down else ((x0, y0), (x1, y1))
    lines, length = (size_hw[1], size_hw[0]) if down else size_hw
    low, high = min(along0, along1), max(along0, along1)
    for line in range(max(0, math.ceil(low - 0.5)), min(lines, math.ceil(high - 0.5))):
        share = (line + 0.5 - along0) / (along1 - along0)
        at = across0 + share * (across1 - across0)
        i = math.floor(at - 0.5)
        if 0 <= i < length - 1:
            pair = ((i, line), (i + 1, line)) if down else ((line, i), (line, i + 1))
            yield down, *pair, at, share


def listed(
    edge_at: Int[Tensor, "n two h w"], edges: Edges, pixel: Float[Tensor, "n v 2"]
) -> Crossings:
    """Turn maps of the edge that passes to the right of a pixel, and below it, into a list."""
    _, _, h, w = edge_at.shape
    view, down, row, column = torch.nonzero(edge_at >= 0, as_tuple=True)
    first = (view * h + row) * w + column
    is_down = down == 1
    ends = edges.ends[edge_at[view, down, row, column].long()] + view[:, None] * pixel.shape[1]
    return Crossings(
        first,
        torch.where(is_down, first + w, first + 1),
        is_down,
        ends,
        torch.where(is_down, column, row).to(pixel) + 0.5,
        torch.where(is_down, row, column).to(pixel) + 1,
    )
