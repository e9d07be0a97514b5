from collections import deque
from pathlib import Path

import pytest
from batch_work import Copying, photos_in

from roundview.batch.manifest import Entry, Manifest
from roundview.batch.run import run_batch
from roundview.batch.tasks import Ended, Engine, Task


class Here:
    """An engine without any process."""

    def __init__(self, log: Path, *, stop_at: str = "") -> None:
        self.queue: deque[Task] = deque()
        self.work = Copying(log)()
        self.stop_at = stop_at
        self.closed = False

    def give(self, task: Task) -> None:
        self.queue.append(task)

    def wait(self) -> list[Ended]:
        task = self.queue.popleft()
        if task.photo.stem == self.stop_at:
            raise KeyboardInterrupt
        return [self.work(task)]

    def close(self) -> None:
        self.closed = True


def run(tasks: list[Task], tmp_path: Path, *, attempts: int = 2, stop_at: str = "") -> list[Entry]:
    engine = Here(tmp_path / "log", stop_at=stop_at)
    assert isinstance(engine, Engine)
    manifest = Manifest(tmp_path / "out", "asked")
    try:
        return run_batch(tasks, manifest, lambda: engine, attempts=attempts).entries
    finally:
        assert engine.closed


def tried(tmp_path: Path, name: str) -> int:
    return (tmp_path / "log").read_text().splitlines().count(f"began {name}.png")


def test_each_photo_is_done_or_says_why_not(tmp_path: Path) -> None:
    tasks = photos_in(tmp_path, a="fine", b="bad", c="flaky")
    entries = run(tasks, tmp_path)
    assert [entry.state for entry in entries] == ["done", "failed", "done"]
    assert entries[1].reason == "it shows nothing"
    # A photo at fault is not tried again, a failure of the moment is.
    assert [tried(tmp_path, name) for name in "abc"] == [1, 1, 2]


def test_tries_are_bounded(tmp_path: Path) -> None:
    (entry,) = run(photos_in(tmp_path, c="flaky"), tmp_path, attempts=1)
    assert entry.reason == "it failed this once"


def test_an_interrupted_batch_goes_on_with_what_is_left(tmp_path: Path) -> None:
    tasks = photos_in(tmp_path, a="fine", b="bad", c="fine", d="fine")
    with pytest.raises(KeyboardInterrupt):
        run(tasks, tmp_path, stop_at="c")
    manifest = Manifest(tmp_path / "out", "asked")
    left: list[int] = []
    summary = run_batch(
        tasks, manifest, lambda: Here(tmp_path / "log"), heard=lambda _, n: left.append(n)
    )
    assert summary.skipped == 1
    assert [e.photo for e in summary.failed] == [str(tasks[1].photo)]
    assert left == [2, 1, 0]
    assert [tried(tmp_path, name) for name in "abcd"] == [1, 2, 1, 1]  # failures are tried again


def test_no_worker_is_started_when_nothing_is_left(tmp_path: Path) -> None:
    tasks = photos_in(tmp_path, a="fine")
    run(tasks, tmp_path)

    def never() -> Here:
        raise AssertionError

    assert run_batch(tasks, Manifest(tmp_path / "out", "asked"), never).skipped == 1


def test_nonsense_is_refused(tmp_path: Path) -> None:
    tasks = photos_in(tmp_path, a="fine")
    manifest = Manifest(tmp_path / "out", "asked")
    with pytest.raises(ValueError, match="share the folder"):
        run_batch(tasks * 2, manifest, lambda: Here(tmp_path / "log"))
    with pytest.raises(ValueError, match="attempts"):
        run_batch(tasks, manifest, lambda: Here(tmp_path / "log"), attempts=0)
