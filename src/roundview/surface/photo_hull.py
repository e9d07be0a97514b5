"""The largest shape that shows the views' colours: a bound from outside that knows of hollows.

Kutulakos and Seitz, "A Theory of Shape by Space Carving", 2000: whatever several views see of the
surface must have one colour in all of them, so what has not is carved away, from the visual hull
inwards, until all that is left agrees. The result holds the true shape if its colours do not depend
on the side they are seen from: nothing of it is ever carved. A bowl's visual hull has a lid; where
the inside has any shade at all, its photo hull has none.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from ..camera import Cameras, project
from ..views import Views

_WIDE = 0.71
"""Half the side of the square that hides what is behind a node, steps: half its diagonal."""
_MOST_ROUNDS = 400
_AGREEMENTS = (1.0, 0.9)
"""Shares of the outlines that a node must lie in: the second, as for the fit's own start, where one
cut-out has a hole or is missing."""
_WELL_FILLED = 0.05
"""Of the outline that may stay open before that, of nine in ten; by us."""
FAR = 1e9
"""Depth where there is nothing."""
MANY = 5
"""Of so many views one may disagree: it looks past the edge of what hides the node, or at a wall
thinner than a step from the other side. By us: with 3 a ramekin kept half its lid, with 1,000 one
speckled node let all of it be carved away."""


@dataclass(frozen=True)
class Carving:
    """Settings of `photo_hull`, chosen by us.

    Attributes:
        resolution: Nodes along a side of the grid.
        px: Larger pictures are looked at in this size (the shorter side).
        tolerance: Disagreement of a channel, 0 to 1, that is always allowed.
        tolerance_of_median: And as many times the median disagreement on the visual hull: exact
            views have 0 there, photographs their noise, shine and exposure.
        most_median: No carving by colour at all beyond this median.
        most_tolerance: Nor beyond this tolerance.
        unfilled: Share of a silhouette that may lose its cover. If more does, all is carved anew
            with twice the tolerance: one node lost by mistake opens the way to those behind it.
        least_cosine: Between the outward direction and the ray of views that are asked.
    """

    resolution: int = 128
    px: int = 256
    tolerance: float = 1 / 255
    tolerance_of_median: float = 3.0
    most_median: float = 0.05
    most_tolerance: float = 0.2
    unfilled: float = 0.01
    least_cosine: float = 0.25


_DEFAULTS = Carving()


def photo_hull(
    views: Views, *, half_width: float, settings: Carving = _DEFAULTS
) -> Bool[Tensor, "r r r"]:
    """Carve away what the views rule out by their outlines or their colours.

    A view tells not one colour of a node but a range, that of the pixels round it, since the node
    lies beside the surface by up to a step; a node's views agree if their ranges meet.

    Args:
        views: Over white, with alpha, from several sides.
        half_width: Half the side of the grid's cube round the origin, world units.
        settings: What counts as agreeing.

    Returns:
        Which nodes of the grid are left, indexed [x, y, z].

    Raises:
        ValueError: If the silhouettes have no common inside.
    """
    coarse = _Scene.of(views, half_width, settings, (settings.resolution + 1) // 2)
    fine = _Scene.of(views, half_width, settings, settings.resolution)
    for agreement in _AGREEMENTS:
        hull, whole = coarse.hull(agreement), fine.hull(agreement)
        open_share = fine.unfilled(whole)
        if hull.any() and whole.any() and np.quantile(open_share, 0.9) <= _WELL_FILLED:
            break
    else:
        raise ValueError("the silhouettes have no common inside; check cameras and alpha")
    median = coarse.median_gap(hull)
    if median <= settings.most_median:
        tolerance = max(settings.tolerance, settings.tolerance_of_median * median)
        while tolerance <= settings.most_tolerance:
            # Most of the way on a quarter of the nodes, then the rest.
            rough = coarse.carved(hull, tolerance)
            left = whole & _finer(rough, settings.resolution)
            left = fine.without_strays(fine.carved(left, tolerance))
            if (fine.unfilled(left) <= open_share + settings.unfilled).all():
                return torch.from_numpy(left)
            # A tunnel has eaten its way through, so what made it is no disagreement.
            tolerance *= 2
    return torch.from_numpy(whole)


def bounded(
    field: Float[Tensor, "r r r"],
    inside: Bool[Tensor, "q q q"],
    *,
    half_width: float,
    unit: float,
    margin: float = 1.0,
) -> Float[Tensor, "r r r"]:
    """Carve a field of signed distances down to a set of nodes and a little round it.

    Args:
        field: Distances in units, -1 to 1, positive inside, as from `field_from_depth`.
        inside: The set, on a grid of the same cube.
        half_width: Half the cube's side, world units.
        unit: World units that a distance of 1 stands for.
        margin: How far beyond the outermost nodes the field is let alone, steps of their grid.

    Returns:
        The lesser of the field and the distance into the set.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter, zoom  # noqa: PLC0415  slow to import

    full = inside.cpu().numpy()
    # Half-way between nodes is where one set ends and the other begins.
    away = np.asarray(distance_transform_edt(full)) - np.asarray(distance_transform_edt(~full))
    away = gaussian_filter(away - 0.5 * np.sign(away), 1.0)
    step = 2 * half_width / (len(full) - 1)
    bound = (away + margin) * (step / unit)
    fine = np.asarray(zoom(bound, len(field) / len(full), order=1))
    return torch.minimum(field, torch.from_numpy(np.clip(fine, -1, 1)).to(field))


def _finer(inside: NDArray[np.bool_], resolution: int) -> NDArray[np.bool_]:
    """Widen a set of nodes by one all round and read it on a finer grid."""
    from scipy.ndimage import maximum_filter  # noqa: PLC0415  slow to import

    at = np.rint(np.linspace(0, len(inside) - 1, resolution)).astype(np.int64)
    return np.asarray(maximum_filter(inside, 3), np.bool_)[np.ix_(at, at, at)]


@dataclass(frozen=True, eq=False)
class _Scene:
    """Views as the kernels read them, and the grid: its first node's coordinate and its step."""

    covered: NDArray[np.bool_]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    poses: tuple[NDArray[np.float32], NDArray[np.float32]]
    origin: NDArray[np.float32]
    grid: tuple[float, float]
    resolution: int
    least_cosine: float

    @classmethod
    def of(cls, views: Views, half_width: float, settings: Carving, resolution: int) -> "_Scene":
        h, w = views.cameras.size_hw
        shrink = min(1.0, settings.px / min(h, w))
        views = views.resized((round(h * shrink), round(w * shrink)))
        step = 2 * half_width / (resolution - 1)
        reach = window_px(views.cameras, step)
        low, high = colour_ranges(views.rgb, reach)
        wide = torch.nn.functional.max_pool2d(views.alpha[:, None], 3, stride=1, padding=1)[:, 0]
        cameras = views.cameras
        return cls(
            covered=(wide > 0.5).cpu().numpy(),
            low=_array(low),
            high=_array(high),
            poses=(_array(cameras.camera_from_world), _array(cameras.focal_px)),
            origin=_array(cameras.origin),
            grid=(-half_width, step),
            resolution=resolution,
            least_cosine=settings.least_cosine,
        )

    def hull(self, agreement: float = 1.0) -> NDArray[np.bool_]:
        """Find the nodes inside all outlines, or such a share of them."""
        from ..kernels import run_jobs  # noqa: PLC0415  numba is slow to import
        from .photo_hull_numba import silhouette_kernel  # noqa: PLC0415

        inside = np.zeros((self.resolution,) * 3, np.bool_)
        asked = (self.covered, *self.poses, self.grid, agreement, inside)
        run_jobs(silhouette_kernel, len(inside), *asked)
        return inside

    def gaps(self, inside: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """List the skin of a set of nodes, and by how much its colours disagree, -1 if unknown."""
        from ..kernels import run_jobs  # noqa: PLC0415  numba is slow to import
        from .photo_hull_numba import gap_kernel  # noqa: PLC0415

        nodes, depth = self.seen(inside)
        gap = np.empty(len(nodes), np.float32)
        told = (self.low, self.high, self.poses[0], self.origin, self.poses[1], self.grid)
        asked = (nodes, inside, depth, *told, self.least_cosine, gap)
        run_jobs(gap_kernel, len(nodes), *asked, at_least=256)
        return nodes, gap

    def median_gap(self, inside: NDArray[np.bool_]) -> float:
        """Say by how much the views disagree in the middle; 1 if no two see the same."""
        gap = self.gaps(inside)[1]
        return float(np.median(gap[gap >= 0])) if (gap >= 0).any() else 1.0

    def carved(self, inside: NDArray[np.bool_], tolerance: float) -> NDArray[np.bool_]:
        """Take away what disagrees, skin by skin, until nothing does."""
        inside = inside.copy()
        for _ in range(_MOST_ROUNDS):
            nodes, gap = self.gaps(inside)
            wrong = nodes[gap > tolerance]
            if not len(wrong):
                break
            inside[wrong[:, 0], wrong[:, 1], wrong[:, 2]] = False
        return inside

    def seen(self, inside: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """List the skin of a set of nodes, and draw its depth."""
        from ..kernels import run_jobs  # noqa: PLC0415  numba is slow to import
        from .photo_hull_numba import depth_kernel, skin_of  # noqa: PLC0415

        room = np.empty((int(inside.sum()), 3), np.int32)
        nodes = room[: skin_of(inside, room)]
        depth = np.empty(self.covered.shape, np.float32)
        run_jobs(depth_kernel, len(depth), nodes, *self.poses, self.grid, _WIDE, depth)
        return nodes, depth

    def unfilled(self, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Give the share of each picture's silhouette that a set leaves open."""
        shown = self.seen(inside)[1] < FAR
        missing = (self.covered & ~shown).sum(axis=(1, 2))
        return missing / np.maximum(self.covered.sum(axis=(1, 2)), 1)

    def without_strays(self, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Drop the pieces that no silhouette needs: what floats before a hollow agrees, too."""
        from scipy.ndimage import label  # noqa: PLC0415  slow to import

        found: tuple[NDArray[np.int32], int] = label(inside, np.ones((3, 3, 3)))  # pyright: ignore[reportAssignmentType]  scipy stubs do not know that it is a pair
        pieces, count = found
        size = np.bincount(pieces.reshape(-1), minlength=count + 1)
        kept = np.zeros_like(inside)
        missing = self.covered
        for piece in 1 + np.argsort(-size[1:], kind="stable"):
            here = pieces == piece
            shown = self.seen(here)[1] < FAR
            # A grid's skin misses a pixel here and there at the outlines.
            if (shown & missing).sum() > 0.01 * shown.sum():
                kept |= here
                missing = missing & ~shown
        return kept


def window_px(cameras: Cameras, step: float) -> int:
    """Say how many pixels round a node's own may show what it stands for, in the middle camera.

    A node lies off the surface by up to half its cell's diagonal.
    """
    distance = cameras.origin.norm(dim=-1)
    return max(1, round(float((0.6 * step * cameras.focal_px / distance).median())))


def colour_ranges(
    rgb: Float[Tensor, "n h w 3"], reach: int
) -> tuple[Float[Tensor, "n h w 3"], Float[Tensor, "n h w 3"]]:
    """Give the least and the most of each channel within so many pixels of each pixel."""
    picture, side = rgb.permute(0, 3, 1, 2), 2 * reach + 1

    def most(picture: Tensor) -> Tensor:
        pooled = torch.nn.functional.max_pool2d(picture, side, stride=1, padding=reach)
        return pooled.permute(0, 2, 3, 1).contiguous()

    return -most(-picture), most(picture)


def gaps_reference(
    nodes: Int[Tensor, "k 3"],
    outward: Float[Tensor, "k 3"],
    views: Views,
    *,
    half_width: float,
    resolution: int,
    least_cosine: float,
) -> Float[Tensor, " k"]:
    """Say what the kernels must compute for the skin of a set of nodes, slowly.

    Args:
        nodes: Indices on the grid, of all nodes of the skin.
        outward: Unit vectors out of the set.
        views: At the size that they are looked at in.
        half_width: As for `photo_hull`.
        resolution: Nodes along a side of the grid.
        least_cosine: See `Carving`.

    Returns:
        By how much the views of each node disagree about a channel, -1 if fewer than two see it.
        Of `MANY` views or more one may disagree with the others for nothing.
    """
    step = 2 * half_width / (resolution - 1)
    points = nodes * step - half_width
    cameras = views.cameras
    h, w = cameras.size_hw
    pixel, away = project(points, cameras)
    n, size = len(cameras), torch.tensor([w, h])
    at = pixel.floor().long()
    depth = torch.full((n, h, w), FAR)
    # A square on every node, the nearest wins.
    reach = _WIDE * step * cameras.focal_px[:, None] / away
    first = (pixel - 0.5 - reach[..., None]).ceil().long().clamp(min=0)
    last = torch.minimum((pixel - 0.5 + reach[..., None]).floor().long(), size - 1)
    for view in range(n):
        for k in range(len(nodes)):
            (left, top), (right, bottom) = first[view, k].tolist(), last[view, k].tolist()
            part = depth[view, top : bottom + 1, left : right + 1]
            part.clamp_(max=float(away[view, k]))
    framed = ((pixel >= 0) & (pixel < size)).all(-1)
    row, column = at[..., 1].clamp(0, h - 1), at[..., 0].clamp(0, w - 1)
    view = torch.arange(n)[:, None]
    towards = torch.nn.functional.normalize(cameras.origin[:, None] - points, dim=-1)
    seen = framed & ((towards * outward).sum(-1) > least_cosine)
    seen &= away <= depth[view, row, column] + step
    low, high = (
        part[view, row, column] for part in colour_ranges(views.rgb, window_px(cameras, step))
    )
    highest = torch.where(seen[..., None], low, -1e9).sort(dim=0, descending=True).values
    lowest = torch.where(seen[..., None], high, 1e9).sort(dim=0).values
    apart = highest[0] - lowest[0]
    forgiving = torch.minimum(highest[1] - lowest[0], highest[0] - lowest[1])
    count = seen.sum(0)
    gap = torch.where(count[:, None] >= MANY, forgiving, apart).amax(-1).clamp(min=0)
    return torch.where(count >= 2, gap, -1.0)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)
