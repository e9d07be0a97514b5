import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from roundview.parity import Fixture, read_fixture


def test_half_precision_is_widened_and_metadata_joined(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2).half()}, tmp_path / "w", metadata={"config": '{"ch": 32}'})
    save_file({"x": torch.ones(2), "t": torch.tensor([1])}, tmp_path / "io", {"steps": "4"})
    fixture = read_fixture(tmp_path / "w", tmp_path / "io")
    assert fixture.weights["a"].dtype == torch.float32
    assert fixture.fields["t"].dtype == torch.int64
    assert fixture.config == {"ch": 32}
    assert fixture.facts["steps"] == "4"
    assert fixture.has("x", "t")
    assert not fixture.has("x", "y")


def test_one_file_may_hold_it_all(tmp_path: Path) -> None:
    both = {"sd.a.w": torch.ones(1), "in.x": torch.ones(2), "out.y": torch.ones(3)}
    save_file(both, tmp_path / "all")
    fixture = read_fixture(tmp_path / "all", tmp_path / "all")
    assert fixture.weights.keys() == {"a.w"}
    assert fixture.fields.keys() == {"x", "y"}


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"\x80\x04not safe")
    with pytest.raises(ValueError, match="no safetensors file"):
        read_fixture(tmp_path / "w", tmp_path / "w")


def test_a_configuration_must_be_there_and_be_json() -> None:
    with pytest.raises(ValueError, match="configuration"):
        _ = Fixture({}, {}, {}).config
    with pytest.raises(ValueError, match="no JSON"):
        _ = Fixture({}, {}, {"config": "{"}).config


def test_the_configuration_of_a_part_is_found_wherever_it_is() -> None:
    facts = {"note": "x", "config": json.dumps({"a": 1, "resampler": {"dim_head": 8}})}
    fixture = Fixture({}, {}, facts)
    assert fixture.sub_config("dim_head") == {"dim_head": 8}
    assert fixture.sub_config("nothing") is None
