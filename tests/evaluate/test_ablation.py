from dataclasses import replace
from pathlib import Path

import pytest
from fakes import KnowingOrbit, KnownElevation, block
from torch import Generator

from roundview.data.objects import ObjectFile
from roundview.evaluate.ablation import AblationMeasure, evaluate_ablation, im3d_variants
from roundview.evaluate.nvs import Candidate
from roundview.evaluate.protocol import NvsProtocol
from roundview.image import Image
from roundview.loaders import Loaded
from roundview.mesh import Asset
from roundview.models import StageRunner
from roundview.recipes.im3d import DRAFT, STANDARD, Im3d, Im3dModels
from roundview.segment import matte_from_alpha


def as_wide_as_told(
    photo: Image, models: Im3dModels, rng: Generator, settings: Im3d, stage: StageRunner
) -> Asset:
    """A recipe whose block is right with sixteen views and too thin with fewer."""
    del photo, models, rng
    stage.note("photo_elevation_deg", 30.0)
    stage.note("world_from_fitted", {"scale": 1.0, "shift": [0.0, 0.0, 0.0]})
    return Asset(block(0.6 * settings.ring_views / 16))


def test_variants_are_the_papers() -> None:
    variants = im3d_variants(STANDARD)
    assert [v.ring_views for v in variants.values()][:3] == [STANDARD.ring_views, 8, 4]
    assert variants["no redrawing"].redraw_noise == ()
    assert variants["no further rings"].more_rings == ()


def test_each_variant_gets_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roundview.recipes.im3d.im3d", as_wide_as_told)
    models = Im3dModels(matte_from_alpha, KnowingOrbit(block()), KnownElevation(30.0))
    candidate = Candidate(Loaded(models, (), "weights"), replace(DRAFT, ring_views=16))
    variants = {"full": candidate.settings, "4 views": replace(candidate.settings, ring_views=4)}
    measure = AblationMeasure(candidate, variants, NvsProtocol(size_px=32, views=4))
    results = evaluate_ablation([ObjectFile("block", block)], measure, tmp_path)
    rows = results["mean"]["rows"]
    assert list(rows) == ["full", "4 views"]
    assert results["main"] == "full"
    assert rows["full"]["psnr"] == 100.0
    assert rows["4 views"]["psnr"] < 25
    assert results["objects"][0]["strip"] == ["truth", "full", "4 views"]
