"""Measure objects in several workers of `batch`: the death of one costs that object only.

Each worker builds its own measure and writes what it keeps into the same folder.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..batch.local import LocalEngine
from ..batch.run import ends_of
from ..batch.tasks import BuildError, Ended, Start, Work
from ..data.objects import ObjectFile, find_objects
from ..stages import Listener, Quiet
from .keeping import Measure, failure_of, measure_each, measure_one
from .marks import Entry

Build = Callable[[], Measure]
"""Makes a measure; a function of a module, or a `functools.partial` of one, to travel."""


@dataclass(frozen=True)
class Workers:
    """How objects are shared out.

    Attributes:
        source: Folder or zip of the objects.
        build: Called once in each worker.
        count: Workers at a time.
        threads: Of each; None shares out the cores that this process may use.
        start: Starts them: processes of this machine, or Ray's actors.
    """

    source: Path
    build: Build
    count: int
    threads: int | None = None
    start: Start = LocalEngine

    def __post_init__(self) -> None:
        """Refuse to work with nobody."""
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")


def measure_all(
    objects: Sequence[ObjectFile],
    measure: Measure,
    directory: Path,
    *,
    workers: Workers | None = None,
    listener: Listener | None = None,
) -> list[Entry]:
    """Measure objects in this process, or by workers if there are some."""
    if workers is None:
        return measure_each(objects, measure, directory, listener)
    return measure_in_processes([thing.name for thing in objects], workers, directory, listener)


def measure_in_processes(
    names: Sequence[str], workers: Workers, directory: Path, listener: Listener | None = None
) -> list[Entry]:
    """Measure objects as `keeping.measure_each` does, several at a time.

    An object whose worker dies (out of memory, a crash) is given to another one once.

    Args:
        names: Of the objects, in the order of the result.
        workers: Who measures.
        directory: Where marks are kept.
        listener: Hears when objects end.

    Raises:
        ValueError: If a worker cannot build its measure.
    """
    if not names:
        return []
    listener = listener or Quiet()
    # Absolute, since workers elsewhere stand in other folders.
    build = _Measuring(workers.source.resolve(), workers.build, directory.resolve())
    count = min(workers.count, len(names))
    staff = workers.start(build, count=count, threads=workers.threads)
    found: dict[str, Entry] = {}
    try:
        for ended, _ in ends_of(names, staff):
            entry, resumed = ended.value or (_lost(ended), False)
            found[ended.task] = entry
            listener.began(ended.task)
            listener.finished(ended.task, ended.seconds, resumed=resumed)
    except BuildError as error:
        raise ValueError(f"a worker cannot begin: {error}") from error
    finally:
        staff.close()
    return [found[name] for name in names]


def _lost(ended: Ended) -> Entry:
    return {"name": ended.task, "error": failure_of(ended.task, RuntimeError(ended.error))}


class _Resumed(Quiet):
    """Remembers whether the marks were there already."""

    resumed = False

    def finished(self, stage: str, seconds: float, *, resumed: bool) -> None:
        """Remember it."""
        del stage, seconds
        self.resumed = resumed


@dataclass(frozen=True)
class _Measuring:
    """Builds the work of a worker: it takes names."""

    source: Path
    build: Build
    directory: Path

    def __call__(self) -> Work:
        """Build the measure."""
        things = {thing.name: thing for thing in find_objects(self.source)}
        return partial(_measured, things, self.build(), self.directory)


def _measured(things: dict[str, ObjectFile], measure: Measure, directory: Path, name: str) -> Ended:
    begin, heard = time.perf_counter(), _Resumed()
    entry = measure_one(things[name], measure, directory, heard)
    return Ended(name, seconds=time.perf_counter() - begin, value=(entry, heard.resumed))
