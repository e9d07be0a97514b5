"""Figure 8's four ways with models that know the answer, and likeness to a photograph."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from distilling_tiny import FIELD, KnowsTheBall
from fakes import KnowingOrbit, block
from isotropic_tiny import tiny_models
from torch import Generator, Tensor

from roundview.data.objects import ObjectFile
from roundview.evaluate.ablation import evaluate_ablation
from roundview.evaluate.isotropic import (
    FIGURE_8,
    SettingsMeasure,
    likeness_marks,
    load_settings_measure,
    pictures,
    small_preset,
)
from roundview.evaluate.nvs import Candidate
from roundview.evaluate.protocol import NvsProtocol, render_truth
from roundview.loaders import Loaded
from roundview.recipes.isotropic3d import DRAFT, SMALL_CAMERAS

PROTOCOL = NvsProtocol(size_px=16, views=3, supersample=1)


class ColourFeatures:
    """Knows a picture by a small one of it, dark where there is nothing."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [torch.nn.functional.adaptive_avg_pool2d(rgb.permute(0, 3, 1, 2), 8)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return 1 - self.maps(rgb)[0].flatten(1)


def measure(steps: int = 3) -> SettingsMeasure:
    preset = small_preset(steps, SMALL_CAMERAS)
    tiny = replace(
        preset.distilling,
        sizes=((0, 12, 4),),
        field=FIELD,
        photo=replace(preset.distilling.photo, size_px=12),
    )
    candidate = Candidate(Loaded(tiny_models(), (), "embedding"), DRAFT, recipe="isotropic3d")
    views = SimpleNamespace(base=None, guide=lambda *_: KnowsTheBall(1))
    return SettingsMeasure(
        candidate, Loaded(views, (), "views"), replace(preset, distilling=tiny), PROTOCOL
    )


def test_one_photograph_is_distilled_in_four_ways(tmp_path: Path) -> None:
    objects = [ObjectFile("block", block)]
    results = evaluate_ablation(objects, measure(), tmp_path)
    rows = results["objects"][0]["rows"]
    assert list(rows) == list(FIGURE_8)
    assert results["main"] == "full"
    assert results["recipe"] == "isotropic3d"
    marks = [(row["psnr"], row["reference_psnr"]) for row in rows.values()]
    assert len(set(marks)) == 4
    assert all(5 < psnr < 40 for row in marks for psnr in row)


def test_guides_see_four_views_at_equal_turns() -> None:
    run = small_preset(30, SMALL_CAMERAS).distilling
    assert run.cameras.views == 4
    assert run.sizes == ((0, 32, 4), (10, 64, 4))
    assert run.photo.due(0)
    drawn = run.cameras.draw(4, Generator().manual_seed(0), step=0)
    turns = (drawn.azimuth_deg - drawn.azimuth_deg[0]) % 360
    torch.testing.assert_close(turns, torch.tensor([0.0, 90.0, 180.0, 270.0]), atol=1e-3, rtol=0)


def test_runs_are_a_quarter_of_the_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Loaded(None, (), "views")
    monkeypatch.setattr("roundview.evaluate.isotropic.load_cascade_zero123", lambda _: known)
    loaded = load_settings_measure(measure().candidate, PROTOCOL)
    assert loaded.views is known
    assert loaded.preset.distilling.steps == DRAFT.steps // 4
    assert loaded.facts()["views"] == "views"


def test_a_field_is_marked_from_where_the_truth_is_seen() -> None:
    field = FIELD.build(Generator().manual_seed(0))
    rgb = pictures(field, render_truth(block(), PROTOCOL))
    assert rgb.shape == (3, 16, 16, 3)
    assert not rgb.requires_grad


def test_the_model_that_draws_the_subject_is_more_like_it() -> None:
    truth = render_truth(block(), PROTOCOL)
    models = (KnowingOrbit(block(1.0, 0.25, 0.2)), KnowingOrbit(block()))
    # The first draws something wide and flat, the second the subject.
    found = likeness_marks(truth, models, 0, ColourFeatures(), steps=1)
    for first, second in found.values():
        assert second > first
    assert found["likeness"][1] <= 1
