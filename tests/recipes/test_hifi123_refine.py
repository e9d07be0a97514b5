"""A surface in a field's colours: true pictures, true slopes, colours that follow a guide."""

from collections.abc import Callable
from typing import Any

import torch
from hifi_tiny import RGNV, SIDE, tiny_enhancer
from torch import Generator, Tensor

from roundview.camera import Cameras
from roundview.diffusion.guide_loop import Rendered
from roundview.field.grid import GridSettings
from roundview.field.radiance import RadianceField, RadianceSettings
from roundview.image import Foreground
from roundview.models import Kept, PlainStages, Report, Value, silent
from roundview.recipes.enhancing import remembered
from roundview.recipes.hifi123_refine import (
    Refining,
    RgsdGuide,
    Shot,
    Surface,
    enhanced_of,
    fixed_cameras,
    refine_colours,
    tetrahedral_surface,
)
from roundview.views import Views

SETTINGS = Refining(
    steps=30,
    size_px=16,
    supersample=1,
    photo_weight=0.0,
    grid_rate=0.05,
    network_rate=0.05,
    keep_every=5,
)


def ball() -> RadianceField:
    settings = RadianceSettings(
        grid=GridSettings(levels=2, log2_table=8, coarsest=4, finest=8),
        hidden=8,
        samples=48,
        level=5.0,
    )
    field = settings.build(Generator().manual_seed(0))
    field.refresh(Generator().manual_seed(0))
    return field


def surface() -> Surface:
    field = ball()
    return Surface(field, tetrahedral_surface(field, resolution=24, faces=600, smoothing=2))


def photo(rgb: tuple[float, float, float] = (0.9, 0.2, 0.1)) -> Views:
    camera = fixed_cameras([0.0], SETTINGS, 10.0)
    views = surface().views(camera, supersample=1)
    colour = torch.tensor(rgb) * views.alpha[..., None] + 1 - views.alpha[..., None]
    return Views(colour.detach(), views.alpha, camera)


def no_cameras() -> Cameras:
    return fixed_cameras([0.0], SETTINGS, 0.0)[[]]


def quiet(rendered: Rendered, step: int, rng: Generator) -> Tensor | None:
    del rendered, step, rng
    return None


class Redder:
    """Wants all of the subject red; remembers which fixed views it saw."""

    def __init__(self) -> None:
        self.seen: list[int | None] = []

    def __call__(self, rendered: Rendered, step: int, rng: Generator) -> Tensor:
        del step, rng
        assert isinstance(rendered.about, Shot)
        self.seen.append(rendered.about.fixed)
        red = torch.tensor([1.0, 0.0, 0.0, 1.0])[None, :, None, None]
        return (rendered.picture.detach() - red) * rendered.about.views.alpha[:, None]


def test_the_surface_lies_where_the_density_has_its_level() -> None:
    # softplus(10 (1 - r / 0.5)) is 5 where r = 0.25 half widths.
    radius = surface().mesh.vertices.norm(dim=1)
    assert abs(float(radius.mean()) - 0.25 * 0.55) < 0.01


def test_pictures_show_the_fields_colours_and_the_meshs_depth() -> None:
    drawn = surface()
    camera = fixed_cameras([30.0], SETTINGS, 0.0)
    views = drawn.views(camera)
    middle = views.depth
    assert middle is not None
    assert abs(float(middle[0, 8, 8]) - (1.5 - 0.25 * 0.55)) < 0.02
    assert float(middle[0, 0, 0]) == 0
    assert bool((views.rgb[0, 0, 0] == 1).all())
    towards = torch.nn.functional.normalize(camera.origin, dim=1) * 0.25 * 0.55
    colour = drawn.field.shade(towards, -towards, normals=False).rgb[0]
    torch.testing.assert_close(views.rgb[0, 8, 8], colour, atol=0.05, rtol=0)


def test_colours_follow_the_guide_and_the_field_given_stays() -> None:
    drawn, guide = surface(), Redder()
    before = drawn.field.grid.table.detach().clone()
    rng = Generator().manual_seed(0)
    fixed = fixed_cameras([105.0, -105.0], SETTINGS, 0.0)
    field = refine_colours(drawn, photo(), guide, fixed, rng, SETTINGS, stage=PlainStages())
    views = Surface(field, drawn.mesh).views(fixed, supersample=1)
    rgb = views.rgb[views.alpha > 0.9]
    assert float(rgb[:, 0].mean()) > 0.9
    assert float(rgb[:, 1:].mean()) < 0.2
    assert guide.seen[:4] == [0, None, 1, None]
    assert torch.equal(drawn.field.grid.table, before)


def test_the_photographs_side_takes_the_photographs_colour() -> None:
    settings = Refining(**{**SETTINGS.__dict__, "photo_weight": 1000.0})
    truth, drawn = photo(), surface()
    field = refine_colours(
        drawn, truth, quiet, no_cameras(), Generator(), settings, stage=PlainStages()
    )
    front = Surface(field, drawn.mesh).views(truth.cameras, supersample=1)
    inside = front.alpha > 0.99
    before = drawn.views(truth.cameras, supersample=1).rgb.detach()
    apart = [float((rgb - truth.rgb)[inside].abs().mean()) for rgb in (before, front.rgb)]
    assert apart[1] < 0.5 * apart[0]


class Keeps:
    """Keeps every state."""

    def __init__(self, found: dict[str, Any] | None = None) -> None:
        self.found = found
        self.states: list[dict[str, Any]] = []

    def keep(self, state: dict[str, Any]) -> None:
        self.states.append(state)


class Stages(PlainStages):
    """Runs long work with the state that it is handed."""

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self.kept = kept

    def long(self, name: str, work: Callable[[Report, Kept], Value]) -> Value:
        del name
        return work(silent, self.kept)


def test_the_run_goes_on_from_its_middle_bit_for_bit() -> None:
    fixed = fixed_cameras([105.0], SETTINGS, 0.0)

    def run(kept: Kept) -> RadianceField:
        rng = Generator().manual_seed(3)
        return refine_colours(
            surface(), photo(), Redder(), fixed, rng, SETTINGS, stage=Stages(kept)
        )

    whole = Keeps()
    first = run(whole)
    late = Keeps(whole.states[2])
    second = run(late)
    assert len(late.states) == len(whole.states) - 3
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)


def test_rgsd_draws_towards_what_the_rendering_becomes() -> None:
    enhancer = tiny_enhancer()
    subject = Foreground(torch.full((SIDE, SIDE, 3), 0.6), torch.ones(SIDE, SIDE))
    known = remembered(subject, enhancer, RGNV)
    camera = fixed_cameras([60.0], Refining(size_px=SIDE), 0.0)
    with torch.no_grad():
        views = surface().views(camera)
    goal = enhanced_of(enhancer.models, known.reference, known.prompts, views, level=0)
    guide = RgsdGuide(enhancer.models, known.reference, known.prompts, [goal.state], weight=1.0)
    picture = torch.cat([views.rgb, views.alpha[..., None]], dim=-1).movedim(-1, 1)

    def distance(rgba: Tensor) -> float:
        rgb = rgba.movedim(1, -1)
        latents = enhancer.models.encode(rgb[..., :3].contiguous(), rgb[..., 3].contiguous())
        return float((latents - goal.state).square().mean())

    for fixed in (0, None):
        gradient = guide(Rendered(picture, None, Shot(views, fixed)), 0, Generator().manual_seed(1))
        assert gradient.shape == picture.shape
        if fixed == 0:
            stride = 0.2 * distance(picture) / float(gradient.square().sum())
            assert distance(picture - stride * gradient) < distance(picture)
        else:
            assert float(gradient.abs().sum()) > 0
