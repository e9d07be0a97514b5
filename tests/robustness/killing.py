"""Kill runs at random moments and start them again: the results must be the same bytes.

    PYTHONPATH=tests python -m robustness.killing --kills 200 -o out/harden

An undisturbed run gives the bytes to reach and the time it takes. Then runs in fresh folders are
killed (SIGKILL, nothing can be tidied up) at moments spread evenly over that time and started
again, three times each at most, before they may end.
"""

import argparse
import hashlib
import json
import math
import multiprocessing
import random
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from .victims import VICTIMS, go


@dataclass
class Tally:
    """What became of the runs.

    Attributes:
        kills: Processes that were killed before they ended.
        runs: Runs that were brought to their end.
        differ: Files that were not as in the undisturbed run, or runs that broke down.
        left_over: Temporary files that killed processes left behind; nothing reads them.
        seconds: How long the undisturbed run took.
    """

    kills: int = 0
    runs: int = 0
    differ: list[str] = field(default_factory=list)
    left_over: int = 0
    seconds: float = 0.0


def kill_often(
    name: str, kills: int, folder: Path, *, seed: int = 0, seconds: float = math.inf
) -> Tally:
    """Kill a victim so many times and compare what it leaves in the end.

    Args:
        name: Of `VICTIMS`.
        kills: How many processes are killed.
        folder: Where runs take place; emptied before each.
        seed: Of the moments.
        seconds: No run is begun after so long, even if there were fewer kills.
    """
    last = time.monotonic() + seconds
    rng, tally = random.Random(f"{name} {seed}"), Tally()
    _run(name, _emptied(folder / "warm"), None)  # Compiled kernels are cached from here on.
    begin = time.monotonic()
    _run(name, _emptied(folder / "whole"), None)
    tally.seconds = round(time.monotonic() - begin, 3)
    wanted = _results(name, folder / "whole")
    while tally.kills < kills and time.monotonic() < last:
        run = _emptied(folder / "run")
        for _ in range(min(3, kills - tally.kills)):
            code = _run(name, run, rng.uniform(0.0, tally.seconds))
            if code != -9:
                break
            tally.kills += 1
        code = _run(name, run, None)
        tally.runs += 1
        got = _results(name, run)
        tally.left_over += sum(file.name.startswith(".") for file in run.rglob("*"))
        if code:
            tally.differ.append(f"run {tally.runs} ended with {code}")
        tally.differ += [
            f"run {tally.runs}: {file}"
            for file in sorted(wanted.keys() | got.keys())
            if wanted.get(file) != got.get(file)
        ]
    return tally


def _run(name: str, folder: Path, seconds: float | None) -> int | None:
    """Start a victim; kill it after a while, if a time is given. Gives its exit code."""
    context = multiprocessing.get_context("forkserver")
    # Imports take far longer than what is killed here; the server of forks does them once.
    context.set_forkserver_preload(["robustness.victims"])
    process = context.Process(target=go, args=(name, folder))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode


def _results(name: str, folder: Path) -> dict[str, str]:
    files = (file for pattern in VICTIMS[name].results for file in folder.glob(pattern))
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file() and not file.name.startswith(".")
    }


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def main() -> None:
    """Kill each victim and write `killing.json` with what happened."""
    options = argparse.ArgumentParser(description="Kill runs at random moments.")
    options.add_argument("--kills", type=int, default=200, help="of each victim")
    options.add_argument("--victims", default=",".join(VICTIMS), help="comma-separated")
    options.add_argument("--seed", type=int, default=0, help="of the moments")
    options.add_argument("--seconds", type=float, default=math.inf, help="for each victim")
    options.add_argument("-o", "--output", type=Path, required=True)
    asked = options.parse_args()
    report = {}
    asked.output.mkdir(parents=True, exist_ok=True)
    for name in asked.victims.split(","):
        with tempfile.TemporaryDirectory() as folder:
            report[name] = vars(
                kill_often(name, asked.kills, Path(folder), seed=asked.seed, seconds=asked.seconds)
            )
        (asked.output / "killing.json").write_text(json.dumps(report, indent=1))
        print(name, json.dumps(report[name]), flush=True)  # noqa: T201  a script tells what it did
    raise SystemExit(any(tally["differ"] for tally in report.values()))


if __name__ == "__main__":
    main()
