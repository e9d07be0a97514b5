"""How close one surface is to another: distances, overlap, normals.

Lengths are world units. Bring the truth to longest side 1 (`mesh.centred`) and the measured mesh
into its frame first: nothing here is moved or scaled. `mesh` is what is measured, `truth` comes
second; every figure but the F-score's parts is the same if they change places.

An empty mesh has no distance to anything. So that means survive it, its distances are
`DISTANCE_OF_NOTHING`, its scores 0; two empty meshes are equal.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from ..camera import Cameras, lift
from ..mesh import Mesh, bounds
from ..surface.raster import mesh_depth
from ..surface.winding import winding_numbers

DISTANCE_OF_NOTHING = math.sqrt(3.0)
"""What an empty mesh scores where a distance is asked for: the diagonal of the unit cube."""

_CHAMFER_VIEWS = 16
_NEAR_FACES = 8


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points of a surface, evenly spread over its area, each with the unit normal of its face."""

    points: Float[Tensor, "p 3"]
    face: Int[Tensor, " p"]


@dataclass(frozen=True)
class SurfaceMarks:
    """All marks of one mesh; see the functions of the same names."""

    chamfer_depth: float
    chamfer: float
    f_score_001: float
    f_score_002: float
    volume_iou: float
    normal_consistency: float


def surface_marks(
    mesh: Mesh, truth: Mesh, rng: Generator, *, samples: int = 20_000
) -> SurfaceMarks:
    """Compare two meshes in every way that this module knows.

    Args:
        mesh: What is measured.
        truth: Centred, longest side 1.
        rng: Draws the surface points.
        samples: Points on each surface. Their distances are to the other surface itself, so the
            number bounds the noise only: at 20,000 (chosen by us) three draws of a scanned object
            differed by less than 0.5% of the Chamfer distance.
    """
    distances = _both_ways(mesh, truth, rng, samples)
    return SurfaceMarks(
        chamfer_depth=chamfer_of_depth(mesh, truth),
        chamfer=_chamfer(distances),
        f_score_001=_f_score(distances, 0.01),
        f_score_002=_f_score(distances, 0.02),
        volume_iou=volume_iou(mesh, truth),
        normal_consistency=_normal_consistency(distances),
    )


def chamfer_of_depth(mesh: Mesh, truth: Mesh, *, voxel: float = 0.01, size_px: int = 256) -> float:
    """Measure the Chamfer distance of what 16 cameras see, world units; 0 is equal, lower better.

    The evaluation of Liu et al., "SyncDreamer: Generating Multiview-consistent Images from a
    Single-view Image", 2023: depth maps of both meshes from 16 cameras at azimuth 0, 22.5, ...,
    elevation 30, distance 1.5, focal length 280 px at 256 px; their points, the mean of those in
    each voxel of 0.01; half the sum of the two mean distances (not squared) to the nearest point of
    the other set. Undersides and cavities, which those cameras do not see, do not count. As the
    points are discrete, surfaces that nearly agree do not come to 0: a scan whose vertices were
    moved at random, 0.0016 from the original by `chamfer`, got 0.0044.
    """
    first, second = (_seen_points(thing, voxel, size_px) for thing in (mesh, truth))
    if not len(first) or not len(second):
        return _of_nothing(first, second)
    return 0.5 * float(_nearest(first, second)[0].mean() + _nearest(second, first)[0].mean())


def chamfer(mesh: Mesh, truth: Mesh, rng: Generator, *, samples: int = 20_000) -> float:
    """Measure the Chamfer distance of two whole surfaces, world units; 0 is equal, lower better.

    Half the sum of the mean distance from each surface's points, drawn evenly by area, to the other
    surface: the form of `chamfer_of_depth`, with insides and undersides. Papers also sum, square or
    scale by the box; only numbers of one form compare.
    """
    return _chamfer(_both_ways(mesh, truth, rng, samples))


def f_score(
    mesh: Mesh, truth: Mesh, rng: Generator, *, within: float, samples: int = 20_000
) -> float:
    """Measure how much of both surfaces lies near the other: from 0 to 1 (all of both).

    Knapitsch et al., "Tanks and Temples: Benchmarking Large-Scale Scene Reconstruction", 2017,
    eq. 5 to 7: the harmonic mean of precision, the share of the mesh's points that lie closer than
    `within` to the truth, and recall, the same the other way round. They print percent.

    Args:
        mesh: What is measured.
        truth: The truth.
        rng: Draws the points.
        within: World units; 0.01 is a hundredth of the longest side.
        samples: Points on each surface.

    Raises:
        ValueError: If `within` is not positive.
    """
    if not within > 0:
        raise ValueError(f"within must be positive, got {within}")
    return _f_score(_both_ways(mesh, truth, rng, samples), within)


def normal_consistency(mesh: Mesh, truth: Mesh, rng: Generator, *, samples: int = 20_000) -> float:
    """Measure how parallel two surfaces are where they are closest: from 0 to 1 (everywhere).

    Mescheder et al., "Occupancy Networks: Learning 3D Reconstruction in Function Space", 2019,
    section 4: the mean absolute cosine between the normals at a point and at the nearest point of
    the other surface, both ways, averaged. Unrelated surfaces get about 0.5. Which way faces point
    does not matter.
    """
    return _normal_consistency(_both_ways(mesh, truth, rng, samples))


def volume_iou(mesh: Mesh, truth: Mesh, *, resolution: int = 64) -> float:
    """Measure the overlap of two solids: volume of both over volume of either, from 0 to 1.

    At the cell centres of a grid of `resolution`^3 over [-1, 1]^3, as in the evaluation of Liu et
    al., "SyncDreamer", 2023, so an object of longest side 1 spans 32 of 64 cells. They take the
    sign of a distance from mesh2sdf; ours is inside where the generalised winding number (Jacobson
    et al., "Robust Inside-Outside Segmentation using Generalized Winding Numbers", 2013) exceeds
    0.5 in absolute value, which holds for open meshes, too, and does not ask which way faces point.
    """
    cells = _grid(resolution)
    first, second = (_occupancy(thing, cells) for thing in (mesh, truth))
    either = int((first | second).sum())
    return float((first & second).sum()) / either if either else 1.0


def sample_surface(mesh: Mesh, count: int, rng: Generator) -> SurfacePoints:
    """Draw points evenly by area; none from a mesh without area.

    Areas are split into `count` equal parts with one point in each (stratified), so that large
    faces get their share exactly; the place in a triangle is that of Osada et al., "Shape
    Distributions", 2002, eq. 1.
    """
    corner = mesh.vertices.detach().cpu().double()[mesh.faces.cpu()]
    area = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]).norm(dim=-1)
    if not float(area.sum()) > 0:
        return SurfacePoints(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    step = torch.arange(count) + torch.rand(count, generator=rng)
    total = area.cumsum(dim=0)
    face = torch.searchsorted(total, step.double() / count * total[-1]).clamp(max=len(area) - 1)
    root = torch.rand(count, generator=rng).double().sqrt()
    along = torch.rand(count, generator=rng).double()
    share = torch.stack([1 - root, root * (1 - along), root * along], dim=-1)
    return SurfacePoints((corner[face] * share[..., None]).sum(dim=1).float(), face)


@dataclass(frozen=True, eq=False)
class _Distances:
    """From each surface's points to the other surface; None if a surface is empty.

    Attributes:
        length: Of each of the two ways, world units.
        cosine: Absolute cosine between the normals there.
        empty: How many of the two are empty.
    """

    length: tuple[np.ndarray, np.ndarray]
    cosine: tuple[np.ndarray, np.ndarray]
    empty: int


def _both_ways(mesh: Mesh, truth: Mesh, rng: Generator, samples: int) -> _Distances:
    # The same random numbers for both: a mesh against itself then needs no luck to score 0.
    state = rng.get_state()
    parts = [(mesh, sample_surface(mesh, samples, rng))]
    rng.set_state(state)
    parts += [(truth, sample_surface(truth, samples, rng))]
    empty = sum(not len(drawn.points) for _, drawn in parts)
    if empty:
        none = np.zeros(0)
        return _Distances((none, none), (none, none), empty)
    there, back = _to_surface(*parts[0], *parts[1]), _to_surface(*parts[1], *parts[0])
    return _Distances((there[0], back[0]), (there[1], back[1]), 0)


def _to_surface(
    mesh: Mesh, of: SurfacePoints, other: Mesh, on: SurfacePoints
) -> tuple[np.ndarray, np.ndarray]:
    """Give distances from points to another surface, and the cosines between the normals.

    The nearest of the other surface's sampled points and middles of faces name the faces that are
    tried; the distance is to those faces themselves, so that no spacing of samples shows in it.
    """
    points = of.points.double().numpy()
    corner = other.vertices.detach().cpu().double().numpy()[other.faces.cpu().numpy()]
    known = np.concatenate([on.points.double().numpy(), corner.mean(axis=1)])
    face = np.concatenate([on.face.numpy(), np.arange(len(corner))])
    count = min(_NEAR_FACES, len(known))
    _, nearest = _nearest(points, known, count)
    candidate = face[nearest.reshape(len(points), count)]
    squared = _squared_to_triangles(points[:, None], corner[candidate])
    best = squared.argmin(axis=1)
    each = np.arange(len(points))
    cosine = (_normals(mesh)[of.face.numpy()] * _normals(other)[candidate[each, best]]).sum(-1)
    return np.sqrt(squared[each, best]), np.abs(cosine)


def _squared_to_triangles(p: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Give squared distances from points to triangles: to the plane inside, else to the sides."""
    a, b, c = corner[..., 0, :], corner[..., 1, :], corner[..., 2, :]
    normal = np.cross(b - a, c - a)
    squared = [_squared_to_segment(p, u, v) for u, v in ((a, b), (b, c), (c, a))]
    inside = np.ones(normal.shape[:-1], bool)
    for u, v in ((a, b), (b, c), (c, a)):
        inside &= (np.cross(v - u, p - u) * normal).sum(-1) >= 0
    twice_area = (normal * normal).sum(-1)
    height = ((p - a) * normal).sum(-1) ** 2 / np.maximum(twice_area, 1e-300)
    to_side = np.minimum(np.minimum(squared[0], squared[1]), squared[2])
    return np.where(inside & (twice_area > 1e-24), height, to_side)


def _squared_to_segment(p: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    along = v - u
    share = ((p - u) * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-300)
    off = p - u - np.clip(share, 0, 1)[..., None] * along
    return (off * off).sum(-1)


def _normals(mesh: Mesh) -> np.ndarray:
    corner = mesh.vertices.detach().cpu().double()[mesh.faces.cpu()]
    normal = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    return torch.nn.functional.normalize(normal, dim=-1, eps=1e-30).numpy()


def _chamfer(distances: _Distances) -> float:
    if distances.empty:
        return 0.0 if distances.empty == 2 else DISTANCE_OF_NOTHING
    return 0.5 * float(sum(way.mean() for way in distances.length))


def _f_score(distances: _Distances, within: float) -> float:
    if distances.empty:
        return 1.0 if distances.empty == 2 else 0.0
    precision, recall = (float((way < within).mean()) for way in distances.length)
    both = precision + recall
    return 2 * precision * recall / both if both else 0.0


def _normal_consistency(distances: _Distances) -> float:
    if distances.empty:
        return 1.0 if distances.empty == 2 else 0.0
    return 0.5 * float(sum(way.mean() for way in distances.cosine))


def _of_nothing(first: np.ndarray, second: np.ndarray) -> float:
    return DISTANCE_OF_NOTHING if len(first) or len(second) else 0.0


def _seen_points(mesh: Mesh, voxel: float, size_px: int) -> np.ndarray:
    """Give the mean of the seen points in each voxel."""
    if not len(mesh.faces):
        return np.zeros((0, 3))
    cameras = Cameras.orbit(
        [360.0 * k / _CHAMFER_VIEWS for k in range(_CHAMFER_VIEWS)],
        elevation_deg=30.0,
        radius=1.5,
        fov_deg=2 * math.degrees(math.atan(128 / 280)),
        size_hw=(size_px, size_px),
    )
    depth = mesh_depth(mesh, cameras)
    points = lift(depth, cameras)[depth > 0].double().numpy()
    if not len(points):
        return points
    # The grid starts half a voxel below the points, as open3d's does, which SyncDreamer uses.
    cell = np.floor((points - points.min(axis=0)) / voxel + 0.5).astype(np.int64)
    _, voxel_of, count = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    sums = [np.bincount(voxel_of.reshape(-1), points[:, k], len(count)) for k in range(3)]
    return np.stack(sums, axis=-1) / count[:, None]


def _nearest(
    points: np.ndarray, among: np.ndarray, count: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    from scipy.spatial import KDTree  # noqa: PLC0415  slow to import

    distance, index = KDTree(among).query(points, k=count)
    return np.asarray(distance), np.asarray(index)


def _grid(resolution: int) -> np.ndarray:
    at = (np.arange(resolution) + 0.5) / resolution * 2 - 1
    return np.stack(np.meshgrid(at, at, at, indexing="ij"), axis=-1).reshape(-1, 3)


def _occupancy(mesh: Mesh, cells: np.ndarray) -> np.ndarray:
    inside = np.zeros(len(cells), bool)
    if not len(mesh.faces):
        return inside
    low, high = bounds(mesh.vertices[mesh.faces.reshape(-1)]).double().cpu().numpy()
    near = np.flatnonzero(((cells >= low) & (cells <= high)).all(axis=1))
    inside[near] = winding_numbers(torch.from_numpy(cells[near]), mesh).abs().numpy() > 0.5
    return inside
