"""One closed shell of whatever triangles there are: what a printer asks for."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from ..mesh import Mesh, mesh_health
from .clean import keep_largest_components, remove_inner_shells
from .isosurface import grid_points, mesh_from_density
from .repair import closed_mesh, facing_outward
from .topology import Faces, Vertices, areas, arrays_of, mesh_of, signed_volumes
from .winding import winding_numbers

_COARSE = 4
"""Fine steps to one of the grid on which the winding number is asked for everywhere."""
_UNSURE = 0.05
"""A coarse cell is looked at closely if its corners' winding numbers are further apart. By us."""
_SAMPLES = 3.0
"""Points for each squared step of the surface, by which the nearest faces are found. By us."""
_PROBES = 24
"""Points along each side of a box, at which a shell is asked whether it cuts through itself."""
_CRUMB = 0.002
"""Parts with less of the largest part's area are dropped at once. By us."""
_LOST = 0.02
"""Share of the inside that a shell may go round twice before a grid takes over. By us."""


def watertight_mesh(mesh: Mesh, *, resolution: int = 128) -> Mesh:
    """Make one closed shell with a positive volume, keeping to the given faces where possible.

    First the mesh is repaired, its holes are closed and its parts turned outward; then manifold3d
    joins parts that overlap. Where that gives no manifold, or parts that cut through themselves, a
    grid takes over (see `remeshed`), which rounds off what is smaller than its step.

    Args:
        mesh: Any triangles; texture and colour are dropped.
        resolution: Nodes along the longest side of the grid that takes over.

    Returns:
        The largest shell; its faces are as many as it takes (see `decimate`).

    Raises:
        ValueError: If the triangles enclose nothing.
    """
    if not len(mesh.faces):
        raise ValueError("a mesh without faces encloses nothing")
    # Crumbs first: each shell is asked about each other, and noise has thousands of them.
    whole = keep_largest_components(mesh, min_fraction=_CRUMB)
    closed = remove_inner_shells(facing_outward(closed_mesh(whole, max_edges=None)))
    joined = _joined(closed)
    if joined is None or not _is_shell(joined) or not _agrees(joined):
        joined = remeshed(mesh, resolution=resolution)
    return joined


def remeshed(mesh: Mesh, *, resolution: int = 128) -> Mesh:
    """Draw a mesh anew on a grid: inside is where it winds round a point more than half.

    Inside is told by winding numbers, which fade across holes instead of leaking through them, and
    the place of the surface by the distance to the nearest faces.

    Args:
        mesh: Any triangles.
        resolution: Nodes along each side of a cube a little larger than the mesh.

    Returns:
        The largest closed shell, counter-clockwise seen from outside.

    Raises:
        ValueError: If the triangles enclose nothing that the grid can see.
    """
    if resolution < 8:
        raise ValueError(f"resolution must be at least 8, got {resolution}")
    repaired = facing_outward(closed_mesh(mesh, max_edges=64))
    vertices, faces = arrays_of(repaired)
    if not len(faces):
        raise ValueError("the triangles of the mesh enclose nothing")
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    middle, half_width = 0.5 * (low + high), float((high - low).max()) * 0.5 + 1e-6
    # Room for two nodes outside on every side.
    half_width *= resolution / (resolution - 6)
    centred = mesh_of(vertices - middle, faces)
    field = _field(centred, half_width, resolution)
    if not bool((field > 0).any()):
        raise ValueError("the triangles of the mesh enclose nothing that a grid can see")
    drawn = mesh_from_density(field, level=0.0, half_width=half_width)
    shell = keep_largest_components(remove_inner_shells(closed_mesh(drawn)), min_fraction=1.0)
    shift = torch.from_numpy(middle).to(shell.vertices)
    return Mesh(shell.vertices + shift, shell.faces)


def _joined(mesh: Mesh) -> Mesh | None:
    """Unite the parts of a manifold and keep the largest; None if it is no manifold."""
    import manifold3d  # noqa: PLC0415  only needed here

    vertices, faces = arrays_of(mesh)
    raw = manifold3d.Mesh(
        np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.uint32)
    )
    solid = manifold3d.Manifold(raw)
    if solid.status() != manifold3d.Error.NoError or solid.is_empty():
        return None
    parts = solid.decompose()
    whole = manifold3d.Manifold.batch_boolean(parts, manifold3d.OpType.Add)
    largest = max(whole.decompose(), key=lambda part: part.volume(), default=None)
    if largest is None or largest.volume() <= 0:
        return None
    found = largest.to_mesh()
    return closed_mesh(mesh_of(found.vert_properties[:, :3], found.tri_verts))


def _is_shell(mesh: Mesh) -> bool:
    health = mesh_health(mesh)
    vertices, faces = arrays_of(mesh)
    return (
        health.watertight
        and health.shells == 1
        and health.degenerate_faces == 0
        and float(signed_volumes(vertices, faces).sum()) > 0
    )


def _agrees(shell: Mesh) -> bool:
    """Say whether a shell goes round everything once or not at all.

    One that cuts through itself goes round some places twice, or backwards.
    """
    vertices = arrays_of(shell)[0]
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    half_width = 0.5 * float((high - low).max())
    points = grid_points(_PROBES, half_width).double() + torch.from_numpy(0.5 * (low + high))
    number = winding_numbers(points, shell).round()
    odd = ((number < 0) | (number > 1)).sum()
    return bool(odd <= _LOST * (number > 0).sum())


def _field(mesh: Mesh, half_width: float, resolution: int) -> Float[Tensor, "r r r"]:
    """Sample winding number less a half, times the distance to the faces up to a step."""
    step = 2 * half_width / (resolution - 1)
    points = grid_points(resolution, half_width).double()
    close, distance = _distances(mesh, points, step, resolution)
    number, unsure = _coarse_winding(mesh, half_width, resolution)
    asked = close | unsure
    number[asked] = winding_numbers(points[asked], mesh)
    # Twice round is inside too. Without faces nearby, at a hole, only the winding number speaks.
    reach = (distance / (1.5 * step)).clamp(max=1.0)
    return ((number.clamp(0, 1) - 0.5) * reach).float().reshape((resolution,) * 3)


def _distances(
    mesh: Mesh, points: Float[Tensor, "p 3"], step: float, resolution: int
) -> tuple[Bool[Tensor, " p"], Float[Tensor, " p"]]:
    """Say which nodes of a grid are within about two steps of a face, and how far from it."""
    from scipy.ndimage import binary_dilation  # noqa: PLC0415  slow to import
    from scipy.spatial import KDTree  # noqa: PLC0415  slow to import

    vertices, faces = arrays_of(mesh)
    sample, owner = _samples(vertices, faces, step)
    touched = np.zeros((resolution,) * 3, bool)
    node = np.rint(sample / step + 0.5 * (resolution - 1)).astype(np.int64)
    touched[tuple(node.clip(0, resolution - 1).T)] = True
    close = np.asarray(binary_dilation(touched, iterations=2), bool).reshape(-1)
    place = points.numpy()[close]
    # The nearest point may lie on a neighbour of the nearest sample's face.
    near = np.asarray(KDTree(sample).query(place, k=2)[1]).reshape(len(place), -1)
    found = np.full(len(points), np.inf)
    corner = vertices[faces]
    found[close] = np.min(
        [_distance_to_faces(place, corner[owner[column]]) for column in near.T], axis=0
    )
    return torch.from_numpy(close), torch.from_numpy(found)


def _samples(
    vertices: Vertices, faces: Faces, step: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Spread points over the faces, at least one on each; say on which face each lies."""
    count = np.ceil(_SAMPLES * areas(vertices, faces) / step**2).astype(np.int64).clip(min=1)
    owner = np.repeat(np.arange(len(faces)), count)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    # Roberts' R2 sequence, folded into a triangle: even without randomness.
    u = (0.5 + rank * 0.7548776662466927) % 1
    v = (0.5 + rank * 0.5698402909980532) % 1
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    a, b, c = np.moveaxis(vertices[faces[owner]], 1, 0)
    return a + u[:, None] * (b - a) + v[:, None] * (c - a), owner


def _distance_to_faces(
    points: NDArray[np.float64], corner: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Measure from each point to its own triangle."""
    a, b, c = np.moveaxis(corner, 1, 0)
    normal = np.cross(b - a, c - a)
    size = np.maximum(np.linalg.norm(normal, axis=1), 1e-30)
    over = np.ones(len(points), bool)
    nearest = np.full(len(points), np.inf)
    for start, end in ((a, b), (b, c), (c, a)):
        side, away = end - start, points - start
        over &= (np.cross(side, away) * normal).sum(axis=1) >= 0
        length = np.maximum((side * side).sum(axis=1), 1e-30)
        share = ((away * side).sum(axis=1) / length).clip(0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(away - share[:, None] * side, axis=1))
    plane = np.abs(((points - a) * normal).sum(axis=1)) / size
    return np.where(over, plane, nearest)


def _coarse_winding(
    mesh: Mesh, half_width: float, resolution: int
) -> tuple[Float[Tensor, " p"], Bool[Tensor, " p"]]:
    """Interpolate winding numbers of a coarse grid; say where they vary too much for that."""
    count = resolution // _COARSE + 2
    number = winding_numbers(grid_points(count, half_width).double(), mesh)
    number = number.reshape(1, 1, count, count, count)
    high = torch.nn.functional.max_pool3d(number, 3, stride=1, padding=1)
    low = -torch.nn.functional.max_pool3d(-number, 3, stride=1, padding=1)
    fine = [
        torch.nn.functional.interpolate(
            part, (resolution,) * 3, mode="trilinear", align_corners=True
        ).flatten()
        for part in (number, high - low)
    ]
    return fine[0], fine[1] > _UNSURE
