from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import VIDEO, hi3d_state, sd2_depth_state
from fakes import KnowingOrbit, block, photo_of
from safetensors.torch import save_file

from roundview import public_models
from roundview.camera import Cameras
from roundview.diffusion.video_unet import VideoUNet
from roundview.image import Foreground
from roundview.importing import import_checkpoint, merges_of
from roundview.loaders import Wanted
from roundview.loaders.exporting import export_folder
from roundview.loaders.im3d import load_im3d
from roundview.loaders.parts import asks_of_orbit
from roundview.memory import MemoryPlan, Room
from roundview.models import OrbitModel
from roundview.pipeline import adapted, make
from roundview.public_models import (
    load_networks,
    load_prompts,
    load_video_orbit,
    numbers_of,
    video_ring,
)
from roundview.recipes.im3d import DRAFT
from roundview.views import Views
from roundview.weights import Card, WeightsMissing, save_card

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


@torch.no_grad()
def test_one_network_at_a_time_draws_the_same_ring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = imported(tmp_path)
    drawn: list[Views] = []
    for plan in (MemoryPlan(), MemoryPlan(offload=True, decoded_at_once=1, sliced=True)):
        monkeypatch.setattr(
            public_models, "room_for", lambda *_, plan=plan, **__: Room(plan, torch.device("cpu"))
        )
        model = load_video_orbit(card, torch.device("cpu"), memory_gb=1.0)
        assert model.ring.decoded_at_once == plan.decoded_at_once
        cameras = Cameras.orbit(
            [0.0, 90.0, 180.0, 270.0],
            elevation_deg=10.0,
            radius=1.5,
            fov_deg=49.13,
            size_hw=(64, 64),
        )
        photo = Foreground(torch.full((64, 64, 3), 0.4), torch.ones(64, 64))
        rng = torch.Generator().manual_seed(0)
        drawn.append(model.draw(photo, cameras, rng, photo_elevation_deg=10.0, steps=2))
    torch.testing.assert_close(drawn[1].rgb, drawn[0].rgb, atol=1e-5, rtol=1e-5)


def test_too_little_memory_is_told_before_the_weights_are_read(tmp_path: Path) -> None:
    card = imported(tmp_path)
    card.path.unlink()
    with pytest.raises(ValueError, match=r"--memory-gb 0\.001 is not enough: at least 0\.0"):
        load_video_orbit(card, torch.device("cpu"), memory_gb=0.001)
    with pytest.raises(ValueError, match="is not enough"):
        load_networks(card, torch.device("cpu"), memory_gb=0.001)
    with pytest.raises(WeightsMissing, match="is missing"):
        load_networks(card, torch.device("cpu"), memory_gb=10.0)


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
    orbit = KnowingOrbit(block())
    assert adapted(DRAFT, asks_of_orbit(orbit)) == DRAFT
    orbit.ring = ring  # pyright: ignore[reportAttributeAccessIssue]  as a video model has one
    asked = adapted(DRAFT, asks_of_orbit(orbit))
    assert (asked.ring_views, asked.more_rings, asked.size_px) == (16, (), 512)
    assert asked.elevation_frames == 0


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
    loaded = load_im3d(Wanted(use_matte=False, photo_elevation_deg=0.0))
    assert loaded.asks == {"elevation_frames": 0}


def test_prompts_are_told_by_the_merges_of_the_checkpoint(tmp_path: Path) -> None:
    save_file(sd2_depth_state(), tmp_path / "d.safetensors")
    card = import_checkpoint(tmp_path / "d.safetensors", "sd2-depth", tmp_path / "one")
    with pytest.raises(WeightsMissing, match=r"d\.merges\.txt is missing: copy merges\.txt"):
        load_prompts(card, torch.device("cpu"))
    export_folder(card, tmp_path / "theirs")
    (tmp_path / "theirs" / "tokenizer").mkdir()
    (tmp_path / "theirs" / "tokenizer" / "merges.txt").write_text("#version\na b</w>\n")
    card = import_checkpoint(tmp_path / "theirs", "sd2-depth", tmp_path / "two")
    tell = load_prompts(card, torch.device("cpu"))
    assert tell(["ab", ""]).shape == (2, 8, 64)
    assert not torch.equal(*tell(["ab", "ba"]))
    merges_of(card).write_text("#version\na b\nc d\n")
    with pytest.raises(ValueError, match="makes 516 tokens, the tower knows 515"):
        load_prompts(card, torch.device("cpu"))
    with pytest.raises(ValueError, match="holds no text tower, so it takes no prompts"):
        load_prompts(replace(card, settings={}), torch.device("cpu"))


def test_hi3d_is_told_the_score_of_its_card_and_in_the_paper_s_form_none() -> None:
    card = Card("a", "hi3d", "a", "", "", "", settings={"ring": {"aesthetic": 7.0}})
    with torch.device("meta"):
        released, paper = (VideoUNet(replace(VIDEO, vector=length)) for length in (768, 512))
    told = numbers_of(card, released)(2, 10.0, 0.02)
    assert told.shape == (2, 768)
    assert float(told[0, 0]) == 7.0
    assert torch.equal(numbers_of(card, paper)(2, 10.0, 0.02), told[:, 256:])
