import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from roundview.train.checkpoints import load_checkpoint
from roundview.train.logs import read_log
from roundview.train.loop import LoopSettings, learning_rate, train

SETTINGS = LoopSettings(steps=20, learning_rate=0.05, warmup=2, save_every=5, ema=0.5)


def line() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(1, 1)


def fit_line(module: nn.Module, rng: Generator) -> Tensor:
    x = torch.rand(8, 1, generator=rng)
    return (module(x) - (2 * x + 1)).square().mean()


def weights_after(directory: Path, settings: LoopSettings, *, resume: bool = False) -> Tensor:
    made = train(line(), fit_line, directory, settings=settings, resume=resume)
    return torch.cat([p.detach().reshape(-1) for p in made.parameters()])


def losses(directory: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in read_log(directory)]


def test_a_line_is_learnt(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=400, weight_decay=0.0)
    made = train(line(), fit_line, tmp_path, settings=settings)
    assert isinstance(made, nn.Linear)
    assert abs(float(made.weight.detach()) - 2) < 0.05
    assert abs(float(made.bias.detach()) - 1) < 0.05
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 400
    assert last["steps_per_second"] > 0


def test_some_parameters_have_a_rate_of_their_own(tmp_path: Path) -> None:
    first = [p.detach().clone() for p in line().parameters()]
    one = replace(SETTINGS, steps=1, warmup=1, ema=0.0, rates=(("bias", 0.0),))
    plain = train(line(), fit_line, tmp_path / "a", settings=replace(one, rates=()))
    slowed = train(line(), fit_line, tmp_path / "b", settings=one)
    moved = [
        [abs(float(p.detach() - start)) for p, start in zip(net.parameters(), first, strict=True)]
        for net in (plain, slowed)
    ]
    assert moved[0][1] > 0.01
    assert moved[1] == [moved[0][0], 0.0]  # The weight moves alike, the bias does not.


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
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


KILLED = """
import sys, time
from pathlib import Path
import torch
from torch import nn
from roundview.train.loop import LoopSettings, train

def run(directory, pause):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.GELU(), nn.Linear(16, 1))
    settings = LoopSettings(steps=260, learning_rate=0.01, warmup=5, save_every=7)

    def loss(module, rng):
        x = torch.rand(8, 4, generator=rng)
        time.sleep(pause)
        return (module(x)[:, 0] - x.prod(dim=1)).square().mean()

    train(network, loss, directory, settings=settings, resume=True)

if __name__ == "__main__":
    run(Path(sys.argv[1]), 0.004)
"""


def test_a_run_killed_anywhere_leaves_the_same_loss_curve_to_the_bit(tmp_path: Path) -> None:
    program: dict[str, Any] = {}
    exec(KILLED, program)
    program["run"](tmp_path / "whole", 0.0)
    again = tmp_path / "again"
    victim = subprocess.Popen([sys.executable, "-c", KILLED, str(again)])
    checkpoint, waited_until = again / "checkpoint.pt", time.monotonic() + 120
    while time.monotonic() < waited_until and victim.poll() is None:
        if checkpoint.is_file() and load_checkpoint(checkpoint)["step"] >= 60:
            break
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait(30) == -signal.SIGKILL  # It was still running.
    assert losses(again) == losses(tmp_path / "whole")[: len(losses(again))]
    program["run"](again, 0.0)
    assert losses(again) == losses(tmp_path / "whole")
    first, second = (load_checkpoint(d / "checkpoint.pt") for d in (again, tmp_path / "whole"))
    for name, value in second["average"].items():
        assert torch.equal(first["average"][name], value)


def test_two_micro_batches_are_one_of_twice_the_size(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def watched(module: nn.Module, rng: Generator) -> Tensor:
        x = torch.rand(8, 1, generator=rng)
        seen.append(x)
        return (module(x) - (2 * x + 1)).square().mean()

    settings = replace(SETTINGS, steps=1, clip=1e9)
    train(line(), watched, tmp_path / "two", settings=replace(settings, accumulate=2))
    assert not torch.equal(seen[0], seen[1])  # Each has its own random stream.

    def at_once(module: nn.Module, _: Generator) -> Tensor:
        x = torch.cat(seen[:2])
        return (module(x) - (2 * x + 1)).square().mean()

    train(line(), at_once, tmp_path / "one", settings=settings)
    two, one = (load_checkpoint(tmp_path / d / "checkpoint.pt") for d in ("two", "one"))
    for name, value in one["network"].items():
        torch.testing.assert_close(two["network"][name], value, rtol=1e-5, atol=1e-6)


def test_time_that_has_run_out_stops_a_run_and_it_can_be_gone_on_with(tmp_path: Path) -> None:
    weights_after(tmp_path, replace(SETTINGS, steps=100_000, minutes=0.003))
    stopped = load_checkpoint(tmp_path / "checkpoint.pt")["step"]
    assert 0 < stopped < 100_000
    weights_after(tmp_path, replace(SETTINGS, steps=stopped + 3), resume=True)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == stopped + 3


def test_a_loss_that_is_no_number_stops_the_run_before_it_is_saved(tmp_path: Path) -> None:
    calls = 0

    def breaks(module: nn.Module, rng: Generator) -> Tensor:
        nonlocal calls
        calls += 1
        return fit_line(module, rng) * (float("nan") if calls > 12 else 1.0)

    with pytest.raises(FloatingPointError, match="step 10 "):
        train(line(), breaks, tmp_path, settings=SETTINGS)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 10


def test_sheets_show_the_average_and_disturb_nothing(tmp_path: Path) -> None:
    shown: list[float] = []

    def sheet(module: nn.Module) -> Tensor:
        assert isinstance(module, nn.Linear)
        torch.rand(3)
        shown.append(float(module.weight.detach()))
        return torch.full((2, 3, 3), 0.5)

    plain = weights_after(tmp_path / "plain", SETTINGS)
    made = train(line(), fit_line, tmp_path / "drawn", settings=SETTINGS, sheet=sheet)
    drawn = torch.cat([p.detach().reshape(-1) for p in made.parameters()])
    assert torch.equal(plain, drawn)
    assert shown[-1] == float(drawn[0])
    assert len(list((tmp_path / "drawn" / "sheets").glob("*.png"))) == 4


def test_another_network_s_checkpoint_is_refused(tmp_path: Path) -> None:
    weights_after(tmp_path, SETTINGS)
    with pytest.raises(ValueError, match="another network"):
        train(nn.Linear(1, 1, bias=False), fit_line, tmp_path, settings=SETTINGS, resume=True)


def test_steps_must_be_positive() -> None:
    with pytest.raises(ValueError, match="accumulate must be at least 1, got 0"):
        LoopSettings(accumulate=0)


def test_the_rate_rises_stays_and_falls() -> None:
    settings = LoopSettings(steps=100, learning_rate=1.0, warmup=10, cooldown=0.2)
    assert learning_rate(0, settings) == pytest.approx(0.1)
    assert learning_rate(50, settings) == 1.0
    assert learning_rate(90, settings) == pytest.approx(0.5)
    assert learning_rate(99, settings) == pytest.approx(0.05)


def test_the_cosine_falls_to_half_in_the_middle() -> None:
    settings = LoopSettings(steps=110, learning_rate=1.0, warmup=10, cosine=True)
    assert learning_rate(9, settings) == pytest.approx(1.0)
    assert learning_rate(60, settings) == pytest.approx(0.5)
    assert learning_rate(110, settings) == pytest.approx(0.0)
