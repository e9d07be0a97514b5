"""Stands in for `roundview.serve.chores` in tests: answers by what the photo's first bytes say."""

import json
import sys
import time
from pathlib import Path


def answer(chore: str, arguments: list[str]) -> dict[str, object]:
    if chore in ("ready", "picture"):  # Jobs stand in, too: no stage of theirs can be drawn.
        return {"result": None}
    if chore == "export":
        Path(arguments[1]).parent.mkdir(exist_ok=True)
        Path(arguments[1]).write_bytes(b"made of " + Path(arguments[0]).name.encode())
        return {"result": None}
    photo = Path(arguments[0]).read_bytes()
    if photo.startswith(b"bad"):
        return {"error": f"{arguments[0]}: is not a picture that can be read"}
    if photo.startswith(b"die"):
        sys.exit(1)
    if photo.startswith(b"hang"):
        time.sleep(600)
    Path(arguments[-1]).write_bytes(b"a picture")
    return {"result": {"width": 64, "height": 64}}


for line in sys.stdin:
    asked = json.loads(line)
    sys.stdout.write(json.dumps(answer(asked["chore"], asked["arguments"])) + "\n")
    sys.stdout.flush()
