"""The process of one job: `roundview make`, which ends when the server does.

Started by `workers` as `python -m roundview.serve.child make PHOTO ...`. Its standard input is a
pipe that only the server holds open: at its end the server is gone, however it went, and the
process ends with all that it started. The next server begins the job again where its stages end.
"""

import os
import signal
import sys
import threading


def main() -> None:
    """Run one command of the command line, watching the server."""
    threading.Thread(target=_watch, daemon=True).start()
    from ..cli import run  # noqa: PLC0415  after the watch has begun

    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


def _watch() -> None:
    """Wait until the server closes the pipe, then end this process and its children."""
    while os.read(0, 4096):
        pass
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
