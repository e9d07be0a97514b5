"""Options of the commands that share work out: who does it, and where."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Device

if TYPE_CHECKING:
    from ..batch.tasks import Start
    from ..evaluate.jobs import Workers
    from ..evaluate.keeping import Measure


class EngineName(StrEnum):
    """Who does the work."""

    local = "local"
    ray = "ray"


EngineOption = Annotated[EngineName, typer.Option(help="Processes of this machine, or Ray.")]
Address = Annotated[str | None, typer.Option(help="Of the Ray cluster; none starts one here.")]


def start_of(
    engine: EngineName, address: str | None, device: Device = Device.auto
) -> "Start | None":
    """Say what starts workers: None is processes of this machine.

    Raises:
        ValueError: If an address is given that nothing would use.
    """
    if engine is EngineName.local:
        if address is not None:
            raise ValueError("--address goes with --engine ray")
        return None
    from ..batch.on_ray import RayEngine  # noqa: PLC0415  the extra `batch`

    return partial(RayEngine, address=address, gpus=1.0 if device is Device.cuda else 0.0)


def workers_of(
    data: Path,
    build: "Callable[[], Measure]",
    jobs: int,
    threads: int | None,
    start: "Start | None" = None,
) -> "Workers | None":
    """Share the measuring of objects out, if it is to be."""
    from ..evaluate.jobs import Workers  # noqa: PLC0415  imports torch

    if start is not None:
        # Two cores each, as `batch` gives a photo: nodes may have any number of them.
        return Workers(data, build, jobs, threads or 2, start)
    return None if jobs == 1 else Workers(data, build, jobs, threads)
