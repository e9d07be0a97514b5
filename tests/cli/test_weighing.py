import json
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import zero123_state
from safetensors.torch import load_file, save_file

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


def test_parity_prints_the_errors_of_every_output(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = repository / "tests" / "golden"
    files = [str(golden / f"mvdream_unet.{kind}.safetensors") for kind in ("weights", "io")]
    assert run(["weights", "parity", *files]) == 0
    assert json.loads(capsys.readouterr().out)["eps"] < 1e-5


def test_parity_fails_when_an_output_is_off(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = repository / "tests" / "golden"
    fields = load_file(golden / "mvdream_unet.io.safetensors")
    save_file({**fields, "eps": fields["eps"] + 1e-3}, tmp_path / "io.safetensors")
    weights = str(golden / "mvdream_unet.weights.safetensors")
    assert run(["weights", "parity", weights, str(tmp_path / "io.safetensors")]) == 1
    assert "over the tolerance: eps" in capsys.readouterr().err
    assert run(["weights", "parity", weights, str(tmp_path / "none")]) == 2
    assert "is no file" in capsys.readouterr().err


def test_a_checkpoint_is_imported_with_a_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": zero123_state()}, tmp_path / "z.ckpt")
    out = str(tmp_path / "out")
    assert run(["weights", "import", str(tmp_path / "z.ckpt"), "--kind", "zero123", "-o", out]) == 0
    assert "z.safetensors" in capsys.readouterr().out
    assert run(["weights", "verify", out]) == 0
    assert run(["weights", "import", str(tmp_path / "z.ckpt"), "--kind", "svd", "-o", out]) == 2
    assert "a video UNet has a vector" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": zero123_state(tower=False)}, tmp_path / "x.ckpt")
    whole = (tmp_path / "x.ckpt").read_bytes()
    (tmp_path / "x.ckpt").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    args = ["weights", "import", str(tmp_path / "x.ckpt"), "--kind", "zero123", "-o", str(out)]
    assert run(args) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "is no whole checkpoint" in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert not out.exists()


def test_public_checkpoints_are_listed_with_licence_and_memory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["weights", "list", "--public"]) == 0
    assert "no commercial use; gated" in capsys.readouterr().out
    assert run(["weights", "list", "--public", "--json"]) == 0
    assert {"zero123-xl", "isotropic3d"} <= {c["name"] for c in json.loads(capsys.readouterr().out)}
    assert run(["weights", "pull", "nothing", "-o", "x"]) == 2


def test_an_imported_checkpoint_is_exported_for_others_and_ours_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": zero123_state()}, tmp_path / "z.ckpt")
    card, folder = str(tmp_path / "out"), tmp_path / "folder"
    run(["weights", "import", str(tmp_path / "z.ckpt"), "--kind", "zero123", "-o", card])
    assert run(["weights", "export", card, "-o", str(folder)]) == 0
    assert (folder / "unet" / "config.json").is_file()
    assert run(["weights", "export", card, "-o", str(folder), "--format", "pickle"]) == 2
    capsys.readouterr()
    assert run(["weights", "export", "orbit-small", "-o", str(tmp_path / "no")]) == 2
    assert "is our own" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_public_checkpoint_is_shown_before_it_is_pulled(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["weights", "show", "sd-1.5"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "sd1"
    assert told["bytes"] == 4_265_146_304
    assert told["commercial_use"] is True
    # A file of the folder that is called so goes on being found.
    assert run(["weights", "show", "orbit-small"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "orbit"
