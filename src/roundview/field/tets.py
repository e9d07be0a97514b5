"""Signed distances at the corners of tetrahedra, and the surface between their signs.

Shen et al., "Deep Marching Tetrahedra: a Hybrid Representation for High-Resolution 3D Shape
Synthesis", 2021. Distances are negative inside; they need only have the right sign and slope.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_EDGES = tuple(combinations(range(4), 2))
"""Pairs of corners of a tetrahedron."""
_CHUNK = 65536
"""Points handed to a density at once: bounds its memory."""


@dataclass(frozen=True, eq=False)
class TetGrid:
    """Tetrahedra that fill a cube, all with a positive determinant.

    Attributes:
        positions: Corners, world units.
        tets: Their corners, such that det(b - a, c - a, d - a) > 0.
        step: Longest side of an axis-aligned edge.
    """

    positions: Float[Tensor, "v 3"]
    tets: Int[Tensor, "t 4"]
    step: float


def tet_grid(resolution: int, *, half_width: float = 0.55) -> TetGrid:
    """Cut the cells of a cubic grid into six tetrahedra each (Kuhn, 1960).

    All six share the diagonal from the lowest to the highest corner of their cell, so neighbours
    meet face to face.

    Args:
        resolution: Cells along a side; (resolution + 1)^3 corners.
        half_width: Half the side of the cube round the origin.

    Raises:
        ValueError: If `resolution` is under 1 or `half_width` is not positive.
    """
    if resolution < 1 or not half_width > 0:
        raise ValueError(
            f"resolution must be at least 1 and half_width positive, got {resolution}, {half_width}"
        )
    axis = torch.linspace(-half_width, half_width, resolution + 1)
    positions = torch.cartesian_prod(axis, axis, axis)
    count = resolution + 1
    stride = (count * count, count, 1)
    cell = torch.arange(resolution)
    lowest = (
        cell[:, None, None] * stride[0] + cell[None, :, None] * stride[1] + cell[None, None, :]
    ).flatten()
    tets = []
    for order in permutations(range(3)):
        corner = [0, stride[order[0]], stride[order[0]] + stride[order[1]], sum(stride)]
        # Odd orders of the axes give mirrored tetrahedra.
        if order not in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            corner[1], corner[2] = corner[2], corner[1]
        tets.append(lowest[:, None] + torch.tensor(corner))
    step = 2 * half_width / resolution
    return TetGrid(positions, torch.stack(tets, dim=1).reshape(-1, 4), step)


def tet_edges(tets: Int[Tensor, "t 4"]) -> Int[Tensor, "e 2"]:
    """List the edges of tetrahedra once each, lower corner first."""
    pairs = tets[:, torch.tensor(_EDGES)].reshape(-1, 2).sort(dim=1).values
    return torch.unique(pairs, dim=0)


def deformed(
    positions: Float[Tensor, "v 3"], offset: Float[Tensor, "v 3"], *, reach: float
) -> Float[Tensor, "v 3"]:
    """Move corners by reach * tanh(offset), so that none goes further than `reach`.

    Args:
        positions: Corners of a grid.
        offset: Free parameters; 0 moves nothing.
        reach: World units. Half a `step` keeps the tetrahedra from turning inside out.
    """
    return positions + reach * offset.tanh()


def marching_tets(
    sdf: Float[Tensor, " v"], positions: Float[Tensor, "v 3"], tets: Int[Tensor, "t 4"]
) -> tuple[Float[Tensor, "u 3"], Int[Tensor, "f 3"]]:
    """Draw the surface where distances change their sign, differentiably.

    Doi and Koide, "An Efficient Method of Triangulating Equi-Valued Surfaces by Using Tetrahedral
    Cells", 1991. A vertex lies on each edge whose ends differ in sign, where the distance between
    them is 0 if it runs straight: (p_a s_b - p_b s_a) / (s_b - s_a). Gradients go to `sdf` and
    `positions`; which edges are crossed does not have any.

    Args:
        sdf: Distances, negative inside; 0 counts as inside.
        positions: Corners.
        tets: Tetrahedra with positive determinants (see `TetGrid`).

    Returns:
        Vertices and faces, counter-clockwise seen from outside; closed where the inside stays away
        from the border of the grid. Both are empty where no sign changes.
    """
    outside = sdf > 0
    case = (outside[tets] * torch.tensor([1, 2, 4, 8]).to(tets)).sum(dim=1)
    crossed = (case > 0) & (case < 15)
    tets, case = tets[crossed], case[crossed]
    pairs = tets[:, torch.tensor(_EDGES)].reshape(-1, 2).sort(dim=1).values
    edges, number = torch.unique(pairs, dim=0, return_inverse=True)
    changes = outside[edges[:, 0]] != outside[edges[:, 1]]
    # Edges without a vertex get no number; no face asks for one.
    vertex = (changes.cumsum(0) - 1)[number].reshape(-1, len(_EDGES))
    edges = edges[changes]
    start, end = positions[edges].unbind(dim=1)
    at_start, at_end = sdf[edges].unbind(dim=1)
    # The difference is never 0, since the signs differ.
    share = (at_start / (at_start - at_end))[:, None]
    table = _triangles().to(tets.device)[case]
    faces = []
    for triangle in table.unbind(dim=1):
        there = triangle[:, 0] >= 0
        faces.append(vertex[there].gather(1, triangle[there]))
    return start + share * (end - start), torch.cat(faces)


def sign_change_loss(sdf: Float[Tensor, " v"], edges: Int[Tensor, "e 2"]) -> Float[Tensor, ""]:
    """Say how sharply signs change along edges, to be made small.

    Munkberg et al., "Extracting Triangular 3D Models, Materials, and Lighting From Images", 2022,
    eq. 2: cross entropy between each end's distance, as a logit, and the other end's sign, over the
    edges that are crossed. It removes floaters and inner shells that no picture shows.

    Args:
        sdf: Distances.
        edges: See `tet_edges`.

    Returns:
        The mean over crossed edges; 0 if there is none.
    """
    pair = sdf[edges]
    outside = pair > 0
    pair = pair[outside[:, 0] != outside[:, 1]]
    other = (pair.flip(1) > 0).to(pair)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(pair, other, reduction="sum")
    return entropy / max(1, len(pair))


def tets_from_density(
    density: Callable[[Float[Tensor, "p 3"]], Float[Tensor, " p"]],
    level: float,
    *,
    resolution: int = 64,
    half_width: float = 0.55,
) -> tuple[Float[Tensor, " v"], TetGrid]:
    """Turn a density into distances on a grid, to go on optimising its surface.

    The distance is (level - density) over the slope of the density, so that it is true to first
    order near the surface, and at most two steps long; the border of the grid is outside.

    Args:
        density: A function of world points, larger inside.
        level: Its value at the surface.
        resolution: Cells along each side.
        half_width: Half the side of the grid's cube.

    Returns:
        Distances at the corners of a grid, and the grid.

    Raises:
        ValueError: If the density nowhere rises above the level.
    """
    grid = tet_grid(resolution, half_width=half_width)
    with torch.no_grad():
        value = torch.cat([density(part) for part in grid.positions.split(_CHUNK)])
    if not bool((value > level).any()):
        raise ValueError(
            f"nothing to convert: the density's highest value is {float(value.max()):.3g}, which "
            f"is not above the level {level:.3g}"
        )
    cube = value.reshape((resolution + 1,) * 3)
    slope = torch.stack(torch.gradient(cube, spacing=grid.step)).norm(dim=0)
    steep = slope.amax() * 1e-3
    sdf = ((level - cube) / slope.clamp(min=float(steep) + 1e-12)).clamp(
        -2 * grid.step, 2 * grid.step
    )
    rim = torch.ones_like(cube, dtype=torch.bool)
    rim[1:-1, 1:-1, 1:-1] = False
    return torch.where(rim, sdf.clamp(min=grid.step), sdf).flatten(), grid


@functools.cache
def _triangles() -> Int[Tensor, "16 2 3"]:
    """List, for each set of corners outside, the edges whose vertices form triangles; else -1.

    Corner k outside adds 2^k to the row. Which triangles those are follows from one tetrahedron of
    positive determinant by its even permutations (a, b, c, d): a alone inside gives ab, ac, ad; a
    alone outside the same, turned; a and b inside give two halves of the ring ac, ad, bd, bc.
    """
    table = torch.full((16, 2, 3), -1)
    for a, b, c, d in permutations(range(4)):
        swaps = sum(x > y for x, y in combinations((a, b, c, d), 2))
        if swaps % 2:
            continue
        ab, ac, ad, bc, bd = (
            _EDGES.index((min(x, y), max(x, y)))
            for x, y in ((a, b), (a, c), (a, d), (b, c), (b, d))
        )
        table[15 - (1 << a), 0] = torch.tensor([ab, ac, ad])
        table[1 << a, 0] = torch.tensor([ab, ad, ac])
        if a < b:
            # Of the two diagonals that of the authors' table: it never joins 01 and 23.
            ring = [ac, ad, bd, bc] if 0 not in (ac, bd) else [ad, bd, bc, ac]
            first, second = [ring[0], ring[1], ring[2]], [ring[0], ring[2], ring[3]]
            table[15 - (1 << a) - (1 << b)] = torch.tensor([first, second])
    return table
