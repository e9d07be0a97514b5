"""Presets state their papers' numbers, ask the guides they name, and run."""

from dataclasses import replace

import pytest
import torch
from distilling_tiny import CAMERAS, FIELD, SIDE, KnowsTheBall, ball_photo, difference
from fakes import block, photo_of
from hifi_tiny import TINY, tiny_models
from torch import Generator

from roundview.recipes.distilling import Distilling
from roundview.recipes.distilling_asset import FieldMeshing
from roundview.recipes.distilling_presets import (
    PRESETS,
    Preset,
    asset_by_preset,
    distilled_by,
    dreamfusion,
    magic123,
    settings_ablation,
    zero123_sds,
)


def small(preset: Preset, steps: int = 30) -> Preset:
    """The preset with a tiny field, at the cameras and size of the ball."""
    tiny = replace(
        preset.distilling,
        steps=steps,
        sizes=((0, SIDE, 4),),
        field=FIELD,
        grid_rate=0.05,
        network_rate=0.02,
        photo=replace(preset.distilling.photo, size_px=SIDE),
    )
    return replace(preset, distilling=tiny).at_cameras(CAMERAS)


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_finds_the_ball(name: str) -> None:
    preset = small(PRESETS[name](30))
    field = distilled_by(
        preset,
        ball_photo(),
        Generator().manual_seed(0),
        guide_2d=KnowsTheBall(1),
        guide_3d=KnowsTheBall(1),
    )
    assert difference(field) < 0.7 * difference(FIELD.build(Generator().manual_seed(0)))


def test_schedules_are_shares_of_the_run() -> None:
    def weights(run: Distilling, step: int) -> tuple[float, float]:
        return run.order.orientation(step), run.order.sparsity(step)

    assert weights(dreamfusion(10_000).distilling, 5000) == (1000, 1)
    assert zero123_sds(600).distilling.sizes == ((0, 64, 12), (200, 128, 4), (300, 256, 2))
    asked = zero123_sds(600).asked_3d
    assert asked is not None
    assert (asked.times.bounds(0), asked.times.bounds(200)) == ((400, 850), (200, 500))
    photo = magic123(5000).distilling.photo
    assert [photo.due(step) for step in (99, 101, 104)] == [True, False, True]


def test_a_guide_that_is_asked_must_be_there() -> None:
    with pytest.raises(ValueError, match="guide_2d"):
        distilled_by(magic123(10), ball_photo(), Generator(), guide_3d=KnowsTheBall(1))
    assert dreamfusion().asked_3d is None
    assert zero123_sds().asked_2d is None


def test_the_ablation_changes_one_thing_at_a_time() -> None:
    with_photo, without = KnowsTheBall(1), KnowsTheBall(1)
    preset = small(zero123_sds(30), steps=8)
    fields = settings_ablation(ball_photo(), {True: with_photo, False: without}, 3, preset)
    assert list(fields) == ["full", "no concat", "no pixels", "neither"]
    tables = {name: field.grid.table for name, field in fields.items()}
    # Both guides say the same here, so only the pixels tell the fields apart.
    assert torch.equal(tables["full"], tables["no concat"])
    assert torch.equal(tables["no pixels"], tables["neither"])
    assert not torch.equal(tables["full"], tables["no pixels"])
    with pytest.raises(ValueError, match="with"):
        settings_ablation(ball_photo(), {True: with_photo}, 3, preset)


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_makes_an_asset(name: str) -> None:
    meshing = FieldMeshing(resolution=32, view_px=32, fit_steps=4, faces=400, texture_size=64)
    asset = asset_by_preset(
        photo_of(block()),
        tiny_models(),
        Generator().manual_seed(0),
        small(PRESETS[name](3), steps=3),
        TINY,
        meshing=meshing,
    )
    assert asset.mesh.texture is not None
    assert asset.views is not None
    box = asset.mesh.vertices.amax(dim=0) - asset.mesh.vertices.amin(dim=0)
    assert float(box.max()) == pytest.approx(1, abs=1e-4)
