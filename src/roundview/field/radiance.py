"""A radiance field: density and colour from a hash grid and a small network.

Mildenhall et al., "NeRF", 2020, on the grid of Müller et al., "Instant Neural Graphics Primitives",
2022, with the density of Lin et al., "Magic3D", 2023, or Poole et al., "DreamFusion", 2022.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from .grid import GridSettings, HashGrid
from .march import Occupancy
from .render import Field, Shade, finite_slope, linear_weight, step_of

# Ours: beyond this a step is opaque many times over, and exp could overflow.
_MOST_LOGIT = 15.0
_MOST_LEVEL = 10.0


@dataclass(frozen=True)
class RadianceSettings:
    """Shape of a radiance field.

    Attributes:
        grid: The encoding. Smaller than Magic3D's 16 levels of 2^19: chosen by us for a CPU, where
            the step of Adam over the table must not outweigh the rendering.
        hidden: Width of the network's hidden layer (Magic3D).
        blob: A ball of density to begin with: that of "magic3d", of "dreamfusion", or "none".
        half_width: Half the side of the field's cube, world units.
        samples: Samples along the cube's diagonal.
        cells: Cells along a side of the occupancy grid (threestudio).
        threshold: Opacity of a step under which a cell counts as empty (threestudio).
        normals: "analytic" is the slope at the point, "finite" that over 0.01 half widths to both
            sides (threestudio, which steps to one).
        level: Density at the surface, in units of one over the half width (threestudio: 25 for
            distilled fields; LGM: 10). None takes 10 or, if that is less, the mean of what the
            occupied cells hold (Tang et al., "Delicate Textured Mesh Recovery from NeRF via
            Adaptive Surface Refinement", 2023).
    """

    grid: GridSettings = GridSettings(levels=8, log2_table=15, coarsest=16, finest=256)  # noqa: RUF009  a frozen value
    hidden: int = 64
    blob: Literal["magic3d", "dreamfusion", "none"] = "magic3d"
    half_width: float = 0.55
    samples: int = 64
    cells: int = 32
    threshold: float = 0.01
    normals: Literal["analytic", "finite"] = "analytic"
    level: float | None = None

    def build(self, rng: Generator) -> "RadianceField":
        """Make the field."""
        return RadianceField(self, rng)


class RadianceField(Field):
    """Density and colour, the same from all sides. Places are measured in half widths."""

    def __init__(self, settings: RadianceSettings, rng: Generator) -> None:
        super().__init__()
        self.settings = settings
        self.half_width, self.threshold = settings.half_width, settings.threshold
        self.step = step_of(settings.half_width, settings.samples)
        self.grid = HashGrid(settings.grid, rng)
        self.occupancy = Occupancy(settings.cells, settings.half_width)
        # No biases, one hidden layer, for density and colour at once.
        self.first = linear_weight(self.grid.width, settings.hidden, rng)
        self.last = linear_weight(settings.hidden, 4, rng)

    def shade(
        self, points: Float[Tensor, "p 3"], direction: Float[Tensor, "p 3"], *, normals: bool
    ) -> Shade:
        """Give opacity and colour; normals are the way in which the density falls."""
        del direction  # Colours are the same from all sides.
        place = points / self.half_width
        before, raw = self._network(place)
        density = self._density(raw[:, 0], place)
        alpha = -torch.expm1(-density * (self.step / self.half_width))
        normal = None
        if normals:
            rise = self._slope(place, before)
            normal = -torch.nn.functional.normalize(rise, dim=1, eps=1e-6)
        return Shade(alpha, raw[:, 1:].sigmoid(), normal)

    def density(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        """Give the density at world points, in units of one over the half width."""
        place = points / self.half_width
        return self._density(self._network(place)[1][:, 0], place)

    def presence(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        """Give the opacity of a step there."""
        return -torch.expm1(-self.density(points) * (self.step / self.half_width))

    def solid(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        """Give the opacity of a step less that at the surface's density.

        Between -1 and 1, unlike the density, so that a straight line between a node inside and one
        outside crosses 0 near where the density has its level.
        """
        return self.presence(points) - self.opaque

    @property
    def opaque(self) -> float:
        """Opacity of a step at the surface's density."""
        return -math.expm1(-self.level * (self.step / self.half_width))

    @property
    def level(self) -> float:
        """Density at the surface; `refresh` must have run where the settings leave it open."""
        if self.settings.level is not None:
            return self.settings.level
        held = self.occupancy.held[self.occupancy.full]
        if not bool((held > 0).any()):
            return _MOST_LEVEL
        opacity = held.clamp(max=1 - 1e-6)
        mean = -torch.log1p(-opacity).mean() / (self.step / self.half_width)
        return min(_MOST_LEVEL, float(mean))

    def _network(
        self, place: Float[Tensor, "p 3"]
    ) -> tuple[Float[Tensor, "p h"], Float[Tensor, "p 4"]]:
        before = self.grid(place * 0.5 + 0.5) @ self.first.mT
        return before, before.relu() @ self.last.mT

    def _density(
        self, raw: Float[Tensor, " p"], place: Float[Tensor, "p 3"]
    ) -> Float[Tensor, " p"]:
        if self.settings.blob == "magic3d":
            return torch.nn.functional.softplus(raw + 10 * (1 - place.norm(dim=1) / 0.5))
        if self.settings.blob == "dreamfusion":
            ball = 5 * torch.exp(-place.square().sum(dim=1) / (2 * 0.2**2))
            return (raw + ball).clamp(max=_MOST_LOGIT).exp()
        return raw.clamp(max=_MOST_LOGIT).exp()

    def _slope(
        self, place: Float[Tensor, "p 3"], before: Float[Tensor, "p h"]
    ) -> Float[Tensor, "p 3"]:
        """Give the gradient of the density, up to a positive factor; differentiable."""
        if self.settings.normals == "finite":
            return finite_slope(lambda p: self.density(p * self.half_width), place, 0.01)
        # The logit's gradient has the density's direction, since the density grows with it.
        back = (self.last[0] * (before > 0)) @ self.first
        slope = 0.5 * self.grid.slope(place * 0.5 + 0.5, back)
        if self.settings.blob == "magic3d":
            return slope - 20 * torch.nn.functional.normalize(place, dim=1, eps=1e-6)
        if self.settings.blob == "dreamfusion":
            ball = 5 * torch.exp(-place.square().sum(dim=1, keepdim=True) / (2 * 0.2**2))
            return slope - ball * place / 0.2**2
        return slope
