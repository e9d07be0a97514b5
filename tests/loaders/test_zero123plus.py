import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import zero123plus_folder
from fakes import KnownElevation, block, photo_of

from roundview.diffusion.zero123plus import Zero123Plus
from roundview.image import Foreground
from roundview.importing import import_checkpoint
from roundview.loaders.exporting import export_folder
from roundview.loaders.parts import asks_of_orbit, load_orbit_model
from roundview.loaders.zero123plus import load_zero123plus, sheet_options
from roundview.models import PlainStages
from roundview.recipes.im3d import DRAFT, Im3dModels, novel_views
from roundview.segment import matte_from_alpha
from roundview.weights import Card, load_tensors, save_card

CPU = torch.device("cpu")


def imported(folder: Path) -> Card:
    card = import_checkpoint(
        zero123plus_folder(folder / "theirs"), "zero123plus", folder / "ours", name="z"
    )
    options = {**card.settings["options"], "tile_px": 16}
    return save_card(replace(card, settings={**card.settings, "options": options}))


def test_a_folder_of_diffusers_draws_six_views(tmp_path: Path) -> None:
    card = imported(tmp_path)
    assert card.settings["options"] == {"photo_std": 0.8, "photo_px": 32, "tile_px": 16}
    model = load_zero123plus(card, CPU)
    subject = Foreground(torch.full((32, 32, 3), 0.3), torch.ones(32, 32))
    views = model.draw(subject, model.use.cameras(), torch.Generator().manual_seed(0), steps=2)
    assert views.rgb.shape == (6, 16, 16, 3)
    assert bool(torch.isfinite(views.rgb).all())


def test_the_recipe_s_views_are_drawn_by_it(tmp_path: Path) -> None:
    model = load_zero123plus(imported(tmp_path), CPU)
    models = Im3dModels(matte_from_alpha, model, KnownElevation(10.0))
    # It cannot draw the frames that IM-3D looks at for the elevation.
    still = replace(DRAFT, elevation_frames=0, photo_px=64, size_px=24, draw_steps=1)
    settings = replace(still, distance=model.use.radius, fov_deg=30.0)
    views = novel_views(
        photo_of(block(), size_px=64),
        models,
        torch.Generator().manual_seed(0),
        settings,
        PlainStages(),
        azimuth_deg=[30.0, 150.0, 270.0],
        elevation_deg=20.0,
    )
    assert views.rgb.shape == (3, 24, 24, 3)


def test_recipes_find_it_among_the_weights_that_a_user_names(tmp_path: Path) -> None:
    imported(tmp_path)
    cards: list[Card] = []
    model = load_orbit_model(str(tmp_path / "ours"), cards)
    assert isinstance(model, Zero123Plus)
    assert [card.kind for card in cards] == ["zero123plus"]
    assert asks_of_orbit(model) == {"elevation_frames": 0}


def test_ours_to_a_folder_to_ours_is_the_same_to_the_bit(tmp_path: Path) -> None:
    card = imported(tmp_path)
    export_folder(card, tmp_path / "back")
    assert (tmp_path / "back" / "vision_encoder" / "config.json").is_file()
    again = import_checkpoint(tmp_path / "back", "zero123plus", tmp_path / "again")
    before, after = load_tensors(card), load_tensors(again)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert again.settings["options"] == {"photo_std": 0.8, "photo_px": 32}


def test_versions_are_known_by_their_name() -> None:
    card = Card("zero123plus-v1.2", "zero123plus", "", "", "", "")
    assert sheet_options(card).elevation_deg == (20.0, -10.0)
    older = sheet_options(replace(card, name="zero123plus-v1.1"))
    assert (older.elevation_deg, round(older.fov_deg, 2)) == ((30.0, -20.0), 49.13)
    told = replace(card, settings={"options": {"elevation_deg": [5, 0], "guidance": 2.0}})
    assert (sheet_options(told).elevation_deg, sheet_options(told).guidance) == ((5, 0), 2.0)


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    folder = zero123plus_folder(tmp_path / "x")
    index = folder / "model_index.json"
    told = json.loads(index.read_text())
    index.write_text(json.dumps({"_class_name": told["_class_name"]}))
    with pytest.raises(ValueError, match="lacks ramping_coefficients"):
        import_checkpoint(folder, "zero123plus", tmp_path / "out")
    index.write_text(json.dumps({**told, "ramping_coefficients": [0.5] * 3}))
    card = import_checkpoint(folder, "zero123plus", tmp_path / "out")
    with pytest.raises(ValueError, match="a number for each of 8 tokens"):
        load_zero123plus(card, CPU)


def test_too_little_memory_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not enough"):
        load_zero123plus(imported(tmp_path), CPU, memory_gb=0.001)
