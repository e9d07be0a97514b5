"""Measure objects in several processes: a crash of one costs that object only.

Each process is started fresh (nothing is forked: threads and compiled kernels do not survive that),
builds its own measure, and writes what it keeps into the same folder.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from ..data.objects import ObjectFile, find_objects
from ..stages import Listener, Quiet
from .keeping import Measure, choose_objects, failure_of, measure_each, measure_one
from .marks import Entry

Build = Callable[[], Measure]
"""Makes a measure; a function of a module, or a `functools.partial` of one, to travel."""


@dataclass(frozen=True)
class Workers:
    """How objects are shared out.

    Attributes:
        source: Folder or zip of the objects.
        build: Called once in each process.
        count: Processes at a time.
        threads: Of each; None shares out the cores that this process may use.
    """

    source: Path
    build: Build
    count: int
    threads: int | None = None

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
    """Measure objects in this process, or in several others if there are workers."""
    if workers is None or workers.count == 1:
        return measure_each(objects, measure, directory, listener)
    return measure_in_processes([thing.name for thing in objects], workers, directory, listener)


def measure_in_processes(
    names: Sequence[str], workers: Workers, directory: Path, listener: Listener | None = None
) -> list[Entry]:
    """Measure objects as `keeping.measure_each` does, several at a time.

    A process that dies (out of memory, a crash) takes its companions with it; what they had not
    finished is then measured in a process of its own each, so that only the culprit fails.

    Args:
        names: Of the objects, in the order of the result.
        workers: Who measures.
        directory: Where marks are kept.
        listener: Hears when objects end.
    """
    listener = listener or Quiet()
    found = _together(names, workers, directory, listener)
    for name in names:
        if name not in found:
            alone = _together([name], workers, directory, listener)
            dead = failure_of(name, RuntimeError("the process that measured it died"))
            found[name] = alone.get(name, {"name": name, "error": dead})
    return [found[name] for name in names]


def _together(
    names: Sequence[str], workers: Workers, directory: Path, listener: Listener
) -> dict[str, Entry]:
    """Measure in one pool, until all is done or a process dies."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = min(workers.count, len(names))
    threads = workers.threads or max(1, (cores or 1) // max(1, count))
    found: dict[str, Entry] = {}
    pool = ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
        initargs=(workers.source, workers.build, directory, threads),
    )
    try:
        with pool:
            running = [pool.submit(_measure, name) for name in names]
            for future in as_completed(running):
                entry, seconds, resumed = future.result()
                found[entry["name"]] = entry
                listener.began(entry["name"])
                listener.finished(entry["name"], seconds, resumed=resumed)
    except BrokenProcessPool:
        return found
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    return found


class _Resumed(Quiet):
    """Remembers whether the marks were there already."""

    resumed = False

    def finished(self, stage: str, seconds: float, *, resumed: bool) -> None:
        """Remember it."""
        del stage, seconds
        self.resumed = resumed


class _Worker:
    """What a process keeps between objects."""

    source: Path
    measure: Measure
    directory: Path


def _prepare(source: Path, build: Build, directory: Path, threads: int) -> None:
    os.environ["ROUNDVIEW_THREADS"] = str(threads)  # Read by the kernels at every call.
    import torch  # noqa: PLC0415  with what it is used for

    torch.set_num_threads(threads)
    _Worker.source, _Worker.measure, _Worker.directory = source, build(), directory


def _measure(name: str) -> tuple[Entry, float, bool]:
    begin, heard = time.perf_counter(), _Resumed()
    (thing,) = choose_objects(find_objects(_Worker.source), [name])
    entry = measure_one(thing, _Worker.measure, _Worker.directory, heard)
    return entry, time.perf_counter() - begin, heard.resumed
