"""`roundview train` and `roundview warmup`."""

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Device,
    DeviceOption,
    Json,
    Output,
    Quiet,
    Seed,
    Threads,
    check_cpu_only,
    check_output,
    use_threads,
)
from .progress import told

CARDS = ("autoencoder-small", "orbit-small", "elevation-small")


def train(  # noqa: PLR0913  typer reads the options from the signature
    card: Annotated[str, typer.Argument(help=f"What to train: {', '.join(CARDS)}.")],
    output: Output,
    data: Annotated[Path, typer.Option(help="Zip or folder of GLB files to learn from.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Objects (pictures) a step.")] = None,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train one of the small models; the folder can then be given as --weights."""
    if card not in CARDS:
        raise ValueError(f"CARD {card!r} is unknown; there are: {', '.join(CARDS)}")
    check_output(output)
    check_cpu_only(device, "train")
    use_threads(threads)
    from ..loaders import load_autoencoder, load_features  # noqa: PLC0415  imports torch
    from ..models import Report  # noqa: PLC0415
    from ..train.cards import TrainingRun, train_card  # noqa: PLC0415

    order = TrainingRun(data, output, steps=steps, batch=batch, seed=seed, resume=resume)
    # What is trained on top of other weights takes those in the folder first, else the shipped.
    where = str(output) if any(output.glob("*.json")) else None
    with told(quiet=quiet, as_json=as_json) as listener:

        def report(stage: str) -> Report:
            listener.began(stage)
            return lambda fraction: listener.progressed(stage, fraction)

        made = train_card(
            card,
            order,
            load_autoencoder=lambda: load_autoencoder(where),
            load_features=lambda: load_features(where),
            report=report,
        )
        listener.say(f"wrote {made.path}", output=str(made.path))


def warmup(threads: Threads = None, quiet: Quiet = False, as_json: Json = False) -> None:
    """Compile the CPU kernels once, so that the first asset need not wait for them."""
    use_threads(threads)
    from ..warming import compile_kernels  # noqa: PLC0415  imports torch

    with told(quiet=quiet, as_json=as_json) as listener:
        seconds = compile_kernels(listener)
        listener.say(f"kernels are compiled ({seconds:.1f} s)", seconds=seconds)
