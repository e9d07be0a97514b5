"""Fit Gaussians to views.

Melas-Kyriazi et al., "IM-3D: Iterative Multiview Diffusion and Reconstruction for High-Quality 3D
Generation", 2024, section 3.2: whole pictures, compared by deep features, structure and mask, not
pixel by pixel alone, since generated views never agree to the pixel.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..gaussians import Gaussians
from ..losses import unit_map_distance, unit_maps
from ..models import FeatureModel, Report, silent
from ..views import Views
from .cloud import CENTRE, LOG_SCALE, OPACITY, QUAT, SH, CloudAdam, pack, unpack
from .densify import Growing, Limits
from .exposure import Exposures
from .relocate import Relocating
from .start import cloud_in_ball, cloud_on_hull, seen_cube
from .step import LossWeights, MoreLoss, fit_gradient

_GROWING = Growing()
_KEPT_PIXELS = 1 << 23
"""Views of more pixels than this in all have their features computed anew at each step: kept, the
features of 24 views of 512 pixels take about 1 GB."""


@dataclass(frozen=True)
class FitSettings:
    """Settings of the fit. IM-3D's where it states them, else chosen by us on training objects.

    Lengths are in units of half the width of what all cameras see; rates are a step's.

    Attributes:
        start: "hull" begins on the skin of the visual hull (ours); "centre" in a ball, as IM-3D.
        points: Gaussians to begin with (IM-3D).
        max_gaussians: Densification stops here.
        sh_degree: Degree of the view-dependent colour; 0 has none.
        background: What the views are composited over, sRGB.
        perceptual_weight: Of the deep-feature term. IM-3D's 10 belongs to LPIPS, whose heads make
            its values several times smaller than those of features without heads. Tried on 24
            views of a scan, 400 steps: where the views disagree (each warped by 1.5 px and tinted
            on its own) 0.5 gains 0.6 dB on unseen views over 0; where they agree it costs 0.3 dB.
        photometric_weight: Of the mean colour difference. IM-3D has no such term.
        photometric_power: 1 for absolute, 2 for squared colour differences.
        structure_weight: Of 1 - MS-SSIM (IM-3D).
        mask_weight: Of the mean squared difference of alpha (IM-3D).
        opacity_weight: Of the mean opacity; 0.01 with `Relocating` (Kheradmand et al. 2024).
        scale_weight: Of the mean standard deviation; 0.01 with `Relocating`.
        strategy: Where Gaussians come from and when they go.
        coarse_until: Share of the steps that compare smaller pictures: of half the size, and
            before that of a quarter, and so on, as long as they have 64 pixels; 0 for none.
        hull_agreement: Share of the views that must cover a point of the hull.
        inside_share: Share of the first points that fill the hull instead of covering it. On unseen
            views (24 true views, 800 steps) 0.5 gained 3.6 dB for a deep pot and cost 0.1 to 1.1 dB
            for a figure, a shoe and a flat dish; so it is left to who knows the subject is hollow.
        centre_rate: At the first and the last step; geometric in between.
        scale_rate: Of log scales.
        turn_rate: Of quaternions.
        opacity_rate: Of opacity logits (DreamGaussian's, as the next).
        colour_rate: Of colours; a twentieth of it for the view-dependent part, as in 3DGS.
        exposure_rate: Of the colour matrix that each view has of its own; 0 for none. For
            photographs taken with automatic exposure. The views' mean stays as it is.
        sh_grows_until: Share of the steps over which the degrees of the view-dependent colour are
            let in one by one (3DGS lets in one every 1,000 of 30,000).
        max_scale: No Gaussian's standard deviation grows beyond this: keeps floaters small.
        max_aspect: Longest over shortest axis at most: keeps needles short.
    """

    start: Literal["hull", "centre"] = "hull"
    points: int = 5000
    max_gaussians: int = 12_000
    sh_degree: int = 0
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    perceptual_weight: float = 0.5
    photometric_weight: float = 10.0
    photometric_power: Literal[1, 2] = 1
    structure_weight: float = 0.2
    mask_weight: float = 1.0
    opacity_weight: float = 0.0
    scale_weight: float = 0.0
    strategy: Growing | Relocating = _GROWING
    coarse_until: float = 1 / 3
    hull_agreement: float = 0.9
    inside_share: float = 0.0
    centre_rate: tuple[float, float] = (5e-3, 2e-4)
    scale_rate: float = 0.02
    turn_rate: float = 0.02
    opacity_rate: float = 0.05
    colour_rate: float = 0.01
    exposure_rate: float = 0.0
    sh_grows_until: float = 0.1
    max_scale: float = 0.1
    max_aspect: float = 10.0


_DEFAULTS = FitSettings()


def fit_gaussians(
    views: Views,
    *,
    steps: int = 1200,
    rng: Generator,
    start: Gaussians | None = None,
    features: FeatureModel | None = None,
    view_weights: Float[Tensor, " n"] | None = None,
    settings: FitSettings = _DEFAULTS,
    report: Report = silent,
) -> Gaussians:
    """Optimise Gaussians until their renders look like the views.

    Every step renders one whole view and takes one Adam step; IM-3D sums over all views, without
    saying how many a step renders. The same views, settings and state of `rng` give the same
    Gaussians to the last bit on one machine.

    Args:
        views: What to reproduce, over `settings.background`, at the size to train at.
        steps: Views rendered in all (1,200 in IM-3D).
        rng: Draws the first points, the order of the views and the parts of split Gaussians.
        start: Gaussians to go on from, as after a redraw; otherwise `settings.start` tells.
        features: For the perceptual term; without it only colour, structure and mask count.
        view_weights: Share of the steps that each view gets, of any sum; equal by default. Give
            the photograph more than what was drawn from it.
        settings: Weights, rates and limits.
        report: Called now and then with the share done.

    Returns:
        The Gaussians, without gradient, at most `settings.max_gaussians` unless `start` had more.

    Raises:
        ValueError: If there is no view, no step, or the weights do not fit the views.
    """
    weights = _checked_weights(views, steps, view_weights)
    half_width = seen_cube(views.cameras)[1]
    first = _begin(views, settings, rng) if start is None else start
    cloud = CloudAdam(pack(first.detach()))
    limits = Limits(settings.max_gaussians, half_width, steps)
    strategy = settings.strategy.over(cloud, limits, rng)
    exposures = Exposures(len(views), settings.exposure_rate, cloud.rows)
    fitting = _Fitting(cloud, settings, features, exposures)
    levels = list(_levels(views, features, settings.coarse_until * steps))
    for step, n in enumerate(view_order(weights, steps, rng)):
        while step >= levels[0].until and len(levels) > 1:
            del levels[0]
        target = levels[0].target(n)
        fitting.gradient(n, target)
        strategy.before_step(step, target.view.cameras)
        rates = _rates(cloud.rows, settings, step / steps, half_width)
        cloud.step(rates)
        _tame(cloud.rows, settings, half_width)
        strategy.after_step(step, float(rates[0]))
        if step % 10 == 0:
            report(step / steps)
    report(1.0)
    return unpack(cloud.rows.detach())


def view_order(weights: Float[Tensor, " n"], steps: int, rng: Generator) -> list[int]:
    """Decide which view each step renders.

    Rounds of n steps, shuffled: with equal weights every view once a round, otherwise as often as
    its weight says, evenly (systematic sampling; Kitagawa 1996).
    """
    n = len(weights)
    share = weights.double().cpu()
    edges = (share / share.sum()).cumsum(dim=0)
    order: list[int] = []
    while len(order) < steps:
        offset = torch.rand((), generator=rng, device=rng.device, dtype=torch.float64).cpu()
        # The last edge may round to just under 1.
        chosen = torch.searchsorted(edges, (torch.arange(n) + offset) / n).clamp(max=n - 1)
        shuffle = torch.randperm(n, generator=rng, device=rng.device).cpu()
        order += chosen[shuffle].tolist()
    return order[:steps]


@dataclass(frozen=True, eq=False)
class _Target:
    """One view, with its deep features."""

    view: Views
    maps: list[Tensor]


class _Level:
    """The views at one size, up to one step of the fit."""

    def __init__(self, views: Views, features: FeatureModel | None, until: float) -> None:
        self.until = until
        self._views, self._features = views, features
        h, w = views.cameras.size_hw
        self._keeps = len(views) * h * w <= _KEPT_PIXELS
        self._kept: dict[int, _Target] = {}

    def target(self, n: int) -> _Target:
        """Give one view; its features are kept as long as they take little memory."""
        if n in self._kept:
            return self._kept[n]
        view = self._views[n]
        with torch.no_grad():
            maps = [] if self._features is None else unit_maps(self._features, view.rgb)
        target = _Target(view, maps)
        if self._keeps:
            self._kept[n] = target
        return target


def _levels(views: Views, features: FeatureModel | None, coarse_steps: float) -> Iterator[_Level]:
    """Give the views at ever larger sizes; the last stays."""
    sizes = [views]
    while coarse_steps >= 1 and _can_halve(sizes[-1], first=len(sizes) == 1):
        sizes.append(_halved(sizes[-1]))
    for k, smaller in enumerate(reversed(sizes)):
        yield _Level(smaller, features, (k + 1) * coarse_steps / max(1, len(sizes) - 1))


@dataclass(frozen=True, eq=False)
class _Fitting:
    """What one step needs besides the view it looks at."""

    cloud: CloudAdam
    settings: FitSettings
    features: FeatureModel | None
    exposures: Exposures

    def gradient(self, n: int, target: _Target) -> None:
        """Leave the gradient of the loss of view n in the cloud's rows; move its exposure."""
        settings = self.settings
        weights = LossWeights(
            settings.photometric_weight,
            settings.photometric_power,
            settings.structure_weight,
            settings.mask_weight,
            settings.opacity_weight,
            settings.scale_weight,
        )
        features = self.features if settings.perceptual_weight > 0 else None
        more = None if features is None else _perceptual(features, target, settings)
        if settings.exposure_rate == 0:
            fit_gradient(
                self.cloud, target.view, weights, background=settings.background, more=more
            )
            return
        # The exposure colours the Gaussians, so the step is that of a cloud of other colours, and
        # its gradient goes back through the colouring.
        with torch.enable_grad():
            exposed = pack(self.exposures.seen(unpack(self.cloud.rows), n))
        seen = CloudAdam(exposed)
        fit_gradient(seen, target.view, weights, background=settings.background, more=more)
        exposed.backward(seen.rows.grad)
        self.exposures.step(n)


def _perceptual(features: FeatureModel, target: _Target, settings: FitSettings) -> MoreLoss:
    """Compare deep features: IM-3D's main term."""

    def more(
        drawn: Float[Tensor, "1 h w 3"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "1 h w 3"]]:
        with torch.enable_grad():
            rgb = drawn.detach().requires_grad_()
            distance = unit_map_distance(unit_maps(features, rgb), target.maps)
            loss = settings.perceptual_weight * distance.sum()
            (gradient,) = torch.autograd.grad(loss, [rgb])
        return loss.detach(), gradient

    return more


def _rates(
    rows: Float[Tensor, "g c"], settings: FitSettings, done: float, half_width: float
) -> Float[Tensor, " c"]:
    first, last = settings.centre_rate
    rates = torch.full((rows.shape[1],), settings.colour_rate / 20)
    if settings.sh_grows_until > 0:
        # Degree d has 2 d + 1 coefficients of three colours, from column SH + 3 d^2 on.
        top = math.isqrt((rows.shape[1] - SH) // 3) - 1
        allowed = min(top, int(done / settings.sh_grows_until * top))
        rates[SH + 3 * (allowed + 1) ** 2 :] = 0.0
    rates[LOG_SCALE] = settings.scale_rate
    rates[QUAT] = settings.turn_rate
    rates[OPACITY] = settings.opacity_rate
    rates[SH : SH + 3] = settings.colour_rate
    rates[CENTRE] = half_width * first * (last / first) ** done
    return rates.to(rows)


@torch.no_grad()
def _tame(rows: Float[Tensor, "g c"], settings: FitSettings, half_width: float) -> None:
    """Bring Gaussians that grew too big or too thin back to the limits."""
    log_scale = rows[:, LOG_SCALE]
    log_scale.clamp_(max=math.log(settings.max_scale * half_width))
    longest = log_scale.amax(dim=1, keepdim=True)
    torch.maximum(log_scale, longest - math.log(settings.max_aspect), out=log_scale)


def _begin(views: Views, settings: FitSettings, rng: Generator) -> Gaussians:
    points, degree = settings.points, settings.sh_degree
    if settings.start == "centre":
        return cloud_in_ball(views, points=points, sh_degree=degree, rng=rng)
    return cloud_on_hull(
        views,
        points=points,
        sh_degree=degree,
        agreement=settings.hull_agreement,
        rng=rng,
        inside_share=settings.inside_share,
    )


def _can_halve(views: Views, *, first: bool) -> bool:
    # Odd sizes would shift the axis; very small pictures have nothing left.
    h, w = views.cameras.size_hw
    return h % 2 == 0 and w % 2 == 0 and min(h, w) >= (64 if first else 256)


def _halved(views: Views) -> Views:
    h, w = views.cameras.size_hw
    return views.resized((h // 2, w // 2))


def _checked_weights(
    views: Views, steps: int, view_weights: Float[Tensor, " n"] | None
) -> Float[Tensor, " n"]:
    if len(views) == 0 or steps < 1:
        raise ValueError(f"the fit needs at least one view and one step, got {len(views)}, {steps}")
    if view_weights is None:
        return torch.ones(len(views))
    if len(view_weights) != len(views):
        raise ValueError(f"view_weights has {len(view_weights)} entries for {len(views)} views")
    if bool((view_weights < 0).any()) or not bool(view_weights.sum() > 0):
        raise ValueError("view_weights must not be negative, and one at least must be positive")
    return view_weights
