from pathlib import Path

import pytest
import torch

from roundview.cli import run
from roundview.cli.training import CARDS, Preset, render_set
from roundview.data.objects import find_objects
from roundview.data.shards import PRESETS, read_shard
from roundview.train import cards as trained
from roundview.train.cards import CARDS as TRAINABLE
from roundview.train.cards import TrainingRun
from roundview.weights import Card, card


def test_the_cards_offered_are_those_that_can_be_trained() -> None:
    assert CARDS == TRAINABLE


def test_without_data_generated_objects_are_learnt_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def instead(_: str, order: TrainingRun, *__: object, **___: object) -> Card:
        seen.append([item.name for item in find_objects(order.data)])
        assert order.start is not None
        assert "head.layers.0.weight" in order.start
        return card("elevation-small")

    monkeypatch.setattr("roundview.cli.training.GENERATED", 2)
    monkeypatch.setattr(trained, "train_card", instead)
    begun = ["--init", "elevation-small"]
    assert run(["train", "elevation-small", "-o", str(tmp_path), "--quiet", *begun]) == 0
    assert seen == [["000000", "000001"]]


def test_a_set_is_rendered_into_shards(tmp_path: Path) -> None:
    render_set(tmp_path, count=1, preset=Preset.zero123, size=8, workers=1, quiet=True)
    (item,) = read_shard(tmp_path / "shard-000000.tar")
    assert item.views.rgb.shape == torch.Size([12, 8, 8, 3])
    assert {str(preset) for preset in Preset} == PRESETS.keys()


def test_a_set_needs_objects_and_a_sound_part(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--count"):
        render_set(tmp_path)
    with pytest.raises(ValueError, match="i/n"):
        render_set(tmp_path, count=1, part="1")


def test_data_that_are_no_objects_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out"
    assert run(["train", "orbit-small", "-o", str(out), "--data", str(empty)]) == 2
    assert "holds no .glb file" in capsys.readouterr().err
    assert not out.exists()


def test_warmup_says_when_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["warmup"]) == 0
    assert "kernels are compiled" in capsys.readouterr().err
