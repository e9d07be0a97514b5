import sys
import types
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import imagedream_state, zero123_state, zero123plus_folder
from safetensors.torch import save_file

from roundview.diffusion.checkpoints.families import FAMILIES
from roundview.public import public_checkpoint, public_checkpoints, pull
from roundview.weights import WeightsMissing, list_cards


class GatedRepoError(Exception):
    pass


def hub(monkeypatch: pytest.MonkeyPatch, answer: Path | Exception) -> list[tuple[str, str, bool]]:
    """Put a hub in place that gives one file, or fails."""
    asked = []

    def download(repository: str, file: str, *, local_files_only: bool) -> str:
        asked.append((repository, file, local_files_only))
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    module = types.ModuleType("huggingface_hub")

    def folder(repository: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        assert not any("py" in pattern for pattern in allow_patterns)
        return download(repository, "", local_files_only=local_files_only)

    module.hf_hub_download = download  # pyright: ignore[reportAttributeAccessIssue]
    module.snapshot_download = folder  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return asked


def test_every_public_checkpoint_can_be_imported_and_states_its_licence() -> None:
    names = [found.name for found in public_checkpoints()]
    assert len(set(names)) == len(names)
    for found in public_checkpoints():
        assert found.kind in FAMILIES
        assert found.licence
        assert found.purpose
        assert found.memory_gb > 0
        assert len(found.sha256) in (0, 64)
        # A hash is of one file.
        assert found.file or not found.sha256


def test_a_checkpoint_is_fetched_imported_and_labelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"state_dict": zero123_state()}, tmp_path / "zero123-xl.ckpt")
    asked = hub(monkeypatch, tmp_path / "zero123-xl.ckpt")
    pull("zero123-xl", tmp_path / "out")
    assert asked == [("cvlab/zero123-weights", "zero123-xl.ckpt", False)]
    (card,) = list_cards(tmp_path / "out")
    assert card.name == "zero123-xl"
    assert "OpenRAIL" in card.licence
    assert card.source == "https://huggingface.co/cvlab/zero123-weights, zero123-xl.ckpt"
    assert card.facts["memory_gb"] == 6


def test_a_folder_is_fetched_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub(monkeypatch, zero123plus_folder(tmp_path / "hub"))
    card = pull("zero123plus-v1.2", tmp_path / "out")
    assert asked == [("sudo-ai/zero123plus-v1.2", "", False)]
    assert card.source == "https://huggingface.co/sudo-ai/zero123plus-v1.2, the folder"
    assert not card.commercial_use
    assert card.settings["options"]["photo_std"] == 0.8


def test_a_file_with_another_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(zero123_state(), tmp_path / "isotropic3d.ckpt")
    hub(monkeypatch, tmp_path / "isotropic3d.ckpt")
    with pytest.raises(ValueError, match="its hash differs"):
        pull("isotropic3d", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_offline_nobody_is_asked_and_how_it_is_used_is_on_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(imagedream_state(), tmp_path / "local.safetensors")
    asked = hub(monkeypatch, tmp_path / "local.safetensors")
    card = pull("imagedream-local", tmp_path / "out", offline=True)
    assert asked == [("Peng-Wang/ImageDream", "sd-v2.1-base-4view-ipmv-local.pt", True)]
    assert card.settings["options"] == {"pixel": False}
    assert list_cards(tmp_path / "out")[0].settings["options"] == {"pixel": False}


def test_a_gated_model_says_where_its_licence_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(monkeypatch, GatedRepoError("401"))
    with pytest.raises(WeightsMissing, match=r"accept its licence at .*stabilityai/sv3d"):
        pull("sv3d-u", tmp_path)


def test_an_unreachable_hub_says_what_else_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(monkeypatch, ConnectionError("no route"))
    with pytest.raises(WeightsMissing, match=r"no route.*by hand and run `roundview weights imp"):
        pull("mvdream-sd21", tmp_path)


def test_what_is_not_on_the_hub_is_fetched_by_hand(tmp_path: Path) -> None:
    told = r"hi3d-1 is on Google Drive: .*Hi3D-Official; .*import first_stage\.pt --kind hi3d"
    with pytest.raises(WeightsMissing, match=told):
        pull("hi3d-1", tmp_path)


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsMissing, match=r"pip install 'roundview\[hub\]'"):
        pull("mvdream-sd21", tmp_path)


def test_unknown_names_are_told() -> None:
    with pytest.raises(ValueError, match="there are: zero123-xl"):
        public_checkpoint("zero")
