from pathlib import Path

import pytest
import torch

from roundview.train.shards import join_shards, save_shards
from roundview.weights import Card, load_tensors


def about(folder: Path) -> Card:
    return Card("thing", "orbit", "", "", "Apache-2.0", "here", facts={"steps": 3}, folder=folder)


def test_what_is_cut_is_put_together_again(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    tensors = {
        "large": torch.randn(300, 400, generator=rng),
        "small": torch.randn(7, generator=rng),
        "count": torch.tensor(5),
        "other": torch.randn(50, 400, generator=rng),
    }
    paths = save_shards(tensors, about(tmp_path / "cut"), file_bytes=200_000)
    assert len(paths) == 4
    assert all(path.stat().st_size <= 200_000 for path in paths)
    made = join_shards(tmp_path / "cut", tmp_path / "whole")
    assert made.facts["steps"] == 3
    again = load_tensors(made)
    assert again.keys() == tensors.keys()
    assert int(again["count"]) == 5
    for name, value in tensors.items():
        assert torch.equal(again[name], value.half() if value.is_floating_point() else value)


def test_a_network_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="smaller network"):
        save_shards({"large": torch.zeros(31_000_000, dtype=torch.half)}, about(tmp_path))


def test_missing_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no"):
        join_shards(tmp_path, tmp_path)
    (path,) = save_shards({"a": torch.ones(1)}, about(tmp_path))
    path.unlink()
    with pytest.raises(ValueError, match="thing-1-of-1"):
        join_shards(tmp_path, tmp_path / "whole")
