from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.data.procedural import procedural_object
from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.export.glb import glb_bytes
from roundview.loaders import load_features
from roundview.models import FeatureModel
from roundview.train.cards import TrainingRun, kind_of, train_card
from roundview.train.families import Parts
from roundview.weights import card, load_tensors


class Grey:
    """Features of one number."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.permute(0, 3, 1, 2)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


def data(directory: Path) -> Path:
    directory.mkdir()
    rng = np.random.default_rng(0)
    for i in range(2):
        (directory / f"{i}.glb").write_bytes(glb_bytes(procedural_object(rng)))
    return directory


def parts(name: str = "") -> Parts:
    def features() -> FeatureModel:
        return load_features() if name == "elevation-small" else Grey()

    def nothing() -> NoReturn:
        raise AssertionError("not asked for")

    return Parts(LatentAutoencoder, features, nothing, nothing)


@pytest.mark.parametrize(
    "name", ["autoencoder-small", "orbit-small", "elevation-small", "zero123-small"]
)
def test_training_leaves_weights_that_their_card_vouches_for(name: str, tmp_path: Path) -> None:
    run = TrainingRun(data(tmp_path / "data"), tmp_path / "out", steps=2, batch=2)
    made = train_card(name, run, parts(name))
    found = card(name, folder=tmp_path / "out")
    assert found.sha256 == made.sha256
    assert found.facts["steps"] == 2
    tensors = load_tensors(found)
    assert tensors
    if name == "autoencoder-small":
        settings: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in found.settings.items()
        }
        network = LatentAutoencoder(AutoencoderSize(**settings))
        network.load_state_dict(tensors)
        assert torch.isfinite(network.latent_std).all()


def test_an_unknown_card_is_refused(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="autoencoder-small"):
        train_card("dalle", run, parts())


def test_a_run_can_begin_with_finished_weights(tmp_path: Path) -> None:
    run = TrainingRun(data(tmp_path / "data"), tmp_path / "out", steps=1, batch=2)
    made, said = train_card("orbit-small", run, parts()), []
    again = replace(run, directory=tmp_path / "more", start=load_tensors(made))
    train_card("orbit-small", again, parts(), say=said.append)
    count = len(load_tensors(made))
    assert said == [f"began with {count} of {count} tensors"]


def test_a_card_says_what_its_loader_looks_for() -> None:
    assert kind_of("cascade-small") == "refiner_views"
    assert kind_of("video-orbit-small") == "video-orbit"
