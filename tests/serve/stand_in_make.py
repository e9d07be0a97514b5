"""Stands in for `roundview make` in tests of the server: says the same things, in no time.

    stand_in_make.py OUTPUT SEED MADE

The seed says how it goes: 1 is killed, 2 is refused, 3 takes for ever after its first stage and
ignores being asked to end, 4 takes a few seconds; any other is done at once, with a copy of MADE.
"""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path


def say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main(output: Path, seed: int, made: Path) -> None:
    say(event="began", stage="matte")
    say(event="progress", stage="matte", fraction=0.5)
    say(event="finished", stage="matte", seconds=0.25, resumed=False)
    say(event="began", stage="draw")
    output.mkdir(parents=True, exist_ok=True)
    if (made / "preview.png").exists():
        shutil.copy(made / "preview.png", output / "progress.png")
    if seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 2:
        photo = output.parent / "photo"
        sys.stderr.write(f"a line before\nroundview: {photo}: no object found\n")
        sys.exit(2)
    if seed == 3:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (output / "pid").write_text(str(os.getpid()))
        time.sleep(600)
    for at in range(40 if seed == 4 else 0):
        say(event="progress", stage="draw", fraction=at / 40)
        time.sleep(0.1)
    sys.stdout.write("no JSON at all\n")
    say(event="finished", stage="draw", seconds=1.5, resumed=False)
    shutil.copytree(made, output, dirs_exist_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
