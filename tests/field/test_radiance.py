import math

import pytest
import torch
from torch import Tensor

from roundview.field.grid import GridSettings
from roundview.field.radiance import RadianceField, RadianceSettings

TINY = GridSettings(3, 2, 10, 4, 16)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def field(**changes: object) -> RadianceField:
    settings = RadianceSettings(**{"grid": TINY, "cells": 8} | changes)  # type: ignore[arg-type]
    made = RadianceField(settings, torch.Generator().manual_seed(0))
    with torch.no_grad():
        made.grid.table.copy_(random(*made.grid.table.shape, seed=1) * 2 - 1)
    return made


def test_field_begins_as_a_ball_of_density() -> None:
    made = RadianceField(RadianceSettings(), torch.Generator().manual_seed(0))
    points = torch.tensor([[0.0, 0.0, 0.0], [0.275, 0.0, 0.0], [0.55, 0.0, 0.0]])
    middle, surface, far = made.density(points).tolist()
    assert middle == pytest.approx(10.0, rel=1e-2)
    assert surface == pytest.approx(0.6931, rel=1e-2)
    assert far < 1e-3


def test_opacity_is_that_of_the_density_over_a_step() -> None:
    made = field()
    points = random(20, 3) - 0.5
    alpha = made.shade(points, points, normals=False).alpha
    expected = 1 - torch.exp(-made.density(points) * (made.step / made.half_width))
    torch.testing.assert_close(alpha, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(made.presence(points), alpha)


@pytest.mark.parametrize("blob", ["magic3d", "dreamfusion", "none"])
def test_normals_point_the_way_the_density_falls(blob: str) -> None:
    made = field(blob=blob).double()
    points = (random(60, 3) - 0.5).double()
    step = 1e-7
    fall = []
    for axis in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[axis] = step
        rise = made.density(points + shift) - made.density(points - shift)
        fall.append(-rise / (2 * step))
    expected = torch.nn.functional.normalize(torch.stack(fall, dim=1), dim=1)
    normal = made.shade(points, points, normals=True).normal
    assert normal is not None
    # Where the network has a kink the difference reaches over it.
    agree = (normal * expected).sum(dim=1).detach()
    assert float(agree.median()) > 1 - 1e-6
    assert float((agree > 0.99).double().mean()) > 0.9


def test_finite_normals_of_a_ball_point_outward() -> None:
    made = RadianceField(RadianceSettings(normals="finite"), torch.Generator().manual_seed(0))
    points = torch.nn.functional.normalize(random(20, 3) - 0.5, dim=1) * 0.3
    normal = made.shade(points, points, normals=True).normal
    assert normal is not None
    torch.testing.assert_close(
        normal, torch.nn.functional.normalize(points, dim=1), rtol=0.0, atol=0.02
    )


def test_surface_is_where_the_density_has_the_level() -> None:
    made = field(level=3.0)
    points = random(30, 3) - 0.5
    assert bool(((made.solid(points) > 0) == (made.density(points) > 3.0)).all())


def test_open_level_is_the_mean_density_of_what_is_there_or_10() -> None:
    made = field(level=None)
    with torch.no_grad():
        made.occupancy.held.fill_(0.25)
    expected = math.log(4 / 3) / (made.step / made.half_width)
    assert made.level == pytest.approx(expected, rel=1e-4)
    with torch.no_grad():
        made.occupancy.held.fill_(0.9)
    assert made.level == 10.0


def test_loss_on_normals_teaches_grid_and_network() -> None:
    made = field()
    normal = made.shade(random(30, 3) - 0.5, torch.zeros(30, 3), normals=True).normal
    assert normal is not None
    normal[:, 0].sum().backward()
    for parameter in (made.grid.table, made.first, made.last):
        assert parameter.grad is not None
        assert float(parameter.grad.abs().sum()) > 0
