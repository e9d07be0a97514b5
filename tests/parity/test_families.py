"""Original inputs and outputs; all families where ROUNDVIEW_FIXTURES names a folder with them."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from roundview.parity import Fixture, check_parity, read_fixture
from roundview.parity.families import family_of

MORE = Path(os.environ.get("ROUNDVIEW_FIXTURES", "nowhere"))
PAIRS = sorted(
    (path, MORE / path.name.replace(".weights.", ".io.")) for path in MORE.glob("*.weights.*")
)


def mvdream(repository: Path) -> Fixture:
    golden = repository / "tests" / "golden"
    return read_fixture(
        golden / "mvdream_unet.weights.safetensors", golden / "mvdream_unet.io.safetensors"
    )


def test_the_original_mvdream_is_met(repository: Path) -> None:
    found = check_parity(mvdream(repository))
    assert found.keys() == {"eps"}
    error, most = found["eps"]
    assert error <= most / 10


def test_one_changed_weight_is_noticed(repository: Path) -> None:
    fixture = mvdream(repository)
    name = "model.diffusion_model.out.2.bias"
    weights = {**fixture.weights, name: fixture.weights[name] + 0.1}
    error, most = check_parity(replace(fixture, weights=weights))["eps"]
    assert error > most


def test_a_missing_weight_is_named(repository: Path) -> None:
    fixture = mvdream(repository)
    weights = dict(fixture.weights)
    del weights["model.diffusion_model.out.2.bias"]
    with pytest.raises(ValueError, match=r"lacks out\.2\.bias"):
        check_parity(replace(fixture, weights=weights))


def test_strange_weights_and_empty_fixtures_are_refused(repository: Path) -> None:
    with pytest.raises(ValueError, match="no supported family"):
        family_of(Fixture({"a.b": torch.ones(1)}, {}, {}))
    with pytest.raises(ValueError, match="no output that is known"):
        check_parity(replace(mvdream(repository), fields={}))


@pytest.mark.parametrize(("weights", "io"), PAIRS, ids=[path.name for path, _ in PAIRS])
def test_every_original_at_hand_is_met(weights: Path, io: Path) -> None:
    for name, (error, most) in check_parity(read_fixture(weights, io)).items():
        assert error <= most, name
