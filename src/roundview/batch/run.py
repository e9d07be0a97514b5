"""Give photos to an engine until each is done or has failed for good."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from .manifest import Entry, Manifest
from .tasks import Ended, Engine, Task

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
        ValueError: If two photos share a folder, attempts is below 1, or another batch is at work
            in the output folder.
        BuildError: If workers cannot load what they need.
    """
    _check(tasks, attempts)
    todo = [task for task in tasks if not manifest.is_done(task)]
    if todo:
        with manifest.held(), closing(engine()) as workers:
            for left, (ended, tries) in zip(
                reversed(range(len(todo))), ends_of(todo, workers, attempts=attempts), strict=True
            ):
                heard(manifest.write(ended, tries=tries), left)
    return Summary([manifest.of(task) for task in tasks], len(tasks) - len(todo))


def ends_of(
    tasks: Sequence[Any], workers: Engine, *, attempts: int = 2
) -> Iterator[tuple[Ended, int]]:
    """Give tasks to workers, and again those that failed; each ends once.

    Args:
        tasks: Each once; what identifies them must be hashable.
        workers: Who do them; they are not closed.
        attempts: How often a task is tried that does not fail for good.

    Yields:
        How a task ended, as soon as it has for good, and how often it was tried.
    """
    tries: Counter[Any] = Counter()
    left = len(tasks)
    for task in tasks:
        workers.give(task)
    while left:
        for ended in workers.wait():
            tries[ended.task] += 1
            if ended.error and not ended.final and tries[ended.task] < attempts:
                workers.give(ended.task)
                continue
            left -= 1
            yield ended, tries[ended.task]


def _check(tasks: Sequence[Task], attempts: int) -> None:
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, got {attempts}")
    shared = [folder for folder, n in Counter(task.folder for task in tasks).items() if n > 1]
    if shared:
        raise ValueError(f"two photos share the folder {shared[0]}")
