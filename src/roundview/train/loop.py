"""The training loop: mixed precision, moving average, atomic checkpoints, exact resume, any world.

A step is made of micro-batches, each drawn from a random stream of its own, a lane: `accumulate`
lanes in each process. One process with two lanes and two processes with one lane see the same data,
so a run may be begun on some machines and gone on with on others.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..models import Report, silent
from .checkpoints import load_checkpoint, save_checkpoint
from .distributed import (
    World,
    agreed,
    average_gradients,
    gathered,
    in_parts_like,
    join,
    load_optimiser,
    mean_over,
    same_start,
    shard,
    whole,
    whole_optimiser,
)
from .logs import Journal, count_flops, measured_peak
from .recompute import recomputed

Loss = Callable[[nn.Module, Generator], Tensor]
"""Draws its own batch from the generator and gives the loss of the network on it."""
Sheet = Callable[[nn.Module], Tensor]
"""Draws a picture (h w 3, [0, 1]) of what the network can do by now."""

LOG_EVERY = 50
"""Steps whose mean loss is one line of the log."""
_LANES_APART = 1_000_003
"""Between the seeds of two lanes: a prime, so that lanes of runs with neighbouring seeds differ."""


@dataclass(frozen=True)
class LoopSettings:
    """How a network is trained; the defaults were chosen by us on the held-out training objects.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Peak of the schedule.
        warmup: Steps of linear rise.
        cooldown: Share of the steps in which the rate falls linearly to 0; constant before. The
            constant part does not depend on `steps`, so a run can be prolonged without loss.
        cosine: Fall along a half cosine from the end of the rise instead; `cooldown` then says
            nothing.
        rates: Factors of the rate for parameters whose names begin so; the first that fits.
        ema: Decay of the moving average of the weights.
        weight_decay: AdamW's, on matrices only.
        clip: Largest norm of the gradient.
        save_every: Steps between checkpoints.
        save_minutes: Minutes between further checkpoints; None for none.
        seed: Seed of everything random.
        accumulate: Micro-batches of a step in each process; their gradients are averaged.
        recompute: Compute the inside of the repeated blocks again on the way back, for memory.
        shard: Keep only a part of weights, gradients and optimiser in each process (FSDP).
        minutes: Stop after this time, with a checkpoint; None for no limit.
        finish_minutes: In the last so many of those minutes the rate falls linearly to 0.
    """

    steps: int = 1000
    learning_rate: float = 1e-3
    warmup: int = 100
    cooldown: float = 0.25
    cosine: bool = False
    rates: tuple[tuple[str, float], ...] = ()
    ema: float = 0.998
    weight_decay: float = 0.02
    clip: float = 1.0
    save_every: int = 250
    save_minutes: float | None = None
    seed: int = 0
    accumulate: int = 1
    recompute: bool = False
    shard: bool = False
    minutes: float | None = None
    finish_minutes: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        for name in ("steps", "accumulate", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def train(
    network: nn.Module,
    loss: Loss,
    directory: Path,
    *,
    settings: LoopSettings,
    resume: bool = False,
    report: Report = silent,
    sheet: Sheet | None = None,
) -> nn.Module:
    """Train a network where it stands and leave the moving average of its weights in it.

    Checkpoints go to `directory/checkpoint.pt` (written to another name and renamed, so that a kill
    at any time leaves a whole one), losses to `directory/log.jsonl`. Under `torchrun` or
    `accelerate launch` all processes train together and the first one writes.

    Args:
        network: Trained in place, on the device where it is.
        loss: Called once a micro-batch, with a generator on the CPU.
        directory: Where checkpoint and log are kept.
        settings: The recipe.
        resume: Go on from the checkpoint if there is one; the numbers come out as if the run had
            not been interrupted.
        report: Called with the fraction done.
        sheet: Called with the averaged network at every checkpoint; the picture is kept beside it.

    Raises:
        ValueError: If the checkpoint is another version's.
        FloatingPointError: If the loss is no longer a number. The checkpoint is from before.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with recomputed(network) if settings.recompute else nullcontext():
        run = _Run(network, loss, directory, settings)
        if resume and (directory / "checkpoint.pt").is_file():
            run.go_on()
        run.open_journal()
        try:
            while run.step < settings.steps and not run.out_of_time():
                run.take_step()
                last = run.step == settings.steps
                if run.step % LOG_EVERY == 0 or last:
                    run.log()
                if run.step % settings.save_every == 0 or last or run.save_is_due():
                    run.save(sheet)
                report(max(run.step / settings.steps, run.share_of_time()))
            if run.step > run.saved:
                run.save(sheet)
        finally:
            run.close()
    run.leave_average()
    return network


def learning_rate(step: int, settings: LoopSettings) -> float:
    """Rise linearly, stay, and fall linearly to 0 at the end (Hu et al., "MiniCPM", 2024: WSD).

    With `cosine`: rise, and fall along a half cosine (Loshchilov and Hutter, "SGDR", 2017).
    """
    rise = min(1.0, (step + 1) / max(settings.warmup, 1))
    if settings.cosine:
        done = (step - settings.warmup) / max(settings.steps - settings.warmup, 1)
        fall = 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
    else:
        left = settings.steps - step
        fall = min(1.0, left / max(settings.cooldown * settings.steps, 1))
    return settings.learning_rate * min(rise, fall)


@contextmanager
def half_precision(device: str = "cpu") -> Iterator[None]:
    """Run matrix products in bfloat16 where the processor multiplies it natively."""
    with torch.autocast(device, dtype=torch.bfloat16, enabled=device != "cpu" or _fast_bfloat16()):
        yield


def _fast_bfloat16() -> bool:
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


class _Run:
    """What changes while a network is trained, and the verbs of the loop."""

    def __init__(
        self, network: nn.Module, loss: Loss, directory: Path, settings: LoopSettings
    ) -> None:
        self.network, self.loss, self.settings = network, loss, settings
        self.directory = directory
        self.place = next(network.parameters()).device
        self.world: World = join()
        same_start(network, self.world)
        if settings.shard:
            shard(network)
        self.optimiser = _optimiser(network, settings)
        # The values are the network's own storage: steps change them in place.
        self.values = dict(network.state_dict())
        self.average = {k: v.detach().clone() for k, v in self.values.items()}
        first = self.world.rank * settings.accumulate
        seeds = [settings.seed + _LANES_APART * (first + i) for i in range(settings.accumulate)]
        self.lanes = [Generator().manual_seed(seed) for seed in seeds]
        self.step = self.saved = 0
        self.total = torch.zeros((), device=self.place)
        self.flops = self.seconds_before = 0.0
        self.began = self.saved_at = self.logged_at = time.monotonic()
        self.logged_step = 0
        self.journal: Journal | None = None

    def take_step(self) -> None:
        """Take one optimiser step and follow it with the moving average."""
        settings = self.settings
        rate = learning_rate(self.step, settings) * self._finish()
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        self.optimiser.zero_grad(set_to_none=True)
        if self.step == 0:  # Not after a resume: counting may round otherwise.
            self.flops = count_flops(self._accumulate)
        else:
            self._accumulate()
        if not settings.shard:
            average_gradients(self.network, self.world)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self.optimiser.step()
        self.step += 1
        self._blend(min(settings.ema, (1 + self.step) / (10 + self.step)))

    def log(self) -> None:
        """Write the mean loss since the last line, and the speed."""
        count = (self.step - 1) % LOG_EVERY + 1
        loss = mean_over(self.total, self.world) / count
        self.total = torch.zeros_like(self.total)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {self.step}; go on from the checkpoint of step "
                f"{self.saved} with a lower learning_rate"
            )
        now = time.monotonic()
        each = (now - self.logged_at) / max(self.step - self.logged_step, 1)
        self.logged_at, self.logged_step = now, self.step
        if self.journal is None:
            return
        values = {"loss": loss, "rate": self.optimiser.param_groups[0]["lr"]}
        values["seconds"] = round(self.seconds_before + now - self.began, 1)
        values |= {"steps_per_second": round(1 / max(each, 1e-9), 3)}
        values["tflops"] = round(self.flops / max(each, 1e-9) / 1e12, 4)
        values["of_peak"] = round(values["tflops"] * 1e12 / measured_peak(self.place.type), 3)
        self.journal.line(self.step, values)

    def save(self, sheet: Sheet | None) -> None:
        """Write the checkpoint, and the sheet of samples beside it."""
        if not math.isfinite(mean_over(self.total, self.world)):
            return  # The next line of the log will say so; the last good checkpoint stays.
        state: dict[str, Any] = {
            "step": self.step,
            "network": whole(self.values),
            "average": whole(self.average),
            "optimiser": whole_optimiser(self.optimiser),
            "lanes": gathered([lane.get_state() for lane in self.lanes], self.world),
            "global_rng": gathered([torch.get_rng_state()], self.world),
            "total": self.total.cpu(),
            "flops": self.flops,
            "seconds": self.seconds_before + time.monotonic() - self.began,
        }
        if self.world.leads:
            save_checkpoint(state, self.directory / "checkpoint.pt")
        self.saved, self.saved_at = self.step, time.monotonic()
        if sheet is not None:
            picture = self._of_average(sheet)
            if self.journal is not None:
                self.journal.sheet(self.step, picture)

    def go_on(self) -> None:
        """Take up the state of the checkpoint."""
        state = load_checkpoint(self.directory / "checkpoint.pt")
        self._load(self.values, state["network"])
        self._load(self.average, state["average"])
        load_optimiser(self.optimiser, state["optimiser"])
        if len(state["lanes"]) == self.world.size * len(self.lanes):
            first = self.world.rank * len(self.lanes)
            for i, lane in enumerate(self.lanes):
                lane.set_state(state["lanes"][first + i])
        else:  # Another number of micro-batches: other streams, but never those already seen.
            for lane in self.lanes:
                lane.manual_seed(lane.initial_seed() + state["step"] * 7919)
        if self.world.rank < len(state["global_rng"]):
            torch.set_rng_state(state["global_rng"][self.world.rank])
        self.step = self.saved = self.logged_step = state["step"]
        self.total = state["total"].to(self.place)
        self.flops, self.seconds_before = state["flops"], state["seconds"]

    def open_journal(self) -> None:
        """Begin the log, or go on with it; the first process only."""
        if self.world.leads:
            self.journal = Journal(self.directory, after_step=self.step)

    def close(self) -> None:
        """Close the log."""
        if self.journal is not None:
            self.journal.close()

    def leave_average(self) -> None:
        """Put the moving average into the network."""
        self._load(self.values, self.average)

    def share_of_time(self) -> float:
        """How much of `minutes` has passed, 0 without a limit."""
        passed = time.monotonic() - self.began
        return min(passed / (60 * self.settings.minutes), 1.0) if self.settings.minutes else 0.0

    def out_of_time(self) -> bool:
        """Whether `minutes` have passed, for all processes alike."""
        if self.settings.minutes is None:
            return False
        return agreed(self.share_of_time() >= 1, self.world, self.place)

    def save_is_due(self) -> bool:
        """Whether `save_minutes` have passed since the last checkpoint, for all alike."""
        if self.settings.save_minutes is None:
            return False
        late = time.monotonic() - self.saved_at >= 60 * self.settings.save_minutes
        return agreed(late, self.world, self.place)

    def _finish(self) -> float:
        """Share of the rate that is left towards the end of `minutes`; 0.02 at the least."""
        if not (self.settings.minutes and self.settings.finish_minutes):
            return 1.0
        left = self.settings.minutes * (1 - self.share_of_time())
        return min(1.0, max(left / self.settings.finish_minutes, 0.02))

    def _accumulate(self) -> None:
        for lane in self.lanes:
            value = self.loss(self.network, lane) / len(self.lanes)
            value.backward()
            self.total += value.detach().to(self.total)

    @torch.no_grad()
    def _blend(self, decay: float) -> None:
        for name, value in self.values.items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    @torch.no_grad()
    def _load(self, into: dict[str, Tensor], values: dict[str, Tensor]) -> None:
        if into.keys() != values.keys():
            odd = ", ".join(sorted(into.keys() ^ values.keys())[:3])
            raise ValueError(f"the checkpoint is of another network: {odd} is in one of them only")
        for name, value in values.items():
            into[name].copy_(in_parts_like(value, into[name]))

    def _of_average(self, sheet: Sheet) -> Tensor:
        """Call with the averaged weights in the network; nothing random is disturbed."""
        kept = {k: v.detach().clone() for k, v in self.values.items()}
        training = self.network.training
        self._load(self.values, self.average)
        with torch.random.fork_rng(), torch.no_grad():
            picture = sheet(self.network.eval())
        self._load(self.values, kept)
        self.network.train(training)
        return picture


def _optimiser(network: nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    weights = {name: p for name, p in network.named_parameters() if p.requires_grad}
    groups: list[dict[str, Any]] = []
    for factor in sorted({1.0, *(factor for _, factor in settings.rates)}):
        mine = [p for name, p in weights.items() if _factor(name, settings) == factor]
        for decay, kept in ((settings.weight_decay, True), (0.0, False)):
            part = [p for p in mine if (p.ndim >= 2) == kept]
            groups.append({"params": part, "weight_decay": decay, "factor": factor})
    fused = next(iter(weights.values())).is_cuda or None
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.99), fused=fused)


def _factor(name: str, settings: LoopSettings) -> float:
    return next((factor for start, factor in settings.rates if name.startswith(start)), 1.0)
