"""One process beside the server that touches what clients sent, so that the server need not.

It is started when it is first needed, does one chore at a time, and is started anew when it dies,
takes too long, or has done many: decoders keep memory.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

_CHORES_IN_A_LIFE = 500  # chosen by us: a start takes two seconds of processor time


_START_SECONDS = 600.0
_GAVE_UP = "the server gave the file up: reading it took too long or too much memory"


class ChoreError(ValueError):
    """A chore could not be done, and the message says why to a user."""


class BusyError(ValueError):
    """Too many chores wait."""


class Helper:
    """Asks the helping process, from asynchronous code.

    Args:
        seconds: How long a chore may take.
        waiting: How many may wait.
        command: What to run instead of `chores`, for tests.
    """

    def __init__(self, *, seconds: float, waiting: int, command: list[str] | None = None) -> None:
        self._seconds, self._limit = seconds, waiting
        self._command = command or [sys.executable, "-m", "roundview.serve.chores"]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="helper")
        self._waiting = 0
        self._offered = False
        self._done = 0
        self._process: subprocess.Popen[bytes] | None = None

    async def ask(self, chore: str, *arguments: str | None) -> Any:  # noqa: ANN401  any JSON
        """Have a chore done.

        Raises:
            ChoreError: If it cannot be, with the reason.
            BusyError: If too many wait.
        """
        if self._waiting >= self._limit:
            raise BusyError("the server is busy with other pictures; try again in a few seconds")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._thread, self._asked, chore, arguments)
        finally:
            self._waiting -= 1
        if "error" in answer:
            raise ChoreError(answer["error"])
        return answer["result"]

    def offer(self, chore: str, *arguments: str | None) -> None:
        """Have a chore done if nobody waits for another; from any thread, and never heard of again.

        For what is only nice to have: it is left out when there is other work, and may fail.
        """
        if self._waiting or self._offered:
            return
        self._offered = True
        try:
            self._thread.submit(self._taken, chore, arguments)
        except RuntimeError:  # It was stopped meanwhile.
            self._offered = False

    def stop(self) -> None:
        """End the process."""
        self._kill()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._end()

    def _taken(self, chore: str, arguments: tuple[str | None, ...]) -> None:
        try:
            self._asked(chore, arguments)
        finally:
            self._offered = False

    def _asked(self, chore: str, arguments: tuple[str | None, ...]) -> dict[str, Any]:
        self._start()
        line = self._timed(self._seconds, {"chore": chore, "arguments": arguments})
        self._done += 1
        if not line:
            self._end()
            return {"error": _GAVE_UP}
        return json.loads(line)

    def _timed(self, seconds: float, asked: dict[str, Any]) -> bytes:
        """Ask the process, and end it if it takes longer than so many seconds."""
        assert self._process is not None
        timer = threading.Timer(seconds, self._kill)
        timer.daemon = True
        timer.start()
        try:
            return _exchange(self._process, asked)
        finally:
            timer.cancel()

    def _start(self) -> None:
        """See to it that there is a process."""
        if self._done >= _CHORES_IN_A_LIFE:
            self._end()
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._done = 0
            hidden = {key: value for key, value in os.environ.items() if key != "ROUNDVIEW_TOKEN"}
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=hidden
            )
            # Its imports take seconds, or a minute on a busy machine: no file is to blame for that.
            self._timed(_START_SECONDS, {"chore": "ready", "arguments": []})

    def _kill(self) -> None:
        """End the process; who reads from it sees the end of its answers."""
        if self._process is not None:
            self._process.kill()

    def _end(self) -> None:
        """End the process and close its pipes; from the thread that reads them only."""
        self._kill()
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            self._process.wait()
        self._process = None


def _exchange(process: "subprocess.Popen[bytes]", asked: dict[str, Any]) -> bytes:
    """Ask, and read the answer; nothing if the process dies of it."""
    assert process.stdin is not None
    assert process.stdout is not None
    stdin: IO[bytes] = process.stdin
    try:
        stdin.write(json.dumps(asked).encode() + b"\n")
        stdin.flush()
        return process.stdout.readline()
    except (OSError, ValueError):
        return b""
