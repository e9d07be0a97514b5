"""A guide that knows the truth is followed, the photograph counts, and runs go on bit for bit."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from distilling_tiny import (
    CAMERAS,
    FIELD,
    MID,
    SETTINGS,
    SIDE,
    KnowsTheBall,
    ball_photo,
    difference,
    red_ball,
)
from torch import Generator, Tensor

from roundview.diffusion.guide import constant
from roundview.field.radiance import RadianceField
from roundview.models import Kept, PlainStages, Report, Value, silent
from roundview.recipes.distilling import (
    Asking,
    Distilling,
    Gradient,
    Shading,
    distilled_field,
    guide_gradient,
)
from roundview.recipes.distilling_losses import Order, PhotoLosses
from roundview.views import Views


class Interrupted(PlainStages):
    """Collects the states that are kept, and hands one in at the start."""

    def __init__(self, found: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.found, self.kept, self.shown = found, [], 0

    def keep(self, state: dict[str, Any]) -> None:
        self.kept.append(state)

    def long(self, name: str, work: Callable[[Report, Kept], Value]) -> Value:
        del name
        return work(silent, self)

    def show(self, rgb: Tensor) -> None:
        assert rgb.shape == (64, 256, 3)
        self.shown += 1


def distilled(
    settings: Distilling = SETTINGS,
    asking: Asking | None = None,
    stage: PlainStages | None = None,
    photo: Views | None = None,
) -> RadianceField:
    guides = [] if asking is None else [(KnowsTheBall(), asking)]
    rng = Generator().manual_seed(3)
    return distilled_field(photo or ball_photo(), guides, rng, settings, stage=stage)


PLAIN: list[Gradient] = [kind for kind in get_args(Gradient) if kind != "vsd"]


@pytest.mark.parametrize("gradient", PLAIN)
def test_the_field_becomes_what_the_guide_wants(gradient: Gradient) -> None:
    before = difference(FIELD.build(Generator().manual_seed(3)))
    after = difference(distilled(asking=Asking(gradient=gradient, times=MID)))
    assert after < 0.3 * before


def test_all_kinds_of_gradient_point_at_the_truth() -> None:
    cameras = CAMERAS.draw(4, Generator().manual_seed(1))
    grey, truth = torch.full((4, 4, SIDE, SIDE), 0.5), red_ball(cameras)
    for gradient in PLAIN:
        asking = Asking(gradient=gradient, times=MID)
        found = guide_gradient(KnowsTheBall(), asking, grey, cameras, 0, Generator().manual_seed(0))
        cosine = torch.nn.functional.cosine_similarity(
            found.flatten(1), (grey - truth).flatten(1), dim=1
        )
        assert float(cosine.min()) > 0.999


def test_gradients_of_guides_are_added_by_weight() -> None:
    cameras = CAMERAS.draw(4, Generator().manual_seed(1))
    larger = torch.nn.functional.interpolate(red_ball(cameras), (32, 32)) * 0.5
    asking = Asking(gradient="reconstruction", times=MID)
    found = guide_gradient(KnowsTheBall(), asking, larger, cameras, 0, Generator().manual_seed(0))
    assert found.shape == larger.shape  # Back through the guide's own size.
    assert float(found.abs().sum()) > 0


@pytest.mark.parametrize("at", [0, 1])
def test_a_run_goes_on_from_its_middle_with_the_same_bytes(at: int) -> None:
    settings = replace(
        SETTINGS,
        shading=Shading(begin=10),
        random_background=0.5,
        order=Order(orientation=constant(0.1), normal_map=constant(0.1)),
    )
    asking = Asking(gradient="sds", times=MID)
    whole, again = Interrupted(), Interrupted()
    first = distilled(settings, asking, whole)
    again.found = whole.kept[at]
    second = distilled(settings, asking, again)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert whole.shown == 3


def test_the_photograph_alone_shapes_its_own_side() -> None:
    photo = ball_photo()
    losses = PhotoLosses(rgb=100.0, mask=10.0, size_px=SIDE)
    field = distilled(replace(SETTINGS, photo=losses), photo=photo)
    seen = field.render(photo.cameras, normals=False)
    assert float((seen.rgb - photo.rgb).square().mean()) < 0.02
    assert float((seen.alpha - photo.alpha).square().mean()) < 0.02


def test_without_weights_nothing_moves() -> None:
    field = distilled(asking=Asking(weight=0.0, times=MID))
    fresh = FIELD.build(Generator().manual_seed(3))
    assert torch.equal(field.grid.table, fresh.grid.table)


def test_a_second_stage_goes_on_from_a_field() -> None:
    first = distilled(asking=Asking(gradient="reconstruction", times=MID))
    held = distilled_field(ball_photo(), [], Generator().manual_seed(5), SETTINGS, start=first)
    assert torch.equal(held.grid.table, first.grid.table)
    assert not held.grid.table.requires_grad


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="4 views together"):
        distilled(replace(SETTINGS, sizes=((0, 8, 4), (10, 16, 2))), Asking())
    with pytest.raises(ValueError, match="depth"):
        distilled(replace(SETTINGS, photo=PhotoLosses(depth=1.0)))
    with pytest.raises(ValueError, match="LearningGuide"):
        distilled(asking=Asking(gradient="vsd"))
    with pytest.raises(ValueError, match="normals"):
        distilled(replace(SETTINGS, photo=PhotoLosses(normal=1.0)))
    photo = ball_photo()
    twice = Views(
        photo.rgb.expand(2, -1, -1, -1), photo.alpha.expand(2, -1, -1), photo.cameras[[0, 0]]
    )
    with pytest.raises(ValueError, match="one view"):
        distilled(photo=twice)
