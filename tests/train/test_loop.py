import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from roundview.train.loop import LoopSettings, learning_rate, train

SETTINGS = LoopSettings(steps=20, learning_rate=0.05, warmup=2, save_every=5, ema=0.5)


def line() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(1, 1)


def fit_line(module: nn.Module, rng: Generator) -> Tensor:
    x = torch.rand(8, 1, generator=rng)
    return (module(x) - (2 * x + 1)).square().mean()


def test_a_line_is_learnt(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=400, weight_decay=0.0)
    made = train(line(), fit_line, tmp_path, settings=settings)
    assert isinstance(made, nn.Linear)
    assert abs(float(made.weight.detach()) - 2) < 0.05
    assert abs(float(made.bias.detach()) - 1) < 0.05
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 400


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = train(line(), fit_line, tmp_path / "whole", settings=SETTINGS).state_dict()
    calls = 0

    def dies(module: nn.Module, rng: Generator) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 13:
            raise KeyboardInterrupt
        return fit_line(module, rng)

    with pytest.raises(KeyboardInterrupt):
        train(line(), dies, tmp_path / "killed", settings=SETTINGS)
    resumed = train(line(), fit_line, tmp_path / "killed", settings=SETTINGS, resume=True)
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, whole[name])


def test_the_rate_rises_stays_and_falls() -> None:
    settings = LoopSettings(steps=100, learning_rate=1.0, warmup=10, cooldown=0.2)
    assert learning_rate(0, settings) == pytest.approx(0.1)
    assert learning_rate(50, settings) == 1.0
    assert learning_rate(90, settings) == pytest.approx(0.5)
    assert learning_rate(99, settings) == pytest.approx(0.05)
