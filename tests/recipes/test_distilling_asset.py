"""A field of a ball becomes a ball in all three of an asset's parts."""

from dataclasses import replace

import pytest
import torch
from torch import Generator

from roundview.camera import Cameras
from roundview.field.grid import GridSettings
from roundview.field.radiance import RadianceField, RadianceSettings
from roundview.models import PlainStages
from roundview.recipes.distilling_asset import (
    FieldMeshing,
    asset_of_field,
    cameras_round,
    photo_first,
    solid_mesh,
    views_from_field,
)
from roundview.views import Views

TINY = FieldMeshing(resolution=40, view_px=32, fit_steps=30, faces=600, texture_size=64)


def ball(blob: str = "magic3d", level: float = 5.0) -> RadianceField:
    settings = RadianceSettings(
        grid=GridSettings(levels=2, log2_table=8, coarsest=4, finest=8),
        hidden=4,
        samples=48,
        level=level,
    )
    settings = settings if blob == "magic3d" else replace(settings, blob="none")
    field = settings.build(Generator().manual_seed(0))
    field.refresh(Generator().manual_seed(0))
    return field.requires_grad_(requires_grad=False)


def front() -> Views:
    """A red disc, photographed from 20 degrees up."""
    camera = Cameras.orbit([0.0], elevation_deg=20.0, radius=1.5, fov_deg=49.13, size_hw=(48, 48))
    axis = torch.arange(48) - 23.5
    alpha = ((axis[:, None] ** 2 + axis**2) < 8**2).float()[None]
    red = torch.tensor([1.0, 0.0, 0.0])
    return Views(alpha[..., None] * red + 1 - alpha[..., None], alpha, camera)


def test_views_show_the_ball_from_all_round() -> None:
    views = views_from_field(ball(), cameras_round(front().cameras, 24))
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
    rng = Generator().manual_seed(0)
    asset = asset_of_field(ball(), front().cameras, rng, TINY, photo=front(), stage=stage)
    size = asset.mesh.vertices.amax(dim=0) - asset.mesh.vertices.amin(dim=0)
    torch.testing.assert_close(size, torch.ones(3), atol=0.1, rtol=0)
    assert asset.mesh.texture is not None
    assert asset.gaussians is not None
    assert len(asset.gaussians.centre) > 100
    assert stage.notes["world_from_fitted"]["scale"] > 1
    # What its preview shows as the subject is the photograph, and no rendering.
    assert asset.views is not None
    assert float(asset.views.rgb[0, 16, 16, 0]) == pytest.approx(1.0)
    assert float(asset.views.rgb[0, 16, 16, 1]) == 0
    torch.testing.assert_close(asset.views.alpha[0], front().resized((32, 32)).alpha[0])
    assert asset.views.depth is not None
    assert float(asset.views.cameras.elevation_deg[0]) == pytest.approx(20.0, abs=1.0)


def test_a_field_that_keeps_to_itself_has_none_of_the_photographs_colour() -> None:
    asset = asset_of_field(ball(), front().cameras, Generator().manual_seed(0), TINY)
    assert asset.views is not None
    untold = asset.views
    assert float((untold.rgb[0] - front().resized((32, 32)).rgb[0]).abs().max()) > 0.3
    shown = photo_first(untold, front())
    torch.testing.assert_close(shown.rgb[0], front().resized((32, 32)).rgb[0])
    assert torch.equal(shown.rgb[1:], untold.rgb[1:])


def test_all_cameras_have_the_photographs_lens_and_distance() -> None:
    place = front().cameras
    cameras = cameras_round(place, 32)
    torch.testing.assert_close(cameras.origin[0], place.origin[0])
    torch.testing.assert_close(cameras.focal_px, place.focal_px.expand(len(cameras)) * 32 / 48)
    far = cameras.origin.norm(dim=1)
    torch.testing.assert_close(far, far[:1].expand_as(far))


def test_a_faint_field_still_gives_a_surface_and_a_warning() -> None:
    # A step's opacity is 0.51 at the middle and half of that where r = 0.295 half widths.
    with pytest.warns(UserWarning, match="faint"):
        radius = solid_mesh(ball(level=25.0), TINY).vertices.norm(dim=1)
    assert float(radius.mean()) == pytest.approx(0.295 * 0.55, abs=0.015)


def test_an_empty_field_has_no_surface() -> None:
    with pytest.raises(ValueError, match="nothing solid came of the distillation"):
        solid_mesh(ball("none"), TINY)
