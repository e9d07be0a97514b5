"""Render training views while training: worker processes draw objects into a ring of slots.

Nothing needs to be rendered beforehand, and no object is ever seen twice under the same poses and
lamp. The ring is a few files in a folder, mapped into memory by all processes; a later run finds it
full and begins at once.
"""

import json
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np

from ..mesh import Mesh
from .objects import ObjectFile, find_objects, is_scan
from .procedural import procedural_object, textures_to_crop
from .render_set import MultiViewSet, RenderSettings, object_views

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamSettings:
    """What is drawn into the ring.

    Attributes:
        render: How each object is seen.
        slots: Objects the ring holds at a time.
        procedural_share: Share of the objects that are generated; all, if there are no others.
        scans_times: How much oftener a scanned object is drawn than another one.
        seed: Seed of all choices. The pictures of a slot depend on when it is read, so streamed
            training does not come out the same twice.
    """

    render: RenderSettings = RenderSettings()  # noqa: RUF009  frozen
    slots: int = 512
    procedural_share: float = 0.35
    scans_times: float = 8.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a ring without slots."""
        if self.slots < 1 or not 0 <= self.procedural_share <= 1:
            raise ValueError(
                f"slots must be at least 1 and procedural_share lie in [0, 1], got {self.slots} "
                f"and {self.procedural_share}"
            )


@runtime_checkable
class Slots(Protocol):
    """Rendered objects that change while they are looked at.

    A slot's `version` is 0 while it is empty, odd while it is written, and grows with every object.
    """

    live: MultiViewSet
    version: np.ndarray

    def filled(self) -> np.ndarray:
        """Give the slots that hold an object now."""
        ...


class ViewStream:
    """A ring of slots with one rendered object each, ever drawn anew by worker processes.

    Args:
        directory: Where the ring's files are; used again if they were made alike.
        source: Folder or zip of GLB files; None for procedural objects only.
        names: Which of its objects to draw; None for all.
        settings: What is drawn.
        workers: Processes; None for one on each core but one.

    Raises:
        ValueError: If the source holds no objects.
    """

    def __init__(
        self,
        directory: Path,
        source: Path | None = None,
        *,
        names: list[str] | None = None,
        settings: StreamSettings = StreamSettings(),
        workers: int | None = None,
    ) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self.workers = min(workers or max(1, (cores or 1) - 1), settings.slots)
        if source is not None:
            find_objects(source)  # Refused here, not in a worker.
        _prepare(directory, settings)
        ring = _Ring(directory, settings)
        self.version = ring.version
        self.live = MultiViewSet(
            ring.rgba,
            ring.azimuth,
            ring.elevation,
            [f"slot {slot}" for slot in range(settings.slots)],
            settings.render,
        )
        orders = [
            _Order(directory, source, names, settings, worker, self.workers)
            for worker in range(self.workers)
        ]
        spawn = multiprocessing.get_context("spawn")
        self._processes = [spawn.Process(target=_work, args=(o,), daemon=True) for o in orders]
        with one_thread_each():
            for process in self._processes:
                process.start()

    def filled(self) -> np.ndarray:
        """Give the slots that hold an object now."""
        return np.flatnonzero((self.version > 0) & (self.version % 2 == 0))

    def drawn(self) -> int:
        """Count the objects drawn into this ring since it was made."""
        return int((self.version // 2).sum())

    def wait(self, slots: int | None = None, *, timeout_s: float = 600.0) -> None:
        """Wait until so many slots hold an object; all of them by default.

        Raises:
            RuntimeError: If a worker has ended, or the time has run out.
        """
        wanted = min(slots or len(self.live), len(self.live))
        until = time.monotonic() + timeout_s
        while len(self.filled()) < wanted:
            self.check()
            if time.monotonic() > until:
                raise RuntimeError(
                    f"only {len(self.filled())} of {wanted} slots were drawn in {timeout_s:g} s"
                )
            time.sleep(0.02)

    def check(self) -> None:
        """Raise if a worker has ended; what it printed says why.

        Raises:
            RuntimeError: If so.
        """
        ended = [p.exitcode for p in self._processes if p.exitcode is not None]
        if ended:
            raise RuntimeError(f"a rendering process ended with exit code {ended[0]}")

    def close(self) -> None:
        """End the workers; the ring stays on disk."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()

    def __enter__(self) -> "ViewStream":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True)
class _Order:
    """What one worker is told."""

    directory: Path
    source: Path | None
    names: list[str] | None
    settings: StreamSettings
    worker: int
    workers: int


class _Ring:
    """The ring's files, mapped. A slot's version is odd while it is being written."""

    def __init__(self, directory: Path, settings: StreamSettings, mode: str = "r+") -> None:
        made, slots = settings.render, settings.slots
        pictures = (slots, made.views, made.size_px, made.size_px, 4)
        numbers = (slots, made.views)

        def mapped(name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
            path = directory / f"{name}.npy"
            if mode == "w+":
                return np.lib.format.open_memmap(path, "w+", dtype, shape)
            return np.lib.format.open_memmap(path, "r+")

        self.rgba = mapped("pictures", np.uint8, pictures)
        self.azimuth = mapped("azimuth", np.float32, numbers)
        self.elevation = mapped("elevation", np.float32, numbers)
        self.version = mapped("version", np.int64, (slots,))


def _prepare(directory: Path, settings: StreamSettings) -> None:
    """Make the files of an empty ring, unless there is one of the same shape and recipe."""
    about = directory / "ring.json"
    wanted = json.loads(json.dumps(asdict(settings)))
    if about.is_file() and json.loads(about.read_text()) == wanted:
        return
    directory.mkdir(parents=True, exist_ok=True)
    about.unlink(missing_ok=True)
    _Ring(directory, settings, "w+")
    about.write_text(json.dumps(wanted))


def _work(order: _Order) -> None:
    """Draw objects into every `workers`-th slot until the process that asked is gone."""
    if hasattr(os, "nice"):
        os.nice(5)  # The process that trains comes first.
    asked_by = os.getppid()
    ring = _Ring(order.directory, order.settings)
    mine = range(order.worker, order.settings.slots, order.workers)
    if not mine:
        return
    begun = int(ring.version[mine.start :: order.workers].sum())
    rng = np.random.default_rng([order.settings.seed, order.worker, begun])
    meshes = _meshes(order, rng)
    first = int(np.argmin(ring.version[mine.start :: order.workers]))
    turn = first
    while os.getppid() == asked_by:
        slot = mine[turn % len(mine)]
        rgba, azimuth, elevation = object_views(next(meshes), rng, order.settings.render)
        ring.version[slot] |= 1  # A kill while writing leaves it odd: then it counts as empty.
        ring.rgba[slot], ring.azimuth[slot], ring.elevation[slot] = rgba, azimuth, elevation
        ring.version[slot] += 1
        turn += 1


def _meshes(order: _Order, rng: np.random.Generator) -> Iterator[Mesh]:
    found: list[ObjectFile] = find_objects(order.source) if order.source else []
    if order.names is not None:
        wanted = set(order.names)
        found = [item for item in found if item.name in wanted]
    settings = order.settings
    scanned = np.array([is_scan(item.name) for item in found], bool)
    weight = np.where(scanned, settings.scans_times, 1.0)
    # Few of them, others in each worker: reading all textures would delay the start.
    chosen = rng.permutation(len(found))[:60]
    crops = textures_to_crop(found[i] for i in chosen)
    while True:
        if not found or rng.random() < settings.procedural_share:
            yield procedural_object(rng, crops)
            continue
        item = found[int(rng.choice(len(found), p=weight / weight.sum()))]
        try:
            mesh = item.read()
        except ValueError as error:
            _LOG.warning("%s cannot be read and is left out: %s", item.name, error)
            continue
        yield mesh


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let processes that are started now use one thread each: there is one on every core."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "ROUNDVIEW_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
