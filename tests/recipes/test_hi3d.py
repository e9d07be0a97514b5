from dataclasses import replace
from typing import Any

import pytest
import torch
from fakes import KnowingOrbit, KnownElevation, block, photo_of
from torch import Generator

from roundview.gaussians import Gaussians
from roundview.image import Foreground
from roundview.mesh import Mesh, bounds
from roundview.models import PlainStages, Report, silent
from roundview.recipes.hi3d import (
    DRAFT,
    HIGH,
    QUALITIES,
    STANDARD,
    Hi3dModels,
    OrbitRefiner,
    hi3d,
    novel_views,
    orbit_cameras,
    views_to_fit,
)
from roundview.segment import matte_from_alpha
from roundview.splat.start import cloud_in_ball
from roundview.stages import Stages, seeded
from roundview.surface.raster import render_mesh
from roundview.views import Views

TINY = replace(
    DRAFT,
    ring_views=8,
    more_rings=((60.0, 3), (-25.0, 2)),
    draw_px=24,
    size_px=48,
    photo_px=96,
    refine_steps=6,
    fit_steps=60,
    between=8,
    field_px=32,
    field_steps=25,
    mesh_resolution=32,
    faces=1000,
    texture_size=128,
)


class KnowingRefiner:
    """Draws the true views at twice the size, and remembers what it was asked."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.calls: list[tuple[int, float, int]] = []

    def refine(
        self,
        views: Views,
        subject: Foreground,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        del subject, rng
        self.calls.append((len(views), photo_elevation_deg, steps))
        h, w = views.cameras.size_hw
        report(1.0)
        truth = render_mesh(self.mesh, views.cameras.resized((2 * h, 2 * w)))
        return replace(truth, depth=None, normal=None)


def models(truth: Mesh) -> tuple[Hi3dModels, KnowingOrbit, KnowingRefiner]:
    orbit, refiner = KnowingOrbit(truth), KnowingRefiner(truth)
    assert isinstance(refiner, OrbitRefiner)
    return Hi3dModels(matte_from_alpha, orbit, refiner, KnownElevation(10.0)), orbit, refiner


def test_a_photo_becomes_an_upright_coloured_asset_of_size_one_through_a_distance_field() -> None:
    truth = block()
    knowing, orbit, refiner = models(truth)
    stages = Stages(seeded(0))
    asset = hi3d(photo_of(truth), knowing, stages.rng, TINY, stages)
    assert list(stages.seconds)[:6] == ["matte", "elevation", "draw", "refine", "fit", "field"]
    low, high = bounds(asset.mesh.vertices)
    torch.testing.assert_close(low, -high, rtol=0, atol=1e-5)
    assert float((high - low).max()) == pytest.approx(1.0, abs=1e-5)
    # The field begins as a ball and the block is 0.6 wide and 0.5 deep: 25 steps, of the thousand
    # that it takes, have made it narrow.
    assert bool(((high - low)[[0, 2]] < 0.9).all())
    assert asset.mesh.texture is not None
    # The first stage draws all rings at once, the second refines the photograph's.
    assert orbit.calls == [("draw", 13)]
    assert refiner.calls == [(8, 10.0, TINY.refine_steps)]
    assert stages.notes["photo_elevation_deg"] == 10.0


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        ({"surface": "splat"}, "field"),
        ({"refine_steps": 0}, "refine"),
    ],
)
def test_stages_can_be_left_out(change: dict[str, Any], lacking: str) -> None:
    truth = block()
    knowing, _, _ = models(truth)
    stages = Stages(seeded(0))
    settings = replace(TINY, fit_steps=10, field_steps=8, more_rings=(), **change)
    asset = hi3d(photo_of(truth), knowing, stages.rng, settings, stages)
    assert lacking not in stages.seconds
    assert len(asset.mesh.faces) > 0


def test_the_field_sees_the_ring_and_renders_between_and_beyond() -> None:
    cameras = orbit_cameras(TINY, 10.0).resized((48, 48))
    views = Views(torch.rand(13, 48, 48, 3), torch.ones(13, 48, 48), cameras)
    seen = views_to_fit(cloud(), views, replace(TINY, field_px=48))
    assert len(seen) == 8 + 5 + 8
    assert torch.equal(seen.rgb[:8], views.rgb[:8])
    assert not torch.equal(seen.rgb[8:13], views.rgb[8:])  # Rendered, not the drawn ones.
    torch.testing.assert_close(seen.cameras.elevation_deg[8:11], torch.full((3,), 60.0))
    torch.testing.assert_close(
        seen.cameras.azimuth_deg[13:], 22.5 + 45 * torch.arange(8.0), rtol=0, atol=1e-3
    )
    alone = replace(TINY, between=0, more_rings=())
    assert len(views_to_fit(cloud(), views[:8], alone)) == 8


def cloud() -> Gaussians:
    cameras = orbit_cameras(TINY, 10.0)
    views = Views(torch.ones(13, 24, 24, 3), torch.ones(13, 24, 24), cameras)
    return cloud_in_ball(views, points=20, sh_degree=0, rng=seeded(0))


def test_views_on_the_ring_are_refined_and_others_are_drawn_with_it() -> None:
    truth = block()
    knowing, orbit, refiner = models(truth)
    photo = photo_of(truth)
    ring = novel_views(photo, knowing, seeded(0), TINY, PlainStages())
    assert (len(ring), ring.cameras.size_hw) == (8, (48, 48))
    some = novel_views(
        photo, knowing, seeded(0), TINY, PlainStages(), azimuth_deg=[315.0, 90.0, -45.0]
    )
    torch.testing.assert_close(
        some.cameras.azimuth_deg, torch.tensor([315.0, 90.0, 315.0]), rtol=0, atol=1e-3
    )
    assert len(refiner.calls) == 2
    other = novel_views(
        photo,
        knowing,
        seeded(0),
        TINY,
        PlainStages(),
        azimuth_deg=[45.0, 50.0],
        elevation_deg=-20.0,
    )
    assert len(refiner.calls) == 2
    assert orbit.calls[-1] == ("draw", 10)
    assert other.cameras.size_hw == (48, 48)
    torch.testing.assert_close(other.cameras.elevation_deg, torch.tensor([-20.0, -20.0]))


def test_contradicting_settings_are_refused() -> None:
    for between in (-16, 8, 17):
        with pytest.raises(ValueError, match="multiple of ring_views = 16"):
            replace(STANDARD, between=between)


def test_qualities_spend_more_for_more() -> None:
    assert QUALITIES == {"draft": DRAFT, "standard": STANDARD, "high": HIGH}
    assert DRAFT.field_steps < STANDARD.field_steps < HIGH.field_steps
    assert (STANDARD.ring_views, STANDARD.between, STANDARD.surface) == (16, 16, "sdf")
