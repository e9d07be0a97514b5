"""Fields of any kind as pictures: volume rendering along rays.

Mildenhall et al., "NeRF: Representing Scenes as Neural Radiance Fields for View Synthesis", 2020,
section 4, with samples only where an occupancy grid says that something may be.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from ..camera import Cameras, rays
from ..views import Views
from .grid import HashGrid
from .march import KEPT, Occupancy, RaySamples, composite, march

WHITE = (1.0, 1.0, 1.0)
Background = tuple[float, float, float] | Float[Tensor, " 3"]
_RAYS = 16384
"""Rays drawn at once: bounds the memory of pictures that need no gradient."""
_SEEN = 1e-3
"""Opacity from which on a pixel has a depth and a normal; chosen by us."""


@dataclass(frozen=True, eq=False)
class Shade:
    """What a field shows at samples.

    Attributes:
        alpha: Opacity of a step there, in [0, 1].
        rgb: Colour, sRGB in [0, 1].
        normal: Unit normals that point outward, if they were asked for.
        slope: Gradient of the signed distance, if the field has one.
    """

    alpha: Float[Tensor, " p"]
    rgb: Float[Tensor, "p 3"]
    normal: Float[Tensor, "p 3"] | None = None
    slope: Float[Tensor, "p 3"] | None = None


@dataclass(frozen=True, eq=False)
class Rendered:
    """Rays drawn over nothing, and what they were drawn from.

    Attributes:
        rgb: Sum of the samples' colours by weight.
        opacity: Sum of the weights.
        distance: Sum of the samples' distances by weight.
        normal: Sum of the normals by weight, if they were asked for.
        weight: Share of each sample in its ray's colour.
        samples: Where they lie.
        shade: What they show.
        direction: Of the rays.
        points: Where the samples lie in the world.
    """

    rgb: Float[Tensor, "r 3"]
    opacity: Float[Tensor, " r"]
    distance: Float[Tensor, " r"]
    normal: Float[Tensor, "r 3"] | None
    weight: Float[Tensor, " p"]
    samples: RaySamples
    shade: Shade
    direction: Float[Tensor, "r 3"]
    points: Float[Tensor, "p 3"]

    def over(self, background: Float[Tensor, "#r 3"]) -> Float[Tensor, "r 3"]:
        """Give the colour over a background, one for all rays or one for each."""
        return self.rgb + (1 - self.opacity[:, None]) * background


Light = Callable[[Float[Tensor, "p 3"], Int[Tensor, " p"], Shade], Float[Tensor, "p 3"]]
"""light(points, ray, shade) -> the colour that samples are seen in; see `lighting`."""


class Field(nn.Module, ABC):
    """A function of space that has colour and opacity inside a cube round the origin.

    Attributes:
        grid: The encoding; `grid.active` says how many of its levels are in use.
        half_width: Half the side of the cube.
        step: Distance between samples along a ray.
        occupancy: Where there is something to sample.
        threshold: Opacity of a step under which a cell of the occupancy counts as empty.
        kept: How much of the presence that was found earlier still counts.
    """

    grid: HashGrid
    half_width: float
    step: float
    occupancy: Occupancy
    threshold: float
    kept: float = KEPT

    @abstractmethod
    def shade(
        self, points: Float[Tensor, "p 3"], direction: Float[Tensor, "p 3"], *, normals: bool
    ) -> Shade:
        """Give opacity and colour of points, seen along unit directions; differentiable."""

    @abstractmethod
    def presence(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        """Say how opaque a step near points may be, for the occupancy."""

    @abstractmethod
    def solid(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        """Give a number that is above 0 inside the subject and 0 on its surface."""

    def refresh(self, rng: Generator) -> None:
        """Find out anew where there is something to sample; do so every 16 steps of a fit."""
        self.occupancy.update(self.presence, rng, threshold=self.threshold, kept=self.kept)

    def render(
        self,
        cameras: Cameras,
        background: Background = WHITE,
        *,
        rng: Generator | None = None,
        normals: bool = True,
    ) -> Views:
        """Draw the field; see `render_field`."""
        return render_field(self, cameras, background=background, rng=rng, normals=normals)


def render_field(
    field: Field,
    cameras: Cameras,
    *,
    background: Background = WHITE,
    rng: Generator | None = None,
    normals: bool = True,
) -> Views:
    """Draw a field; differentiable in its parameters.

    Args:
        field: What to draw.
        cameras: Where from.
        background: Colour behind the subject, sRGB.
        rng: Shifts each ray's samples at random, as a fit needs; without it pictures repeat.
        normals: Draw normals as well.

    Returns:
        Views with depth, which is the mean along the ray by weight, and maybe normals.
    """
    direction = torch.nn.functional.normalize(rays(cameras), dim=-1)
    origin = cameras.origin[:, None, None].expand_as(direction)
    forward = cameras.world_from_camera[:, None, None, :3, 2].expand_as(direction)
    parts = [
        render_rays(field, o, d, rng=rng, normals=normals)
        for o, d in zip(
            origin.reshape(-1, 3).split(_RAYS), direction.reshape(-1, 3).split(_RAYS), strict=True
        )
    ]
    colour = torch.as_tensor(background).to(direction).reshape(1, 3)
    shape = direction.shape[:3]
    opacity = torch.cat([part.opacity for part in parts]).reshape(shape)
    rgb = torch.cat([part.over(colour) for part in parts]).reshape(*shape, 3)
    distance = torch.cat([part.distance for part in parts]).reshape(shape)
    seen = opacity > _SEEN
    mean = distance / opacity.clamp(min=_SEEN) * (direction * forward).sum(dim=-1)
    normal = None
    if normals:
        summed = torch.cat([part.normal for part in parts if part.normal is not None])
        unit = torch.nn.functional.normalize(summed.reshape(*shape, 3), dim=-1, eps=1e-6)
        normal = unit * seen[..., None]
    return Views(rgb, opacity, cameras, mean * seen, normal)


def render_rays(
    field: Field,
    origin: Float[Tensor, "r 3"],
    direction: Float[Tensor, "r 3"],
    *,
    rng: Generator | None = None,
    normals: bool = False,
    light: Light | None = None,
) -> Rendered:
    """Draw single rays over nothing; directions are of unit length. Differentiable.

    With a `light`, which may need normals, samples have the colour that it gives them.
    """
    samples = march(origin, direction, field.occupancy, step=field.step, rng=rng)
    along = direction[samples.ray]
    points = origin[samples.ray] + samples.distance[:, None] * along
    shade = field.shade(points, along, normals=normals)
    rgb = shade.rgb if light is None else light(points, samples.ray, shade)
    values = [rgb, samples.distance[:, None], torch.ones_like(rgb[:, :1])]
    if normals and shade.normal is not None:
        values.append(shade.normal)
    summed, weight = composite(shade.alpha, torch.cat(values, dim=1), samples)
    return Rendered(
        summed[:, :3],
        # Rounding may take the sum of weights a little above 1.
        summed[:, 4].clamp(max=1),
        summed[:, 3],
        summed[:, 5:8] if normals else None,
        weight,
        samples,
        shade,
        direction,
        points,
    )


def step_of(half_width: float, samples: int) -> float:
    """Give the step with which the cube's diagonal takes `samples` samples (as threestudio)."""
    return 2 * math.sqrt(3) * half_width / samples


def finite_slope(
    value: Callable[[Float[Tensor, "p 3"]], Float[Tensor, " p"]],
    points: Float[Tensor, "p 3"],
    step: float,
) -> Float[Tensor, "p 3"]:
    """Give the gradient of a function by central differences, six calls' worth.

    Li et al., "Neuralangelo: High-Fidelity Neural Surface Reconstruction", 2023, eq. 4: unlike the
    analytic slope it teaches all cells of the grid within the step, so that surfaces come out
    smoother.
    """
    shift = step * torch.eye(3).to(points)
    both = torch.cat([points + sign * axis for axis in shift for sign in (1, -1)])
    rise = value(both).reshape(3, 2, len(points))
    return ((rise[:, 0] - rise[:, 1]) / (2 * step)).mT


def linear_weight(inputs: int, outputs: int, rng: Generator) -> nn.Parameter:
    """Draw the weights of a layer, uniform in +-1 / sqrt(inputs), as torch does by default."""
    drawn = torch.rand(outputs, inputs, generator=rng, device=rng.device)
    return nn.Parameter((drawn * 2 - 1) / math.sqrt(inputs))
