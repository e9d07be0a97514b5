"""Fewer triangles for an export, with the colours of the mesh they came from."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..mesh import Mesh, Texture, vertex_normals

_NORMAL_WEIGHT = 0.02
"""World units that a turn of 1 rad counts for (of a mesh of size 1), so that a thin part takes the
colours of its own side; chosen by us."""


def reduced(mesh: Mesh, faces: int) -> Mesh:
    """Reduce a mesh to so many triangles and bring its colours along.

    A texture is drawn anew, of the old one's longest side: each texel takes the colour of the old
    surface's nearest texel that faces the same way. Vertex colours come from the nearest vertex.

    Args:
        mesh: The mesh; one that has no more faces than that comes back as it is.
        faces: Most triangles.

    Raises:
        ValueError: If `faces` is under 4, or nothing of the mesh can be that small.
    """
    if len(mesh.faces) <= faces:
        return mesh
    # The kernels bring numba, and most exports do without.
    from ..surface.decimate import decimate  # noqa: PLC0415
    from ..surface.repair import repair  # noqa: PLC0415

    small = decimate(repair(mesh), faces)
    if mesh.texture is not None and mesh.uv is not None:
        return _textured(small, mesh)
    if mesh.vertex_rgb is None:
        return small
    nearest = _nearest(
        _features(mesh, mesh.vertices, vertex_normals(mesh)),
        _features(mesh, small.vertices, vertex_normals(small)),
    )
    return Mesh(small.vertices, small.faces, vertex_rgb=mesh.vertex_rgb[nearest])


def _textured(small: Mesh, mesh: Mesh) -> Mesh:
    from ..surface.texels import filled, texels_of  # noqa: PLC0415
    from ..surface.unwrap import GUTTER_PX, unwrap  # noqa: PLC0415

    assert mesh.texture is not None
    h, w = mesh.texture.rgb.shape[:2]
    size = max(h, w, 64)
    old = texels_of(mesh, size)
    small = unwrap(small, texture_size=size)
    new = texels_of(small, size)
    nearest = _nearest(
        _features(mesh, old.position, old.normal), _features(mesh, new.position, new.normal)
    )
    at = (old.at[nearest] + 0.5) / size
    row, column = (at * torch.tensor([h, w])).long().unbind(-1)
    rgb = torch.zeros(size, size, 3)
    known = torch.zeros(size, size, dtype=torch.bool)
    rgb[new.at[:, 0], new.at[:, 1]] = mesh.texture.rgb.detach().cpu().float()[row, column]
    known[new.at[:, 0], new.at[:, 1]] = True
    return Mesh(
        small.vertices, small.faces, small.uv, Texture(filled(rgb, known, gutter_px=GUTTER_PX))
    )


def _features(
    mesh: Mesh, position: Float[Tensor, "p 3"], normal: Float[Tensor, "p 3"]
) -> np.ndarray:
    """Give places and directions as points of one space, in units of the mesh's size."""
    extent = mesh.vertices.detach().amax(dim=0) - mesh.vertices.detach().amin(dim=0)
    place = position.detach() / extent.max().clamp(min=1e-12)
    return torch.cat([place, _NORMAL_WEIGHT * normal.detach()], dim=-1).cpu().numpy()


def _nearest(known: np.ndarray, asked: np.ndarray) -> Tensor:
    from scipy.spatial import KDTree  # noqa: PLC0415  slow to import

    return torch.from_numpy(KDTree(known).query(asked)[1])
