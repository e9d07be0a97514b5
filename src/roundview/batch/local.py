"""Workers that are processes of this machine: each builds its work once and takes task after task.

Processes are started fresh (threads and compiled kernels do not survive a fork). One that dies
fails only the task it had; another takes its place.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from .tasks import MOST_TASKS, Build, BuildError, Ended, unbuilt, use_threads

_PATIENCE_SECONDS = 5.0  # for a worker that was asked to stop to leave no temporary files
_MOST_DEATHS = 3  # of workers in a row that never got to work


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    task: Any = None
    since: float = 0.0
    ready: bool = False
    done: int = 0


class LocalEngine:
    """An `Engine` of processes.

    Args:
        build: Called once in each.
        count: Processes at a time; no more are started than there are tasks.
        threads: Of each; None shares out the cores that this process may use.
        limit_seconds: How long a task may take before its process is ended.
    """

    def __init__(
        self,
        build: Build,
        *,
        count: int,
        threads: int | None = None,
        limit_seconds: float | None = None,
    ) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        self._build = build
        self._count = count
        self._threads = threads or max(1, free_cores() // count)
        self._limit = limit_seconds
        self._queue: deque[Any] = deque()
        self._workers: list[_Worker] = []
        self._deaths = 0

    def give(self, task: Any) -> None:  # noqa: ANN401  what the work can do
        """Put a task at the end of the queue."""
        self._queue.append(task)

    def wait(self) -> list[Ended]:
        """Wait until at least one task has ended; an empty list when there are none left."""
        while self._queue or any(worker.task is not None for worker in self._workers):
            self._staff()
            ended = self._ended()
            if ended:
                return ended
        return []

    def close(self) -> None:
        """Stop the workers; each is given a moment to remove its temporary files."""
        for worker in self._workers:
            worker.process.terminate()
        last = time.monotonic() + _PATIENCE_SECONDS
        for worker in self._workers:
            _let_go(worker, last)
        self._workers = []

    def _staff(self) -> None:
        """Start workers that are wanted, and give tasks to those that are free."""
        busy = sum(worker.task is not None for worker in self._workers)
        while len(self._workers) < min(self._count, busy + len(self._queue)):
            self._workers.append(_started(self._build, self._threads))
        for worker in self._workers:
            if worker.ready and worker.task is None and self._queue:
                worker.task, worker.since = self._queue.popleft(), time.monotonic()
                try:
                    worker.pipe.send(worker.task)
                except OSError:  # It died while it was idle: its pipe says so, too.
                    continue

    def _ended(self) -> list[Ended]:
        """Hear from the workers; notice those that died or took too long."""
        timeout = 1.0 if self._limit else None
        by_pipe = {worker.pipe: worker for worker in self._workers}
        ended = []
        for pipe in wait(list(by_pipe), timeout):
            worker = by_pipe[pipe]  # pyright: ignore[reportArgumentType]  what was handed in
            try:
                said = worker.pipe.recv()
            except (EOFError, OSError):
                ended += self._buried(worker, "")
                continue
            if isinstance(said, BuildError):
                raise said
            if isinstance(said, Ended):
                ended.append(said)
                worker.task = None
                worker.done += 1
            worker.ready = True
            if worker.done == MOST_TASKS:
                self._workers.remove(worker)
                worker.process.terminate()
                _let_go(worker, time.monotonic() + _PATIENCE_SECONDS)
            self._deaths = 0
        for worker in list(self._workers):
            if (
                self._limit
                and worker.task is not None
                and time.monotonic() - worker.since > self._limit
            ):
                worker.process.kill()
                ended += self._buried(worker, f"it took over {self._limit:g} s")
        return ended

    def _buried(self, worker: _Worker, reason: str) -> list[Ended]:
        """Let go of a worker that died; its task, if it had one, has ended."""
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        reason = reason or f"its worker died ({_cause(worker.process.exitcode)})"
        if worker.task is not None:
            return [Ended(worker.task, reason, time.monotonic() - worker.since)]
        self._deaths += 1
        if self._deaths >= _MOST_DEATHS:
            raise BuildError(
                f"workers die before they can begin ({_cause(worker.process.exitcode)}); "
                "fewer of them need less memory"
            )
        return []


def free_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _started(build: Build, threads: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, build, threads), daemon=True)
    process.start()
    there.close()
    return _Worker(process, here)


def _let_go(worker: _Worker, last: float) -> None:
    """Wait for a worker that was told to stop, and end it if it has not by then."""
    worker.process.join(max(0.0, last - time.monotonic()))
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def _cause(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"


def _serve(pipe: Connection, build: Build, threads: int) -> None:
    """Build the work and do tasks until there are no more; runs in the worker."""
    # Ctrl-C reaches the whole group of processes; the one that started this decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        try:
            use_threads(threads)
            work = build()
        except Exception as error:  # Sent on: only the other side can tell the user.
            pipe.send(unbuilt(error))
            return
        pipe.send(None)
        while True:
            pipe.send(work(pipe.recv()))
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return  # Whoever started this is gone, or wants it gone.


def _end_with_parent() -> None:
    """Wait for the end of the process that started this one, then end this one; runs in a thread.

    A worker in the middle of a task would work on for nobody, while the same batch, begun again,
    does that task once more in the same folder.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE_SECONDS)
    os._exit(1)
