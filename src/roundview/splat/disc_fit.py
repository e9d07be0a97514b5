"""Fit discs to views: Gaussians that lie in a surface instead of filling it.

Huang et al., "2D Gaussian Splatting for Geometrically Accurate Radiance Fields", 2024. The start,
the optimiser, the growth and the colour terms are those of `fit.py`; what is added are the paper's
two terms that bring discs into one surface.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..gaussians import Gaussians
from ..losses import mask_loss, ms_ssim, photometric
from ..models import Report, silent
from ..rotation import quat_from_rotation
from ..views import Views
from .cloud import LOG_SCALE, CloudAdam, pack, unpack
from .densify import Limits
from .disc_losses import distortion_loss, normal_consistency
from .discs import render_discs
from .fit import (
    FitSettings,
    _levels,  # pyright: ignore[reportPrivateUsage]  both fits see the views at the same sizes
    _rates,  # pyright: ignore[reportPrivateUsage]  and move by the same rates
    view_order,
)
from .start import cloud_on_hull, seen_cube

_NEIGHBOURS = 12
"""Points that say how the surface lies at one of them. Chosen by us: fewer follow the noise of a
hull of 64 cells, more round off its corners."""


_FIT = FitSettings()


@dataclass(frozen=True)
class DiscFit:
    """Settings of a fit by discs.

    The weights were tried on three scans of the training objects (24 views of 128 px, 300 steps,
    16 unseen views): without the added terms the mean angle between drawn and true normals is 25 to
    36 degrees, with them 10 to 17, and the pictures lose about 0.1 dB. They lie 0.4 to 0.8 dB
    below those of `fit_gaussians`, but 0.3 dB above at 256 px and 400 steps (one scan).

    Attributes:
        fit: Everything that a fit of Gaussians has too. The perceptual term, exposures and the
            weights of opacity and scale are not used here.
        normal_weight: Of the normal consistency. The paper's 0.05 stands beside a colour term of
            weight about 1; that of `FitSettings` is 10. Half of our weight leaves 1 to 2 degrees
            more and gains 0.1 dB; the paper's ratio, 0.5, is this half.
        normal_from: Share of the steps before the normals count (7,000 of the paper's 30,000).
        distortion_weight: Of the distortion, in squares of half the width of what all cameras see.
            100 costs 0.5 dB on one of the scans, and 5 dB where few discs are still translucent
            when it sets in; 1,000 costs 2 to 3 dB.
        distortion_from: Share of the steps before it counts (3,000 of the paper's 30,000).
        median_share: Of the median in the depth whose normals are compared: all of it for single
            objects, as in the paper. The mean depth instead leaves 1 to 2 degrees
            more.
        thickness: Third deviation over the longest of the other two. Discs have none; what draws
            or exports the result as Gaussians needs one.
    """

    fit: FitSettings = _FIT
    normal_weight: float = 1.0
    normal_from: float = 7 / 30
    distortion_weight: float = 10.0
    distortion_from: float = 3 / 30
    median_share: float = 1.0
    thickness: float = 1e-3


_DEFAULTS = DiscFit()


def fit_discs(
    views: Views,
    *,
    steps: int = 1200,
    rng: Generator,
    start: Gaussians | None = None,
    settings: DiscFit = _DEFAULTS,
    report: Report = silent,
) -> Gaussians:
    """Optimise discs until their renders look like the views and they lie in one surface.

    Every step renders one whole view and takes one Adam step. The same views, settings and state
    of `rng` give the same discs to the last bit on one machine.

    Args:
        views: What to reproduce, over `settings.fit.background`, at the size to train at.
        steps: Views rendered in all.
        rng: Draws the first points, the order of the views and the parts of split discs.
        start: Gaussians to go on from, whose third axis is taken for the normal; otherwise discs
            on the visual hull, facing outwards.
        settings: Weights, shares and limits.
        report: Called now and then with the share done.

    Returns:
        Gaussians whose third deviation is `settings.thickness` of the longest: `render_discs` and
        `render_gaussians` show nearly the same. Without gradient.

    Raises:
        ValueError: If there is no view or no step.
    """
    if len(views) == 0 or steps < 1:
        raise ValueError(f"the fit needs at least one view and one step, got {len(views)}, {steps}")
    fit, half_width = settings.fit, seen_cube(views.cameras)[1]
    first = _begin(views, fit, rng) if start is None else start
    cloud = CloudAdam(pack(first.detach()))
    _flatten(cloud.rows, settings, half_width)
    strategy = fit.strategy.over(cloud, Limits(fit.max_gaussians, half_width, steps), rng)
    levels = list(_levels(views, None, fit.coarse_until * steps))
    for step, n in enumerate(view_order(torch.ones(len(views)), steps, rng)):
        while step >= levels[0].until and len(levels) > 1:
            del levels[0]
        view = levels[0].target(n).view
        with torch.enable_grad():
            _loss(unpack(cloud.rows), view, settings, step / steps, half_width).backward()
        strategy.before_step(step, view.cameras)
        rates = _rates(cloud.rows, fit, step / steps, half_width)
        cloud.step(rates)
        _flatten(cloud.rows, settings, half_width)
        strategy.after_step(step, float(rates[0]))
        if step % 10 == 0:
            report(step / steps)
    report(1.0)
    _flatten(cloud.rows, settings, half_width)
    return unpack(cloud.rows.detach())


def _loss(
    gaussians: Gaussians, view: Views, settings: DiscFit, done: float, half_width: float
) -> Float[Tensor, ""]:
    """Compare one render with one view, and the discs with one another."""
    fit = settings.fit
    seen = render_discs(gaussians, view.cameras, background=fit.background)
    rgb = seen.views.rgb
    terms = [
        fit.mask_weight * mask_loss(seen.views.alpha, view.alpha),
        fit.photometric_weight * photometric(rgb, view.rgb, power=fit.photometric_power),
    ]
    if fit.structure_weight > 0:
        terms.append(fit.structure_weight * (1 - ms_ssim(rgb, view.rgb)))
    if settings.normal_weight > 0 and done >= settings.normal_from:
        wrong = normal_consistency(seen, median_share=settings.median_share)
        terms.append(settings.normal_weight * wrong)
    if settings.distortion_weight > 0 and done >= settings.distortion_from:
        terms.append(settings.distortion_weight / half_width**2 * distortion_loss(seen))
    return torch.cat(terms).sum()


def _begin(views: Views, fit: FitSettings, rng: Generator) -> Gaussians:
    """Lay discs on the visual hull."""
    cloud = cloud_on_hull(
        views,
        points=fit.points,
        sh_degree=fit.sh_degree,
        agreement=fit.hull_agreement,
        rng=rng,
    )
    quat = quat_from_rotation(_lying(cloud.centre))
    return Gaussians(cloud.centre, cloud.log_scale, quat, cloud.opacity_logit, cloud.sh)


def _lying(points: Float[Tensor, "g 3"]) -> Float[Tensor, "g 3 3"]:
    """Find how a surface lies at each of its points: two axes along it, then its normal.

    The axes of the nearest neighbours' covariance, longest first (Hoppe et al., "Surface
    Reconstruction from Unorganized Points", 1992).
    """
    count = min(_NEIGHBOURS, len(points))
    turns = []
    for some in points.split(1024):  # All distances at once would take 100 MB for 5,000 points.
        near = points[torch.cdist(some, points).topk(count, largest=False).indices]
        offset = near - near.mean(dim=1, keepdim=True)
        axes = torch.linalg.eigh(offset.mT @ offset).eigenvectors.flip(-1)
        # Right-handed: the third is the cross product of the first two, up to its sign the normal.
        normal = torch.linalg.cross(axes[..., 0], axes[..., 1])
        turns.append(torch.stack([axes[..., 0], axes[..., 1], normal], dim=-1))
    return torch.cat(turns)


@torch.no_grad()
def _flatten(rows: Float[Tensor, "g c"], settings: DiscFit, half_width: float) -> None:
    """Bring discs that grew too big or too thin back to the limits, and keep them flat."""
    log_scale = rows[:, LOG_SCALE]
    log_scale.clamp_(max=math.log(settings.fit.max_scale * half_width))
    within = log_scale[:, :2]
    longest = within.amax(dim=1, keepdim=True)
    torch.maximum(within, longest - math.log(settings.fit.max_aspect), out=within)
    log_scale[:, 2:] = longest + math.log(settings.thickness)
