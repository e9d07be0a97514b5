from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import hi3d_state
from fakes import block, photo_of

from roundview.importing import import_checkpoint
from roundview.loaders import Wanted
from roundview.loaders.im3d import load_im3d
from roundview.models import OrbitModel
from roundview.pipeline import adapted, make
from roundview.public_models import load_video_orbit, video_ring
from roundview.recipes.im3d import DRAFT
from roundview.weights import Card, save_card

SMALL_RING = {"frames": 4, "size_px": 64, "steps": 2}


def imported(folder: Path) -> Card:
    """A DeepSpeed file of Hi3D's first stage at reduced width, imported."""
    wrapped = {f"module.{name}": tensor for name, tensor in hi3d_state().items()}
    torch.save({"module": wrapped, "optimizer": {}}, folder / "first_stage.pt")
    card = import_checkpoint(folder / "first_stage.pt", "hi3d", folder / "weights")
    return save_card(replace(card, settings={**card.settings, "ring": SMALL_RING}))


def test_an_imported_video_checkpoint_is_an_orbit_model(tmp_path: Path) -> None:
    model = load_video_orbit(imported(tmp_path), torch.device("cpu"))
    assert isinstance(model, OrbitModel)
    assert (model.ring.frames, model.ring.size_px, model.ring.cond_aug) == (4, 64, 0.02)


def test_im3d_makes_an_asset_with_it_from_end_to_end(tmp_path: Path) -> None:
    imported(tmp_path)
    tiny = replace(
        DRAFT, redraw_after=(20,), fit_steps=40, mesh_resolution=32, faces=400, texture_size=64
    )
    asset = make(
        photo_of(block()),
        settings=replace(tiny, photo_elevation_deg=10.0),
        weights=str(tmp_path / "weights"),
    )
    assert asset.record["settings"]["ring_views"] == 4
    assert asset.record["settings"]["size_px"] == 64
    assert "first_stage" in [weights["name"] for weights in asset.record["weights"]]
    assert len(asset.mesh.faces) > 0


def test_settings_are_those_of_the_one_ring() -> None:
    ring = video_ring(Card("x", "hi3d", "x", "", "", ""))
    asked = adapted(DRAFT, ring)
    assert (asked.ring_views, asked.more_rings, asked.size_px) == (16, (), 512)
    assert asked.elevation_frames == 0
    assert adapted(DRAFT, None) == DRAFT


def test_a_refiner_and_a_partial_checkpoint_are_refused(tmp_path: Path) -> None:
    state = hi3d_state()
    tower = "conditioner.embedders.0."
    torch.save({n: t for n, t in state.items() if not n.startswith(tower)}, tmp_path / "a.pt")
    card = import_checkpoint(tmp_path / "a.pt", "hi3d", tmp_path / "a")
    with pytest.raises(ValueError, match="holds no image tower"):
        load_video_orbit(card, torch.device("cpu"))
    first = "model.diffusion_model.input_blocks.0.0.weight"
    state[first] = torch.zeros(64, 17, 3, 3)
    torch.save(state, tmp_path / "b.pt")
    card = import_checkpoint(tmp_path / "b.pt", "hi3d", tmp_path / "b")
    with pytest.raises(ValueError, match="refines an orbit and draws none"):
        load_video_orbit(card, torch.device("cpu"))


def test_shipped_models_draw_any_views() -> None:
    assert load_im3d(Wanted(use_matte=False, photo_elevation_deg=0.0)).ring is None
