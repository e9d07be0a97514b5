from pathlib import Path

import pytest
import torch

from roundview.train.checkpoints import load_checkpoint, save_checkpoint


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "checkpoint.pt"
    save_checkpoint({"step": 3, "weights": {"a": torch.arange(4.0)}}, path)
    state = load_checkpoint(path)
    assert state["step"] == 3
    assert torch.equal(state["weights"]["a"], torch.arange(4.0))


def test_a_save_that_fails_leaves_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"step": 1}, path)
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        save_checkpoint({"step": 2, "cannot": (i for i in range(3))}, path)
    assert load_checkpoint(path)["step"] == 1


def test_another_version_s_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"step": 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="without --resume"):
        load_checkpoint(tmp_path / "checkpoint.pt")
