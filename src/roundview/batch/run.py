"""Give photos to an engine until each is done or has failed for good."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .manifest import Entry, Manifest
from .tasks import Engine, Task

Heard = Callable[[Entry, int], object]
"""Called with each photo that ended and how many are left."""


def _nobody(entry: Entry, left: int) -> None:
    """Tell nobody."""
    del entry, left


@dataclass(frozen=True)
class Summary:
    """How a batch went.

    Attributes:
        entries: Of every photo that was asked for, in their order.
        skipped: How many of them were done before this run began.
    """

    entries: list[Entry] = field(default_factory=list)
    skipped: int = 0

    @property
    def failed(self) -> list[Entry]:
        """The photos that failed, for good or once too often."""
        return [entry for entry in self.entries if entry.reason]


def run_batch(
    tasks: Sequence[Task],
    manifest: Manifest,
    engine: Callable[[], Engine],
    *,
    attempts: int = 2,
    heard: Heard = _nobody,
) -> Summary:
    """Do what the manifest does not say is done, and write down how each photo ended.

    A photo that is at fault itself fails at once; anything else, the death of its worker among it,
    is tried again at the end of the queue.

    Args:
        tasks: One for each photo; each folder must differ.
        manifest: Of their output folder.
        engine: Starts the workers; not called when there is nothing to do.
        attempts: How often a photo is tried in one run.
        heard: Hears of each photo that ended.

    Raises:
        ValueError: If two photos share a folder, or attempts is below 1.
        BuildError: If workers cannot load what they need.
    """
    _check(tasks, attempts)
    todo = [task for task in tasks if not manifest.is_done(task)]
    if todo:
        workers = engine()
        try:
            _do(todo, manifest, workers, attempts, heard)
        finally:
            workers.close()
    return Summary([manifest.of(task) for task in tasks], len(tasks) - len(todo))


def _do(todo: list[Task], manifest: Manifest, workers: Engine, attempts: int, heard: Heard) -> None:
    tries: Counter[Path] = Counter()
    left = len(todo)
    for task in todo:
        workers.give(task)
    while left:
        for ended in workers.wait():
            tries[ended.task.photo] += 1
            if ended.error and not ended.final and tries[ended.task.photo] < attempts:
                workers.give(ended.task)
                continue
            left -= 1
            heard(manifest.write(ended, tries=tries[ended.task.photo]), left)


def _check(tasks: Sequence[Task], attempts: int) -> None:
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, got {attempts}")
    shared = [folder for folder, n in Counter(task.folder for task in tasks).items() if n > 1]
    if shared:
        raise ValueError(f"two photos share the folder {shared[0]}")
