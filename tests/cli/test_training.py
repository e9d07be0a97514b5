from pathlib import Path

import pytest

from roundview.cli import run
from roundview.cli.training import CARDS
from roundview.train.cards import CARDS as TRAINABLE


def test_the_cards_offered_are_those_that_can_be_trained() -> None:
    assert CARDS == TRAINABLE


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
