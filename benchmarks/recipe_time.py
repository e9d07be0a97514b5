"""How long does `roundview make` take, stage by stage, and how much memory?

    python benchmarks/recipe_time.py [--quality standard] [--runs 3] [--photo FILE] [--threads N]

Every run is a process of its own, as a user's is, and makes the whole asset into a folder that is
thrown away. A run that is not counted compiles the kernels first (`--cold` leaves it out). Stage
times and peak memory come from each `record.json`; the wall time is that of the process, from its
start to its end, with imports, loading and saving.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PHOTO = Path(__file__).resolve().parents[1] / "examples" / "photos" / "chair.png"
_ROUNDVIEW = [sys.executable, "-c", "from roundview.cli import main; main()"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, measure and print."""
    options = parsed(arguments)
    threads = [] if options.threads is None else ["--threads", str(options.threads)]
    if not options.cold:
        roundview("warmup", "--quiet", *threads)
    records, walls = [], []
    for turn in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            roundview(
                *("make", str(options.photo), "-o", folder, "--quality", options.quality),
                *("--seed", str(options.seed), "--quiet", *threads),
            )
            walls.append(time.perf_counter() - begin)
            records.append(json.loads((Path(folder) / "record.json").read_text()))
        print(f"run {turn + 1} of {options.runs}: {walls[-1]:.1f} s", file=sys.stderr)
    print(f"{options.photo.name}, quality {options.quality}, {options.runs} runs\n")
    print(stage_table(records, walls))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--quality", choices=("draft", "standard", "high"), default="standard")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cold", action="store_true", help="do not compile the kernels first")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error(f"--runs must be 1 or more, got {options.runs}")
    return options


def roundview(*arguments: str) -> None:
    """Run a command; a failure ends the benchmark with what it said."""
    done = subprocess.run([*_ROUNDVIEW, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"roundview {arguments[0]} failed ({done.returncode}): {done.stderr.strip()}")


def stage_table(records: Sequence[dict[str, Any]], walls: Sequence[float]) -> str:
    """Lay out the seconds of each stage as Markdown: median, least and most over the runs."""
    names = list(dict.fromkeys(name for record in records for name in record["seconds"]))
    rows = {name: [r["seconds"][name] for r in records if name in r["seconds"]] for name in names}
    rows["all stages"] = [record["seconds_total"] for record in records]
    rows["whole process"] = list(walls)
    lines = ["| stage | median, s | least | most |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {statistics.median(times):.2f} | {min(times):.2f} | {max(times):.2f} |"
        for name, times in rows.items()
    ]
    peaks = [r["peak_memory_mb"] for r in records if r["peak_memory_mb"] is not None]
    if peaks:
        lines += ["", f"Peak resident memory: {max(peaks):.0f} MB in the worst run."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
