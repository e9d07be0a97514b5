"""The training loop: mixed precision, moving average, atomic checkpoints, exact resume."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..models import Report, silent


@dataclass(frozen=True)
class LoopSettings:
    """How a network is trained; the defaults were chosen by us on the held-out training objects.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Peak of the schedule.
        warmup: Steps of linear rise.
        cooldown: Share of the steps in which the rate falls linearly to 0; constant before. The
            constant part does not depend on `steps`, so a run can be prolonged without loss.
        ema: Decay of the moving average of the weights.
        weight_decay: AdamW's, on matrices only.
        clip: Largest norm of the gradient.
        save_every: Steps between checkpoints.
        seed: Seed of everything random.
    """

    steps: int = 1000
    learning_rate: float = 1e-3
    warmup: int = 100
    cooldown: float = 0.25
    ema: float = 0.998
    weight_decay: float = 0.02
    clip: float = 1.0
    save_every: int = 250
    seed: int = 0


def train(
    network: nn.Module,
    loss: Callable[[nn.Module, Generator], Tensor],
    directory: Path,
    *,
    settings: LoopSettings,
    resume: bool = False,
    report: Report = silent,
) -> nn.Module:
    """Train a network and leave the moving average of its weights in it.

    Checkpoints go to `directory/checkpoint.pt` (written to another name and renamed, so that a kill
    at any time leaves a whole one) and losses to `directory/log.jsonl`.

    Args:
        network: Trained in place.
        loss: Draws its own batch from the generator; called once a step.
        directory: Where checkpoint and log are kept.
        settings: The recipe.
        resume: Go on from the checkpoint if there is one; the numbers come out as if the run had
            not been interrupted.
        report: Called with the fraction done.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rng = Generator().manual_seed(settings.seed)
    optimiser = _optimiser(network, settings)
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    step, checkpoint = 0, directory / "checkpoint.pt"
    if resume and checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        rng.set_state(state["rng"])
        average, step = state["average"], state["step"]
    mode = "a" if step else "w"
    with (directory / "log.jsonl").open(mode) as log:
        started, total = time.monotonic(), 0.0
        while step < settings.steps:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, settings)
            total += _step(network, loss, optimiser, rng, settings)
            step += 1
            _blend(average, network, min(settings.ema, (1 + step) / (10 + step)))
            if step % 50 == 0 or step == settings.steps:
                seconds = round(time.monotonic() - started, 1)
                count = (step - 1) % 50 + 1
                log.write(
                    json.dumps({"step": step, "loss": total / count, "seconds": seconds}) + "\n"
                )
                log.flush()
                total = 0.0
            if step % settings.save_every == 0 or step == settings.steps:
                state = {"network": network.state_dict(), "average": average, "step": step}
                state |= {"optimiser": optimiser.state_dict(), "rng": rng.get_state()}
                _save(state, checkpoint)
            report(step / settings.steps)
    network.load_state_dict(average)
    return network


def learning_rate(step: int, settings: LoopSettings) -> float:
    """Rise linearly, stay, and fall linearly to 0 at the end (Hu et al., "MiniCPM", 2024: WSD)."""
    rise = min(1.0, (step + 1) / max(settings.warmup, 1))
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


def _optimiser(network: nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    weights = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.99))


def _step(
    network: nn.Module,
    loss: Callable[[nn.Module, Generator], Tensor],
    optimiser: torch.optim.Optimizer,
    rng: Generator,
    settings: LoopSettings,
) -> float:
    optimiser.zero_grad(set_to_none=True)
    value = loss(network, rng)
    value.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
    optimiser.step()
    return float(value.detach())


@torch.no_grad()
def _blend(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)


def _save(state: dict[str, Any], path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)
