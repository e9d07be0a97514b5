"""Read thousands of malformed files: every one must be read or refused, and quickly.

    PYTHONPATH=tests python -m robustness.files --count 10000 -o out/harden

A child process reads, this one watches it. A file counts as failed when the reader raises anything
but a ValueError (or WeightsMissing) of one line, takes over 5 s of processor time, brings the whole
process to over 1 GB, or takes the process down. What failed is kept in the folder, with its seed.
"""

import argparse
import json
import logging
import multiprocessing
import os
import shutil
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from roundview.weights import WeightsMissing

from .sound import KINDS, Folder
from .spoil import malformed

MOST_SECONDS = 5.0
MOST_MB = 1024.0


@dataclass(frozen=True)
class Outcome:
    """How the reading of one file ended.

    Attributes:
        kind: Of the file.
        seed: Makes the file again.
        ended: read, refused, or what went wrong.
        said: The message.
        seconds: Processor time.
        peak_mb: Largest resident size of the whole process meanwhile; 0 where it cannot be asked.
    """

    kind: str
    seed: int
    ended: str
    said: str = ""
    seconds: float = 0.0
    peak_mb: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether this must not happen."""
        slow, fat = self.seconds > MOST_SECONDS, self.peak_mb > MOST_MB
        return self.ended not in ("read", "refused") or slow or fat


def write(folder: Folder, directory: Path) -> None:
    """Write a folder's files, and nothing else."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name, data in folder.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)


def read_one(kind: str, seed: int, directory: Path) -> Outcome:
    """Make one malformed file, read it, and say how that ended."""
    write(malformed(kind, seed), directory)
    _forget_peak()
    begin = time.process_time()
    ended, said = "read", ""
    try:
        KINDS[kind].read(directory)
    except (ValueError, WeightsMissing) as error:
        ended, said = "refused", str(error)
        if not said or "\n" in said.strip():
            ended = f"{type(error).__name__} of {len(said.splitlines())} lines"
    except Exception as error:  # What this is here to find.
        ended, said = type(error).__name__, str(error)
    return Outcome(kind, seed, ended, said[:300], time.process_time() - begin, _peak_mb())


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # Only Linux has it; then the peak is not measured.
        return


def _peak_mb() -> float:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e3


def _child(pipe: Connection, kind: str, seeds: range, directory: Path) -> None:
    """Read one file after another and tell how each ended."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for seed in seeds:
        pipe.send(("began", seed))
        pipe.send(("ended", read_one(kind, seed, directory)))


def read_many(kind: str, seeds: range, directory: Path) -> list[Outcome]:
    """Read malformed files in a child process that may crash or hang.

    Args:
        kind: Of `KINDS`.
        seeds: One for each file.
        directory: Where files are written, one at a time.
    """
    found: list[Outcome] = []
    while len(seeds):
        here, there = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("spawn").Process(
            target=_child, args=(there, kind, seeds, directory), daemon=True
        )
        child.start()
        there.close()
        seed = _listen(here, child.pid or 0, found, seeds[0])
        ended = f"hung over {MOST_SECONDS:g} s" if child.is_alive() else f"died {child.exitcode}"
        finished = len(found) and found[-1].seed == seeds[-1]
        child.kill()
        child.join()
        if finished:
            break
        found.append(Outcome(kind, seed, ended, seconds=MOST_SECONDS))
        seeds = range(seed + 1, seeds.stop)
    return found


def _listen(pipe: Connection, child: int, found: list[Outcome], first: int) -> int:
    """Collect outcomes until the child ends or hangs; give the seed it was at."""
    seed, used = first, 0.0
    while True:
        try:
            if not pipe.poll(2.0):
                # Processor time, not the clock's: another program must not make a file fail.
                if _seconds_of(child) - used > 2 * MOST_SECONDS and used:
                    return seed
                continue
            what, value = pipe.recv()
        except (EOFError, ConnectionResetError):
            return seed
        if what == "began":
            seed, used = value, _seconds_of(child)
        else:
            found.append(value)


def _seconds_of(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Read the files of every kind and write `files.json` with what happened."""
    options = argparse.ArgumentParser(description="Read thousands of malformed files.")
    options.add_argument("--count", type=int, default=10_000, help="files of each kind")
    options.add_argument("--first", type=int, default=0, help="the first seed")
    options.add_argument("--kinds", default=",".join(KINDS), help="comma-separated")
    options.add_argument("-o", "--output", type=Path, required=True)
    asked = options.parse_args()
    report = {}
    for kind in asked.kinds.split(","):
        with tempfile.TemporaryDirectory() as name:
            seeds = range(asked.first, asked.first + asked.count)
            found = read_many(kind, seeds, Path(name) / "it")
        failed = [outcome for outcome in found if outcome.failed]
        for outcome in failed[:20]:
            write(malformed(kind, outcome.seed), asked.output / f"{kind}-{outcome.seed}")
        report[kind] = {
            "files": len(found),
            "ended": dict(Counter(outcome.ended for outcome in found).most_common()),
            "slowest_seconds": round(max(outcome.seconds for outcome in found), 3),
            "peak_mb": max(outcome.peak_mb for outcome in found),
            "failed": [asdict(outcome) for outcome in failed],
        }
        asked.output.mkdir(parents=True, exist_ok=True)
        (asked.output / "files.json").write_text(json.dumps(report, indent=1))
        told = {key: value for key, value in report[kind].items() if key != "failed"}
        print(  # noqa: T201  a script tells what it did
            kind, json.dumps(told), f"failed={len(failed)}", flush=True
        )
    raise SystemExit(any(kind["failed"] for kind in report.values()))


if __name__ == "__main__":
    main()
