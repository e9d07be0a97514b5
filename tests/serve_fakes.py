"""A server whose jobs and chores are stand-ins, for tests."""

import sys
from pathlib import Path

from roundview.serve.desk import Desk
from roundview.serve.folders import JobFolder
from roundview.serve.helper import Helper
from roundview.serve.jobs import Job
from roundview.serve.limits import Limits
from roundview.serve.workers import Command

HERE = Path(__file__).parent / "serve"


def made_folder(folder: Path) -> Path:
    """Leave what `make` would, in name."""
    (folder / "views").mkdir(parents=True)
    for name in ("asset.glb", "splats.ply", "turntable.mp4", "preview.png", "record.json"):
        (folder / name).write_bytes(f"this is {name}".encode())
    (folder / "views" / "000.png").write_bytes(b"a view")
    return folder


def stand_in(made: Path) -> Command:
    """Run jobs as `stand_in_make.py` does."""

    def command(job: Job, folder: JobFolder) -> list[str]:
        words = [sys.executable, "-S", str(HERE / "stand_in_make.py"), str(folder.output)]
        return [*words, str(job.settings["seed"]), str(made)]

    return command


def helper(*, seconds: float = 20.0, waiting: int = 96) -> Helper:
    """Do chores as `stand_in_chores.py` does."""
    command = [sys.executable, "-S", str(HERE / "stand_in_chores.py")]
    return Helper(seconds=seconds, waiting=waiting, command=command)


def desk(root: Path, made: Path, limits: Limits | None = None) -> Desk:
    """Put a desk together whose jobs and chores take no time."""
    limits = limits or Limits(free_bytes=0)
    return Desk(root, limits, command=stand_in(made), helper=helper())
