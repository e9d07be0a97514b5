import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from roundview.train.checkpoints import load_checkpoint
from roundview.train.distributed import (
    World,
    average_gradients,
    gathered,
    join,
    mean_over,
    repeated_blocks,
    same_start,
    shard,
)
from roundview.train.logs import read_log

PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from torch import nn
from roundview.train.distributed import join, leave
from roundview.train.loop import LoopSettings, train

class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.last = nn.Linear(6, 1)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x).tanh()
        return self.last(x)

def loss(module, rng):
    x = torch.rand(8, 6, generator=rng)
    return (module(x)[:, 0] - x.prod(dim=1)).square().mean()

def run(directory, accumulate, shard=False):
    torch.manual_seed(join().rank)
    network = Deep()  # Other weights in each process: the first one's must win.
    settings = LoopSettings(
        steps=9, learning_rate=0.01, warmup=2, save_every=3, accumulate=accumulate, shard=shard
    )
    for part in (replace(settings, steps=5), settings):
        train(network, loss, directory, settings=part, resume=True)

if __name__ == "__main__":
    run(Path(sys.argv[1]), 1, sys.argv[2] == "shard")
    leave()
"""


def run_alone(directory: Path, accumulate: int) -> None:
    program: dict[str, Any] = {"__name__": "program"}
    exec(PROGRAM, program)
    program["run"](directory, accumulate)


def run_together(directory: Path, count: int, how: str = "replicate") -> None:
    """Start the processes as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(directory), how]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    for process in started:
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 0, said[-2000:]


def test_two_processes_learn_what_one_does_from_the_same_total_batch(tmp_path: Path) -> None:
    run_alone(tmp_path / "one", 2)
    run_together(tmp_path / "two", 2)
    one, two = read_log(tmp_path / "one"), read_log(tmp_path / "two")
    assert [row["step"] for row in two] == [row["step"] for row in one]
    for a, b in zip(one, two, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
    first, second = (load_checkpoint(tmp_path / d / "checkpoint.pt") for d in ("one", "two"))
    for name, value in first["average"].items():
        torch.testing.assert_close(second["average"][name], value, rtol=1e-4, atol=1e-6)


def test_a_network_kept_in_parts_learns_the_same_and_resumes(tmp_path: Path) -> None:
    run_alone(tmp_path / "plain", 1)
    run_together(tmp_path / "parts", 1, "shard")
    plain, parts = (load_checkpoint(tmp_path / d / "checkpoint.pt") for d in ("plain", "parts"))
    assert plain["step"] == parts["step"] == 9
    for name, value in plain["average"].items():
        torch.testing.assert_close(parts["average"][name], value, rtol=1e-5, atol=1e-6)


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert join() == World(0, 1)
    assert World().leads
    assert not World(1, 2).leads


def test_alone_nothing_is_changed() -> None:
    layer = nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    before = [p.detach().clone() for p in layer.parameters()]
    average_gradients(layer, World())
    same_start(layer, World())
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight.grad, torch.ones(1, 2))
    assert mean_over(torch.tensor(3.0), World()) == 3.0
    assert gathered([torch.ones(1)], World()) == [torch.ones(1)]


def test_repeated_blocks_are_the_members_of_the_outermost_lists() -> None:
    inner = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(1, 1)])})
    network = nn.ModuleDict({"down": nn.ModuleList([inner, nn.Linear(1, 1)]), "out": nn.Tanh()})
    assert [type(block).__name__ for block in repeated_blocks(network)] == ["ModuleDict", "Linear"]


def test_parts_need_a_process_group() -> None:
    with pytest.raises(ValueError, match="torchrun"):
        shard(nn.Linear(1, 1))
