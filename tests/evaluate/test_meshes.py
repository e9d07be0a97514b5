from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import KnowingOrbit, KnownElevation, block
from torch import Generator

from roundview.data.objects import ObjectFile
from roundview.evaluate.meshes import FileMeshes, MeshMeasure, RecipeMeshes, evaluate_meshes
from roundview.evaluate.nvs import Candidate
from roundview.evaluate.protocol import NvsProtocol
from roundview.export.glb import save_glb
from roundview.image import Image
from roundview.loaders import Loaded
from roundview.mesh import Asset, centred
from roundview.models import StageRunner
from roundview.recipes.im3d import DRAFT, Im3d, Im3dModels
from roundview.segment import matte_from_alpha

PROTOCOL = NvsProtocol(size_px=32, views=4)
BLOCK = ObjectFile("block", block)


def of_the_block(
    photo: Image, models: Im3dModels, rng: Generator, settings: Im3d, stage: StageRunner
) -> Asset:
    """A recipe that makes the block, and scales and moves it as recipes do."""
    del photo, models, rng, settings
    stage("matte", lambda _: 1 // 0)  # The photograph's own alpha is given.
    stage.note("photo_elevation_deg", 30.0)
    stage.note("world_from_fitted", {"scale": 2.0, "shift": [0.5, 0.0, 0.0]})
    return Asset(replace(block(), vertices=block().vertices * 2 + torch.tensor([0.5, 0.0, 0.0])))


def candidate() -> Candidate:
    models = Im3dModels(matte_from_alpha, KnowingOrbit(block()), KnownElevation(30.0))
    return Candidate(Loaded(models, (), "weights"), DRAFT)


def test_a_recipe_that_knows_the_object_scores_all_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundview.recipes.im3d.im3d", of_the_block)
    measure = MeshMeasure(RecipeMeshes(candidate()), PROTOCOL, samples=500, resolution=32)
    results = evaluate_meshes([BLOCK], measure, tmp_path)
    rows = results["mean"]["rows"]
    assert results["protocol"] == "mesh-syncdreamer"
    assert results["alignment"] == "none"
    assert rows["measured"]["volume_iou"] > 0.99
    assert rows["measured"]["chamfer"] < 1e-5
    assert rows["measured"]["psnr"] > 45
    # Four silhouettes leave more than the block; one tells little of its depth.
    assert 0.5 < rows["hull"]["volume_iou"] < 0.99
    assert rows["inflated"]["volume_iou"] < rows["hull"]["volume_iou"]
    assert results["uses_truth"] == ["hull"]
    assert results["objects"][0]["strip"] == ["truth", "measured", "hull", "inflated"]


def test_meshes_from_files_are_measured_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    save_glb(replace(block(0.3), vertices=block(0.3).vertices * 5), folder / "block.glb")
    results = evaluate_meshes(
        [BLOCK, ObjectFile("missing", block)],
        MeshMeasure(FileMeshes(folder), PROTOCOL, samples=500, resolution=32),
        tmp_path / "out",
    )
    assert results["recipe"] == "files"
    assert (results["mean"]["objects"], results["mean"]["of"]) == (1, 2)
    assert "missing" in results["objects"][1]["error"]
    # Half as wide, centred and scaled: half of the volume.
    assert results["mean"]["rows"]["measured"]["volume_iou"] == pytest.approx(0.5, abs=0.05)


def test_a_turn_is_forgiven_only_if_it_is_asked_for(tmp_path: Path) -> None:
    quarter = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    long = block(0.9, 0.4, 0.3)
    save_glb(centred(replace(long, vertices=long.vertices @ quarter.T))[0], tmp_path / "long.glb")
    thing = ObjectFile("long", lambda: centred(long)[0])
    strict = MeshMeasure(FileMeshes(tmp_path), PROTOCOL, samples=500, resolution=32)
    found = {}
    for how in ("none", "yaw"):
        measure = replace(strict, alignment=how)
        results = evaluate_meshes([thing], measure, tmp_path / how)
        found[how] = results["mean"]["rows"]["measured"]["volume_iou"]
        assert results["alignment"].startswith(how)
    assert found["none"] < 0.4
    assert found["yaw"] > 0.85
    turn = results["objects"][0]["aligned_by"]["turn_deg"]
    assert turn == pytest.approx(90, abs=2)


def test_a_new_file_is_measured_anew(tmp_path: Path) -> None:
    save_glb(block(), tmp_path / "block.glb")
    first = FileMeshes(tmp_path).facts()
    save_glb(block(0.2), tmp_path / "block.glb")
    assert FileMeshes(tmp_path).facts() != first
