"""The terms that need no guide: each falls on what it is meant to punish, and only if asked for."""

from dataclasses import replace

import pytest
import torch
from torch import Generator

from roundview.camera import Cameras
from roundview.diffusion.guide import Ramp, constant
from roundview.field.grid import GridSettings
from roundview.field.radiance import RadianceField, RadianceSettings
from roundview.recipes.distilling_losses import (
    ORDER,
    Order,
    PhotoLosses,
    drawn_views,
    order_loss,
    photo_at,
    photo_loss,
)
from roundview.views import Views

SETTINGS = RadianceSettings(
    grid=GridSettings(levels=4, log2_table=12, coarsest=8, finest=32), hidden=16, samples=32
)
WHITE = torch.ones(3)


def field() -> RadianceField:
    return SETTINGS.build(Generator().manual_seed(0))


def camera(size_px: int = 16) -> Cameras:
    return Cameras.orbit(
        [0.0], elevation_deg=0.0, radius=1.5, fov_deg=49.13, size_hw=(size_px, size_px)
    )


def photo(of: RadianceField, size_px: int = 16) -> Views:
    """What the field itself looks like."""
    rng = Generator().manual_seed(1)
    views, _ = drawn_views(of, camera(size_px), WHITE, rng=rng, normals=True)
    assert views.depth is not None
    assert views.normal is not None
    return Views(
        views.rgb.detach(),
        views.alpha.detach(),
        views.cameras,
        3 * views.depth.detach() - 1,  # Of another scale and shift.
        views.normal.detach(),
    )


@pytest.mark.parametrize("term", ["rgb", "mask", "depth", "normal"])
def test_a_photograph_of_the_field_costs_nothing_and_another_does(term: str) -> None:
    subject = field()
    truth, losses = photo(subject), replace(PhotoLosses(size_px=16), **{term: 1.0})
    same = photo_loss(subject, truth, Generator().manual_seed(2), losses)
    other = Views(
        1 - truth.rgb,
        torch.where(truth.alpha > 0.5, 0.6, 0.4),
        truth.cameras,
        None if truth.depth is None else -truth.depth,
        None if truth.normal is None else -truth.normal,
    )
    cost = photo_loss(subject, other, Generator().manual_seed(2), losses)
    # Samples are shifted at random, so a blob of soft density is not quite the same twice.
    assert float(same.detach()) < 0.05 * float(cost.detach())
    (slope,) = torch.autograd.grad(cost, subject.last)
    assert float(slope.abs().sum()) > 0


def test_the_photograph_is_due_when_told() -> None:
    losses = PhotoLosses(rgb=1.0, every=4, only_until=3)
    assert [step for step in range(10) if losses.due(step)] == [0, 1, 2, 4, 8]
    assert not PhotoLosses().due(0)


def test_depth_and_normals_shrink_with_the_photograph() -> None:
    small = photo_at(photo(field(), 32), 16)
    assert small.depth is not None
    assert small.normal is not None
    inside = small.alpha > 0.9
    truth = photo(field(), 16)
    assert truth.depth is not None
    torch.testing.assert_close(small.depth[inside], truth.depth[inside], atol=0.1, rtol=0)
    length = small.normal[inside].norm(dim=-1)
    torch.testing.assert_close(length, torch.ones_like(length))
    assert photo_at(Views(truth.rgb, truth.alpha, truth.cameras), 8).depth is None


TERMS = ["orientation", "sparsity", "opaque", "depth_variance", "normal_map", "normal_field"]


@pytest.mark.parametrize("term", TERMS)
def test_each_term_counts_by_its_weight(term: str) -> None:
    subject, order = field(), replace(ORDER, **{term: Ramp(0.0, 2.0, 10)})
    rng = Generator().manual_seed(1)
    views, drawn = drawn_views(subject, camera(), WHITE, rng=rng, normals=True)

    def cost(step: int) -> torch.Tensor:
        return order_loss(subject, views, drawn, step, Generator().manual_seed(3), order)

    assert float(cost(0)) == 0
    half, whole = cost(5), cost(10)
    assert half.requires_grad
    torch.testing.assert_close(2 * half, whole)


def test_normals_are_drawn_only_where_a_term_needs_them() -> None:
    assert Order(normal_field=constant(1.0)).needs_normals(0)
    assert Order(orientation=Ramp(0.0, 1.0, 10)).needs_normals(1)
    assert not Order(orientation=Ramp(0.0, 1.0, 10)).needs_normals(0)
    assert not Order(sparsity=constant(1.0)).needs_normals(0)
