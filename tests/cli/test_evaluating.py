import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import KnowingOrbit, KnownElevation, block, photo_of
from torch import Generator

from roundview.cli import run
from roundview.export.files import write_png
from roundview.export.glb import save_glb
from roundview.image import Image
from roundview.loaders import Loaded, Wanted
from roundview.mesh import Asset
from roundview.models import StageRunner
from roundview.recipes.im3d import Im3d, Im3dModels
from roundview.recipes.reconstruct import DRAFT, RECONSTRUCTIONS
from roundview.segment import matte_from_alpha


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a block and a broken file, and models that know the block."""
    models = Im3dModels(matte_from_alpha, KnowingOrbit(block()), KnownElevation(30.0))

    def load(wanted: Wanted) -> Loaded:
        assert wanted.weights is None
        assert wanted.use_matte is False
        return Loaded(models, (), "weights")

    monkeypatch.setattr("roundview.loaders.im3d.load_im3d", load)
    folder = tmp_path / "objects"
    folder.mkdir()
    save_glb(block(), folder / "block.glb")
    (folder / "broken.glb").write_bytes(b"no GLB at all")
    return folder


def evaluate(data: Path, *more: str) -> tuple[int, Path]:
    output = data.parent / "out"
    arguments = ["eval", "nvs", "--data", str(data), "-o", str(output), "--size", "32", "--quiet"]
    return run([*arguments, *more]), output


def test_a_folder_is_marked_and_reported(data: Path) -> None:
    code, output = evaluate(data)
    assert code == 0
    results = json.loads((output / "results.json").read_text())
    assert results["protocol"] == "nvs-syncdreamer"
    assert [entry["name"] for entry in results["objects"]] == ["block", "broken"]
    assert (results["mean"]["objects"], results["mean"]["of"]) == (1, 2)
    # Noise of 0.01 is 40 dB, and the drawings are sampled more coarsely than the truth.
    assert 25 < results["mean"]["psnr"] < 41
    assert results["settings"]["recipe"]["photo_elevation_deg"] == 30.0
    assert "broken" in (output / "report.html").read_text()
    assert "1 of 2" in (output / "results.md").read_text()


def test_objects_can_be_named(data: Path) -> None:
    code, output = evaluate(data, "--objects", "block", "--photo-elevation-deg", "auto")
    assert code == 0
    results = json.loads((output / "results.json").read_text())
    assert results["mean"]["of"] == 1
    assert results["settings"]["recipe"]["photo_elevation_deg"] is None


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--objects", "teapot"], "teapot"),
        (["--recipe", "nonsense"], "nonsense"),
        (["--photo-elevation-deg", "high"], "elevation"),
    ],
)
def test_bad_arguments_write_nothing(
    data: Path, more: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = evaluate(data, *more)
    assert code == 2
    assert word in capsys.readouterr().err
    assert not output.exists()


def test_all_objects_failing_is_bad_input_with_a_report(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = evaluate(data, "--objects", "broken")
    assert code == 2
    assert "no object could be measured" in capsys.readouterr().err
    assert "broken" in (output / "report.html").read_text()


def test_reconstruction_is_marked(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = replace(
        DRAFT,
        fit_steps=20,
        fit=replace(DRAFT.fit, points=300, max_gaussians=300),
        meshing=replace(DRAFT.meshing, resolution=24),
    )
    monkeypatch.setitem(RECONSTRUCTIONS, "draft", tiny)
    output = data.parent / "fits"
    arguments = ["eval", "reconstruct", "--data", str(data), "-o", str(output), "--size", "32"]
    arguments += ["--quality", "draft", "--texture-size", "64", "--faces", "2000", "--views", "one"]
    assert run([*arguments, "--quiet"]) == 0
    results = json.loads((output / "results.json").read_text())
    assert results["protocol"] == "reconstruct-one-ring"
    assert [entry["name"] for entry in results["objects"]] == ["block", "broken"]
    mesh = results["mean"]["rows"]["mesh"]
    assert mesh["faces"] <= 2000
    assert mesh["chamfer"] < 0.1
    assert mesh["psnr"] > 12
    assert results["settings"]["fit"]["fit_steps"] == 20
    assert "the textured mesh" in (output / "report.html").read_text()


def test_two_evaluations_are_compared(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(data)[0] == 0
    results = data.parent / "out" / "results.json"
    capsys.readouterr()
    assert run(["eval", "compare", str(results), str(results)]) == 0
    assert "| orbit | PSNR, dB | +0.00 | - | 1 of 2 | undecided |" in capsys.readouterr().out
    assert run(["eval", "compare", str(results), str(results), "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (first["row"], first["mark"], first["mean"]) == ("orbit", "psnr", 0.0)
    assert run(["eval", "compare", str(results), str(data)]) == 2


def test_meshes_of_another_program_are_marked(data: Path) -> None:
    output, made = data.parent / "meshes", data.parent / "made"
    made.mkdir()
    save_glb(block(0.5), made / "block.glb")
    arguments = ["eval", "mesh", "--data", str(data), "-o", str(output), "--size", "32"]
    arguments += ["--assets", str(made), "--alignment", "yaw", "--objects", "block", "--quiet"]
    assert run(arguments) == 0
    results = json.loads((output / "results.json").read_text())
    assert results["alignment"].startswith("yaw")
    assert results["mean"]["rows"]["measured"]["volume_iou"] > 0.7
    assert run(["eval", "mesh", "--data", str(data), "-o", str(output), "--assets", "no"]) == 2


def test_a_random_pair_of_views_can_be_asked_for(data: Path) -> None:
    code, output = evaluate(data, "--protocol", "nvs-zero123")
    assert code == 0
    results = json.loads((output / "results.json").read_text())
    assert results["protocol"] == "nvs-zero123"
    assert (results["mean"]["objects"], results["mean"]["of"]) == (1, 2)
    assert evaluate(data, "--protocol", "nvs-zero123", "--with-recipe")[0] == 2


def test_photographs_without_a_truth_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_the_block(
        photo: Image, models: Im3dModels, rng: Generator, settings: Im3d, stage: StageRunner
    ) -> Asset:
        del rng
        assert settings.photo_elevation_deg == 10.0
        stage("matte", lambda _: models.matte(photo))
        stage.note("photo_elevation_deg", 10.0)
        stage.note("world_from_fitted", {"scale": 1.0, "shift": [0.0, 0.0, 0.0]})
        return Asset(block())

    models = Im3dModels(matte_from_alpha, KnowingOrbit(block()), KnownElevation(10.0))
    monkeypatch.setattr("roundview.loaders.im3d.load_im3d", lambda _: Loaded(models, (), "weights"))
    monkeypatch.setattr("roundview.recipes.im3d.im3d", of_the_block)
    photos, output = tmp_path / "photos", tmp_path / "out"
    photo = photo_of(block(), size_px=64)
    assert photo.alpha is not None
    write_png(photos / "block.png", torch.cat([photo.rgb, photo.alpha[..., None]], dim=-1))
    arguments = ["eval", "single-view", "--data", str(photos), "-o", str(output), "--size", "64"]
    assert run([*arguments, "--photo-elevation-deg", "10", "--quiet"]) == 0
    results = json.loads((output / "results.json").read_text())
    assert results["protocol"] == "single-view"
    assert results["mean"]["rows"]["reference"]["psnr"] > 25
    assert "the photo itself" in (output / "report.html").read_text()
    assert run(["eval", "single-view", "--data", str(output), "-o", str(output)]) == 2
