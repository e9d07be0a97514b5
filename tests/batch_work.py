"""Work that other processes can build: it must be importable there by name."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from roundview.batch.local import LocalEngine
from roundview.batch.tasks import Ended, Task, Work
from roundview.weights import WeightsMissing


@dataclass(frozen=True)
class Copying:
    """Copies each photo into its folder; what a photo holds says what happens instead.

    Attributes:
        log: A line is added for each try that began and each that ended well.
        seconds: How long each takes.
    """

    log: Path
    seconds: float = 0.0

    def __call__(self) -> Work:
        self._note("built")
        return self._copy

    def identity(self) -> str:
        return "copies"

    def _copy(self, task: Task) -> Ended:
        asked = task.photo.read_text()
        self._note(f"began {task.photo.name}")
        if asked == "bad":
            return Ended(task, "it shows nothing", final=True)
        if asked == "flaky" and not self._tried_before(task):
            return Ended(task, "it failed this once")
        if asked == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        if asked == "crashes once" and not self._tried_before(task):
            os._exit(7)
        try:
            time.sleep(60 if asked == "slow" else self.seconds)
        except KeyboardInterrupt:
            self._note(f"gave up {task.photo.name}")
            raise
        task.folder.mkdir(parents=True, exist_ok=True)
        (task.folder / "asset.glb").write_text(asked)
        (task.folder / "record.json").write_text("{}")
        self._note(f"ended {task.photo.name}")
        return Ended(task, seconds=self.seconds)

    def _tried_before(self, task: Task) -> bool:
        return self.log.read_text().splitlines().count(f"began {task.photo.name}") > 1

    def _note(self, line: str) -> None:
        with self.log.open("a") as stream:
            stream.write(line + "\n")


def not_installed() -> Work:
    raise WeightsMissing("orbit-small is not installed: get it")


def dies_at_once() -> Work:
    os._exit(9)


def do_locally(build: Copying, tasks: list[Task]) -> None:
    """Do tasks in a worker, as a coordinator does that may be killed."""
    engine = LocalEngine(build, count=1, threads=1)
    for task in tasks:
        engine.give(task)
    while engine.wait():
        pass


def photos_in(folder: Path, **contents: str) -> list[Task]:
    """Photos that say what happens to them, and their folders."""
    (folder / "photos").mkdir(exist_ok=True)
    tasks = []
    for name, content in contents.items():
        photo = folder / "photos" / f"{name}.png"
        photo.write_text(content)
        tasks.append(Task(photo, folder / "out" / name))
    return tasks
