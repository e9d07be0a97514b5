from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import KnownElevation, block
from torch import Generator

from roundview.camera import Cameras
from roundview.data.objects import ObjectFile
from roundview.diffusion.view_guide import ViewGuide
from roundview.evaluate.ablation import evaluate_ablation
from roundview.evaluate.cascade import (
    BASE,
    CascadeMeasure,
    cascade_variants,
)
from roundview.evaluate.nvs import Candidate
from roundview.evaluate.protocol import NvsProtocol
from roundview.loaders import Loaded
from roundview.mesh import Mesh
from roundview.models import Report, silent
from roundview.recipes.cascade_zero123 import DRAFT, STANDARD, CascadeZero123Models
from roundview.segment import matte_from_alpha
from roundview.surface.raster import render_mesh
from roundview.views import Views


class Draws:
    """Draws the true views of a mesh, whatever it is told."""

    size_px = 16

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    def draw(
        self,
        known: Views,
        cameras: Cameras,
        rng: Generator,
        *,
        steps: int,
        coarse: Views | None = None,
        report: Report = silent,
    ) -> Views:
        return render_mesh(self.mesh, cameras, supersample=3)


def no_guide(model: object, known: Views) -> ViewGuide:
    raise AssertionError(f"views need no guide: {model}, {known}")


def loaded(refined: Mesh) -> Loaded:
    """A base whose block is too thin, and a refiner that draws what it is given."""
    models = CascadeZero123Models(
        matte_from_alpha,
        KnownElevation(30.0),
        Draws(block(0.3)),
        Draws(refined),
        no_guide,
    )
    return Loaded(models, (), "weights")


@pytest.fixture
def by_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates know the recipe, also before the list of methods does."""
    monkeypatch.setattr("roundview.evaluate.nvs.method_of", lambda _: None)


def mean_of(results: Mapping[str, Any]) -> Mapping[str, Any]:
    return results["mean"]["rows"]


def test_variants_are_table_3s() -> None:
    variants = cascade_variants(replace(STANDARD, prompts="more"))
    assert next(iter(variants)) == "full"
    assert variants["full"] == STANDARD
    assert {name: v.cascade for name, v in variants.items() if v.cascade != "refiner"} == {
        BASE: "none",
        "frozen cascade": "frozen",
    }
    assert not variants["no coarse target"].coarse_target
    prompts = [v.prompts for v in cascade_variants(STANDARD).values()]
    assert prompts == ["nearby"] * 3 + ["random", "larger", "more", "nearby"]


@pytest.mark.usefixtures("by_any_name")
def test_each_variant_and_other_weights_get_their_row(tmp_path: Path) -> None:
    settings = replace(DRAFT, photo_elevation_deg=30.0)
    candidate = Candidate(loaded(block()), settings, recipe="cascade-zero123")
    variants = {k: v for k, v in cascade_variants(settings).items() if k in ("full", BASE)}
    measure = CascadeMeasure(
        candidate,
        variants,
        {"without moving average": loaded(block(0.45))},
        NvsProtocol(size_px=32, views=4),
    )
    results = evaluate_ablation([ObjectFile("block", block)], measure, tmp_path)
    rows = mean_of(results)
    assert list(rows) == ["full", BASE, "without moving average"]
    assert rows["full"]["psnr"] > 60 > 30 > rows["without moving average"]["psnr"]
    assert rows["without moving average"]["psnr"] > rows[BASE]["psnr"]
    assert results["main"] == "full"
    assert len(results["objects"][0]["psnr_by_row"][BASE]) == 3
