"""Public models of four views are built as their cards say."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import imagedream_state, isotropic3d_state, mvdream_state
from safetensors.torch import save_file

from roundview.camera import Cameras
from roundview.diffusion.multiview import MultiviewModel, camera_vectors
from roundview.image import Foreground
from roundview.importing import import_checkpoint
from roundview.loaders import Wanted
from roundview.loaders.im3d import load_im3d
from roundview.loaders.isotropic3d import load_isotropic3d
from roundview.loaders.memory import room_for
from roundview.loaders.multiview import asked_of_multiview, multiview_card, multiview_in
from roundview.memory import MemoryPlan, Room
from roundview.recipes.isotropic3d import PUBLIC_CAMERAS
from roundview.weights import Card, save_card

STATES = {"mvdream": mvdream_state, "imagedream": imagedream_state}
CPU = Room(MemoryPlan(), torch.device("cpu"))


def published(folder: Path, kind: str, *, merges: bool = True, **options: object) -> Card:
    folder.mkdir(exist_ok=True)
    states = {**STATES, "isotropic3d": isotropic3d_state}
    save_file(states[kind](), folder / "four.safetensors")
    card = import_checkpoint(folder / "four.safetensors", kind, folder / "weights")
    told = {"size_px": 64, "latent_px": 8, **options}
    if merges:
        (folder / "weights" / "four.merges.txt").write_text("#version\na b</w>\n")
    return save_card(replace(card, settings={**card.settings, "options": told}))


def drawn(model: MultiviewModel) -> torch.Tensor:
    torch.manual_seed(0)
    subject = Foreground(torch.rand(64, 64, 3), torch.ones(64, 64))
    cameras = Cameras.orbit(
        [0.0, 90.0, 180.0, 270.0], elevation_deg=5.0, radius=1.5, fov_deg=49.0, size_hw=(16, 16)
    )
    rng = torch.Generator().manual_seed(0)
    return model.draw(subject, cameras, rng, photo_elevation_deg=5.0, steps=2).rgb


@pytest.mark.parametrize(("kind", "guidance"), [("mvdream", 10.0), ("imagedream", 5.0)])
def test_a_prompt_changes_what_is_drawn(tmp_path: Path, kind: str, guidance: float) -> None:
    card = published(tmp_path, kind)
    one, other = (multiview_in(CPU, card, prompt)[1] for prompt in ("ab", "b"))
    assert (one.settings.guidance, one.settings.eta) == (guidance, 0.0)
    first = drawn(one)
    assert first.shape == (4, 16, 16, 3)
    assert not torch.equal(first, drawn(other))
    assert torch.equal(first, drawn(multiview_in(CPU, card, "ab")[1]))


def test_mvdream_wants_words_and_imagedream_does_without(tmp_path: Path) -> None:
    card = published(tmp_path / "a", "mvdream", merges=False)
    with pytest.raises(ValueError, match="draws what it is told in words: say it with --prompt"):
        multiview_in(CPU, card, None)
    quiet = published(tmp_path / "b", "imagedream", merges=False)
    assert bool(torch.isfinite(drawn(multiview_in(CPU, quiet, None)[1])).all())


def test_local_mode_asks_for_less(tmp_path: Path) -> None:
    card = published(tmp_path, "imagedream")
    assert asked_of_multiview(card, judged=8).drawn.frames == 5
    assert asked_of_multiview(card, judged=8).drawn.judged == 10
    local = replace(card, settings={**card.settings, "options": {"pixel": False}})
    assert asked_of_multiview(local, judged=8).drawn.frames == 4
    room_for([asked_of_multiview(card, judged=8)], torch.device("cpu"), 8.0)


def test_isotropic3d_s_cameras_are_a_setting(tmp_path: Path) -> None:
    cameras = Cameras.orbit(
        [0.0, 90.0, 180.0, 270.0], elevation_deg=20.0, radius=1.5, fov_deg=49.0, size_hw=(8, 8)
    )
    subject = Foreground(torch.rand(64, 64, 3), torch.ones(64, 64))
    usual = published(tmp_path / "a", "isotropic3d")
    told, _ = multiview_in(CPU, usual, None)[1].tell(subject)(cameras)
    torch.testing.assert_close(told.camera, camera_vectors(cameras, "twice"))
    card = published(tmp_path / "b", "isotropic3d", angles="once")
    told, _ = multiview_in(CPU, card, None)[1].tell(subject)(cameras)
    torch.testing.assert_close(told.camera, camera_vectors(cameras, "once"))


def test_recipes_take_it_and_say_what_it_was_told(tmp_path: Path) -> None:
    card = published(tmp_path, "imagedream", prompt="b")
    found = multiview_card(str(card.folder))
    assert found is not None
    assert found.sha256 == card.sha256
    wanted = Wanted(str(card.folder), use_matte=False, photo_elevation_deg=5.0)
    loaded = load_isotropic3d(wanted)
    assert loaded.models.cameras == PUBLIC_CAMERAS
    assert loaded.asks == {"guidance": 5.0, "rescale": 0.2}
    assert loaded.prompt == "b"
    told = load_im3d(replace(wanted, prompt="ab"))
    assert told.prompt == "ab"
    assert (told.asks["ring_views"], told.asks["size_px"]) == (4, 64)
    assert "orbit" in told.counted
    assert told.identity != load_im3d(wanted).identity
    assert load_im3d(replace(wanted, weights=None)).prompt is None
