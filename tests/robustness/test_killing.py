"""The short form of `killing`: the cheap victims, a few times each."""

from pathlib import Path

import pytest

from .killing import Tally, kill_often
from .victims import VICTIMS


def test_all_long_commands_are_victims() -> None:
    assert VICTIMS.keys() == {"make", "train", "eval", "batch"}


@pytest.mark.slow
@pytest.mark.parametrize("name", VICTIMS)
def test_a_killed_run_goes_on_to_the_same_bytes(name: str, tmp_path: Path) -> None:
    tally = kill_often(name, 2, tmp_path)
    assert isinstance(tally, Tally)
    assert tally.kills == 2
    assert tally.differ == []
