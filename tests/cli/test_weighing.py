import json

import pytest

from roundview.cli import run
from roundview.weights import Card, list_cards


def test_all_shipped_weights_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["weights", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [card["name"] for card in listed] == [card.name for card in list_cards()]
    assert run(["weights", "list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(listed)


def test_a_card_is_shown_as_it_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["weights", "show", "u2netp"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["licence"] == "Apache-2.0"
    assert shown["kind"] == "matte"


def test_verify_says_which_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["weights", "verify"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{card.name}: whole" for card in list_cards()]


def test_missing_weights_are_exit_code_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = Card("orbit-small", "orbit", "gone.safetensors", "0", "Apache-2.0", "nowhere")
    monkeypatch.setattr("roundview.weights.list_cards", lambda *_: [gone])
    assert run(["weights", "verify", "orbit-small"]) == 3
    assert "roundview train orbit-small" in capsys.readouterr().err
