"""Fit a field to views: rays drawn from all of them, compared with the pixels they go through.

Wang et al., "NeuS", 2021, section 3.3, with the schedules of Guo, "Instant Neural Surface
Reconstruction", 2022; for radiance fields Müller et al., "Instant Neural Graphics Primitives",
2022.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from ..camera import project
from ..mesh import Mesh
from ..models import Kept, NothingKept, Report, silent
from ..views import Views
from .march import Occupancy
from .radiance import RadianceSettings
from .regularise import eikonal_loss, opaque_loss, orientation_loss, sparsity_loss
from .render import Field, Rendered, render_rays
from .sdf import SdfField, SdfSettings

_REFRESH = 16
"""Steps between looks at the occupancy (Müller et al.)."""
_KEEP_EVERY = 50
"""Steps between two states to go on from: copying one takes about as long as half a step."""
_MASK_MARGIN = 0.04
"""Part of the picture's height by which a silhouette is widened before rays are drawn from it, so
that the space around it is seen to be empty; chosen by us on training objects."""


@dataclass(frozen=True)
class FieldFitSettings:
    """Settings of the fit; those of Guo's preset for masked pictures unless a line says otherwise.

    Attributes:
        field: What to fit: `SdfSettings` or `RadianceSettings`.
        rays: Rays of a step. His grow to 8,192; chosen by us for a CPU.
        grid_rate: Adam's rate for the table of the grid.
        network_rate: For the networks. On views of a ball, 100 steps, 0.001 gave 18.4 dB and the
            radius to 3%, 0.01 gave 28.0 dB and 1%.
        sharpness_rate: For the steepness of a signed distance field. Guo's 0.001 is for 20,000
            steps. On 24 views of a scan, 400 steps, 0.002 gave 28.9 dB on other views and a Chamfer
            distance of 0.0071, 0.005 with the field's threshold of 0.01 gave 32.7 dB and 0.0049.
        warm_up: Share of the steps over which the rates rise.
        last_rate: Share of the rates that is left at the end; they fall geometrically.
        rgb_weight: Of the mean squared difference of colour, over random backgrounds.
        mask_weight: Of the cross entropy between opacity and alpha.
        eikonal_weight: Of the squared difference of the slope's length from 1.
        sparsity_weight: Of `sparsity_loss`.
        opaque_weight: Of `opaque_loss`.
        orientation_weight: Of `orientation_loss`, for radiance fields.
        anneal: Share of the steps over which `SdfField.anneal` goes from 0 to 1.
        coarse_levels: Levels of the grid in use at first (Li et al., "Neuralangelo", 2023).
        coarse_until: Share of the steps at which all levels are in use.
        hull_agreement: Share of the views that must see a cell as covered, or nothing is ever
            sampled there. Below 1 for drawn views, which disagree; 0 asks nobody. Ours.
        random_background: Composite over a random colour, another for each ray; else over white.
    """

    field: SdfSettings | RadianceSettings = SdfSettings()  # noqa: RUF009  a frozen value
    rays: int = 1024
    grid_rate: float = 0.01
    network_rate: float = 0.01
    sharpness_rate: float = 0.005
    warm_up: float = 0.025
    last_rate: float = 0.1
    rgb_weight: float = 10.0
    mask_weight: float = 0.1
    eikonal_weight: float = 0.1
    sparsity_weight: float = 0.0
    opaque_weight: float = 0.0
    orientation_weight: float = 0.0
    anneal: float = 0.25
    coarse_levels: int = 4
    coarse_until: float = 0.5
    hull_agreement: float = 0.9
    random_background: bool = True


SDF_FIT = FieldFitSettings()
"""For a surface; a thousand steps for pictures of 128 pixels."""
RADIANCE_FIT = FieldFitSettings(field=RadianceSettings(samples=128, cells=48))
"""For colours: on 24 views of a scan, 128 pixels, 2,000 steps, 35.6 dB on other views, where the
Gaussians of `reconstruct` gave 36.6 dB. The surface is best taken from rendered depth."""


def fit_field(
    views: Views,
    *,
    steps: int = 1000,
    rng: Generator,
    view_weights: Float[Tensor, " n"] | None = None,
    settings: FieldFitSettings = SDF_FIT,
    report: Report = silent,
    kept: Kept | None = None,
) -> Field:
    """Optimise a field until rays through it look like the pixels of the views.

    The subject must lie in the field's cube round the origin. The same views, settings and state
    of `rng` give the same field.

    Args:
        views: What to reproduce, over white, with alpha.
        steps: Steps of Adam, each with `settings.rays` rays.
        rng: Draws the field's first numbers, rays, places of samples and backgrounds.
        view_weights: Share of the rays that each view gets, of any sum; equal by default.
        settings: The field, weights, rates and schedules.
        report: Called now and then with the share done.
        kept: Where the fit puts its state every 50 steps and goes on from the one that is found; in
            the same field as if it had never been stopped.

    Returns:
        The field, on the device of the views.

    Raises:
        ValueError: If there is no view or step, the weights do not fit, or the silhouettes have
            nothing in common inside the field's cube; or the state found is of another fit.
    """
    if len(views) == 0 or steps < 1:
        raise ValueError(f"the fit needs at least one view and one step, got {len(views)}, {steps}")
    field = settings.field.build(rng).to(views.rgb.device)
    pixels = _Pixels(views, view_weights, settings.hull_agreement > 0)
    if settings.hull_agreement > 0:
        field.occupancy.allow(_hull(views, field.occupancy, settings.hull_agreement))
    optimiser = torch.optim.Adam(_groups(field, settings), betas=(0.9, 0.99), eps=1e-15)
    first = [float(group["lr"]) for group in optimiser.param_groups]
    kept = kept or NothingKept()
    begun = 0 if kept.found is None else _restored(kept.found, field, optimiser, rng, steps)
    with torch.enable_grad():
        for step in range(begun, steps):
            _schedule(field, step / steps, settings)
            if step % _REFRESH == 0:
                field.refresh(rng)
                report(step / steps)
            factor = _rate(step, steps, settings)
            for group, rate in zip(optimiser.param_groups, first, strict=True):
                group["lr"] = rate * factor
            optimiser.zero_grad(set_to_none=True)
            _loss(field, pixels, rng, settings).backward()
            optimiser.step()
            if (step + 1) % _KEEP_EVERY == 0:
                kept.keep(_state(field, optimiser, rng, step + 1))
    _schedule(field, 1.0, settings)
    field.refresh(rng)
    report(1.0)
    return field.requires_grad_(requires_grad=False)


def mesh_from_field(
    field: Field,
    surface: Callable[[Float[Tensor, "r r r"]], Mesh],
    *,
    resolution: int = 128,
    blur: float = 0.0,
) -> Mesh:
    """Draw the surface of a field.

    Args:
        field: A fitted field.
        surface: Draws the surface at level 0 of a grid over the field's cube:
            `lambda grid: mesh_from_density(grid, level=0.0, half_width=field.half_width)`.
        resolution: Nodes along each side of the grid.
        blur: See `solid_grid`.

    Raises:
        ValueError: Whatever `surface` raises, such as for an empty field.
    """
    return surface(solid_grid(field, resolution=resolution, blur=blur))


@torch.no_grad()
def solid_grid(field: Field, *, resolution: int, blur: float = 0.0) -> Float[Tensor, "r r r"]:
    """Look up at the nodes of a grid how solid a field is: above 0 inside, as `Field.solid`.

    Args:
        field: What it holds in cells that may never be sampled counts as empty.
        resolution: Nodes along each side of the field's cube.
        blur: Deviation, world units, of a Gaussian filter over the grid: a distilled density is
            rough at the size of its grid's cells, and so are its surfaces.

    Returns:
        Values on the CPU, indexed [x, y, z].
    """
    axis = torch.linspace(-field.half_width, field.half_width, resolution)
    step = 2 * field.half_width / (resolution - 1)
    planes = []
    for x in axis.tolist():
        flat = torch.cartesian_prod(torch.tensor([x]), axis, axis)
        points = flat.to(field.occupancy.held.device)
        value = field.solid(points)
        # As far outside as a step of the grid: so much that the border is drawn within it.
        empty = torch.full_like(value, -step)
        known = field.occupancy.contains(points)
        planes.append(torch.where(known, value, torch.minimum(value, empty)))
    return _blurred(torch.stack(planes).reshape((resolution,) * 3).cpu(), blur / step)


def _blurred(grid: Float[Tensor, "r r r"], deviation: float) -> Float[Tensor, "r r r"]:
    """Blur along one axis after the other; the deviation is in steps."""
    reach = math.ceil(3 * deviation)
    if reach == 0:
        return grid
    weight = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation).square()).to(grid)
    weight = (weight / weight.sum())[None, None]
    for _ in range(3):
        # The last axis is blurred and becomes the first: after three turns all are in place.
        rows = torch.nn.functional.pad(
            grid.flatten(0, 1)[:, None], (reach, reach), mode="replicate"
        )
        grid = torch.nn.functional.conv1d(rows, weight)[:, 0].reshape(grid.shape).permute(2, 0, 1)
    return grid.contiguous()


class _Pixels:
    """The pixels that rays are drawn from, view by view."""

    def __init__(
        self, views: Views, weights: Float[Tensor, " n"] | None, near_subject: bool
    ) -> None:
        if weights is not None and len(weights) != len(views):
            raise ValueError(f"view_weights has {len(weights)} entries for {len(views)} views")
        self.cameras = views.cameras
        self.rgb, self.alpha = views.straight_rgb().flatten(0, 2), views.alpha.flatten()
        wanted = torch.ones_like(views.alpha, dtype=torch.bool)
        if near_subject:
            wanted = _widened(views.alpha, _MASK_MARGIN * views.cameras.size_hw[0]) > 0
        self.chosen = wanted.flatten().nonzero()[:, 0]
        self.count = wanted.flatten(1).sum(dim=1)
        self.first = self.count.cumsum(dim=0) - self.count
        shares = torch.ones(len(views)) if weights is None else weights.cpu()
        self.shares = shares * (self.count.cpu() > 0)
        if not bool(self.shares.sum() > 0):
            raise ValueError("no view with a positive weight shows the subject")

    def draw(
        self, count: int, rng: Generator
    ) -> tuple[Float[Tensor, "r 3"], Float[Tensor, "r 3"], Int[Tensor, " r"]]:
        """Give origins and unit directions of rays, and the numbers of their pixels."""
        shares = self.shares.to(rng.device)
        view = torch.multinomial(shares, count, replacement=True, generator=rng)
        part = torch.rand(count, generator=rng, device=rng.device).to(self.rgb.device)
        view = view.to(self.rgb.device)
        number = (part * self.count[view]).long().clamp(max=self.count[view] - 1)
        pixel = self.chosen[self.first[view] + number]
        h, w = self.cameras.size_hw
        v, u = pixel % (h * w) // w + 0.5, pixel % w + 0.5
        slope = torch.stack([u - w / 2, v - h / 2], dim=1) / self.cameras.focal_px[view, None]
        seen = torch.cat([slope, torch.ones_like(slope[:, :1])], dim=1)
        direction = torch.einsum("rij,rj->ri", self.cameras.world_from_camera[view, :3, :3], seen)
        unit = torch.nn.functional.normalize(direction, dim=1)
        return self.cameras.origin[view], unit, pixel


def _loss(
    field: Field, pixels: _Pixels, rng: Generator, settings: FieldFitSettings
) -> Float[Tensor, ""]:
    origin, direction, pixel = pixels.draw(settings.rays, rng)
    drawn = render_rays(field, origin, direction, rng=rng, normals=settings.orientation_weight > 0)
    background = torch.ones_like(direction)
    if settings.random_background:
        background = torch.rand(direction.shape, generator=rng, device=rng.device).to(direction)
    alpha = pixels.alpha[pixel]
    truth = pixels.rgb[pixel] * alpha[:, None] + (1 - alpha[:, None]) * background
    loss = settings.rgb_weight * (drawn.over(background) - truth).square().mean()
    # Opacity is kept from 0 and 1 as Guo does, or single rays would dominate.
    opacity = drawn.opacity.clamp(1e-3, 1 - 1e-3)
    entropy = torch.nn.functional.binary_cross_entropy(opacity, alpha)
    return loss + settings.mask_weight * entropy + _regularity(field, drawn, rng, settings)


def _regularity(
    field: Field, drawn: Rendered, rng: Generator, settings: FieldFitSettings
) -> Float[Tensor, ""]:
    total = torch.zeros((), device=drawn.rgb.device)
    if settings.sparsity_weight > 0:
        total = total + settings.sparsity_weight * sparsity_loss(drawn)
    if settings.opaque_weight > 0:
        total = total + settings.opaque_weight * opaque_loss(drawn)
    if settings.orientation_weight > 0:
        total = total + settings.orientation_weight * orientation_loss(drawn)
    if isinstance(field, SdfField) and settings.eikonal_weight > 0:
        # Where no ray is sampled the distance must be one as well, or shells appear there.
        anywhere = torch.rand(settings.rays, 3, generator=rng, device=rng.device)
        points = (anywhere.to(drawn.rgb) * 2 - 1) * field.half_width
        slopes = [field.slope(points)]
        if drawn.shade.slope is not None:
            slopes.append(drawn.shade.slope)
        total = total + settings.eikonal_weight * eikonal_loss(torch.cat(slopes))
    return total


def _groups(field: Field, settings: FieldFitSettings) -> list[dict[str, object]]:
    rates = {"grid.table": settings.grid_rate, "sharpness": settings.sharpness_rate}
    return [
        {"params": [parameter], "lr": rates.get(name, settings.network_rate)}
        for name, parameter in field.named_parameters()
    ]


def _state(
    field: Field, optimiser: torch.optim.Optimizer, rng: Generator, step: int
) -> dict[str, Any]:
    """Give all that the steps after this one depend on."""
    return {
        "step": step,
        "field": {name: value.cpu().clone() for name, value in field.state_dict().items()},
        "optimiser": copy.deepcopy(optimiser.state_dict()),
        "rng": rng.get_state(),
    }


def _restored(
    state: dict[str, Any],
    field: Field,
    optimiser: torch.optim.Optimizer,
    rng: Generator,
    steps: int,
) -> int:
    """Go back to a state, and say how many steps were done."""
    if not 0 <= state["step"] <= steps:
        raise ValueError(f"the state found is of step {state['step']}, but there are {steps} steps")
    field.load_state_dict(state["field"])
    optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
    rng.set_state(state["rng"])
    return int(state["step"])


def _rate(step: int, steps: int, settings: FieldFitSettings) -> float:
    done, warm_up = (step + 1) / steps, settings.warm_up
    if done < warm_up:
        return max(0.01, done / warm_up)
    return settings.last_rate ** ((done - warm_up) / (1 - warm_up))


def _schedule(field: Field, done: float, settings: FieldFitSettings) -> None:
    """Set what changes with the steps: levels in use, and how normals count."""
    levels, coarse = settings.field.grid.levels, settings.coarse_levels
    share = min(1.0, done / settings.coarse_until) if settings.coarse_until > 0 else 1.0
    active = min(levels, coarse + math.floor(share * max(0, levels - coarse)))
    if isinstance(field, SdfField):
        field.anneal = min(1.0, done / settings.anneal) if settings.anneal > 0 else 1.0
    field.grid.active = active


def _hull(views: Views, occupancy: Occupancy, agreement: float) -> Bool[Tensor, "r r r"]:
    """Find the cells that enough silhouettes cover, at least in part."""
    cells = occupancy.middles()
    covered = torch.zeros(len(cells), device=cells.device)
    asked = torch.zeros_like(covered)
    for n in range(len(views)):
        covers, sees = _covered(views[n], cells, math.sqrt(3) / 2 * occupancy.cell)
        covered += covers
        asked += sees
    # A cell outside all pictures is not known to be empty, but nothing can be learnt of it.
    hull = (covered >= agreement * asked) & (asked > 0)
    if not bool(hull.any()):
        raise ValueError(
            "the silhouettes have nothing in common inside the field's cube; check the cameras "
            "and the alpha of the views, or lower hull_agreement"
        )
    return hull.reshape((occupancy.resolution,) * 3)


def _covered(
    view: Views, points: Float[Tensor, "p 3"], radius: float
) -> tuple[Bool[Tensor, " p"], Bool[Tensor, " p"]]:
    """Say of balls which ones touch the silhouette, and which ones the picture shows."""
    pixel, depth = project(points, view.cameras)
    nearest = float(depth.clamp(min=1e-3).amin())
    wide = _widened(view.alpha, radius * float(view.cameras.focal_px[0]) / nearest)[0]
    h, w = view.cameras.size_hw
    u, v = pixel[0].unbind(dim=1)
    sees = (depth[0] > 0) & (u >= 0) & (u < w) & (v >= 0) & (v < h)
    at = wide[v.long().clamp(0, h - 1), u.long().clamp(0, w - 1)]
    return sees & (at > 0.05), sees


def _widened(alpha: Float[Tensor, "n h w"], radius_px: float) -> Float[Tensor, "n h w"]:
    side = 2 * math.ceil(radius_px) + 1
    return torch.nn.functional.max_pool2d(alpha[:, None], side, stride=1, padding=side // 2)[:, 0]
