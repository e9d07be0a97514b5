"""Triangle meshes with one texture, and the finished asset.

A mesh is stored the glTF way: a vertex on a texture seam is repeated once for each of its texture
coordinates. (u, v) = (0, 0) is the top-left corner of the texture, as in glTF.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .gaussians import Gaussians
from .views import Views


@dataclass(frozen=True, eq=False)
class Texture:
    """A base-colour picture, straight sRGB in [0, 1], row 0 at the top."""

    rgb: Float[Tensor, "h w 3"]


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles, counter-clockwise seen from outside, with optional texture or vertex colour."""

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    uv: Float[Tensor, "v 2"] | None = None
    texture: Texture | None = None
    vertex_rgb: Float[Tensor, "v 3"] | None = None

    def __post_init__(self) -> None:
        """Refuse faces that name vertices which do not exist."""
        if self.faces.numel() and (
            int(self.faces.min()) < 0 or int(self.faces.max()) >= self.vertices.shape[0]
        ):
            raise ValueError(
                f"faces name vertices {int(self.faces.min())}..{int(self.faces.max())}, but there "
                f"are {self.vertices.shape[0]}"
            )


@dataclass(frozen=True, eq=False)
class Asset:
    """What a recipe makes: the mesh, the splats, the views they came from, and how it was made."""

    mesh: Mesh
    gaussians: Gaussians | None = None
    views: Views | None = None
    record: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MeshHealth:
    """What a printer, a game engine and a reviewer ask of a mesh.

    Counts are made after vertices at the same place are joined, so texture seams do not count as
    holes. `shells` are face-connected components.
    """

    faces: int
    vertices: int
    watertight: bool
    shells: int
    degenerate_faces: int
    non_manifold_edges: int
    boundary_edges: int


def face_normals(mesh: Mesh) -> Float[Tensor, "f 3"]:
    """Give the unit normal of each face; 0 for a degenerate face."""
    corner = mesh.vertices[mesh.faces]
    normal = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    return torch.nn.functional.normalize(normal, dim=-1)


def vertex_normals(mesh: Mesh) -> Float[Tensor, "v 3"]:
    """Give area-weighted unit normals, smooth over texture seams.

    A vertex that belongs to no face of any area gets +Y, since files demand unit length.
    """
    corner = mesh.vertices[mesh.faces]
    weighted = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    joined = join_vertices(mesh.vertices)
    total = torch.zeros(int(joined.max()) + 1 if len(joined) else 0, 3).to(mesh.vertices)
    total.index_add_(0, joined[mesh.faces].reshape(-1), weighted.repeat_interleave(3, dim=0))
    normal = total[joined]
    length = normal.norm(dim=-1, keepdim=True)
    up = torch.tensor([0.0, 1.0, 0.0]).to(normal).expand_as(normal)
    return torch.where(length > 1e-12, normal / length.clamp(min=1e-12), up)


def join_vertices(vertices: Float[Tensor, "v 3"]) -> Int[Tensor, " v"]:
    """Number the distinct positions; vertices at the same place (bit for bit) share a number."""
    if not len(vertices):
        return torch.zeros(0, dtype=torch.int64)
    return torch.unique(vertices.detach(), dim=0, return_inverse=True)[1]


def bounds(vertices: Float[Tensor, "v 3"]) -> Float[Tensor, "2 3"]:
    """Give the smallest and largest coordinates.

    Raises:
        ValueError: If there are no vertices.
    """
    if not len(vertices):
        raise ValueError("a mesh without vertices has no bounds")
    return torch.stack([vertices.amin(dim=0), vertices.amax(dim=0)])


def centred(mesh: Mesh) -> tuple[Mesh, float, Float[Tensor, " 3"]]:
    """Move the bounding box's middle to the origin and scale its longest side to 1.

    Returns:
        The mesh, and the scale and shift that were applied: p_new = scale * p_old + shift.
    """
    low, high = bounds(mesh.vertices)
    longest = float((high - low).max())
    if longest <= 0:
        raise ValueError("a mesh whose vertices all coincide cannot be scaled to size 1")
    scale = 1.0 / longest
    shift = -0.5 * (low + high) * scale
    return replace(mesh, vertices=mesh.vertices * scale + shift), scale, shift


def mesh_health(mesh: Mesh) -> MeshHealth:
    """Inspect the topology of a mesh."""
    joined = join_vertices(mesh.vertices)
    faces = joined[mesh.faces].cpu().numpy() if len(mesh.faces) else np.zeros((0, 3), np.int64)
    same = (
        (faces[:, 0] == faces[:, 1]) | (faces[:, 1] == faces[:, 2]) | (faces[:, 2] == faces[:, 0])
    )
    corner = mesh.vertices[mesh.faces].double()
    area2 = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]).norm(
        dim=-1
    )
    degenerate = same | (area2.cpu().numpy() <= 1e-14)
    solid = faces[~same]
    directed = np.concatenate([solid[:, [0, 1]], solid[:, [1, 2]], solid[:, [2, 0]]])
    edges, edge_of, uses = np.unique(
        np.sort(directed, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    forward = np.bincount(edge_of.reshape(-1), directed[:, 0] < directed[:, 1], len(edges))
    paired = (uses == 2) & (forward == 1)
    return MeshHealth(
        faces=len(faces),
        vertices=int(mesh.vertices.shape[0]),
        watertight=bool(len(solid)) and bool(paired.all()),
        shells=_component_count(len(solid), edge_of.reshape(-1)),
        degenerate_faces=int(degenerate.sum()),
        non_manifold_edges=int((uses > 2).sum() + ((uses == 2) & (forward != 1)).sum()),
        boundary_edges=int((uses == 1).sum()),
    )


def _component_count(face_count: int, edge_of_side: np.ndarray) -> int:
    from scipy.sparse import coo_matrix  # noqa: PLC0415  scipy is slow to import
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    if face_count == 0:
        return 0
    face_of_side = np.tile(np.arange(face_count), 3)
    edge_count = int(edge_of_side.max()) + 1
    size = face_count + edge_count
    graph = coo_matrix(
        (np.ones(len(face_of_side), bool), (face_of_side, face_count + edge_of_side)), (size, size)
    )
    return int(connected_components(graph, directed=False)[0])
