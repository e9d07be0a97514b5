import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import zero123_state
from fakes import block, photo_of

from roundview.camera import Cameras
from roundview.diffusion.guide_models import SmallViewGuide, Zero123Guide
from roundview.diffusion.known_views import SmallViewModel
from roundview.diffusion.zero123_views import Zero123Views
from roundview.importing import import_checkpoint
from roundview.loaders import Loaded, Wanted
from roundview.loaders.cascade_zero123 import (
    asked_of_zero123,
    load_cascade_zero123,
    zero123_views,
)
from roundview.loaders.memory import Asked, room_for
from roundview.memory import GB, MemoryPlan, Room
from roundview.models import PlainStages
from roundview.recipes.cascade_zero123 import DRAFT, novel_views
from roundview.stages import seeded
from roundview.views import Views
from roundview.weights import Card, card, load_tensors, named, save_card, save_weights

CPU = torch.device("cpu")


def own_refiner(folder: Path) -> str:
    """A folder with a refiner: the orbit network's own weights under its name."""
    orbit = card("orbit-small")
    made = Card(
        "mine", "refiner_views", "mine.safetensors", "", "Apache-2.0", "here",
        settings=orbit.settings, folder=folder,
    )  # fmt: skip
    save_weights(load_tensors(orbit), made)
    return str(folder)


def imported(folder: Path, name: str, **settings: object) -> None:
    """A checkpoint of Zero123's layout at reduced width; options for pictures of 16 pixels."""
    torch.save({"state_dict": zero123_state()}, folder / f"{name}.ckpt")
    made = import_checkpoint(folder / f"{name}.ckpt", "zero123", folder / "weights", name=name)
    options = {"size_px": 16, "together": 2}
    save_card(replace(made, settings={**made.settings, "options": options, **settings}))


def drawn(loaded: Loaded) -> Views:
    settings = replace(DRAFT, photo_elevation_deg=10.0, size_px=16, base_steps=2, refiner_steps=2)
    return novel_views(
        photo_of(block(), size_px=64),
        loaded.models,
        seeded(0),
        settings,
        PlainStages(),
        azimuth_deg=[60.0],
    )


def front() -> Views:
    camera = Cameras.orbit([0.0], elevation_deg=0.0, radius=1.5, fov_deg=49.13, size_hw=(16, 16))
    return Views(torch.rand(1, 16, 16, 3, generator=seeded(1)), torch.ones(1, 16, 16), camera)


def test_the_small_pair_comes_with_its_cards(tmp_path: Path) -> None:
    loaded = load_cascade_zero123(
        Wanted(own_refiner(tmp_path), use_matte=False, photo_elevation_deg=10.0)
    )
    names = {used.name for used in loaded.cards}
    assert names == {"efficientnet-lite0", "autoencoder-small", "orbit-small", "mine"}
    assert set(loaded.counted) == {"base", "refiner"}
    assert isinstance(loaded.models.base, SmallViewModel)
    assert loaded.models.base.network is not loaded.models.refiner.network
    assert isinstance(loaded.models.guide(loaded.models.refiner, front()), SmallViewGuide)
    assert drawn(loaded).rgb.shape == (1, 16, 16, 3)


def test_imported_checkpoints_draw_as_base_and_refiner(tmp_path: Path) -> None:
    imported(tmp_path, "first")
    imported(tmp_path, "second", known_views=5)
    loaded = load_cascade_zero123(
        Wanted(str(tmp_path / "weights"), use_matte=False, photo_elevation_deg=10.0)
    )
    assert [used.name for used in loaded.cards] == ["efficientnet-lite0", "first", "second"]
    assert isinstance(loaded.models.refiner, Zero123Views)
    assert loaded.models.steps == (25, 50)
    assert loaded.models.refiner.options.size_px == 16
    assert isinstance(loaded.models.guide(loaded.models.base, front()), Zero123Guide)
    assert drawn(loaded).rgb.shape == (1, 16, 16, 3)


def test_base_and_refiner_share_the_memory(tmp_path: Path) -> None:
    imported(tmp_path, "first")
    imported(tmp_path, "second", known_views=5)
    wanted = Wanted(str(tmp_path / "weights"), use_matte=False, photo_elevation_deg=10.0)
    one = room_for([asked_of_zero123(named(f"{tmp_path}/weights/first.json")[0])], CPU, 1.0)
    # Enough for one of them, too little for both.
    limit = 1.2 * one.plan.peak_bytes / GB
    with pytest.raises(ValueError, match=r"is not enough: at least .* by (first|second): net "):
        load_cascade_zero123(replace(wanted, memory_gb=limit))


def test_a_distillation_is_planned_with_the_refiner_s_way_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(tmp_path, "first")
    imported(tmp_path, "second", known_views=5)
    wanted = Wanted(str(tmp_path / "weights"), use_matte=False, photo_elevation_deg=10.0)

    planned: list[list[int]] = []

    def watched(asked: list[Asked], device: torch.device, memory_gb: float | None) -> Room:
        planned.append([each.drawn.judged for each in asked])
        return room_for(asked, device, memory_gb)

    monkeypatch.setattr("roundview.loaders.cascade_zero123.room_for", watched)
    load_cascade_zero123(wanted)
    load_cascade_zero123(wanted, way="sds")
    assert planned == [[0, 0], [0, DRAFT.sds_views]]


def test_where_it_is_narrow_fewer_views_are_drawn_at_a_time(tmp_path: Path) -> None:
    imported(tmp_path, "first")
    (card,) = named(str(tmp_path / "weights"))
    plan = MemoryPlan(decoded_at_once=1)
    assert zero123_views(card, Room(plan, CPU)).options.together == 1
    assert zero123_views(card, Room(MemoryPlan(), CPU)).options.together == 2


def test_a_base_without_a_refiner_is_used_twice_and_said_to_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    imported(tmp_path, "stable-one")
    with caplog.at_level(logging.WARNING):
        loaded = load_cascade_zero123(
            Wanted(str(tmp_path / "weights"), use_matte=False, photo_elevation_deg=10.0)
        )
    assert "without having been trained for it" in caplog.text
    assert loaded.models.base is loaded.models.refiner
    assert loaded.models.base.options.stable


def test_a_checkpoint_without_image_tower_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": zero123_state(tower=False)}, tmp_path / "bare.ckpt")
    import_checkpoint(tmp_path / "bare.ckpt", "zero123", tmp_path / "weights", name="bare")
    with pytest.raises(ValueError, match="lacks its autoencoder or image tower"):
        load_cascade_zero123(Wanted(str(tmp_path / "weights"), use_matte=False))


def test_the_shipped_pair_is_loaded_by_default() -> None:
    loaded = load_cascade_zero123(Wanted(use_matte=False, photo_elevation_deg=10.0))
    assert "cascade-small" in {used.name for used in loaded.cards}
    assert loaded.models.steps == (1, 1)
    one, two = (loaded.counted[part].state_dict() for part in ("base", "refiner"))
    assert one.keys() == two.keys()
    assert not torch.equal(one["to_velocity.weight"], two["to_velocity.weight"])
