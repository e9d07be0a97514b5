"""The distillation stage that recipes share: a radiance field that diffusion models like to see.

Poole et al., "DreamFusion: Text-to-3D using 2D Diffusion", 2023, and its successors; losses are
those of threestudio (Guo et al., 2023). `distilling_asset` makes an asset of the field.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor

from ..camera import Cameras
from ..diffusion.distill_cameras import RandomCameras, at_resolution
from ..diffusion.guide import (
    DREAMFUSION_TIMES,
    Ramp,
    TimeRange,
    Weighting,
    draw_noise,
    picture_gradient,
    reconstruction_gradient,
    sds_gradient,
    sjc_gradient,
)
from ..diffusion.guide_copy import LearningGuide
from ..diffusion.guide_loop import DistillSettings, Group, Rendered, State, distill
from ..diffusion.view_guide import ViewGuide
from ..field.lighting import Lamps, LampSettings
from ..field.radiance import RadianceField, RadianceSettings
from ..models import Kept, PlainStages, Report, StageRunner
from ..views import Views
from .distilling_losses import ORDER, Order, PhotoLosses, drawn_views, order_loss, photo_loss

_REFRESH = 16
"""Steps between looks at the occupancy (Müller et al. 2022, as threestudio)."""


Gradient: TypeAlias = Literal["sds", "reconstruction", "sjc", "vsd"]
"""What a guide is asked for; see `Asking`."""


@dataclass(frozen=True)
class Asking:
    """What one guide is asked, and how much its answer counts.

    Attributes:
        weight: Of its gradient.
        gradient: "sds" is DreamFusion's, "reconstruction" MVDream's way to the clean sample, "sjc"
            that of score Jacobian chaining, "vsd" ProlificDreamer's, which a `LearningGuide` gives.
        times: Noise levels over the run; for views that are denoised together one for all.
        weighting: For "sds".
        rescale: For "reconstruction": see `reconstruction_gradient`.
    """

    weight: float = 1.0
    gradient: Gradient = "sds"
    times: TimeRange = DREAMFUSION_TIMES
    weighting: Weighting = "sds"
    rescale: float = 0.5


@dataclass(frozen=True)
class Shading:
    """When a lamp is lit; else colours are drawn as they are.

    Attributes:
        begin: Step from which on there are lamps.
        albedo_share: Share of the steps without lamp after that (threestudio, as MVDream's 0.25).
        textureless_share: Share of those with lamp that show shape only.
        lamp: How lamps are drawn.
    """

    begin: int
    albedo_share: float = 0.25
    textureless_share: float = 0.5
    lamp: LampSettings = LampSettings()  # noqa: RUF009  a frozen value

    def lamps(
        self, step: int, cameras: Cameras, rng: Generator, *, half_width: float
    ) -> Lamps | None:
        """Draw the lamps of a step, one a camera, or none."""
        if step < self.begin or float(torch.rand((), generator=rng)) < self.albedo_share:
            return None
        plain = float(torch.rand((), generator=rng)) < self.textureless_share
        return self.lamp.draw(cameras, rng, half_width=half_width, textureless=plain)


@dataclass(frozen=True)
class Distilling:
    """Settings of the stage; steps count from 0.

    Attributes:
        cameras: Where renderings are seen from.
        steps: Of Adam.
        sizes: (step from which on, side in pixels, views a step), the first from step 0.
        field: The field's shape and what it begins as.
        grid_rate: Adam's rate for the table of the grid (threestudio, as the next).
        network_rate: For the networks.
        last_rate: Share of the rates that is left at the end; they fall geometrically. 1 in
            threestudio, whose runs are twenty times as long.
        weight_decay: AdamW's.
        levels: Levels of the grid in use; all where it is as large as their number.
        photo: What ties the field to the photograph.
        order: What keeps it a solid shape.
        shading: Lamps, if there are any.
        random_background: Share of the steps over a random colour; the others are over white.
        keep_every: Steps between two states to go on from.
        show_every: Steps between two pictures of the work in progress.
    """

    cameras: RandomCameras
    steps: int = 400
    sizes: tuple[tuple[int, int, int], ...] = ((0, 64, 4),)
    field: RadianceSettings = RadianceSettings()  # noqa: RUF009  a frozen value
    grid_rate: float = 0.01
    network_rate: float = 0.001
    last_rate: float = 1.0
    weight_decay: float = 0.0
    levels: Ramp = Ramp(16.0, 16.0, 1)  # noqa: RUF009  a frozen value
    photo: PhotoLosses = PhotoLosses()  # noqa: RUF009  a frozen value
    order: Order = ORDER
    shading: Shading | None = None
    random_background: float = 0.0
    keep_every: int = 25
    show_every: int = 20


def distilled_field(
    photo: Views,
    guides: Sequence[tuple[ViewGuide, Asking]],
    rng: Generator,
    settings: Distilling,
    *,
    stage: StageRunner | None = None,
    name: str = "distil",
    start: RadianceField | None = None,
) -> RadianceField:
    """Optimise a field until guides like its renderings, and the photograph its own side.

    The same input and state of `rng` give the same field, also where `stage` goes on in the middle.

    Args:
        photo: The photograph as one view over white, from azimuth 0. Its depth, if it has one, is
            an estimate of any scale and shift, near is small; its normals are in world axes.
        guides: Models that were told of the photograph, each with what it is asked; their gradients
            are added. None leaves the losses alone.
        rng: CPU generator of all that is random.
        settings: Cameras, steps and losses.
        stage: Runs the work as one stage that can go on from its middle, and shows pictures.
        name: Of the stage.
        start: A field of the same shape to go on from; else one is made.

    Returns:
        The field, on the device of the photograph, without gradient.

    Raises:
        ValueError: If a guide wants more views together than are drawn, or losses ask for depth or
            normals that the photograph lacks.
    """
    _check(photo, guides, settings)
    stage = stage or PlainStages()

    def work(report: Report, kept: Kept) -> dict[str, Tensor]:
        field = settings.field.build(rng)
        if start is not None:
            field.load_state_dict(start.state_dict())
        field = field.to(photo.rgb.device)
        run = _Run(field, photo, guides, settings, stage)
        return _distilled(run, rng, report, kept)

    tensors = stage.long(name, work)
    field = settings.field.build(Generator())
    field.load_state_dict(tensors)
    return field.to(photo.rgb.device).requires_grad_(requires_grad=False)


def _distilled(run: "_Run", rng: Generator, report: Report, kept: Kept) -> dict[str, Tensor]:
    settings, field = run.settings, run.field
    groups = [
        Group(
            "grid",
            [field.grid.table],
            lambda step: settings.grid_rate * _fallen(step, settings),
            [field.occupancy.held, field.occupancy.full],
        ),
        Group(
            "network",
            [field.first, field.last],
            lambda step: settings.network_rate * _fallen(step, settings),
        ),
    ]
    loop = DistillSettings(
        settings.steps, weight_decay=settings.weight_decay, keep_every=settings.keep_every
    )
    groups += [
        Group(f"copy {number}", list(guide.lora.parameters()), lambda _, at=guide.rate: at)
        for number, (guide, _) in enumerate(run.guides)
        if isinstance(guide, LearningGuide)
    ]
    found: State | None = kept.found
    distill(groups, run.render, run.ask, rng, loop, start=found, keep=kept.keep, report=report)
    field.refresh(rng)
    return {key: value.detach().cpu() for key, value in field.state_dict().items()}


class _Run:
    """A field on its way: what each step draws, and what the guides say of it."""

    def __init__(
        self,
        field: RadianceField,
        photo: Views,
        guides: Sequence[tuple[ViewGuide, Asking]],
        settings: Distilling,
        stage: StageRunner,
    ) -> None:
        self.field, self.photo, self.guides = field, photo, guides
        self.settings, self.stage = settings, stage
        self.photo_deg = float(photo.cameras.elevation_deg[0])

    def render(self, step: int, rng: Generator) -> Rendered:
        """Draw the views of a step, with all losses that need no guide."""
        settings, field = self.settings, self.field
        field.grid.active = min(int(settings.levels(step)), field.grid.settings.levels)
        if step % _REFRESH == 0:
            field.refresh(rng)
        if step % settings.show_every == 0:
            self._show()
        cameras = self._cameras(step, rng)
        lamps = None
        if settings.shading is not None:
            lamps = settings.shading.lamps(step, cameras, rng, half_width=field.half_width)
        background = self._background(rng)
        order = settings.order
        wanted = order.needs_normals(step) or lamps is not None
        views, drawn = drawn_views(field, cameras, background, rng=rng, normals=wanted, lamps=lamps)
        penalty = order_loss(field, views, drawn, step, rng, order)
        if settings.photo.due(step):
            penalty = penalty + photo_loss(field, self.photo, rng, settings.photo)
        rgba = torch.cat([views.rgb, views.alpha[..., None]], dim=-1)
        picture = rearrange(rgba, "n h w c -> n c h w")
        # A penalty without a graph is a mere number: nothing to go back through.
        return Rendered(picture, penalty if penalty.requires_grad else None, cameras)

    def ask(self, rendered: Rendered, step: int, rng: Generator) -> Tensor | None:
        """Add up what the guides want changed."""
        told = [(guide, asking) for guide, asking in self.guides if asking.weight > 0]
        if not told:
            return None
        parts = [
            asking.weight
            * guide_gradient(guide, asking, rendered.picture, rendered.about, step, rng)
            for guide, asking in told
        ]
        return torch.stack(parts).sum(dim=0)

    def _cameras(self, step: int, rng: Generator) -> Cameras:
        sizes = self.settings.sizes
        within = at_resolution(
            self.settings.cameras, step, tuple((begin, side) for begin, side, _ in sizes)
        )
        count = [views for begin, _, views in sizes if begin <= step][-1]
        drawn = within.draw(count, rng, step=step, photo_elevation_deg=self.photo_deg)
        return drawn.to(self.photo.rgb.device)

    def _background(self, rng: Generator) -> Float[Tensor, " 3"]:
        share, colour = torch.rand((), generator=rng), torch.rand(3, generator=rng)
        if float(share) >= self.settings.random_background:
            colour = torch.ones(3)
        return colour.to(self.photo.rgb)

    def _show(self) -> None:
        """Show the photograph's side and three more, side by side."""
        camera = self.photo.cameras
        distance = float(camera.origin[0].norm())
        fov_deg = 2 * math.degrees(math.atan(0.5 * camera.size_hw[0] / float(camera.focal_px[0])))
        sides = Cameras.orbit(
            [0.0, 90.0, 180.0, 270.0],
            elevation_deg=self.photo_deg,
            radius=distance,
            fov_deg=fov_deg,
            size_hw=(64, 64),
        )
        with torch.no_grad():
            views = self.field.render(sides.to(self.photo.rgb.device), normals=False)
        self.stage.show(rearrange(views.rgb, "n h w c -> h (n w) c"))


def guide_gradient(
    guide: ViewGuide,
    asking: Asking,
    picture: Float[Tensor, "n 4 h w"],
    cameras: Cameras,
    step: int,
    rng: Generator,
) -> Float[Tensor, "n 4 h w"]:
    """Give one guide's gradient at rendered pictures, divided by their number; unweighted.

    Args:
        guide: The model.
        asking: What it is asked.
        picture: Colour and alpha of n views, of any size.
        cameras: Where they are seen from.
        step: Of the run.
        rng: Draws noise levels and noise.
    """
    guided, side = guide.told(cameras), guide.size_px
    together = guide.together > 1

    def encode(rgba: Tensor) -> Tensor:
        if rgba.shape[-2:] != (side, side):
            rgba = torch.nn.functional.interpolate(
                rgba, (side, side), mode="bilinear", antialias=True
            )
        return guide.encode(rgba)

    def gradient(clean: Tensor) -> Tensor:
        t = asking.times.draw(step, len(clean), rng, together=together).to(clean.device)
        noise = draw_noise(clean, rng)
        if asking.gradient == "sds":
            found = sds_gradient(
                guided, clean, t, noise, shares=guide.shares, weighting=asking.weighting
            )
        elif asking.gradient == "vsd" and isinstance(guide, LearningGuide):
            found = guide.gradient(clean, t, noise, cameras, rng)
        elif asking.gradient == "sjc":
            found = sjc_gradient(guided, clean, t, noise, shares=guide.shares)
        else:
            found = reconstruction_gradient(
                guided,
                clean,
                t,
                noise,
                shares=guide.shares,
                rescale=asking.rescale,
                frames=guide.together,
            )
        return found / len(clean)

    return picture_gradient(picture, encode, gradient)


def _fallen(step: int, settings: Distilling) -> float:
    return settings.last_rate ** (step / max(1, settings.steps - 1))


def _check(photo: Views, guides: Sequence[tuple[ViewGuide, Asking]], settings: Distilling) -> None:
    for begin, _, views in settings.sizes:
        for guide, asking in guides:
            if asking.gradient == "vsd" and not isinstance(guide, LearningGuide):
                raise ValueError("the gradient 'vsd' needs a LearningGuide; or ask for 'sds'")
            if views % guide.together:
                raise ValueError(
                    f"a guide looks at {guide.together} views together, but from step {begin} on "
                    f"{views} are drawn; give a multiple in sizes"
                )
    if len(photo) != 1:
        raise ValueError(f"photo must be one view, got {len(photo)}")
    if settings.photo.depth > 0 and photo.depth is None:
        raise ValueError("the depth loss needs a photograph with depth; or set photo.depth to 0")
    if settings.photo.normal > 0 and photo.normal is None:
        raise ValueError("the normal loss needs a photograph with normals; or set it to 0")
