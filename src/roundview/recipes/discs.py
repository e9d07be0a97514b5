"""A surface from discs: what `--fit discs` does in any recipe."""

from jaxtyping import Float
from torch import Generator, Tensor

from ..camera import Cameras
from ..gaussians import Gaussians
from ..mesh import Mesh
from ..models import Report, silent
from ..splat.disc_fit import DiscFit, fit_discs
from ..splat.discs import render_discs
from ..views import Views
from .surfacing import Fusion, Meshing, fused_mesh, sharp_views

_FIT = DiscFit()
_FUSION = Fusion(fading=2.0)


def fused_discs(
    views: Views,
    rng: Generator,
    *,
    photo: Views | None = None,
    steps: int,
    meshing: Meshing,
    settings: DiscFit = _FIT,
    report: Report = silent,
) -> Mesh:
    """Fit discs to views of a subject of size 1 round the origin, and fuse how far they are.

    Huang et al., "2D Gaussian Splatting for Geometrically Accurate Radiance Fields", 2024, section
    6.1: the median depth of the discs, fused as truncated signed distances. Theirs is rendered from
    the views; ours from all round too, and inside the views' outlines, as for other clouds.

    Args:
        views: That agree with one another, over white, with alpha.
        rng: Of the fit.
        photo: Whose outline the mesh is to fill, if there is one.
        steps: Of the fit.
        meshing: Its resolution, and how an outline is filled.
        settings: Of the fit.
        report: Called with the fraction done.

    Returns:
        The mesh as it was fused: not yet cleaned, smoothed or of any number of faces.

    Raises:
        ValueError: If no disc is solid enough to be seen.
    """
    discs = fit_discs(views, steps=steps, rng=rng, settings=settings, report=report)
    seen = sharp_views(discs, views, within_deg=meshing.within_deg, draw=disc_views)
    return fused_mesh(seen, photo, meshing, _FUSION, resolution=meshing.resolution)


def disc_views(discs: Gaussians, cameras: Cameras) -> Views:
    """Render discs as `mesh_from_depth` likes them: with median depth, 0 where alpha is under half.

    The median is a disc's own depth; a mean would lie between the surfaces that a pixel sees.
    """
    seen = render_discs(discs, cameras)
    depth: Float[Tensor, "n h w"] = seen.median_depth * (seen.views.alpha > 0.5)
    return Views(seen.views.rgb, seen.views.alpha, cameras, depth=depth)
