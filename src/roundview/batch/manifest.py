"""What was done to each photo: one line of JSON for each try, appended and flushed to the disk.

The last line of a photo holds. A line that a crash cut short is passed over: that try then counts
as not made, and the asset that may be there is recognised by its record.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .tasks import Ended, Task

try:
    import fcntl
except ImportError:  # Windows: two batches in one folder are not kept apart there.
    fcntl = None

NAME = "manifest.jsonl"
"""Its name in the output folder."""

_log = logging.getLogger(__name__)

DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class Entry:
    """How the last try at a photo ended.

    Attributes:
        photo: Its path, absolute.
        folder: Name of its folder in the output.
        state: done or failed.
        asked: What it was asked for: a hash of recipe, settings, seed and weights.
        stamp: Size and time of change of the photo, to tell whether it is the same still.
        reason: Why it failed.
        seconds: How long the try took.
        tries: How many there were in that run.
    """

    photo: str
    folder: str
    state: str
    asked: str
    stamp: tuple[int, int]
    reason: str = ""
    seconds: float = 0.0
    tries: int = 1


class Manifest:
    """The manifest of an output folder; one process writes it.

    Args:
        directory: The output folder.
        asked: Hash of what is asked for; entries of something else count for nothing.

    Raises:
        ValueError: If it cannot be read or written.
    """

    def __init__(self, directory: Path, asked: str) -> None:
        self.path = directory / NAME
        self.asked = asked
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self.entries = _read(self.path)
            self._end_last_line()
        except OSError as error:
            raise ValueError(f"cannot use {self.path}: {error.strerror}") from error

    def is_done(self, task: Task) -> bool:
        """Tell whether a photo needs nothing: done as asked, unchanged since, and still there."""
        entry = self.entries.get(_key(task.photo))
        if entry is None or entry.state != DONE or entry.asked != self.asked:
            return False
        there = all((task.folder / name).is_file() for name in ("asset.glb", "record.json"))
        return there and entry.folder == task.folder.name and entry.stamp == stamp_of(task.photo)

    def of(self, task: Task) -> Entry:
        """Give the last entry of a photo."""
        return self.entries[_key(task.photo)]

    def write(self, ended: Ended, *, tries: int) -> Entry:
        """Append how a try ended; when this returns it is on the disk."""
        entry = Entry(
            _key(ended.task.photo),
            ended.task.folder.name,
            FAILED if ended.error else DONE,
            self.asked,
            stamp_of(ended.task.photo),
            ended.error,
            round(ended.seconds, 3),
            tries,
        )
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(entry)) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.entries[entry.photo] = entry
        return entry

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other batches out of the folder for a while; the lock ends with the process.

        Raises:
            ValueError: If another batch is at work there.
        """
        with self.path.open("a") as stream:
            try:
                if fcntl is not None:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(
                    f"another batch is at work in {self.path.parent}; wait for its end, or name "
                    "another folder"
                ) from error
            except OSError:
                _log.warning("%s cannot be locked; start no second batch there", self.path)
            yield

    def _end_last_line(self) -> None:
        """End a line that was cut short, so that the next one begins a line of its own."""
        if self.path.is_file() and (size := self.path.stat().st_size):
            with self.path.open("rb+") as stream:
                stream.seek(size - 1)
                if stream.read(1) != b"\n":
                    stream.write(b"\n")


def stamp_of(photo: Path) -> tuple[int, int]:
    """Give size and time of change of a file; zeros where there is none."""
    try:
        status = photo.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _key(photo: Path) -> str:
    # Names of files need not be text; JSON must be.
    return str(photo.resolve()).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _read(path: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    if not path.is_file():
        return entries
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        entry = _parsed(line)
        if entry is not None:
            entries[entry.photo] = entry
    return entries


def _parsed(line: str) -> Entry | None:
    try:
        stated: dict[str, Any] = json.loads(line)
        size, changed = stated.pop("stamp")
        return Entry(**stated, stamp=(int(size), int(changed)))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
