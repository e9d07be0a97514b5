from dataclasses import replace

import pytest
import torch
from fakes import KnowingOrbit, KnownElevation, block, photo_of
from recipes_tiny import TINY

from roundview.camera import Cameras
from roundview.mesh import Mesh, bounds
from roundview.models import PlainStages
from roundview.recipes.im3d import (
    DRAFT,
    HIGH,
    QUALITIES,
    STANDARD,
    Im3d,
    Im3dModels,
    im3d,
    novel_views,
    orbit_cameras,
)
from roundview.segment import matte_from_alpha
from roundview.stages import Stages, seeded
from roundview.surface.raster import render_mesh


def seen(mesh: Mesh, azimuth_deg: float) -> torch.Tensor:
    """Mean colour of what one sees from there."""
    camera = Cameras.orbit(
        [azimuth_deg], elevation_deg=0.0, radius=2.0, fov_deg=40.0, size_hw=(64, 64)
    )
    view = render_mesh(mesh, camera)
    return view.straight_rgb()[0][view.alpha[0] > 0.9].mean(dim=0)


def test_a_photo_becomes_an_upright_coloured_asset_of_size_one() -> None:
    truth = block()
    models = Im3dModels(matte_from_alpha, KnowingOrbit(truth), KnownElevation(10.0))
    stages = Stages(seeded(0))
    asset = im3d(photo_of(truth), models, stages.rng, TINY, stages)
    low, high = bounds(asset.mesh.vertices)
    torch.testing.assert_close(low, -high, rtol=0, atol=1e-5)
    assert float((high - low).max()) == pytest.approx(1.0, abs=1e-5)
    # Wide tolerance: the hull of a plain block bulges between the views (0.72 wide where the
    # block is 0.6, since sight lines spread behind its edges), and 90 steps carve little of it.
    torch.testing.assert_close(high - low, torch.tensor([0.6, 1.0, 0.5]), rtol=0, atol=0.15)
    assert 0 < len(asset.mesh.faces) <= TINY.faces
    for azimuth_deg, strongest in ((0.0, 0), (180.0, 2), (90.0, 1)):
        rgb = seen(asset.mesh, azimuth_deg)
        assert int(rgb.argmax()) == strongest
        assert float(rgb.max()) > 0.5
    assert asset.mesh.texture is not None
    assert tuple(asset.mesh.texture.rgb.shape) == (128, 128, 3)
    assert stages.notes["photo_elevation_deg"] == 10.0


def test_the_stages_follow_the_paper() -> None:
    truth = block()
    orbit, elevation = KnowingOrbit(truth), KnownElevation(10.0)
    stages = Stages(seeded(0))
    short = replace(TINY, redraw_after=(3, 5), redraw_noise=(0.5, 0.3), fit_steps=6)
    models = Im3dModels(matte_from_alpha, orbit, elevation)
    im3d(photo_of(truth), models, stages.rng, short, stages)
    assert list(stages.seconds)[:8] == [
        *("matte", "elevation", "draw", "fit", "redraw 1", "fit 1", "redraw 2", "fit 2"),
    ]
    assert orbit.calls == [("draw", 4), ("draw", 13), ("redraw", 13), ("redraw", 13)]
    assert elevation.frames == [1, 4]


def test_a_known_elevation_is_not_estimated() -> None:
    truth = block()
    orbit, elevation = KnowingOrbit(truth), KnownElevation(99.0)
    settings = replace(TINY, photo_elevation_deg=10.0)
    models = Im3dModels(matte_from_alpha, orbit, elevation)
    views = novel_views(photo_of(truth), models, seeded(0), settings, PlainStages())
    assert elevation.frames == []
    torch.testing.assert_close(views.cameras.elevation_deg, torch.full((8,), 10.0))


def test_novel_views_stand_where_they_were_asked_to() -> None:
    truth = block()
    models = Im3dModels(matte_from_alpha, KnowingOrbit(truth), KnownElevation(10.0))
    views = novel_views(
        photo_of(truth),
        models,
        seeded(0),
        TINY,
        PlainStages(),
        azimuth_deg=[45.0, 200.0],
        elevation_deg=-20.0,
    )
    torch.testing.assert_close(views.cameras.azimuth_deg, torch.tensor([45.0, 200.0]))
    torch.testing.assert_close(views.cameras.elevation_deg, torch.tensor([-20.0, -20.0]))


def test_rings_begin_at_the_photograph_and_show_top_and_bottom() -> None:
    cameras = orbit_cameras(STANDARD, 12.0)
    assert len(cameras) == 26
    assert float(cameras.azimuth_deg[0]) % 360 == pytest.approx(0.0, abs=1e-4)
    torch.testing.assert_close(cameras.elevation_deg[:16], torch.full((16,), 12.0))
    torch.testing.assert_close(cameras.elevation_deg[16:22], torch.full((6,), 60.0))
    torch.testing.assert_close(cameras.elevation_deg[22:], torch.full((4,), -25.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"redraw_after": (500,)},
        {"redraw_after": (1000, 500)},
        {"fit_steps": 900},
        {"redraw_after": (0, 500)},
    ],
)
def test_contradicting_settings_are_refused(wrong: dict[str, tuple[int, ...] | int]) -> None:
    with pytest.raises(ValueError, match="redraw_after"):
        replace(Im3d(), **wrong)


def test_qualities_spend_more_for_more() -> None:
    assert QUALITIES == {"draft": DRAFT, "standard": STANDARD, "high": HIGH}
    assert DRAFT.fit_steps < STANDARD.fit_steps < HIGH.fit_steps
    assert STANDARD.fit_steps == 1200  # The paper's.
