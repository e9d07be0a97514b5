"""A field of a ball becomes a ball in all three of an asset's parts."""

from dataclasses import replace

import pytest
import torch
from torch import Generator

from roundview.field.grid import GridSettings
from roundview.field.radiance import RadianceField, RadianceSettings
from roundview.models import PlainStages
from roundview.recipes.distilling_asset import (
    FieldMeshing,
    asset_of_field,
    solid_mesh,
    views_from_field,
)

TINY = FieldMeshing(resolution=40, view_px=32, fit_steps=30, faces=600, texture_size=64)


def ball(blob: str = "magic3d") -> RadianceField:
    settings = RadianceSettings(
        grid=GridSettings(levels=2, log2_table=8, coarsest=4, finest=8),
        hidden=4,
        samples=48,
        level=5.0,
    )
    settings = settings if blob == "magic3d" else replace(settings, blob="none")
    field = settings.build(Generator().manual_seed(0))
    field.refresh(Generator().manual_seed(0))
    return field.requires_grad_(requires_grad=False)


def test_views_show_the_ball_from_all_round() -> None:
    views = views_from_field(ball(), 24)
    covered = (views.alpha > 0.5).float().mean(dim=(1, 2))
    assert float(covered.min()) > 0.05
    torch.testing.assert_close(covered, covered.mean().expand_as(covered), atol=0.03, rtol=0)
    assert float(views.cameras.elevation_deg.max()) > 80


def test_the_surface_lies_where_the_density_has_its_level() -> None:
    # softplus(10 (1 - r / 0.5)) is 5 where r = 0.25 half widths.
    radius = solid_mesh(ball(), TINY).vertices.norm(dim=1)
    assert float(radius.mean()) == pytest.approx(0.25 * 0.55, abs=0.01)
    assert float(radius.std()) < 0.01


def test_an_asset_has_mesh_texture_and_gaussians() -> None:
    stage = PlainStages()
    asset = asset_of_field(ball(), None, Generator().manual_seed(0), TINY, stage=stage)
    size = asset.mesh.vertices.amax(dim=0) - asset.mesh.vertices.amin(dim=0)
    torch.testing.assert_close(size, torch.ones(3), atol=0.1, rtol=0)
    assert asset.mesh.texture is not None
    assert asset.gaussians is not None
    assert len(asset.gaussians.centre) > 100
    assert stage.notes["world_from_fitted"]["scale"] > 1


def test_an_empty_field_has_no_surface() -> None:
    with pytest.raises(ValueError, match="level"):
        solid_mesh(ball("none"), TINY)
