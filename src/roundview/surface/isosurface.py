"""Closed meshes from density fields, from Gaussians and from depth maps.

Grids are cubes round the origin with nodes at `linspace(-half_width, half_width, resolution)` along
each axis, indexed [x, y, z]. Fields are larger inside the subject than outside.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..camera import Cameras, project, rays
from ..gaussians import Gaussians
from ..mesh import Mesh
from ..rotation import rotation_from_quat
from ..views import Views

Density = Callable[[Float[Tensor, "p 3"]], Float[Tensor, " p"]]

_CHUNK = 65536
"""Points or grid nodes handled at once by the references: bounds their memory."""
_REACH = 3.0
"""Standard deviations after which a Gaussian counts as 0, as in the kernel."""


def mesh_from_density(
    density: Density | Float[Tensor, "r r r"],
    *,
    level: float,
    half_width: float,
    resolution: int = 128,
) -> Mesh:
    """Draw the surface where a field crosses a level (marching cubes).

    Lewiner et al., "Efficient Implementation of Marching Cubes' Cases with Topological Guarantees",
    2003, as in scikit-image. The field counts as empty beyond the grid, so the mesh is closed.

    Args:
        density: A function of world points, or its values at the nodes of the grid.
        level: Value at the surface; inside is above.
        half_width: Half the side of the grid's cube, world units.
        resolution: Nodes along each side; taken from `density` if that is a grid.

    Returns:
        The mesh, counter-clockwise seen from the empty side.

    Raises:
        ValueError: If the field nowhere rises above the level, or nowhere falls below it.
    """
    from skimage.measure import marching_cubes  # noqa: PLC0415  slow to import

    grid = density if isinstance(density, Tensor) else _sampled(density, half_width, resolution)
    values = grid.detach().cpu().numpy().astype(np.float32)
    if not values.max() > level:
        raise ValueError(
            f"nothing to mesh: the field's highest value is {values.max():.3g}, "
            f"which is not above the level {level:.3g}"
        )
    step = 2 * half_width / (len(values) - 1)
    outside = min(float(values.min()), level - max(abs(level), 1e-3))
    padded = np.pad(values, 1, constant_values=outside)
    # A node exactly on the level gives faces without area.
    padded[padded == np.float32(level)] = np.nextafter(np.float32(level), np.float32(-np.inf))
    vertices, faces, _, _ = marching_cubes(padded, level, gradient_direction="ascent")
    world = (vertices - 1) * step - half_width
    return Mesh(
        torch.from_numpy(world.astype(np.float32)), torch.from_numpy(faces.astype(np.int64))
    )


def density_from_gaussians(gaussians: Gaussians, *, blur: float = 0.0) -> Density:
    """Read Gaussians as a density: the sum of opacity * exp(-d^2 / 2), d in deviations, up to 3.

    This is the readable reference of `density_grid_from_gaussians`, on any device.

    Args:
        gaussians: The cloud; colour plays no part.
        blur: Standard deviation, world units, of a filter that widens every Gaussian and keeps its
            peak, so that a grid does not step over thin ones.

    Returns:
        A function of world points.
    """
    precision = torch.linalg.inv(_blurred_covariance(gaussians, blur))

    def density(points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        total = torch.zeros(len(points)).to(points)
        step = max(1, _CHUNK * 64 // max(1, len(points)))
        for first in range(0, len(gaussians), step):
            part = slice(first, first + step)
            away = points[:, None] - gaussians.centre[part]
            square = torch.einsum("pgi,gij,pgj->pg", away, precision[part], away)
            near = (-0.5 * square).exp() * (square < _REACH**2)
            total = total + near @ gaussians.opacity[part]
        return total

    return density


def density_grid_from_gaussians(
    gaussians: Gaussians, *, resolution: int = 128, half_width: float = 0.55
) -> Float[Tensor, "r r r"]:
    """Sample the density of Gaussians on a grid, by the CPU kernel.

    Same as `density_from_gaussians` with a blur of half a step, some thousand times faster.

    Args:
        gaussians: The cloud.
        resolution: Nodes along each side.
        half_width: Half the side of the grid's cube, world units.

    Returns:
        Density, for `mesh_from_density`.
    """
    from .isosurface_numba import splat_density  # noqa: PLC0415  numba is slow to import

    _check_grid(resolution, half_width)
    step = 2 * half_width / (resolution - 1)
    covariance = _blurred_covariance(gaussians.detach(), 0.5 * step)
    precision = torch.linalg.inv(covariance)
    upper = precision[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    deviation = covariance.diagonal(dim1=1, dim2=2).sqrt()
    grid = splat_density(
        _array(gaussians.centre),
        _array(upper),
        _array(deviation),
        _array(gaussians.opacity),
        (-half_width, step, resolution),
    )
    return torch.from_numpy(grid).to(gaussians.centre)


def mesh_from_depth(
    views: Views,
    *,
    resolution: int = 128,
    half_width: float = 0.55,
    truncation_steps: float = 3.0,
    hidden_weight: float = 0.01,
    fading: float = 0.0,
    blur: float = 0.0,
) -> Mesh:
    """Fuse depth maps and silhouettes into one closed mesh.

    Curless and Levoy, "A Volumetric Method for Building Complex Models from Range Images", 1996:
    a weighted mean of truncated signed distances. Ours differs in two ways. The result never
    leaves the visual hull: a point outside any one silhouette is empty. And a view from which a
    point is hidden casts a small vote for "inside", so a few wrong depths dig no tunnels, and what
    is hidden from all views is solid. What lies outside every picture is empty.

    Args:
        views: Pictures with depth along the axis, 0 where nothing is seen; mean or median depth of
            a cloud, better the median of its `front_of`.
        resolution: Nodes along each side of the grid.
        half_width: Half the side of the grid's cube, world units; the subject must lie inside.
        truncation_steps: Distance from a seen surface up to which it speaks, in grid steps. Larger
            forgives noisier depth, rounds corners off and thickens walls thinner than itself.
        hidden_weight: Vote of a view that cannot see a point, where a clear sight has 1. Larger
            forgives wrong depths, and fills what is thin or hollow, since most views cannot see a
            point behind a wall. Chosen by us for views that agree, on true depth of a shoe from 40
            sides at 128: with 0.05 the overlap with the truth (IoU at 64) was 0.82, with 0.01 0.92;
            on depth of fits see `front_of`. Drawn views need 0.15.
        fading: Power with which a view's vote for "inside" falls from full at its surface to
            `hidden_weight` a truncation behind it; 0 keeps it full. What lies behind a surface is
            guessed to be solid, what lies before it is known to be empty: with full votes a wall
            thinner than the truncation grows on both sides until what its two sides say cancels
            out. Chosen by us on true depth and on a fit of an action figure, 32 sides, truncation 3
            steps of 192: IoU rose from 0.954 to 0.981 and from 0.875 to 0.890 with 2; a shoe's
            stayed.
        blur: Standard deviation of a Gaussian filter of the fused distances, world units. Takes
            away bumps and spikes of that size, and thin parts with them.

    Returns:
        The mesh, counter-clockwise seen from outside.

    Raises:
        ValueError: If the views have no depth, or nothing is left of the subject.
    """
    field = field_from_depth(
        views,
        resolution=resolution,
        half_width=half_width,
        truncation_steps=truncation_steps,
        hidden_weight=hidden_weight,
        fading=fading,
        blur=blur,
    )
    return mesh_from_density(field, level=0.0, half_width=half_width)


def field_from_depth(
    views: Views,
    *,
    resolution: int,
    half_width: float,
    truncation_steps: float,
    hidden_weight: float,
    fading: float,
    blur: float,
) -> Float[Tensor, "r r r"]:
    """Fuse depth maps and silhouettes into signed distances on a grid; see `mesh_from_depth`.

    Returns:
        Distances in truncations, -1 to 1, positive inside.

    Raises:
        ValueError: If the views have no depth.
    """
    from .isosurface_numba import fuse_depth  # noqa: PLC0415  numba is slow to import

    _check_grid(resolution, half_width)
    step = 2 * half_width / (resolution - 1)
    depth, trust, inside_px = depth_evidence(views)
    field = fuse_depth(
        _array(depth),
        _array(trust),
        _array(inside_px),
        _array(views.cameras.camera_from_world),
        _array(views.cameras.focal_px),
        (truncation_steps * step, hidden_weight, fading),
        (-half_width, step, resolution),
    )
    if blur > 0:
        from scipy.ndimage import gaussian_filter  # noqa: PLC0415  slow to import

        field = np.asarray(gaussian_filter(field, blur / step, mode="nearest"))
    return torch.from_numpy(field)


def depth_evidence(
    views: Views,
) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
    """Prepare views for fusion.

    Returns:
        Depth; its weight (alpha times the cosine between surface and ray, 0 where alpha is under
        half); and the signed distance to the silhouette in pixels, positive inside.

    Raises:
        ValueError: If the views have no depth.
    """
    if views.depth is None:
        raise ValueError("views must carry depth to be fused; render them from a fit or a mesh")
    seen = (views.alpha > 0.5) & (views.depth > 0)
    trust = views.alpha * _facing(views.depth, views.cameras) * seen
    inside = torch.stack([_silhouette_distance(alpha) for alpha in views.alpha])
    return views.depth, trust, inside.to(views.alpha)


def fuse_depth_reference(
    views: Views,
    points: Float[Tensor, "p 3"],
    *,
    truncation: float,
    hidden_weight: float,
    fading: float = 0.0,
) -> Float[Tensor, " p"]:
    """Say what the fusion kernel must compute, at any points.

    Args:
        views: As for `mesh_from_depth`.
        points: World points.
        truncation: Distance from a seen surface up to which it speaks, world units.
        hidden_weight: Vote of a view that cannot see a point.
        fading: Power with which votes fall to that behind a surface.

    Returns:
        min(hull, mean), in truncations, positive inside: the distance into the nearest silhouette,
        and the weighted mean over the views of how far behind its surface the point lies.
    """
    depth, trust, inside_px = depth_evidence(views)
    pixel, z = project(points, views.cameras)
    h, w = views.cameras.size_hw
    framed = (z > 1e-6) & (pixel >= 0).all(-1) & (pixel < torch.tensor([w, h]).to(pixel)).all(-1)
    corner, share = _corners(pixel, (h, w))
    n = torch.arange(len(views))[:, None, None]
    around = depth[n, corner[..., 1], corner[..., 0]]
    trusted = trust[n, corner[..., 1], corner[..., 0]]
    smooth = (trusted > 0).all(-1) & (around.amax(-1) - around.amin(-1) < truncation)
    # Across an edge only the nearest of the four pixels counts.
    nearest = torch.nn.functional.one_hot(share.argmax(-1), 4).to(share)
    blend = torch.where(smooth[..., None], share, nearest)
    seen, weight = (around * blend).sum(-1), (trusted * blend).sum(-1) * framed
    behind = (z - seen) / truncation
    hidden = (behind > 1) & (weight > 0)
    if fading > 0:
        rest = (1 - behind.clamp(0, 1)) ** fading
        faded = hidden_weight + (weight - hidden_weight) * rest
        weight = torch.where((behind > 0) & (weight > hidden_weight), faded, weight)
    weight = torch.where(hidden, torch.full_like(weight, hidden_weight), weight)
    total = (weight * behind.clamp(-1, 1)).sum(0)
    mean = torch.where(weight.sum(0) > 0, total / weight.sum(0).clamp(min=1e-12), 1.0)
    bound_px = (inside_px[n, corner[..., 1], corner[..., 0]] * share).sum(-1)
    bound = (bound_px * z / views.cameras.focal_px[:, None] / truncation).clamp(-1, 1)
    hull = torch.where(framed, bound, torch.ones_like(bound)).amin(0)
    return torch.where(framed.any(0), torch.minimum(hull, mean), -1.0)


def grid_points(resolution: int, half_width: float) -> Float[Tensor, "p 3"]:
    """List the nodes of a grid, z fastest."""
    axis = torch.linspace(-half_width, half_width, resolution)
    return torch.cartesian_prod(axis, axis, axis)


def _sampled(density: Density, half_width: float, resolution: int) -> Float[Tensor, "r r r"]:
    _check_grid(resolution, half_width)
    parts = [density(part) for part in grid_points(resolution, half_width).split(_CHUNK)]
    return torch.cat(parts).reshape(resolution, resolution, resolution)


def _check_grid(resolution: int, half_width: float) -> None:
    if resolution < 2 or not half_width > 0:
        raise ValueError(
            f"resolution must be at least 2 and half_width positive, got {resolution}, {half_width}"
        )


def _blurred_covariance(gaussians: Gaussians, blur: float) -> Float[Tensor, "g 3 3"]:
    half = rotation_from_quat(gaussians.quat_wxyz) * gaussians.scale[:, None, :]
    # The floor keeps a flat Gaussian invertible in float32.
    floor = 1e-4 * gaussians.scale.amax(dim=-1).square() + blur**2 + 1e-12
    return half @ half.mT + floor[:, None, None] * torch.eye(3).to(half)


def _facing(depth: Float[Tensor, "n h w"], cameras: Cameras) -> Float[Tensor, "n h w"]:
    """Cosine between a depth map's surface and the rays; small where the map is steep."""
    points = depth[..., None] * rays(cameras)
    padded = torch.nn.functional.pad(
        points.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate"
    ).permute(0, 2, 3, 1)
    across = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    normal = torch.nn.functional.normalize(torch.linalg.cross(across, down), dim=-1)
    ray = torch.nn.functional.normalize(rays(cameras), dim=-1)
    # Never quite 0: at an edge a poor depth still beats none.
    return (normal * ray).sum(-1).abs().clamp(min=0.2)


def _silhouette_distance(alpha: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Signed distance to alpha = 1/2, pixels, positive inside; sub-pixel at the outline itself."""
    from scipy.ndimage import distance_transform_edt  # noqa: PLC0415  slow to import

    inside: Bool[np.ndarray, "h w"] = alpha.detach().cpu().numpy() > 0.5
    # Beyond the picture nothing is known, so its rim is not an outline.
    if inside.all() or not inside.any():
        return torch.full_like(alpha, 1e6 if inside.all() else -1e6)
    whole = np.asarray(distance_transform_edt(inside)) - np.asarray(distance_transform_edt(~inside))
    sign = np.where(inside, 1.0, -1.0)
    coarse = torch.from_numpy(whole - 0.5 * sign).to(alpha)
    # A pixel next to the outline knows from its coverage where in it the outline runs.
    beside = (coarse.abs() < 1).to(alpha)
    return beside * (alpha - 0.5).clamp(-0.5, 0.5) + (1 - beside) * coarse


def _corners(
    pixel: Float[Tensor, "n p 2"], size_hw: tuple[int, int]
) -> tuple[Tensor, Float[Tensor, "n p 4"]]:
    """Give the four pixel centres round each point as (column, row), and their bilinear shares."""
    h, w = size_hw
    highest = torch.tensor([max(w - 2, 0), max(h - 2, 0)])
    at = pixel - 0.5
    first = at.floor().long().clamp(min=0).minimum(highest)
    a, b = (at - first).clamp(0, 1).unbind(-1)
    offset = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]])
    corner = (first[..., None, :] + offset).minimum(torch.tensor([w - 1, h - 1]))
    share = torch.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b], dim=-1)
    return corner, share


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)
