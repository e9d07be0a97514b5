from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import KnownElevation, block
from torch import Generator

from roundview.camera import Cameras
from roundview.data.objects import ObjectFile
from roundview.evaluate.judges import load_judges
from roundview.evaluate.keeping import kept_strip
from roundview.evaluate.nvs import Candidate, evaluate_nvs, row_label
from roundview.evaluate.protocol import NvsProtocol
from roundview.gaussians import Gaussians
from roundview.image import Foreground, Image
from roundview.loaders import Loaded
from roundview.mesh import Asset, Mesh
from roundview.models import Report, StageRunner, silent
from roundview.recipes.im3d import DRAFT, Im3d, Im3dModels
from roundview.segment import matte_from_alpha
from roundview.surface.raster import render_mesh
from roundview.views import Views

PROTOCOL = NvsProtocol(size_px=32, views=4)
KNOWN = replace(DRAFT, photo_elevation_deg=30.0)


class TrueOrbit:
    """Draws one mesh, whatever the photograph shows."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.cameras: list[Cameras] = []

    def draw(
        self,
        subject: Foreground,
        cameras: Cameras,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        self.cameras.append(cameras)
        return render_mesh(self.mesh, cameras, supersample=PROTOCOL.supersample, geometry=False)

    def redraw(
        self,
        subject: Foreground,
        views: Views,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        noise_level: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        raise AssertionError("the protocol draws once")


class Finishes:
    """Keeps what was finished."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bool]] = []

    def began(self, stage: str) -> None: ...

    def progressed(self, stage: str, fraction: float) -> None: ...

    def finished(self, stage: str, seconds: float, *, resumed: bool) -> None:
        self.heard.append((stage, resumed))


def broken() -> Mesh:
    raise ValueError("this is no GLB file")


TALL = ObjectFile("tall", block)
FLAT = ObjectFile("box/flat", lambda: block(1.0, 0.3, 0.6))
BROKEN = ObjectFile("broken", broken)


def candidate(orbit: TrueOrbit, settings: Im3d = KNOWN, *, seed: int = 0) -> Candidate:
    models = Im3dModels(matte_from_alpha, orbit, KnownElevation(18.0))
    return Candidate(Loaded(models, (), "weights"), settings, seed=seed)


def run(
    things: Sequence[ObjectFile], what: Candidate, directory: Path
) -> tuple[dict[str, Any], list[tuple[str, bool]]]:
    finishes = Finishes()
    results = evaluate_nvs(things, what, directory, protocol=PROTOCOL, listener=finishes)
    return results, finishes.heard


def test_true_drawings_score_all_there_is_and_others_do_not(tmp_path: Path) -> None:
    orbit = TrueOrbit(block())
    results, _ = run([FLAT, TALL], candidate(orbit), tmp_path)
    flat, tall = results["objects"]
    assert (flat["name"], tall["name"]) == ("box/flat", "tall")
    assert tall["psnr"] == 100.0
    assert tall["ssim"] == pytest.approx(1.0)
    assert flat["psnr"] < 20
    assert len(flat["psnr_by_view"]) == 3
    assert flat["psnr"] == pytest.approx(sum(flat["psnr_by_view"]) / 3, abs=1e-4)
    mean = results["mean"]
    assert mean["psnr"] == pytest.approx((flat["psnr"] + 100) / 2, abs=1e-3)
    assert (mean["objects"], mean["of"]) == (2, 2)
    assert mean["rows"]["orbit"]["psnr"] == mean["psnr"]
    # The block's four views differ, so nothing constant can match the one that knows them.
    assert mean["rows"]["white"]["psnr"] < mean["rows"]["mean_of_truth"]["psnr"] < 100
    assert kept_strip(tmp_path, "box/flat").is_file()
    assert kept_strip(tmp_path, "box/flat").parent == tmp_path / "objects"


def test_measured_objects_are_not_measured_again_unless_something_changed(tmp_path: Path) -> None:
    orbit = TrueOrbit(block())
    first, heard = run([FLAT, TALL], candidate(orbit), tmp_path)
    assert heard == [("box/flat", False), ("tall", False)]
    again, heard = run([FLAT, TALL], candidate(orbit), tmp_path)
    assert heard == [("box/flat", True), ("tall", True)]
    assert again == first
    assert len(orbit.cameras) == 2
    run([TALL], candidate(orbit, seed=1), tmp_path)
    assert len(orbit.cameras) == 3
    changed = ObjectFile("tall", lambda: block(0.7))
    run([changed], candidate(orbit, seed=1), tmp_path)
    assert len(orbit.cameras) == 4
    kept_strip(tmp_path, "tall").with_suffix(".json").write_text("[")
    run([changed], candidate(orbit, seed=1), tmp_path)
    assert len(orbit.cameras) == 5


def test_a_failing_object_is_listed_left_out_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    orbit = TrueOrbit(block())
    results, _ = run([BROKEN, TALL], candidate(orbit), tmp_path)
    assert results["objects"][0] == {
        "name": "broken",
        "error": "ValueError: this is no GLB file",
    }
    assert (results["mean"]["objects"], results["mean"]["of"]) == (1, 2)
    assert results["mean"]["psnr"] == 100.0
    assert "broken failed" in caplog.text
    mended = ObjectFile("broken", block)
    results, heard = run([mended, TALL], candidate(orbit), tmp_path)
    assert heard == [("broken", False), ("tall", True)]
    assert results["mean"]["objects"] == 2


def test_no_mean_of_nothing(tmp_path: Path) -> None:
    results, _ = run([BROKEN], candidate(TrueOrbit(block())), tmp_path)
    assert results["mean"] == {"psnr": None, "ssim": None, "objects": 0, "of": 1, "rows": {}}


def test_an_estimated_elevation_moves_the_ring_that_is_asked_for(tmp_path: Path) -> None:
    orbit = TrueOrbit(block())
    guessing = replace(KNOWN, photo_elevation_deg=None)
    results, _ = run([TALL], candidate(orbit, guessing), tmp_path)
    torch.testing.assert_close(orbit.cameras[0].elevation_deg, torch.full((4,), 18.0))
    assert results["objects"][0]["photo_elevation_deg"] == pytest.approx(18.0)
    assert results["mean"]["psnr"] < 40  # The wrong elevation costs, as it should.


def of_the_block(
    photo: Image, models: Im3dModels, rng: Generator, settings: Im3d, stage: StageRunner
) -> Asset:
    """A recipe that fits nothing and makes the block."""
    del photo, models, rng, settings
    stage.note("photo_elevation_deg", 30.0)
    stage.note("world_from_fitted", {"scale": 1.0, "shift": [0.0, 0.0, 0.0]})
    rows = {"centre": 3, "log_scale": 3, "quat_wxyz": 4}
    nothing = Gaussians(
        **{name: torch.zeros(0, n) for name, n in rows.items()},
        opacity_logit=torch.zeros(0),
        sh=torch.zeros(0, 1, 3),
    )
    stage("fit", lambda _: nothing)
    return Asset(block())


def test_the_recipes_fits_and_mesh_get_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundview.recipes.im3d.im3d", of_the_block)
    what = replace(candidate(TrueOrbit(block())), with_recipe=True)
    results, _ = run([TALL], what, tmp_path)
    rows = results["mean"]["rows"]
    assert rows["recipe mesh"]["psnr"] == 100.0
    # No Gaussians draw a white picture.
    assert rows["recipe fit"]["psnr"] == rows["white"]["psnr"]
    assert results["objects"][0]["strip"] == [
        *("truth", "orbit", "recipe fit", "recipe mesh", "error of orbit")
    ]


def test_drawings_count_though_the_recipe_fails_and_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> Asset:
        raise ValueError("nothing is solid")

    monkeypatch.setattr("roundview.recipes.im3d.im3d", failing)
    what = replace(candidate(TrueOrbit(block())), with_recipe=True)
    results, _ = run([TALL], what, tmp_path)
    assert results["objects"][0]["recipe_error"] == "ValueError: nothing is solid"
    assert results["mean"]["psnr"] == 100.0
    assert "recipe mesh" not in results["mean"]["rows"]
    monkeypatch.setattr("roundview.recipes.im3d.im3d", of_the_block)
    results, heard = run([TALL], what, tmp_path)
    assert heard == [("tall", False)]
    assert results["mean"]["rows"]["recipe mesh"]["objects"] == 1


def test_rows_are_named_in_words() -> None:
    assert row_label("white") == "all white"
    assert row_label("recipe fit 1") == "the recipe's Gaussians after 'fit 1'"
    assert row_label("recipe mesh") == "the recipe's mesh"


def test_unknown_recipes_are_refused() -> None:
    with pytest.raises(ValueError, match="im3d"):
        replace(candidate(TrueOrbit(block())), recipe="nonsense")


def test_silhouettes_and_estimated_elevations_are_marked(tmp_path: Path) -> None:
    orbit = TrueOrbit(block())
    results, _ = run([TALL], candidate(orbit), tmp_path)
    assert results["mean"]["rows"]["orbit"]["matte_iou"] == pytest.approx(1.0)
    assert "elevation_error_deg" not in results["mean"]["rows"]["orbit"]
    guessing = replace(KNOWN, photo_elevation_deg=None)
    results, _ = run([TALL], candidate(orbit, guessing), tmp_path)
    assert results["mean"]["rows"]["orbit"]["elevation_error_deg"] == pytest.approx(12.0)
    assert results["mean"]["rows"]["orbit"]["matte_iou"] < 1.0


def test_other_judges_mark_every_row(tmp_path: Path) -> None:
    judges = load_judges(deep_features=True)
    what = candidate(TrueOrbit(block()))
    results = evaluate_nvs([TALL], what, tmp_path, protocol=PROTOCOL, judges=judges)
    rows = results["mean"]["rows"]
    assert rows["orbit"]["deep_features"] == pytest.approx(0.0, abs=1e-5)
    assert rows["copy"]["deep_features"] > 0.1
    assert results["settings"]["judges"] == ["deep features: EfficientNet-lite0"]
