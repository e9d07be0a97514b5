import math

import pytest
import torch
from torch import Tensor

from roundview.mesh import Mesh
from roundview.surface.texels import Texels
from roundview.surface.texture_spread import on_texels, shift_past_rim, spread_over_surface


def strip(length: float, count: int) -> Mesh:
    """A strip along x, 0.2 wide, of count squares."""
    x = torch.linspace(0, length, count + 1)
    low = torch.stack([x, torch.zeros_like(x), torch.zeros_like(x)], dim=-1)
    vertices = torch.cat([low, low + torch.tensor([0.0, 0.2, 0.0])])
    at = torch.arange(count)
    up = at + count + 1
    faces = torch.cat(
        [torch.stack([at, at + 1, up + 1], dim=-1), torch.stack([at, up + 1, up], dim=-1)]
    )
    return Mesh(vertices, faces)


def corners_as_texels(mesh: Mesh) -> Texels:
    """One texel at each corner of each face."""
    face = torch.arange(len(mesh.faces)).repeat_interleave(3)
    bary = torch.eye(3).repeat(len(mesh.faces), 1)
    position = mesh.vertices[mesh.faces].reshape(-1, 3)
    normal = torch.tensor([0.0, 0.0, 1.0]).expand_as(position)
    return Texels(torch.zeros(len(face), 2, dtype=torch.int64), face, bary, position, normal, 8)


def grey(values: Tensor) -> Tensor:
    return values[:, None].expand(-1, 3)


def test_gap_is_filled_along_the_surface() -> None:
    mesh = strip(1.0, 20)
    texels = corners_as_texels(mesh)
    x = texels.position[:, 0]
    known = (x < 0.11) | (x > 0.89)
    filled = spread_over_surface(mesh, texels, grey((x > 0.5).float()), known)[:, 0]
    along = filled[:21]
    assert float(along[0]) == pytest.approx(0.0, abs=1e-5)
    assert float(along[20]) == pytest.approx(1.0, abs=1e-5)
    assert bool((along.diff() >= -1e-5).all())
    assert float(along[10]) == pytest.approx(0.5, abs=0.02)


def test_part_that_touches_nothing_known_takes_the_mean() -> None:
    one = strip(1.0, 4)
    two = Mesh(
        torch.cat([one.vertices, one.vertices + torch.tensor([0.0, 5.0, 0.0])]),
        torch.cat([one.faces, one.faces + len(one.vertices)]),
    )
    texels = corners_as_texels(two)
    known = texels.position[:, 1] < 1
    filled = spread_over_surface(two, texels, torch.full((len(texels), 3), 0.3), known)
    torch.testing.assert_close(filled, torch.full_like(filled, 0.3), rtol=1e-4, atol=1e-4)


def test_nothing_known_gives_grey() -> None:
    mesh = strip(1.0, 4)
    texels = corners_as_texels(mesh)
    nowhere = torch.zeros(len(texels), dtype=torch.bool)
    filled = spread_over_surface(mesh, texels, torch.zeros(len(texels), 3), nowhere)
    assert bool((filled == 0.5).all())


def test_shift_is_kept_where_known_and_falls_off_exponentially() -> None:
    mesh = strip(2.0, 400)
    texels = corners_as_texels(mesh)
    x = texels.position[:, 0]
    overlap = (x < 0.5).float()
    shift = shift_past_rim(mesh, texels, torch.full((len(texels), 3), 0.2), overlap, fade=0.2)[:, 0]

    def at(place: float) -> float:
        return float(shift[(x - place).abs().argmin()])

    assert at(0.2) == pytest.approx(0.2, rel=1e-3)
    # The reach is that of the continuous equation: exp(-distance / fade).
    assert at(1.0) / at(0.8) == pytest.approx(math.exp(-1), rel=0.02)
    # At the rim it is a little lower than inside, since smoothing pulls it towards what follows.
    assert 0.17 < at(0.5) < 0.2


def test_shift_ignores_detail() -> None:
    mesh = strip(1.0, 400)
    texels = corners_as_texels(mesh)
    x = texels.position[:, 0]
    wave = 0.1 + 0.1 * torch.sin(2 * math.pi * x / 0.02)
    shift = shift_past_rim(mesh, texels, grey(wave), torch.ones(len(texels)), fade=0.2)[:, 0]
    inner = shift[(x > 0.2) & (x < 0.8)]
    # A wave of length 0.02 is damped by 1 / (1 + (2 pi)^2).
    assert float((inner - 0.1).abs().max()) < 0.1 / 35


def test_no_overlap_means_no_shift() -> None:
    mesh = strip(1.0, 4)
    texels = corners_as_texels(mesh)
    shift = shift_past_rim(mesh, texels, torch.ones(len(texels), 3), torch.zeros(len(texels)), 0.2)
    assert not bool(shift.any())


def test_values_are_interpolated_on_texels() -> None:
    mesh = strip(1.0, 4)
    texels = corners_as_texels(mesh)
    torch.testing.assert_close(on_texels(mesh, texels, mesh.vertices), texels.position)
