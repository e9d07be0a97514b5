"""A server for tests of the page: real chores and a real asset, but jobs that take no time.

    stand_in_server.py FOLDER PORT [quick]

With `quick` the asset is real in name only, and the chores are stand-ins as well.
"""

import sys
from pathlib import Path

import uvicorn

sys.path.insert(0, str(Path(__file__).parents[1]))

from serve_fakes import helper, made_folder, stand_in

from roundview.serve.app import create_app
from roundview.serve.desk import Desk
from roundview.serve.limits import Limits


def real_asset(made: Path) -> None:
    from serve_asset import make_asset  # noqa: PLC0415  brings torch: a quick server starts quickly

    make_asset(made)


def main(folder: Path, port: int, *, quick: bool) -> None:
    made = folder / "made"
    if not made.exists():
        (made_folder if quick else real_asset)(made)
    limits = Limits(free_bytes=0, queued=256, workers=2)
    chores = helper() if quick else None
    desk = Desk(folder / "data", limits, command=stand_in(made), helper=chores)
    uvicorn.run(create_app(desk), port=port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), quick=sys.argv[3:] == ["quick"])
