"""Cut out a subject by colour alone, for when the matting network is not there.

Rother, Kolmogorov and Blake, "GrabCut: Interactive Foreground Extraction using Iterated Graph
Cuts", 2004. Ours needs no box from the user: the rim of the picture is taken for background.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..image import Foreground, Image, resize
from .backdrop import correct_by_backdrop, find_backdrop, looks_like
from .found import NoObjectError, require_background, require_contrast, require_object
from .refine import cut_out, main_parts

COMPONENTS = 5
"""Gaussians in each colour model, as in the paper (section 3.1)."""
SMOOTHNESS = 50.0
"""gamma, the weight of the edges between neighbours (section 2.2)."""
ROUNDS = 4
"""Rounds of learning and cutting; few pixels change after the third."""
SIDE_PX = 128
"""The cut is made at this size; the edge is found again at full size by the guided filter."""


def grabcut_matte(photo: Image) -> Foreground:
    """Cut out the subject by its colours; works on plain backgrounds, poorly on cluttered ones.

    Deterministic, and needs no weights.

    Args:
        photo: A photograph whose subject does not reach far along its rim.

    Returns:
        The subject at the photograph's size.

    Raises:
        NoObjectError: If no region stands out from the colours of the rim.
    """
    require_contrast(photo.rgb)
    return require_background(require_object(cut_out(_find, photo)))


def _find(rgb: Float[Tensor, "h w 3"]) -> tuple[Float[Tensor, "h w"], float]:
    """Cut at a small size, and correct by the backdrop at the picture's own."""
    h, w = rgb.shape[:2]
    scale = min(1.0, SIDE_PX / max(h, w))
    size_hw = max(8, round(h * scale)), max(8, round(w * scale))
    small = resize(rgb, size_hw).clamp(0, 1).numpy()
    subject = torch.from_numpy(main_parts(_cut(small)).astype(np.float32))
    coarse = resize(subject[..., None], (h, w))[..., 0].clamp(0, 1)
    backdrop = find_backdrop(rgb.numpy())
    if backdrop is not None:
        coarse = torch.from_numpy(correct_by_backdrop(coarse.numpy(), rgb.numpy(), backdrop))
    # The cut is crisp at its own size, a pixel of which is this many of the picture's.
    return coarse, h / size_hw[0]


def _cut(rgb: Float[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Alternate between learning the two colour models and cutting by them."""
    h, w = rgb.shape[:2]
    rim = max(1, round(0.04 * max(h, w)))
    certain = np.ones((h, w), bool)  # certainly background
    certain[rim:-rim, rim:-rim] = False
    subject = ~certain
    backdrop = find_backdrop(rgb)
    if backdrop is not None:  # Then a subject that reaches the rim can be told from it.
        same = looks_like(rgb, backdrop)
        certain, subject = certain & same, ~same
    links = _links(rgb)
    for _ in range(ROUNDS):
        if subject.sum() < COMPONENTS * 4:
            raise NoObjectError("no object found: nothing stands out from the picture's rim")
        front = _energy(rgb, _learn(rgb[subject]))
        back = _energy(rgb, _learn(rgb[~subject]))
        subject = _min_cut(front, back, certain, links)
    return subject


def _learn(colours: Float[np.ndarray, "p 3"]) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Fit Gaussians (weight, mean, covariance) by splitting along the widest axis.

    Orchard and Bouman, "Color Quantization of Images", 1991: the cluster that spreads most along
    one axis is split at its mean. Has no random start, so the same picture gives the same matte.
    """
    clusters = [colours]
    while len(clusters) < COMPONENTS:
        spreads = [float(np.linalg.eigvalsh(_covariance(c))[-1]) * len(c) for c in clusters]
        widest = clusters.pop(int(np.argmax(spreads)))
        axis = np.linalg.eigh(_covariance(widest))[1][:, -1]
        side = (widest - widest.mean(axis=0)) @ axis > 0
        if side.all() or not side.any():
            clusters.append(widest)
            break
        clusters += [widest[side], widest[~side]]
    total = len(colours)
    return [(len(c) / total, c.mean(axis=0), _covariance(c)) for c in clusters]


def _covariance(colours: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "3 3"]:
    centred = colours - colours.mean(axis=0)
    # Floor of one step of 255: flat colours have no spread at all.
    return centred.T @ centred / len(colours) + np.eye(3) / 255**2


def _energy(
    rgb: Float[np.ndarray, "h w 3"], model: list[tuple[float, np.ndarray, np.ndarray]]
) -> Float[np.ndarray, "h w"]:
    """Negative log likelihood of each pixel under its best component (Rother 2004, eq. 9)."""
    energies = []
    for weight, mean, covariance in model:
        off = rgb - mean
        distance = np.einsum("hwi,ij,hwj->hw", off, np.linalg.inv(covariance), off)
        constant = -math.log(weight) + 0.5 * math.log(np.linalg.det(covariance))
        energies.append(constant + 0.5 * distance)
    return np.min(energies, axis=0)


def _links(rgb: Float[np.ndarray, "h w 3"]) -> tuple[Int[np.ndarray, " e"], ...]:
    """Give neighbours (first, second) and the cost of parting them (Rother 2004, eq. 4)."""
    h, w = rgb.shape[:2]
    index = np.arange(h * w).reshape(h, w)
    pairs = [
        (np.s_[:, :-1], np.s_[:, 1:], 1.0),
        (np.s_[:-1], np.s_[1:], 1.0),
        (np.s_[:-1, :-1], np.s_[1:, 1:], math.sqrt(2)),
        (np.s_[:-1, 1:], np.s_[1:, :-1], math.sqrt(2)),
    ]
    contrast = [((rgb[a] - rgb[b]) ** 2).sum(axis=-1) for a, b, _ in pairs]
    beta = 1 / (2 * np.mean(np.concatenate([c.ravel() for c in contrast])) + 1e-12)
    first = np.concatenate([index[a].ravel() for a, _, _ in pairs])
    second = np.concatenate([index[b].ravel() for _, b, _ in pairs])
    cost = [
        (SMOOTHNESS / far * np.exp(-beta * c)).ravel()
        for (_, _, far), c in zip(pairs, contrast, strict=True)
    ]
    return first, second, _whole(np.concatenate(cost))


def _min_cut(
    front: Float[np.ndarray, "h w"],
    back: Float[np.ndarray, "h w"],
    certain: Bool[np.ndarray, "h w"],
    links: tuple[Int[np.ndarray, " e"], ...],
) -> Bool[np.ndarray, "h w"]:
    """Find the labelling of least total energy by the minimum cut of a graph.

    The source stands for the subject: its edge to a pixel is what calling it background costs.
    """
    from scipy import sparse  # noqa: PLC0415
    from scipy.sparse import csgraph  # noqa: PLC0415

    count = front.size
    source, sink = count, count + 1
    pixel = np.arange(count)
    # Only the difference matters; a certain pixel costs more than all its links together.
    gain = (back - front).ravel()
    to_source = np.where(certain.ravel(), 0.0, gain.clip(0))
    to_sink = np.where(certain.ravel(), 16 * SMOOTHNESS, (-gain).clip(0))
    first, second, cost = links
    tails = np.concatenate([first, second, np.full(count, source), pixel])
    heads = np.concatenate([second, first, pixel, np.full(count, sink)])
    capacity = np.concatenate([cost, cost, _whole(to_source), _whole(to_sink)])
    graph = sparse.csr_array((capacity, (tails, heads)), shape=(count + 2, count + 2))
    flow = csgraph.maximum_flow(graph, source, sink).flow
    left = graph - flow
    left.data = np.where(left.data > 0, 1, 0)
    left.eliminate_zeros()
    reached = csgraph.breadth_first_order(left, source, return_predecessors=False)
    subject = np.zeros(count + 2, bool)
    subject[reached] = True
    return subject[:count].reshape(front.shape)


def _whole(cost: Float[np.ndarray, "*any"]) -> Int[np.ndarray, "*any"]:
    """Costs as the integers that the flow solver wants; energies keep two digits."""
    return np.round(cost.clip(0, 1e5) * 100).astype(np.int32)
