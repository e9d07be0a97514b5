"""A signed distance field that is drawn like a volume (NeuS).

Wang et al., "NeuS: Learning Neural Implicit Surfaces by Volume Rendering for Multi-view
Reconstruction", 2021, on a hash grid (Guo, "Instant Neural Surface Reconstruction", 2022).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..rotation import sh_basis
from .grid import GridSettings, HashGrid
from .march import Occupancy
from .render import Field, Shade, finite_slope, linear_weight, step_of

_SHARPNESS = 100.0
"""Of Softplus, which stands for ReLU where slopes must be smooth (NeuS)."""
_LEAST_LOGIT = -30.0
"""Logits below this count as this: exp of less makes subnormal numbers, with which matrix products
took ten times as long."""
_FEATURES = 13
"""Outputs of the distance network: the distance, and what the colour network reads (Guo)."""


@dataclass(frozen=True)
class SdfSettings:
    """Shape of a signed distance field.

    Attributes:
        grid: The encoding. Coarser than Guo's 16 levels from 32 on: chosen by us for a CPU.
        hidden: Width of the hidden layers of both networks (Guo).
        radius: Radius of the ball that the field begins as, in half widths (NeuS).
        sharpness: v of inv_s = exp(10 v) at first (Guo).
        view_degree: Degree of the spherical harmonics of the direction that the colour network
            sees; 0 for colours that are the same from all sides.
        half_width: Half the side of the field's cube, world units.
        samples: Samples along the cube's diagonal.
        cells: Cells along a side of the occupancy grid.
        threshold: Opacity of a step under which a cell counts as empty (Guo).
        normals: "analytic" is the slope at the point, "finite" that over a cell of the finest level
            in use to both sides (Li et al., "Neuralangelo", 2023).
    """

    grid: GridSettings = GridSettings(levels=8, log2_table=15, coarsest=16, finest=128)  # noqa: RUF009  a frozen value
    hidden: int = 64
    radius: float = 0.5
    sharpness: float = 0.3
    view_degree: int = 0
    half_width: float = 0.55
    samples: int = 128
    cells: int = 48
    threshold: float = 0.01
    normals: Literal["analytic", "finite"] = "analytic"

    def build(self, rng: Generator) -> "SdfField":
        """Make the field."""
        return SdfField(self, rng)


class SdfField(Field):
    """Signed distance, negative inside, and colour. Distances are in world units.

    Attributes:
        anneal: 0 treats surfaces seen from any side alike, 1 as NeuS does; a fit raises it.
    """

    kept = 0.0  # A distance tells of the whole cell.

    def __init__(self, settings: SdfSettings, rng: Generator) -> None:
        super().__init__()
        self.settings = settings
        self.half_width, self.threshold = settings.half_width, settings.threshold
        self.step = step_of(settings.half_width, settings.samples)
        self.anneal = 1.0
        self.grid = HashGrid(settings.grid, rng)
        self.occupancy = Occupancy(settings.cells, settings.half_width)
        self.sharpness = nn.Parameter(torch.tensor(settings.sharpness))
        self._build_distance(rng)
        seen = _FEATURES + 3 + (settings.view_degree + 1) ** 2 - 1
        self.colours = nn.ParameterList(
            linear_weight(*shape, rng)
            for shape in ((seen, settings.hidden), (settings.hidden, settings.hidden))
        )
        self.colours.append(linear_weight(settings.hidden, 3, rng))

    @property
    def inv_s(self) -> Float[Tensor, ""]:
        """Steepness of the sigmoid through which distances become opacity."""
        return (10 * self.sharpness).exp().clamp(1e-6, 1e6)

    def shade(
        self, points: Float[Tensor, "p 3"], direction: Float[Tensor, "p 3"], *, normals: bool
    ) -> Shade:
        """Give opacity and colour; normals are always there, since the opacity needs them."""
        del normals
        place = points / self.half_width
        before, out = self._network(place)
        slope = self._slope(place, before)
        normal = torch.nn.functional.normalize(slope, dim=1, eps=1e-6)
        cosine = (normal * direction).sum(dim=1)
        distance = out[:, 0] * self.half_width
        alpha = neus_alpha(distance, cosine, self.step, self.inv_s, anneal=self.anneal)
        view = sh_basis(direction, self.settings.view_degree)[:, 1:]
        value = torch.cat([out, normal, view], dim=1)
        *hidden, last = self.colours
        for weight in hidden:
            value = (value @ weight.mT).relu()
        return Shade(alpha, (value @ last.mT).sigmoid(), normal, slope)

    def distance(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        """Give the signed distance of world points."""
        return self._network(points / self.half_width)[1][:, 0] * self.half_width

    def slope(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, "p 3"]:
        """Give the gradient of the signed distance at world points; differentiable."""
        place = points / self.half_width
        return self._slope(place, self._network(place)[0])

    def presence(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        """Give the opacity of a step at the point of the cell that is nearest to the surface."""
        # The point is anywhere in a cell, so on average half a diagonal from its farthest corner.
        near = (self.distance(points).abs() - math.sqrt(3) * self.occupancy.cell).clamp(min=0)
        return neus_alpha(near, -torch.ones_like(near), self.step, self.inv_s, anneal=1.0)

    def solid(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        """Give minus the distance."""
        return -self.distance(points)

    def _build_distance(self, rng: Generator) -> None:
        """Begin as a ball.

        After the geometric initialisation of Atzmon and Lipman, "SAL: Sign Agnostic Learning of
        Shapes from Raw Data", 2020. Ours spreads the first layer's directions d evenly instead of
        drawing them: the mean of relu(d . x) is then |x| / 4 all round, so the ball is rounder.
        """
        hidden = self.settings.hidden
        number = torch.arange(hidden) + 0.5
        height = 1 - 2 * number / hidden
        turn = math.pi * (3 - math.sqrt(5)) * number
        across = (1 - height.square()).sqrt()
        ways = torch.stack([across * turn.cos(), height, across * turn.sin()], dim=1)
        features = linear_weight(self.grid.width, hidden, rng).detach()
        last = torch.randn(_FEATURES, hidden, generator=rng, device=rng.device)
        last = last * math.sqrt(2 / hidden)
        last[0] = 4 / hidden
        bias = torch.zeros(_FEATURES)
        bias[0] = -self.settings.radius
        self.first = nn.Parameter(torch.cat([ways.to(features), features], dim=1))
        self.first_bias = nn.Parameter(torch.zeros(hidden).to(features))
        self.last = nn.Parameter(last)
        self.last_bias = nn.Parameter(bias.to(features))

    def _network(
        self, place: Float[Tensor, "p 3"]
    ) -> tuple[Float[Tensor, "p h"], Float[Tensor, "p o"]]:
        features = torch.cat([place, self.grid(place * 0.5 + 0.5)], dim=1)
        before = torch.nn.functional.linear(features, self.first, self.first_bias)
        before = before.clamp(min=_LEAST_LOGIT / _SHARPNESS)
        after = torch.nn.functional.softplus(before, beta=_SHARPNESS)
        return before, torch.nn.functional.linear(after, self.last, self.last_bias)

    def _slope(
        self, place: Float[Tensor, "p 3"], before: Float[Tensor, "p h"]
    ) -> Float[Tensor, "p 3"]:
        """Go back through the network by hand, in steps that autograd can follow once more."""
        if self.settings.normals == "finite":
            cell = 2 / float(self.grid.layout.scale[max(self.grid.active, 1) - 1])
            return finite_slope(lambda p: self._network(p)[1][:, 0], place, cell)
        back = ((before * _SHARPNESS).sigmoid() * self.last[0]) @ self.first
        return back[:, :3] + 0.5 * self.grid.slope(place * 0.5 + 0.5, back[:, 3:])


def neus_alpha(
    distance: Float[Tensor, " p"],
    cosine: Float[Tensor, " p"],
    step: float | Float[Tensor, " p"],
    inv_s: float | Float[Tensor, ""],
    *,
    anneal: float = 1.0,
) -> Float[Tensor, " p"]:
    """Turn signed distances along rays into opacity (NeuS, eq. 13).

    Args:
        distance: Signed distance at the middle of each step.
        cosine: Between the outward normal and the ray; negative where the ray goes in.
        step: Length of the step.
        inv_s: Steepness of the sigmoid.
        anneal: 1 counts only rays that go in; towards 0, where normals are still wild, those
            that go out count as well (the authors' code).
    """
    relu = torch.nn.functional.relu
    inward = relu(0.5 - 0.5 * cosine) * (1 - anneal) + relu(-cosine) * anneal
    half = 0.5 * inward * step
    before, after = (
        ((distance + side) * inv_s).clamp(min=_LEAST_LOGIT).sigmoid() for side in (half, -half)
    )
    # The small number makes the opacity deep inside, where both vanish, 1.
    return ((before - after + 1e-5) / (before + 1e-5)).clamp(0, 1)


def volsdf_density(
    distance: Float[Tensor, " p"], inv_std: float | Float[Tensor, ""]
) -> Float[Tensor, " p"]:
    """Turn signed distances into density, the other way to draw them.

    Yariv et al., "Volume Rendering of Neural Implicit Surfaces", 2021, eq. 2-3: the distribution
    function of Laplace times `inv_std`, which is kept in [0, 80].
    """
    steep = torch.as_tensor(inv_std).to(distance).clamp(0, 80)
    return steep * (0.5 + 0.5 * distance.sign() * torch.expm1(-distance.abs() * steep))
