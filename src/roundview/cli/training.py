"""`roundview train`, `roundview render-set` and `roundview warmup`."""

from enum import StrEnum
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
    Size,
    Threads,
    check_cpu_only,
    check_output,
    use_threads,
)
from .progress import told
from .sharing import Address, EngineName, EngineOption, start_of

CARDS = (
    *("autoencoder-small", "orbit-small", "elevation-small", "depth-small", "shape-small"),
    *(
        "cascade-small",
        "multiview-small",
        "depth-image-small",
        "video-orbit-small",
        "video-refiner-small",
    ),
    *("zero123-small", "zero123-cascade-small"),
)
GENERATED = 400
"""Objects that are generated to train on where no data are given. Chosen by us: they and half as
many again, which every training adds, are rendered in some minutes on two cores."""


class Preset(StrEnum):
    """Where the cameras of a rendered set stand."""

    orbit = "orbit"
    zero123 = "zero123"
    syncdreamer = "syncdreamer"


def train(  # noqa: PLR0913  typer reads the options from the signature
    card: Annotated[str, typer.Argument(help=f"What to train: {', '.join(CARDS)}.")],
    output: Output,
    data: Annotated[
        Path | None,
        typer.Option(help="Zip or folder of GLB files to learn from; generated objects if none."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Objects (pictures) a step.")] = None,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    init: Annotated[
        str | None,
        typer.Option(help="Weights to begin from: a card's name or file, or its folder."),
    ] = None,
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
    import torch  # noqa: PLC0415  slow import

    from ..data.procedural import write_procedural  # noqa: PLC0415
    from ..loaders.training import load_training_parts  # noqa: PLC0415
    from ..models import Report  # noqa: PLC0415
    from ..train.cards import TrainingRun, train_card  # noqa: PLC0415
    from ..weights import load_tensors, named  # noqa: PLC0415

    start = None if init is None else load_tensors(named(init)[0])
    if data is None:
        data = write_procedural(output / "generated", GENERATED, seed)
    order = TrainingRun(data, output, steps, batch, seed, resume, start)
    # What is trained on top of other weights takes those in the folder first, else the shipped.
    where = str(output) if any(output.glob("*.json")) else None
    with told(quiet=quiet, as_json=as_json) as listener:

        def report(stage: str) -> Report:
            listener.began(stage)
            return lambda fraction: listener.progressed(stage, fraction)

        made = train_card(
            card,
            order,
            load_training_parts(where, torch.device("cpu")),
            report=report,
            say=lambda line: listener.say(line, began=line),
        )
        listener.say(f"wrote {made.path}", output=str(made.path))


def render_set(  # noqa: PLR0913  typer reads the options from the signature
    output: Output,
    data: Annotated[
        Path | None, typer.Option(help="Zip or folder of GLB files; generated objects if none.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Objects: so many generated, or the first of data.")
    ] = None,
    preset: Annotated[Preset, typer.Option(help="Where the cameras stand.")] = Preset.orbit,
    size: Size = 256,
    part: Annotated[str, typer.Option(help="i/n: every n-th shard from the i-th, from 0.")] = "0/1",
    workers: Annotated[
        int | None, typer.Option(min=1, help="At a time; as many as this machine has cores.")
    ] = None,
    engine: EngineOption = EngineName.local,
    address: Address = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Render objects into shards of posed views, with depth and normals; resumes."""
    check_output(output)
    if data is None and count is None:
        raise ValueError("give --data, or --count for so many generated objects")
    start = start_of(engine, address)
    index, _, parts = part.partition("/")
    if not (index.isdecimal() and parts.isdecimal()):
        raise ValueError(f"--part {part!r}: give i/n, as in 0/8")
    from ..batch.local import free_cores  # noqa: PLC0415
    from ..data.objects import find_objects  # noqa: PLC0415  imports torch
    from ..data.shards import PRESETS, ShardSettings, render_shards  # noqa: PLC0415

    # Absolute, since workers elsewhere stand in other folders.
    objects = (find_objects(data.resolve())[:count] if data else count) or 0
    with told(quiet=quiet, as_json=as_json) as listener:
        listener.began("render")
        made = render_shards(
            objects,
            output,
            cameras=PRESETS[preset],
            settings=ShardSettings(size_px=size, seed=seed),
            part=(int(index), int(parts)),
            workers=workers or free_cores(),
            start=start,
            report=lambda fraction: listener.progressed("render", fraction),
        )
        listener.say(f"wrote {len(made)} shards to {output}", output=str(output), shards=len(made))


def warmup(threads: Threads = None, quiet: Quiet = False, as_json: Json = False) -> None:
    """Compile the CPU kernels once, so that the first asset need not wait for them."""
    use_threads(threads)
    from ..warming import compile_kernels  # noqa: PLC0415  imports torch

    with told(quiet=quiet, as_json=as_json) as listener:
        seconds = compile_kernels(listener)
        listener.say(f"kernels are compiled ({seconds:.1f} s)", seconds=seconds)
