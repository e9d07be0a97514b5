"""Threads that take jobs from the queue and run each in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

from .folders import Folders, JobFolder
from .jobs import CANCELLED, DONE, FAILED, Job, JobStore
from .limits import Limits

Command = Callable[[Job, JobFolder], list[str]]
"""Says how to run a job: the words of a command that prints one JSON object a line."""

_GRACE_SECONDS = 1.0  # Between asking a process to end and ending it: a cancelled job is gone in 2.
_WRITE_SECONDS = 0.2  # Progress is written this often at most.


class Workers:
    """Runs the jobs of a store.

    A job ends in one of four ways: its process ends well; it ends badly, and the last line of its
    stderr is the reason; it takes too long; it is cancelled. Where the server stops, the job waits
    again, and goes on after its last finished stage.

    Args:
        store: Where the jobs are.
        folders: Where their files are.
        limits: How many run at once, and for how long.
        command: How to run one.
        staged: Called after each stage of a job, with the job as it began.
        ended: Called after each job, with the job as it ended.
    """

    def __init__(
        self,
        store: JobStore,
        folders: Folders,
        limits: Limits,
        *,
        command: Command,
        staged: Callable[[Job], None],
        ended: Callable[[Job], None],
    ) -> None:
        self._store, self._folders, self._limits = store, folders, limits
        self._command, self._staged, self._ended = command, staged, ended
        self._wake = threading.Condition()
        self._stopping = False
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{at}", daemon=True)
            for at in range(limits.workers)
        ]

    def start(self) -> None:
        """Begin to take jobs."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End what runs, let it wait for the next server, and take nothing more."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
            running = list(self._running.values())
        for process in running:
            _ask_to_end(process)
        for thread in self._threads:
            thread.join(timeout=_GRACE_SECONDS + 2)

    def alive(self) -> bool:
        """Tell whether every thread still works."""
        return all(thread.is_alive() for thread in self._threads)

    def notify(self) -> None:
        """Say that there is a new job."""
        with self._wake:
            self._wake.notify()

    def cancel(self, id: str) -> bool:
        """End a job that waits or runs; tell whether it was one."""
        cancelled = self._store.end(id, CANCELLED, reason="cancelled")
        with self._wake:
            process = self._running.get(id)
        if process is not None:
            _ask_to_end(process)
        return cancelled

    def _work(self) -> None:
        while True:
            with self._wake:
                job = None if self._stopping else self._store.take()
                if job is None:
                    if self._stopping:
                        return
                    self._wake.wait(timeout=1.0)
                    continue
            try:
                self._run(job)
            except OSError as error:  # A full disk, no more processes: this job's, not the queue's.
                self._store.end(job.id, FAILED, reason=f"cannot run it: {error.strerror or error}")
            finally:
                with self._wake:
                    self._running.pop(job.id, None)
            after = self._store.get(job.id)
            if after is not None:
                self._ended(after)

    def _run(self, job: Job) -> None:
        folder = self._folders.of(job.id)
        with folder.log.open("wb") as log:
            process = subprocess.Popen(
                self._command(job, folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder.path,
                env=_environment(self._limits.threads),
                start_new_session=True,
            )
        with self._wake:
            self._running[job.id] = process
            unwanted = self._stopping
        now = self._store.get(job.id)
        if unwanted or now is None or now.state == CANCELLED:
            _ask_to_end(process)  # Somebody did between taking the job and starting it.
        late = threading.Event()
        timer = threading.Timer(self._limits.job_seconds, lambda: (late.set(), _end(process)))
        timer.daemon = True
        timer.start()
        try:
            assert process.stdout is not None
            with process.stdout as lines:
                self._listen(job, lines)
            code = process.wait()
        finally:
            timer.cancel()
            _end(process)
        self._conclude(job, folder, code, late=late.is_set())

    def _listen(self, job: Job, lines: IO[bytes]) -> None:
        """Write down what a process says of its progress, until it says no more."""
        stage, fraction, stages, written = None, 0.0, [], 0.0
        for line in lines:
            fact = _fact(line)
            event, name = fact.get("event"), fact.get("stage")
            if event in ("began", "progress") and isinstance(name, str):
                stage, fraction = name, _fraction(fact.get("fraction", 0.0))
            elif event == "finished" and isinstance(name, str):
                done = {
                    "name": name,
                    "seconds": fact.get("seconds"),
                    "resumed": fact.get("resumed"),
                }
                stages, fraction = [*stages, done], 1.0
            else:
                continue
            if event == "progress" and time.monotonic() - written < _WRITE_SECONDS:
                continue
            written = time.monotonic()
            self._store.progress(job.id, stage, fraction, stages)
            if event == "finished":
                self._staged(job)

    def _conclude(self, job: Job, folder: JobFolder, code: int, *, late: bool) -> None:
        if late:
            hours = self._limits.job_seconds / 3600
            reason = f"it took longer than {hours:.3g} hours, the limit of this server"
            self._store.end(job.id, FAILED, reason=reason)
        elif self._stopping:
            self._store.put_back(job.id)
        elif code == 0:
            self._store.end(job.id, DONE)
        else:
            self._store.end(job.id, FAILED, reason=_reason(code, folder))


def make_command(limits: Limits) -> Command:
    """Run jobs as `roundview make`, resuming what an earlier run of a job has finished."""

    def command(job: Job, folder: JobFolder) -> list[str]:
        s = job.settings
        words = [sys.executable, "-m", "roundview.serve.child", "make", str(folder.photo)]
        words += ["-o", str(folder.output), "--json", "--resume"]
        words += ["--recipe", s["recipe"], "--quality", s["quality"], "--seed", str(s["seed"])]
        words += ["--faces", str(s["faces"]), "--texture-size", str(s["texture_size"])]
        words += ["--threads", str(limits.threads)]
        if s.get("photo_elevation_deg") is not None:
            # One word: a negative number on its own would be read as an option.
            words.append(f"--photo-elevation-deg={s['photo_elevation_deg']}")
        if s.get("watertight"):
            words.append("--watertight")
        if folder.mask.is_file():
            words += ["--mask", str(folder.mask)]
        elif s.get("no_matte"):
            words.append("--no-matte")
        return words

    return command


def last_words(path: "os.PathLike[str]", hidden: JobFolder) -> str:
    """Give the last line of a log, without the server's paths and the program's name."""
    try:
        with open(path, "rb") as log:  # noqa: PTH123  seek from its end
            log.seek(max(0, os.fstat(log.fileno()).st_size - 4096))
            lines = log.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    last = lines[-1] if lines else ""
    return last.replace(f"{hidden.path}{os.sep}", "").removeprefix("roundview: ")[:500]


def _reason(code: int, folder: JobFolder) -> str:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"its worker was ended by {name}{hint}"
    return last_words(folder.log, folder) or f"its worker ended with code {code}"


def _fact(line: bytes) -> dict[str, Any]:
    """Read a line of JSON; what is none says nothing."""
    try:
        fact = json.loads(line)
    except ValueError:
        return {}
    return fact if isinstance(fact, dict) else {}


def _fraction(value: Any) -> float:  # noqa: ANN401  whatever a line held
    return min(1.0, max(0.0, float(value))) if isinstance(value, int | float) else 0.0


def _environment(threads: int) -> dict[str, str]:
    # No secret of the server is its workers' business.
    hidden = {key: value for key, value in os.environ.items() if key != "ROUNDVIEW_TOKEN"}
    return {**hidden, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}


def _ask_to_end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to end, and end it if it has not in a second."""
    _signal(process, signal.SIGTERM)
    timer = threading.Timer(_GRACE_SECONDS, _end_if_alive, [process])
    timer.daemon = True
    timer.start()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and what it started."""
    _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _end_if_alive(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:  # Else its number may be another's by now.
        _end(process)


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    with contextlib.suppress(OSError):  # It is gone already.
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        elif process.poll() is None:
            process.send_signal(number)
