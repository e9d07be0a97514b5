"""Fitting as sampling: faint Gaussians move to where the strong ones are, and all of them tremble.

Kheradmand et al., "3D Gaussian Splatting as Markov Chain Monte Carlo", 2024.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from ..camera import Cameras
from ..rotation import rotation_from_quat
from .cloud import CENTRE, LOG_SCALE, OPACITY, QUAT, CloudAdam
from .densify import Limits

_MOST_COPIES = 51
"""Copies of one Gaussian that the correction counts at most (the authors' table ends there)."""


@dataclass(frozen=True)
class Relocating:
    """Strategy of a fit: a fixed budget of Gaussians, none of which is ever lost.

    Goes with the regularisers `opacity_weight` and `scale_weight` of `FitSettings`, 0.01 each in
    the paper, which let go of the Gaussians that the pictures do not need.

    Attributes:
        every: Steps between relocations (the paper's 100 of 30,000).
        until: Share of the steps after which Gaussians stay where they are (25,000 of 30,000).
        share: How much the cloud grows with each relocation, up to the limit (paper).
        min_opacity: Fainter Gaussians are dead and start anew elsewhere (paper).
        noise: Of the centres, in rates of the centre (the paper's lambda_noise, 5e5, belongs to
            rates a thirtieth of ours).
    """

    every: int = 100
    until: float = 25 / 30
    share: float = 0.05
    min_opacity: float = 0.005
    noise: float = 2e4

    def over(self, cloud: CloudAdam, limits: Limits, rng: Generator) -> "RelocatingFit":
        """Begin a fit of this cloud."""
        return RelocatingFit(self, cloud, limits, rng)


class RelocatingFit:
    """`Relocating` at work on one cloud."""

    def __init__(
        self, settings: Relocating, cloud: CloudAdam, limits: Limits, rng: Generator
    ) -> None:
        self._settings, self._cloud, self._limits, self._rng = settings, cloud, limits, rng

    def before_step(self, step: int, camera: Cameras) -> None:
        """Nothing is asked of the gradients."""

    def after_step(self, step: int, centre_rate: float) -> None:
        """Relocate and grow when it is time to; tremble always."""
        settings, limits = self._settings, self._limits
        if step < settings.until * limits.steps and (step + 1) % settings.every == 0:
            relocate(self._cloud, settings.min_opacity, self._rng)
            grow(self._cloud, settings.share, limits.most, self._rng)
        tremble(self._cloud, settings.noise * centre_rate, settings.min_opacity, self._rng)


@torch.no_grad()
def relocate(cloud: CloudAdam, min_opacity: float, rng: Generator) -> None:
    """Put each dead Gaussian on top of a living one, chosen by opacity (section 3.3, eq. 9).

    The living one and its new copies share its light, so that the picture hardly changes.
    """
    rows = cloud.rows.detach()
    opacity = rows[:, OPACITY].sigmoid()
    dead = opacity <= min_opacity
    if not bool(dead.any()) or bool(dead.all()):
        return
    parents = _drawn(opacity * ~dead, int(dead.sum()), rng)
    _add_copies(cloud, kept=~dead, parents=parents)


@torch.no_grad()
def grow(cloud: CloudAdam, share: float, most: int, rng: Generator) -> None:
    """Add copies of Gaussians chosen by opacity, as many as share and limit allow."""
    rows = cloud.rows.detach()
    count = min(most - len(rows), int(share * len(rows)))
    if count < 1:
        return
    parents = _drawn(rows[:, OPACITY].sigmoid(), count, rng)
    _add_copies(cloud, kept=torch.ones(len(rows), dtype=torch.bool), parents=parents)


@torch.no_grad()
def tremble(cloud: CloudAdam, strength: float, min_opacity: float, rng: Generator) -> None:
    """Move faint Gaussians by chance, within their own ellipsoid (eq. 8).

    centre += strength * sigmoid(-100 (opacity - min_opacity)) * covariance @ normal noise.
    """
    if strength <= 0:
        return
    rows = cloud.rows.detach()
    gate = torch.sigmoid(-100.0 * (rows[:, OPACITY].sigmoid() - min_opacity))
    noise = torch.randn((len(rows), 3), generator=rng, device=rng.device).to(rows)
    half = rotation_from_quat(rows[:, QUAT]) * rows[:, None, LOG_SCALE].exp()
    moved = (half @ (half.mT @ noise[..., None]))[..., 0]
    rows[:, CENTRE] += moved * (strength * gate)[:, None]


def shared_shape(
    opacity: Float[Tensor, " s"], copies: Int[Tensor, " s"]
) -> tuple[Float[Tensor, " s"], Float[Tensor, " s"]]:
    """Share a Gaussian's light among several in the same place (Kheradmand et al. 2024, eq. 9).

    Args:
        opacity: Of the one Gaussian.
        copies: How many there will be, the one included; at least 1.

    Returns:
        Opacity of each copy, and the factor on its scales, which keeps the light of a ray through
        the centre what it was.
    """
    count = copies.clamp(max=_MOST_COPIES)
    each = 1 - (1 - opacity.double()) ** (1 / count)
    total = torch.zeros_like(each)
    for i in range(1, int(count.max()) + 1 if len(count) else 0):
        terms = torch.zeros_like(each)
        for k in range(i):
            sign = -1.0 if k % 2 else 1.0
            terms += sign * math.comb(i - 1, k) * each ** (k + 1) / math.sqrt(k + 1)
        total += torch.where(count >= i, terms, 0.0)
    factor = torch.where(count > 1, opacity.double() / total.clamp(min=1e-12), 1.0)
    return each.to(opacity), factor.to(opacity)


def _add_copies(cloud: CloudAdam, kept: Bool[Tensor, " g"], parents: Int[Tensor, " a"]) -> None:
    """Share each parent's light with its new copies, which inherit its momentum too."""
    rows = cloud.rows.detach()
    copies = torch.bincount(parents, minlength=len(rows)) + 1
    opacity, factor = shared_shape(rows[:, OPACITY].sigmoid(), copies)
    changed = copies > 1
    # 0.005 is the authors' floor: a copy must not be dead on arrival.
    rows[changed, OPACITY] = torch.logit(opacity[changed].clamp(0.005, 1 - 1e-6))
    rows[changed, LOG_SCALE] += factor[changed].log()[:, None]
    cloud.replace(kept, rows[parents].clone(), parents)


def _drawn(weight: Float[Tensor, " g"], count: int, rng: Generator) -> Int[Tensor, " s"]:
    """Draw indices with replacement, by weight; by the same numbers on every device."""
    edges = weight.double().cpu().cumsum(dim=0)
    at = torch.rand(count, generator=rng, device=rng.device, dtype=torch.float64).cpu()
    found = torch.searchsorted(edges, at * edges[-1], right=True).clamp(max=len(weight) - 1)
    return found.to(weight.device)
