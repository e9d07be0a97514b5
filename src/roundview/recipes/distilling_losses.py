"""What ties a distilled field to the photograph, and what keeps it a solid shape.

Terms are threestudio's (Guo et al., 2023), as its presets name them.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..camera import Cameras, rays
from ..diffusion.guide import Ramp, constant
from ..diffusion.regularisers import (
    jittered,
    normal_field_smoothness,
    normal_loss,
    normal_map_smoothness,
    pearson_depth_loss,
)
from ..field.lighting import Lamps, for_rays
from ..field.radiance import RadianceField
from ..field.regularise import (
    depth_variance_loss,
    opaque_loss,
    orientation_loss,
    sparsity_loss,
)
from ..field.render import Rendered, render_rays
from ..image import resize
from ..views import Views

_NONE = constant(0.0)
_SEEN = 1e-3
"""Opacity from which on a pixel has a depth and a normal, as in `render_field`."""
_JITTER = 0.01
"""Deviation, in half widths, of the points whose normals are compared (threestudio)."""
_PROBES = 4096
"""Samples at which normals are compared, drawn anew each step; ours, to bound the cost."""


@dataclass(frozen=True)
class PhotoLosses:
    """Weights of what the field must look like from the photograph's side; 0 leaves a term out.

    Attributes:
        rgb: Of the mean squared difference of colour, over white.
        mask: Of the mean squared difference of opacity and alpha.
        depth: Of 1 - correlation of depths inside the mask.
        normal: Of 1 - cosine of normals inside the mask.
        size_px: Side of the rendering that is compared.
        every: Steps from one comparison to the next (Magic123: 4).
        only_until: Step before which it is compared each step (Magic123: 100).
    """

    rgb: float = 0.0
    mask: float = 0.0
    depth: float = 0.0
    normal: float = 0.0
    size_px: int = 64
    every: int = 1
    only_until: int = 0

    def due(self, step: int) -> bool:
        """Say whether the photograph is looked at in this step."""
        wanted = max(self.rgb, self.mask, self.depth, self.normal) > 0
        return wanted and (step < self.only_until or step % self.every == 0)


@dataclass(frozen=True)
class Order:
    """Weights over the run of what no picture says; threestudio's names in brackets.

    Attributes:
        orientation: Of what is seen and turns its back (orient).
        sparsity: Of opacity (sparsity).
        opaque: Of what is neither there nor not (opaque).
        depth_variance: Of the thickness of surfaces (z_variance).
        normal_map: Of bends between pixels (normal_smooth).
        normal_field: Of bends in space (3d_normal_smooth).
    """

    orientation: Ramp = _NONE
    sparsity: Ramp = _NONE
    opaque: Ramp = _NONE
    depth_variance: Ramp = _NONE
    normal_map: Ramp = _NONE
    normal_field: Ramp = _NONE

    def needs_normals(self, step: int) -> bool:
        """Say whether rays must be drawn with normals in this step."""
        ramps = (self.orientation, self.normal_map, self.normal_field)
        return any(ramp(step) > 0 for ramp in ramps)


ORDER = Order()
"""Nothing asked."""


def drawn_views(
    field: RadianceField,
    cameras: Cameras,
    background: Float[Tensor, " 3"],
    *,
    rng: Generator,
    normals: bool,
    lamps: Lamps | None = None,
) -> tuple[Views, Rendered]:
    """Draw a field for a step: the pictures, and the rays that they are made of.

    Args:
        field: What to draw.
        cameras: Where from.
        background: sRGB.
        rng: Shifts samples along their rays.
        normals: Draw normals as well.
        lamps: One a camera, if any.

    Returns:
        Views with depth (mean along the ray by weight) and maybe normals; and the rays.
    """
    direction = torch.nn.functional.normalize(rays(cameras), dim=-1)
    origin = cameras.origin[:, None, None].expand_as(direction)
    forward = cameras.world_from_camera[:, None, None, :3, 2]
    shape = direction.shape[:3]
    drawn = render_rays(
        field,
        origin.reshape(-1, 3),
        direction.reshape(-1, 3),
        rng=rng,
        normals=normals,
        light=None if lamps is None else for_rays(lamps, shape[1] * shape[2]),
    )
    opacity = drawn.opacity.reshape(shape)
    along = (direction * forward).sum(dim=-1)
    depth = drawn.distance.reshape(shape) / opacity.clamp(min=_SEEN) * along
    seen = opacity > _SEEN
    normal = None
    if drawn.normal is not None:
        summed = drawn.normal.reshape(*shape, 3)
        normal = torch.nn.functional.normalize(summed, dim=-1, eps=1e-6) * seen[..., None]
    rgb = drawn.over(background[None]).reshape(*shape, 3)
    return Views(rgb, opacity, cameras, depth * seen, normal), drawn


def order_loss(
    field: RadianceField,
    views: Views,
    drawn: Rendered,
    step: int,
    rng: Generator,
    order: Order,
) -> Float[Tensor, ""]:
    """Add up the terms of `Order` for what was drawn; 0 where all weights are."""
    total = torch.zeros_like(drawn.opacity.sum().detach())
    if (weight := order.orientation(step)) > 0:
        total = total + weight * orientation_loss(drawn)
    if (weight := order.sparsity(step)) > 0:
        total = total + weight * sparsity_loss(drawn)
    if (weight := order.opaque(step)) > 0:
        total = total + weight * opaque_loss(drawn)
    if (weight := order.depth_variance(step)) > 0:
        total = total + weight * depth_variance_loss(drawn)
    if (weight := order.normal_map(step)) > 0 and views.normal is not None:
        shown = (views.normal + 1) / 2 * views.alpha[..., None]
        total = total + weight * normal_map_smoothness(shown + (1 - views.alpha[..., None]) / 2)
    if (weight := order.normal_field(step)) > 0:
        total = total + weight * _bends(field, drawn, rng)
    return total


def photo_loss(
    field: RadianceField, photo: Views, rng: Generator, losses: PhotoLosses
) -> Float[Tensor, ""]:
    """Draw the field from the photograph's camera and compare it by `PhotoLosses`.

    Args:
        field: What to draw.
        photo: One view over white, with depth and normals if they are compared.
        rng: Shifts samples along their rays.
        losses: Weights.
    """
    truth = photo_at(photo, losses.size_px)
    white = torch.ones(3).to(truth.rgb)
    views, _ = drawn_views(field, truth.cameras, white, rng=rng, normals=losses.normal > 0)
    total = torch.zeros_like(truth.alpha.sum())
    if losses.rgb > 0:
        total = total + losses.rgb * (views.rgb - truth.rgb).square().mean()
    if losses.mask > 0:
        total = total + losses.mask * (views.alpha - truth.alpha).square().mean()
    inside = truth.alpha > 0.5
    if losses.depth > 0 and truth.depth is not None and views.depth is not None:
        total = total + losses.depth * pearson_depth_loss(views.depth, truth.depth, inside).sum()
    if losses.normal > 0 and truth.normal is not None and views.normal is not None:
        total = total + losses.normal * normal_loss(views.normal, truth.normal, inside)
    return total


def photo_at(photo: Views, size_px: int) -> Views:
    """Give the photograph at another size, depth and normals with it (means inside the mask)."""
    size_hw = (size_px, size_px)
    small = photo.resized(size_hw)
    if photo.depth is None and photo.normal is None:
        return small
    share = resize(photo.alpha[..., None], size_hw).clamp(min=1e-6)
    depth = normal = None
    if photo.depth is not None:
        depth = (resize((photo.depth * photo.alpha)[..., None], size_hw) / share)[..., 0]
    if photo.normal is not None:
        mean = resize(photo.normal * photo.alpha[..., None], size_hw) / share
        normal = torch.nn.functional.normalize(mean, dim=-1, eps=1e-6)
    return replace(small, depth=depth, normal=normal)


def _bends(field: RadianceField, drawn: Rendered, rng: Generator) -> Float[Tensor, ""]:
    """Compare normals at some samples with those beside them, in half widths as threestudio."""
    normals, count = drawn.shade.normal, len(drawn.weight)
    if normals is None or count == 0:
        return drawn.opacity.sum() * 0
    chosen = torch.randint(count, (_PROBES,), generator=rng).to(normals.device)
    beside = jittered(drawn.points[chosen], rng, deviation=_JITTER * field.half_width)
    there = field.shade(beside, drawn.direction[drawn.samples.ray[chosen]], normals=True).normal
    assert there is not None
    return normal_field_smoothness(normals[chosen], there)
