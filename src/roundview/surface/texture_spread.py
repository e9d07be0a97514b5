"""Spread colours over a surface: into texels that no view sees, and shifts of colour past a rim."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from ..mesh import Mesh, join_vertices
from .texels import Texels

_SMOOTHING = 0.02
"""Length, world units, below which differences between pictures are taken for detail and noise, and
not for a shift of colour; chosen by us, two texels of a 128-texel picture of the subject."""


def spread_over_surface(
    mesh: Mesh, texels: Texels, rgb: Float[Tensor, "p 3"], known: Bool[Tensor, " p"]
) -> Float[Tensor, "v 3"]:
    """Give each vertex the mean of the known texels round it, and the rest the smoothest filling.

    The filling is harmonic: each unknown vertex is the mean of its neighbours, so no value lies
    outside those around it. Without any known texel all is mid-grey.
    """
    joined = join_vertices(mesh.vertices)
    colour, weight = _gathered(joined, mesh, texels, rgb, known.float())
    sure = weight > 1e-3
    if not bool(sure.any()):
        return torch.full((len(mesh.vertices), 3), 0.5)
    return _harmonic(joined[mesh.faces], colour, sure)[joined]


def shift_past_rim(
    mesh: Mesh,
    texels: Texels,
    difference: Float[Tensor, "p 3"],
    overlap: Float[Tensor, " p"],
    fade: float,
) -> Float[Tensor, "p 3"]:
    """Spread a difference of colours smoothly over the surface; it dies out past where it is known.

    The shift c of each vertex makes least, with o the overlap and d the difference there,

        integral of o |c - d|^2 + s^2 |grad c|^2 + (s / fade)^2 (1 - o) |c|^2

    with s = 0.02. So c follows d where it is known, but for detail finer than s, and falls like
    exp(-distance / fade) beyond: the levelling of seams of Lempitsky and Ivanov, "Seamless
    Mosaicing of Image-Based Texture Maps", 2007, and Waechter, Moehrle and Goesele, "Let There Be
    Color!", 2014, with a side that stays as it is and an end to the reach. Gradients by cotangents
    (Pinkall and Polthier, "Computing Discrete Minimal Surfaces and Their Conjugates", 1993), none
    of them below 0.

    Args:
        mesh: The surface.
        texels: Texels on it.
        difference: What to add for each texel, where that is known.
        overlap: How well it is known, 0 to 1.
        fade: Reach, world units.

    Returns:
        What to add to each texel.
    """
    from scipy.sparse import diags  # noqa: PLC0415  scipy is slow to import
    from scipy.sparse.linalg import splu  # noqa: PLC0415

    joined = join_vertices(mesh.vertices)
    target, weight = _gathered(joined, mesh, texels, difference, overlap)
    if not bool((weight > 1e-3).any()):
        return torch.zeros_like(difference)
    count = _gathered(joined, mesh, texels, difference, torch.ones(len(texels)))[1]
    known = (weight / count.clamp(min=1e-6)).clamp(0, 1).double().numpy()
    stiff, area = _stiffness(mesh, joined.numpy())
    pull = (_SMOOTHING / fade) ** 2
    system = (diags(area * (known + pull * (1 - known))) + _SMOOTHING**2 * stiff).tocsc()
    right = (area * known)[:, None] * target.double().numpy()
    shift = torch.from_numpy(splu(system).solve(right)).to(difference)[joined]
    return on_texels(mesh, texels, shift)


def on_texels(mesh: Mesh, texels: Texels, values: Float[Tensor, "v c"]) -> Float[Tensor, "p c"]:
    """Interpolate values of vertices at texels."""
    return (values[mesh.faces[texels.face]] * texels.bary[..., None]).sum(dim=1)


def _gathered(
    joined: Int[Tensor, " v"],
    mesh: Mesh,
    texels: Texels,
    values: Float[Tensor, "p c"],
    share: Float[Tensor, " p"],
) -> tuple[Float[Tensor, "j c"], Float[Tensor, " j"]]:
    """Give each joined vertex the mean of the texels round it, and the sum of their shares."""
    count = int(joined.max()) + 1
    corners = joined[mesh.faces[texels.face]]
    part = texels.bary.clamp(min=0) * share[:, None]
    weight = torch.zeros(count).index_add_(0, corners.reshape(-1), part.reshape(-1))
    total = torch.zeros(count, values.shape[1])
    for corner in range(3):
        total.index_add_(0, corners[:, corner], part[:, corner, None] * values)
    return total / weight.clamp(min=1e-3)[:, None], weight


def _stiffness(mesh: Mesh, joined: NDArray[np.int64]) -> tuple[Any, NDArray[np.float64]]:
    """Give the cotangent Laplacian, positive on its diagonal, and each vertex' area."""
    from scipy.sparse import coo_matrix, diags  # noqa: PLC0415  scipy is slow to import

    faces = joined[mesh.faces.numpy()]
    corner = mesh.vertices.detach().double().numpy()[mesh.faces.numpy()]
    size = int(joined.max()) + 1
    doubled = np.linalg.norm(
        np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1
    )
    weight = coo_matrix((size, size)).tocsr()
    for k in range(3):
        left, right = faces[:, k - 2], faces[:, k - 1]
        first, second = corner[:, k - 2] - corner[:, k], corner[:, k - 1] - corner[:, k]
        cotangent = (first * second).sum(axis=1) / np.maximum(doubled, 1e-12)
        half = np.where(left != right, np.clip(cotangent, 0, 1e3) / 2, 0)
        weight = weight + coo_matrix((half, (left, right)), (size, size)).tocsr()
    weight = weight + weight.T
    area = np.bincount(faces.reshape(-1), np.repeat(doubled / 6, 3), size)
    total = np.asarray(weight.sum(axis=1)).reshape(-1)
    return (diags(total) - weight).tocsr(), np.maximum(area, 1e-12)


def _harmonic(
    faces: Int[Tensor, "f 3"], values: Float[Tensor, "v c"], known: Bool[Tensor, " v"]
) -> Float[Tensor, "v c"]:
    from scipy.sparse import coo_matrix, diags  # noqa: PLC0415  scipy is slow to import
    from scipy.sparse.linalg import splu  # noqa: PLC0415

    if bool(known.all()):
        return values
    sides = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).numpy()
    both = np.unique(np.concatenate([sides, sides[:, ::-1]]), axis=0)
    size = len(values)
    linked = coo_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), (size, size)).tocsr()
    free = np.flatnonzero(~known.numpy())
    fixed = np.flatnonzero(known.numpy())
    # The pull to the mean settles parts that no known vertex touches, and nothing else.
    pull = 1e-6
    mean = values[known].mean(dim=0).double().numpy()
    degree = np.asarray(linked.sum(axis=1)).reshape(-1)[free] + pull
    system = (diags(degree) - linked[free][:, free]).tocsc()
    right = linked[free][:, fixed] @ values[known].double().numpy() + pull * mean
    out = values.clone()
    out[torch.from_numpy(free)] = torch.from_numpy(splu(system).solve(right)).to(values)
    return out
