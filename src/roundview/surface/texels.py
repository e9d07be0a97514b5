"""Texels as points on a surface: where each one lies, and what fills the gaps between charts."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..mesh import Mesh, vertex_normals

MARGIN = 1.5
"""Texels beyond a chart's rim that take the colour of the rim's nearest point, so that bilinear
lookups at a seam mix nothing foreign in; chosen by us, half a texel more than lookups reach."""


@dataclass(frozen=True, eq=False)
class Texels:
    """The texels that lie on triangles, in reading order.

    Attributes:
        at: Row and column in the texture.
        face: The triangle.
        bary: Barycentrics of its three corners.
        position: Place in the world.
        normal: Smooth unit normal.
        size: Rows and columns of the texture.
    """

    at: Int[Tensor, "p 2"]
    face: Int[Tensor, " p"]
    bary: Float[Tensor, "p 3"]
    position: Float[Tensor, "p 3"]
    normal: Float[Tensor, "p 3"]
    size: int

    def __len__(self) -> int:
        """Count the texels."""
        return int(self.face.shape[0])


def texels_of(mesh: Mesh, size: int) -> Texels:
    """Find the texels that triangles of an unwrapped mesh cover, and up to `MARGIN` around them.

    Raises:
        ValueError: If the mesh has no texture coordinates.
    """
    from .texels_numba import nearest_triangles_kernel  # noqa: PLC0415  numba is slow to import

    if mesh.uv is None:
        raise ValueError("the mesh has no texture coordinates; call unwrap first")
    corner = (mesh.uv * size)[mesh.faces].detach().cpu().numpy().astype(np.float32)
    face_at, bary_at = nearest_triangles_kernel(corner, size, MARGIN)
    at = torch.from_numpy(np.argwhere(face_at >= 0))
    face = torch.from_numpy(face_at).long()[at[:, 0], at[:, 1]]
    last = torch.from_numpy(bary_at)[at[:, 0], at[:, 1]]
    bary = torch.cat([1 - last.sum(dim=1, keepdim=True), last], dim=1)
    corners = mesh.faces[face]
    position = (mesh.vertices[corners] * bary[..., None]).sum(dim=1)
    normal = (vertex_normals(mesh)[corners] * bary[..., None]).sum(dim=1)
    unit = torch.nn.functional.normalize(normal, dim=-1)
    return Texels(at, face, bary, position.detach(), unit.detach(), size)


def nearest_triangles_reference(
    corner: Float[Tensor, "f 3 2"], size: int, margin: float
) -> tuple[Int[Tensor, "s s"], Float[Tensor, "s s 2"]]:
    """Say what the kernel must compute: the nearest triangle of each texel within a margin.

    Returns:
        Triangle (-1: none) and barycentrics of corners 1 and 2 of its point nearest to the texel.
    """
    centre = torch.arange(size) + 0.5
    p = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), dim=-1)
    face_at = torch.full((size, size), -1)
    bary_at = torch.zeros(size, size, 2)
    nearest = torch.full((size, size), margin**2)
    for f, (a, b, c) in enumerate(corner):
        basis = torch.stack([b - a, c - a], dim=-1)
        if float(torch.linalg.det(basis).abs()) < 1e-12:
            continue
        inside = (p - a) @ torch.linalg.inv(basis).T
        within = (inside >= 0).all(-1) & (inside.sum(-1) <= 1)
        options = [torch.where(within[..., None], inside, torch.full_like(inside, torch.nan))]
        for start, end in (
            ((0.0, 0.0), (1.0, 0.0)),
            ((0.0, 0.0), (0.0, 1.0)),
            ((1.0, 0), (0, 1.0)),
        ):
            first, last = torch.tensor(start), torch.tensor(end)
            side = basis @ (last - first)
            t = ((p - a - basis @ first) @ side / (side @ side)).clamp(0, 1)
            options.append(first + t[..., None] * (last - first))
        bary = torch.stack(options)
        square = (bary @ basis.T + a - p).square().sum(-1).nan_to_num(torch.inf)
        best = square.argmin(dim=0)
        chosen = bary.gather(0, best[None, ..., None].expand(1, size, size, 2))[0]
        closer = square.amin(0) * ~within < nearest
        face_at[closer], bary_at[closer] = f, chosen[closer]
        nearest = torch.where(closer, square.amin(0) * ~within, nearest)
    return face_at, bary_at


def filled(
    rgb: Float[Tensor, "h w 3"], known: Bool[Tensor, "h w"], *, gutter_px: int
) -> Float[Tensor, "h w 3"]:
    """Spread known texels into unknown ones next to them; the rest takes the mean colour.

    Args:
        rgb: The texture so far.
        known: Where it holds a colour.
        gutter_px: How far a colour spreads, texels.
    """
    from scipy.ndimage import distance_transform_edt  # noqa: PLC0415  slow to import

    if not bool(known.any()):
        return torch.full_like(rgb, 0.5)
    rows, columns = np.asarray(
        distance_transform_edt(~known.numpy(), return_distances=False, return_indices=True)
    )
    spread = rgb[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]
    row, column = np.indices(known.shape)
    near = (rows - row) ** 2 + (columns - column) ** 2 <= gutter_px**2
    return torch.where(torch.from_numpy(near)[..., None], spread, rgb[known].mean(dim=0))
