"""Adaptive control: more Gaussians where the picture still pulls on them, none where they fade.

Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering", 2023, section 5.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from ..camera import Cameras
from ..rotation import rotation_from_quat
from .cloud import CENTRE, LOG_SCALE, OPACITY, QUAT, CloudAdam


@dataclass(frozen=True)
class Growth:
    """What one round of densification may do.

    Attributes:
        most: Highest number of Gaussians.
        share: Highest share of the Gaussians that get a twin in one round.
        split_scale: Gaussians longer than this (standard deviation, world units) are split in
            two; shorter ones get a twin in the same place.
        min_opacity: Fainter ones go.
    """

    most: int
    share: float
    split_scale: float
    min_opacity: float


@dataclass(frozen=True)
class Growing:
    """Strategy of a fit: double the Gaussians that the pictures pull at hardest, drop faint ones.

    Attributes:
        every: Steps between densifications (IM-3D).
        until: Share of the steps after which the number of Gaussians stays as it is.
        share: Highest share of the Gaussians that one densification doubles.
        min_opacity: Fainter ones go.
    """

    every: int = 50
    until: float = 0.7
    share: float = 0.1
    min_opacity: float = 0.01

    def over(self, cloud: CloudAdam, limits: "Limits", rng: Generator) -> "GrowingFit":
        """Begin a fit of this cloud."""
        return GrowingFit(self, cloud, limits, rng)


@dataclass(frozen=True)
class Limits:
    """What a fit allows its strategy.

    Attributes:
        most: Highest number of Gaussians.
        extent: Half the width of what all cameras see, world units.
        steps: Steps of the whole fit.
    """

    most: int
    extent: float
    steps: int


class GrowingFit:
    """`Growing` at work on one cloud."""

    def __init__(self, settings: Growing, cloud: CloudAdam, limits: Limits, rng: Generator) -> None:
        self._settings, self._cloud, self._limits, self._rng = settings, cloud, limits, rng
        self._pull = Pull(len(cloud.rows), cloud.rows)

    def before_step(self, step: int, camera: Cameras) -> None:
        """Look at the gradient that the render of one camera left."""
        if step < self._settings.until * self._limits.steps:
            self._pull.add(self._cloud, camera)

    def after_step(self, step: int, centre_rate: float) -> None:
        """Grow and prune when it is time to."""
        del centre_rate
        settings, limits = self._settings, self._limits
        if step < settings.until * limits.steps and (step + 1) % settings.every == 0:
            # 1% of the extent: Kerbl et al.'s border between what is cloned and what is split.
            split_scale = 0.01 * limits.extent
            growth = Growth(limits.most, settings.share, split_scale, settings.min_opacity)
            densify_and_prune(self._cloud, self._pull, growth, self._rng)
            self._pull = Pull(len(self._cloud.rows), self._cloud.rows)


class Pull:
    """Remembers how hard the pictures pull on each Gaussian's place in them.

    Kerbl et al. add up the gradient of the loss by the projected centres. Our renderer gives the
    gradient by the centres in the world instead; a step of the size of a pixel across the axis is
    depth / focal_px in the world, so that gradient times this is the one by pixels. (The part
    along the axis comes with it; it is small, for a Gaussian there hardly moves in the picture.)
    Pixels are counted in half image widths, so that rounds at two sizes can be added.
    """

    def __init__(self, count: int, like: Tensor) -> None:
        self._sum = torch.zeros(count).to(like)
        self._views = torch.zeros(count).to(like)

    @torch.no_grad()
    def add(self, cloud: CloudAdam, camera: Cameras) -> None:
        """Count the gradient that the render of one camera left in the rows."""
        if cloud.rows.grad is None:
            raise ValueError("the rows have no gradient; call backward() before add()")
        pose = camera.world_from_camera[0]
        depth = (cloud.rows[:, CENTRE] - pose[:3, 3]) @ pose[:3, 2]
        strength = cloud.rows.grad[:, CENTRE].norm(dim=-1)
        half_width_px = camera.size_hw[1] / 2
        self._sum.addcmul_(strength, depth * (half_width_px / camera.focal_px[0]))
        self._views += strength > 0

    @property
    def mean(self) -> Float[Tensor, " g"]:
        """Mean over the pictures that showed the Gaussian; 0 for those never seen."""
        return self._sum / self._views.clamp(min=1)


@torch.no_grad()
def densify_and_prune(cloud: CloudAdam, pull: Pull, growth: Growth, rng: Generator) -> None:
    """Drop the faint Gaussians, then double the ones that are pulled at hardest.

    Kerbl et al. double all above a threshold, whose right value depends on the scale of the loss.
    Ours depends on rank alone: the hardest-pulled `share`, within the limit on the number. There
    is no resetting of opacities either, from which 1,200 steps leave no time to recover.
    """
    rows = cloud.rows.detach()
    kept = rows[:, OPACITY].sigmoid() >= growth.min_opacity
    if not bool(kept.any()):
        return  # An empty cloud cannot come back; a faint one still can.
    alive = int(kept.sum())
    room = max(0, min(growth.most - alive, int(growth.share * alive)))
    strength = torch.where(kept, pull.mean, 0.0)
    # A stable sort, so that equal pulls are chosen alike on every machine.
    hardest = strength.argsort(descending=True, stable=True)[:room]
    hardest = hardest[strength[hardest] > 0]
    large = rows[hardest, LOG_SCALE].amax(dim=-1).exp() > growth.split_scale
    split, cloned = hardest[large], hardest[~large]
    kept[hardest] = False
    halves = [_half(rows, split, rng) for _ in range(2)]
    twin = rows[cloned].clone()
    # Two of opacity o' must cover as one of o did: (1 - o')^2 = 1 - o (Kheradmand et al. 2024).
    half_clear = (1 - twin[:, OPACITY].sigmoid()).sqrt().clamp(1e-4, 1 - 1e-4)
    twin[:, OPACITY] = torch.logit(1 - half_clear)
    added = torch.cat([*halves, twin, twin])
    cloud.replace(kept, added, torch.cat([split, split, cloned, cloned]))


def _half(
    rows: Float[Tensor, "g c"], at: Int[Tensor, " s"], rng: Generator
) -> Float[Tensor, "s c"]:
    """Draw one of the two parts that Gaussians are split into: placed by chance, 1.6 times smaller.

    The factor is Kerbl et al.'s.
    """
    half = rows[at].clone()
    offset = torch.randn((len(at), 3), generator=rng, device=rng.device).to(rows)
    local = offset * half[:, LOG_SCALE].exp()
    turned = (rotation_from_quat(half[:, QUAT]) @ local[..., None])[..., 0]
    half[:, CENTRE] += turned
    half[:, LOG_SCALE] -= torch.log(torch.tensor(1.6)).to(rows)
    return half
