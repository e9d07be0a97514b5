"""Solids that are known point by point: their surface, and how they look."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Cameras, lift
from ..mesh import Mesh
from ..views import Views
from .isosurface import Density, mesh_from_density
from .raster import render_mesh

_NODES = 112
"""Nodes along a side of the grid in which the surface is drawn."""
_HALF_WIDTH = 0.75
"""Of that grid: subjects have a longest side of about 1. Half the diagonal of a square is 0.71."""
_LEVEL = 0.5
"""Probability at the surface."""


def solid_mesh(share: Density) -> Mesh:
    """Draw the surface of what is more likely solid than not, without colours.

    Args:
        share: Gives the probability that world points are solid.

    Raises:
        ValueError: If nothing is.
    """
    return mesh_from_density(share, level=_LEVEL, half_width=_HALF_WIDTH, resolution=_NODES)


@torch.no_grad()
def solid_views(
    share: Density,
    rgb: Callable[[Float[Tensor, "p 3"]], Float[Tensor, "p 3"]],
    cameras: Cameras,
) -> Views:
    """Draw a solid, colour over white; colours are looked up where each pixel's ray meets it.

    Args:
        share: Gives the probability that world points are solid.
        rgb: Gives the colours there.
        cameras: Where to look from.

    Raises:
        ValueError: If nothing is likely solid.
    """
    seen = render_mesh(solid_mesh(share), cameras)
    assert seen.depth is not None
    covered = seen.depth > 0
    colour = torch.ones(*seen.depth.shape, 3)
    colour[covered] = rgb(lift(seen.depth, cameras)[covered])
    alpha = seen.alpha[..., None]
    return Views(colour * alpha + 1 - alpha, seen.alpha, cameras)
