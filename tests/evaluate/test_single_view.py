from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import KnowingOrbit, KnownElevation, block, photo_of
from torch import Generator, Tensor

from roundview.evaluate.judges import Judges
from roundview.evaluate.nvs import Candidate
from roundview.evaluate.protocol import NvsProtocol
from roundview.evaluate.single_view import (
    PhotoFile,
    RecipeAssets,
    SavedAssets,
    SingleViewMeasure,
    evaluate_single_view,
    find_photos,
)
from roundview.export.files import write_json, write_png
from roundview.export.glb import save_glb
from roundview.image import Foreground, Image
from roundview.loaders import Loaded
from roundview.mesh import Asset, centred
from roundview.models import StageRunner
from roundview.recipes.im3d import DRAFT, Im3d, Im3dModels
from roundview.segment import matte_from_alpha


class MeanColour:
    """Features that can be worked by hand: the picture itself."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.permute(0, 3, 1, 2)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


def of_the_block(
    photo: Image, models: Im3dModels, rng: Generator, settings: Im3d, stage: StageRunner
) -> Asset:
    """A recipe that makes the block, whatever the photograph."""
    del models, rng, settings
    rgb, alpha = photo.rgb, photo.alpha
    assert alpha is not None
    stage("matte", lambda _: Foreground(rgb, alpha))
    stage.note("photo_elevation_deg", 10.0)
    stage.note("world_from_fitted", {"scale": 1.0, "shift": [0.0, 0.0, 0.0]})
    return Asset(block())


def measure(judges: Judges) -> SingleViewMeasure:
    models = Im3dModels(matte_from_alpha, KnowingOrbit(block()), KnownElevation(10.0))
    candidate = Candidate(Loaded(models, (), "weights"), DRAFT)
    return SingleViewMeasure(RecipeAssets(candidate), judges, NvsProtocol(size_px=64, views=4))


def test_the_right_asset_looks_like_its_photo_and_another_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundview.recipes.im3d.im3d", of_the_block)
    right = PhotoFile("block.png", lambda: photo_of(block(), size_px=64))
    wrong = PhotoFile("flat.png", lambda: photo_of(block(1.0, 0.3), size_px=64))
    features = MeanColour()
    judges = Judges(features, clip=features.embedding, contextual=lambda rgb: features.maps(rgb)[0])
    found = evaluate_single_view([right, wrong], measure(judges), tmp_path)
    good, bad = (entry["rows"] for entry in found["objects"])
    assert good["reference"]["psnr"] > 25
    assert bad["reference"]["psnr"] < 18
    assert good["reference"]["deep_features"] < bad["reference"]["deep_features"]
    # From its own side it is more like the photo than from the others.
    assert good["reference"]["deep_features"] < good["novel"]["deep_features"]
    assert good["copy"]["deep_features"] == pytest.approx(0.0, abs=1e-5)
    assert good["copy"]["clip"] == pytest.approx(1.0, abs=1e-5)
    assert "psnr" not in good["novel"]
    assert found["uses_truth"] == ["copy"]


def test_without_the_users_networks_their_marks_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundview.recipes.im3d.im3d", of_the_block)
    photo = PhotoFile("block.png", lambda: photo_of(block(), size_px=64))
    found = evaluate_single_view([photo], measure(Judges(MeanColour())), tmp_path)
    assert set(found["mean"]["rows"]["reference"]) >= {"psnr", "ssim", "deep_features"}
    assert "clip" not in found["mean"]["rows"]["novel"]
    changed = replace(photo, read=lambda: photo_of(block(0.2), size_px=64))
    again = evaluate_single_view([changed], measure(Judges(MeanColour())), tmp_path)
    assert again["mean"] != found["mean"]


def test_assets_that_were_written_get_the_marks_that_a_run_would(tmp_path: Path) -> None:
    block_photo = photo_of(block(), size_px=64)
    mesh, scale, shift = centred(block())
    notes = {
        "photo_elevation_deg": 10.0,
        "world_from_fitted": {"scale": scale, "shift": shift.tolist()},
    }
    record = {"recipe": "hi3d", "settings": {"photo_px": 64}, "notes": notes, "seconds_total": 7.5}
    record |= {"network_calls": {"views": 3, "depth": 1}, "identity": "one"}
    made = tmp_path / "made" / "block"
    save_glb(mesh, made / "asset.glb")
    write_json(made / "record.json", record)
    source = SavedAssets(tmp_path / "made", matte_from_alpha)
    photo = PhotoFile("block.png", lambda: block_photo)
    saved = SingleViewMeasure(source, Judges(MeanColour()), NvsProtocol(size_px=64, views=4))
    found = evaluate_single_view([photo], saved, tmp_path / "marks")
    row = found["objects"][0]["rows"]["reference"]
    assert row["psnr"] > 25
    assert (row["seconds"], row["network_calls"]) == (7.5, 4.0)
    assert found["recipe"] == "hi3d"
    # Another asset in its place is measured anew.
    save_glb(centred(block(0.2))[0], made / "asset.glb")
    write_json(made / "record.json", record | {"identity": "two"})
    again = evaluate_single_view([photo], saved, tmp_path / "marks")
    assert again["objects"][0]["rows"]["reference"]["psnr"] < row["psnr"]


def test_assets_without_a_record_are_told(tmp_path: Path) -> None:
    write_json(tmp_path / "block" / "record.json", {"recipe": "im3d"})
    source = SavedAssets(tmp_path, matte_from_alpha)
    with pytest.raises(ValueError, match="no record of `roundview make`"):
        source("block.png", photo_of(block(), size_px=64), lambda _: None)


def test_photos_are_found_by_their_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder with pictures"):
        find_photos(tmp_path)
    write_png(tmp_path / "b.png", torch.zeros(40, 40, 3))
    write_png(tmp_path / "a.PNG", torch.zeros(40, 40, 3))
    (tmp_path / "notes.txt").write_text("no picture")
    photos = find_photos(tmp_path)
    assert [photo.name for photo in photos] == ["a.PNG", "b.png"]
    assert photos[0].read().size_hw == (40, 40)
