"""From raw isosurfaces to meshes that printers and game engines take.

All functions treat the mesh as geometry: vertices at the same place are joined, texture and vertex
colour are dropped.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..mesh import Mesh
from .decimate import TooManyTunnels, decimate
from .repair import closed_mesh
from .topology import (
    Faces,
    areas,
    arrays_of,
    components,
    mesh_of,
    signed_volumes,
)
from .winding import winding_numbers

_PROBES = 32
"""Faces of a shell that are asked whether they lie inside another; most of them decide."""


_COARSER = (96, 64, 40, 24, 16)
"""Nodes along a side of the grids that tunnels are closed on, one after the other."""


@dataclass(frozen=True)
class Cleaning:
    """Settings of `clean_mesh`; the defaults were chosen by us on fused depth of scanned objects.

    Attributes:
        faces: Most triangles, and exactly as many (one less if odd) where the mesh has enough.
        exact: Subdivide a mesh that has fewer, so that it too has as many.
        smoothing: Rounds of `smooth`, which take the steps of a grid away.
        min_fraction: Smallest part that stays, as a share of the largest part's area.
        max_hole: Longest rim of a hole that is closed, in edges.
    """

    faces: int = 20000
    exact: bool = False
    smoothing: int = 8
    min_fraction: float = 0.02
    max_hole: int = 256


def clean_mesh(mesh: Mesh, settings: Cleaning = Cleaning()) -> Mesh:
    """Make a mesh closed, free of crumbs and hidden shells, smooth, and of the size asked for.

    Raises:
        ValueError: If nothing is left.
    """
    whole = closed_mesh(mesh, max_edges=settings.max_hole)
    whole = remove_inner_shells(keep_largest_components(whole, min_fraction=settings.min_fraction))
    if not len(whole.faces):
        raise ValueError(f"no face of {len(mesh.faces)} survives the cleaning")
    fair = closed_mesh(smooth(whole, rounds=settings.smoothing), max_edges=settings.max_hole)
    return _reduced(fair, settings)


def _reduced(mesh: Mesh, settings: Cleaning) -> Mesh:
    """Decimate; close the tunnels of a mesh that is riddled with them on coarser and coarser grids.

    Each tunnel costs some triangles, so a mesh full of holes too fine to be true, as from views
    that disagree, may not fit into a small budget otherwise.
    """
    from .watertight import remeshed  # noqa: PLC0415  which imports this module

    for resolution in _COARSER:
        try:
            return decimate(mesh, settings.faces, exact=settings.exact)
        except TooManyTunnels:
            mesh = closed_mesh(remeshed(mesh, resolution=resolution))
            mesh = remove_inner_shells(
                keep_largest_components(mesh, min_fraction=settings.min_fraction)
            )
    return decimate(mesh, settings.faces, exact=settings.exact)


def keep_largest_components(mesh: Mesh, *, min_fraction: float = 0.02) -> Mesh:
    """Drop the face-connected parts whose area is under a share of the largest part's.

    Args:
        mesh: The mesh.
        min_fraction: Smallest share that stays, 0 (all) to 1 (only the largest).
    """
    if not 0 <= min_fraction <= 1:
        raise ValueError(f"min_fraction must lie in [0, 1], got {min_fraction}")
    vertices, faces = arrays_of(mesh)
    if not len(faces):
        return mesh_of(vertices, faces)
    part = components(faces)
    area = np.bincount(part, areas(vertices, faces))
    return mesh_of(vertices, faces[(area >= min_fraction * area.max())[part]])


def remove_inner_shells(mesh: Mesh) -> Mesh:
    """Drop every part that lies inside another, and turn parts that are inside out.

    A density that is hollow gives a shell around its cavity, which nobody can see.
    """
    vertices, faces = arrays_of(mesh)
    if not len(faces):
        return mesh_of(vertices, faces)
    part = components(faces)
    volume = np.bincount(part, signed_volumes(vertices, faces))
    # Largest first: a shell can only lie inside a larger one.
    order = np.argsort(-np.abs(volume), kind="stable")
    kept: list[Faces] = []
    shells: list[Mesh] = []
    for index in order:
        own = faces[part == index]
        probes = own[:: max(1, len(own) // _PROBES)]
        middle = torch.from_numpy(vertices[probes].mean(axis=1))
        if any(_mostly_inside(middle, shell) for shell in shells):
            continue
        kept.append(own if volume[index] >= 0 else own[:, ::-1])
        shells.append(mesh_of(vertices, own))
    return mesh_of(vertices, np.concatenate(kept))


def _mostly_inside(points: Float[Tensor, "p 3"], shell: Mesh) -> bool:
    return float((winding_numbers(points, shell).abs() > 0.5).double().mean()) > 0.5


def smooth(mesh: Mesh, *, rounds: int = 8, shrink: float = 0.5, grow: float = -0.526) -> Mesh:
    """Take small bumps away without shrinking the whole.

    Taubin, "A Signal Processing Approach to Fair Surface Design", 1995, with equal weights for
    all neighbours; pass band 0.1 = 1 / shrink + 1 / grow.

    Args:
        mesh: The mesh.
        rounds: Pairs of a shrinking and a growing step; 0 changes nothing.
        shrink: Share of the way to the neighbours' mean in the first step.
        grow: The same in the second step; negative, a little larger.
    """
    from scipy.sparse import coo_matrix  # noqa: PLC0415  scipy is slow to import

    vertices, faces = arrays_of(mesh)
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.unique(np.concatenate([sides, sides[:, ::-1]]), axis=0)
    neighbours = np.bincount(both[:, 0], minlength=len(vertices)).astype(np.float64)
    share = 1 / np.maximum(neighbours, 1)
    mean = coo_matrix((share[both[:, 0]], (both[:, 0], both[:, 1])), (len(vertices),) * 2).tocsr()
    for _ in range(rounds):
        for step in (shrink, grow):
            vertices = vertices + step * (mean @ vertices - vertices) * (neighbours > 0)[:, None]
    return mesh_of(vertices, faces)
