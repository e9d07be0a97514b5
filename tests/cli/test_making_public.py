"""`roundview make --weights` with checkpoints in their authors' own layout, for every recipe.

The networks are of reduced width and of random numbers, so what is made means nothing; but all that
stands between a downloaded file and an asset is run: import, cards, loaders, recipe, export.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints_tiny import (
    hi3d_second_state,
    hi3d_state,
    imagedream_state,
    isotropic3d_state,
    midas_state,
    mvdream_state,
    sd1_state,
    sd2_depth_state,
    svd_state,
    zero123_state,
)
from fakes import block, photo_of
from PIL import Image as PilImage
from safetensors.torch import save_file
from torch import Tensor

from roundview.cli import run
from roundview.diffusion.depth2image import Rgnv
from roundview.export.glb import load_glb
from roundview.export.transforms import load_views
from roundview.methods import method_of
from roundview.recipes.hifi123_refine import Refining
from roundview.weights import Card, list_cards, save_card


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = photo_of(block(), size_px=64)
    assert image.alpha is not None
    rgb = PilImage.fromarray((image.rgb.numpy() * 255).round().astype("uint8"))
    rgb.putalpha(PilImage.fromarray((image.alpha.numpy() * 255).round().astype("uint8")))
    rgb.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def imported(kind: str, path: Path, **settings: object) -> None:
    """Bring a file in by the command, and state how it is used as a user would in its card.

    Merges are put beside it, of which only those that read words know.
    """
    weights = path.parent / "weights"
    assert run(["weights", "import", str(path), "--kind", kind, "-o", str(weights)]) == 0
    made: Card = next(card for card in list_cards(weights) if card.name == path.stem)
    save_card(replace(made, settings={**made.settings, **settings}))
    if "text_tower" in made.settings:
        (weights / f"{path.stem}.merges.txt").write_text("#version\na b</w>\n")


def lightning(state: dict[str, Tensor], path: Path) -> Path:
    torch.save({"state_dict": state, "global_step": 1}, path)
    return path


def deepspeed(state: dict[str, Tensor], path: Path) -> Path:
    torch.save({"module": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    return path


def flat_pickle(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path)
    return path


def flat(state: dict[str, Tensor], path: Path) -> Path:
    save_file(state, path)
    return path


def made(
    recipe: str,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    prompt: str | None = None,
    **settings: object,
) -> dict[str, object]:
    """Run `roundview make` with few steps; give the record of what it wrote."""
    qualities = method_of(recipe).qualities
    monkeypatch.setattr("roundview.export.asset._TURNTABLE_FRAMES", 2)
    monkeypatch.setattr("roundview.export.asset._TURNTABLE_PX", 32)
    monkeypatch.setitem(qualities, "draft", replace(qualities["draft"], **settings))
    out = photo.parent / "out"
    args = ["make", str(photo), "-o", str(out), "--recipe", recipe, "--quality", "draft"]
    args += ["--weights", str(photo.parent / "weights"), "--photo-elevation-deg", "10", "--quiet"]
    args += ["--faces", "400", "--texture-size", "64", "--device", "cpu"]
    args += [] if prompt is None else ["--prompt", prompt]
    assert run(args) == 0
    assert len(load_glb(out / "asset.glb").faces) > 0
    assert len(load_views(out / "views")) > 0
    return json.loads((out / "record.json").read_text())


def names_in(record: dict[str, object]) -> set[str]:
    weights = record["weights"]
    assert isinstance(weights, list)
    return {each["name"] for each in weights}


HIFI = {
    "coarse_steps": 4,
    "coarse_px": (12, 16),
    "rgsd": Rgnv(steps=4, kept_steps=2, guidance=1.0),
    "tet_cells": 16,
    "refining": Refining(steps=4, size_px=32, supersample=1),
    "view_px": 32,
    "fit_steps": 5,
}
RING = {"frames": 4, "size_px": 64, "steps": 2}


def four_views() -> dict[str, Any]:
    draft = method_of("isotropic3d").qualities["draft"]
    return {
        "steps": 4,
        "px": (12, 16),
        "views": (4, 4),
        "field": replace(draft.field, samples=24, hidden=16),
        "meshing": replace(draft.meshing, resolution=24, view_px=32, fit_steps=10),
    }


def test_im3d_draws_with_stable_video_diffusion(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported("svd", flat(svd_state(), photo.parent / "svd.safetensors"), ring=RING)
    record = made("im3d", photo, monkeypatch, redraw_after=(10,), fit_steps=20, mesh_resolution=32)
    assert "svd" in names_in(record)


def test_hi3d_draws_with_both_published_stages(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported("hi3d", deepspeed(hi3d_state(), photo.parent / "first_stage.pt"), ring=RING)
    use = {"frames": 4, "size_px": 64, "steps": 2}
    imported("hi3d", deepspeed(hi3d_second_state(), photo.parent / "second.pt"), refining=use)
    record = made(
        "hi3d",
        photo,
        monkeypatch,
        fit_steps=20,
        ring_views=4,
        between=4,
        field_px=24,
        field_steps=10,
        mesh_resolution=24,
    )
    assert {"first_stage", "second"} <= names_in(record)


def test_cascade_zero123_draws_with_base_and_refiner(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"size_px": 16, "together": 4}
    imported("zero123", lightning(zero123_state(), photo.parent / "xl.ckpt"), options=options)
    second = lightning(zero123_state(), photo.parent / "refiner.ckpt")
    imported("zero123", second, options=options, known_views=5)
    record = made(
        "cascade-zero123",
        photo,
        monkeypatch,
        base_steps=2,
        refiner_steps=2,
        ring_views=4,
        more_rings=(),
        size_px=32,
        fit_steps=20,
        mesh_resolution=24,
    )
    assert {"xl", "refiner"} <= names_in(record)


def test_hifi123_is_guided_by_four_published_checkpoints(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, seen = {"size_px": 16, "together": 4}, {"size_px": 32}
    imported("zero123", lightning(zero123_state(), photo.parent / "xl.ckpt"), options=drawn)
    imported("sd2-depth", lightning(sd2_depth_state(), photo.parent / "depth.ckpt"), options=seen)
    imported("dpt", flat(midas_state(), photo.parent / "midas.safetensors"))
    imported("sd1", flat(sd1_state(), photo.parent / "words.safetensors"), options=seen)
    record = made("hifi123", photo, monkeypatch, prompt="ab", **HIFI)
    assert {"xl", "depth", "midas", "words"} <= names_in(record)
    settings = record["settings"]
    assert isinstance(settings, dict)
    assert settings["refine_px"] == 32


def test_isotropic3d_is_guided_by_the_published_checkpoint(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {"size_px": 64, "latent_px": 8}
    imported(
        "isotropic3d", lightning(isotropic3d_state(), photo.parent / "iso.ckpt"), options=drawn
    )
    record = made("isotropic3d", photo, monkeypatch, **four_views())
    assert "iso" in names_in(record)


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        pytest.param("mvdream", mvdream_state, marks=pytest.mark.slow),
        ("imagedream", imagedream_state),
    ],
)
def test_isotropic3d_is_guided_by_models_that_read_words(
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    state: Callable[[], dict[str, Tensor]],
) -> None:
    drawn = {"size_px": 64, "latent_px": 8}
    imported(kind, flat_pickle(state(), photo.parent / "four.pt"), options=drawn)
    record = made("isotropic3d", photo, monkeypatch, prompt="ab", **four_views())
    assert "four" in names_in(record)
    settings = record["settings"]
    assert isinstance(settings, dict)
    assert settings["guidance"] == (50.0 if kind == "mvdream" else 5.0)


@pytest.mark.slow
def test_im3d_draws_four_views_with_imagedream(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {"size_px": 64, "latent_px": 8}
    imported("imagedream", flat_pickle(imagedream_state(), photo.parent / "four.pt"), options=drawn)
    record = made(
        "im3d",
        photo,
        monkeypatch,
        prompt="ab",
        redraw_after=(10,),
        fit_steps=20,
        mesh_resolution=32,
    )
    assert "four" in names_in(record)
