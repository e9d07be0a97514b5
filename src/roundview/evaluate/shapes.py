"""Shapes that need no model, to know what a shape's marks are worth."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Cameras, project
from ..image import Foreground
from ..mesh import Mesh
from ..surface.isosurface import mesh_from_density
from ..views import Views

_HALF_WIDTH = 0.72
"""Of the grid: an object of longest side 1 reaches at most 0.87 from the middle, but seldom 0.7."""
_PAIRS_AT_ONCE = 1 << 22


def visual_hull(views: Views, *, resolution: int = 96) -> Mesh:
    """Carve everything away that some silhouette rules out.

    Laurentini, "The Visual Hull Concept for Silhouette-Based Image Understanding", 1994: the
    largest shape with these silhouettes. Given the true ones it is the best that outlines alone can
    give: an upper bound for volume overlap that knows nothing of hollows. Alpha is looked up
    bilinearly and the surface drawn where the least of the views is a half.

    Args:
        views: Alpha of the object from all round.
        resolution: Nodes along a side of the grid.

    Raises:
        ValueError: If the silhouettes have no common inside.
    """

    def inside(points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        pixel, depth = project(points, views.cameras)
        h, w = views.cameras.size_hw
        grid = pixel / torch.tensor([w, h]).to(pixel) * 2 - 1
        alpha = torch.nn.functional.grid_sample(
            views.alpha[:, None], grid[:, None], align_corners=False
        )[:, 0, 0]
        return torch.where(depth > 0, alpha, 0.0).amin(dim=0)

    return mesh_from_density(inside, level=0.5, half_width=_HALF_WIDTH, resolution=resolution)


def inflated_silhouette(photo: Foreground, camera: Cameras, *, resolution: int = 96) -> Mesh:
    """Blow the photograph's silhouette up like a balloon: what no knowledge of the object gives.

    The union of balls round the silhouette's medial axis (Blum, "A Transformation for Extracting
    New Descriptors of Shape", 1967), each as large as fits into the silhouette, their middles in
    the plane through the world's origin that faces the camera. A disc becomes a ball, a leg a
    sausage.

    Args:
        photo: With its alpha.
        camera: The one that took it.
        resolution: Nodes along a side of the grid.

    Raises:
        ValueError: If the silhouette is empty.
    """
    middle, radius = _balls(photo.alpha, camera)

    def inside(points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        parts = points.split(max(1, _PAIRS_AT_ONCE // len(middle)))
        return torch.cat([(radius - torch.cdist(part, middle)).amax(dim=1) for part in parts])

    return mesh_from_density(inside, level=0.0, half_width=_HALF_WIDTH, resolution=resolution)


def _balls(
    alpha: Float[Tensor, "h w"], camera: Cameras
) -> tuple[Float[Tensor, "b 3"], Float[Tensor, " b"]]:
    """Give middles and radii, world units."""
    from skimage.morphology import medial_axis  # noqa: PLC0415  slow to import

    solid = alpha.numpy() > 0.5
    if not solid.any():
        raise ValueError("the photograph's alpha is empty: there is no silhouette to inflate")
    axis, distance = medial_axis(solid, return_distance=True, rng=0)
    row, column = np.nonzero(axis)
    # Distances are to the first pixel outside, whose nearer side is half a pixel closer.
    radius_px = torch.from_numpy(distance[row, column]).float() - 0.5
    depth = float(camera.origin[0].norm())
    focal = float(camera.focal_px[0])
    h, w = camera.size_hw
    slope = torch.stack(
        [
            (torch.from_numpy(column).float() + 0.5 - w / 2) / focal,
            (torch.from_numpy(row).float() + 0.5 - h / 2) / focal,
            torch.ones(len(row)),
        ],
        dim=-1,
    )
    pose = camera.world_from_camera[0]
    middle = depth * slope @ pose[:3, :3].T + pose[:3, 3]
    return middle, radius_px.clamp(min=0.5) * depth / focal
