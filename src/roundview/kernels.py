"""Compiled CPU kernels: how they are built, where they are cached, on how many threads they run.

Importing this module imports numba, so only the modules that hold kernels import it, and those are
imported where they are called. Decorate a kernel with `njit`, and launch parallel ones inside
`launching()`. What a kernel calls is best `njit(forceinline=True)`: otherwise the process that
compiles it runs the helper's own code, and those that load it from the cache a copy, which the
compiler may have rounded otherwise, so that the two give other last bits.
"""

import functools
import hashlib
import inspect
import itertools
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import config
from numpy.typing import NDArray

# numba fills this module while it runs, so a type checker sees nothing in it.
_CONFIG: Any = config
_ONE_AT_A_TIME = threading.RLock()
_FREE: list[NDArray[np.uint8]] = []
_MOST_FREE_BYTES = 1 << 28

# Not OpenMP: there numba shares the thread pool with torch and resets torch's number of threads,
# which made training steps after a kernel call hundreds of times slower on a busy machine.
if not os.environ.get("NUMBA_THREADING_LAYER"):
    _CONFIG.THREADING_LAYER = "workqueue"


def thread_count() -> int:
    """Say how many threads the kernels use.

    The smallest of the cores this process may run on, `NUMBA_NUM_THREADS` and `ROUNDVIEW_THREADS`
    (both environment variables; the second is read at every call).

    Raises:
        ValueError: If `ROUNDVIEW_THREADS` is not a positive integer.
    """
    # Affinity, not os.cpu_count(): two threads that share one core are slower than one.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = os.environ.get("ROUNDVIEW_THREADS", "")
    if wanted and not (wanted.isdecimal() and int(wanted) > 0):
        raise ValueError(f"ROUNDVIEW_THREADS must be a positive integer, got {wanted!r}")
    most = int(_CONFIG.NUMBA_NUM_THREADS)
    return min(cores or 1, most, int(wanted) if wanted else most)


@contextmanager
def launching() -> Iterator[None]:
    """Run parallel kernels on `thread_count()` threads, one Python thread at a time.

    numba's built-in thread pool ends the process when two Python threads enter it together.
    """
    with _ONE_AT_A_TIME:
        before = numba.get_num_threads()
        numba.set_num_threads(thread_count())
        try:
            yield
        finally:
            numba.set_num_threads(before)


def run_jobs(
    kernel: Callable[..., None],
    jobs: int,
    *arguments: Any,  # noqa: ANN401
    at_least: int = 1,
) -> None:
    """Call `kernel(first, last, *arguments)` for all jobs 0 to `jobs`, on `thread_count()` threads.

    On one thread while other programs keep the cores busy, unless `ROUNDVIEW_THREADS` is set: two
    threads that wait for one core are slower than one. The kernel must do the same whatever the
    pieces. Compared with numba's own parallel loops this costs nothing on one thread, compiles
    faster, and may be called from several Python threads.

    Args:
        kernel: What to call; it should let go of Python's lock, as those of `njit` do.
        jobs: Number of jobs.
        *arguments: Handed on.
        at_least: Jobs that are worth 50 microseconds, which is what handing over a piece costs.
    """
    threads = min(thread_count(), jobs // at_least)
    if threads <= 1 or _LOAD.crowded():
        kernel(0, jobs, *arguments)
        return
    # More pieces than threads, so that none waits long for the slowest.
    pieces = min(jobs // at_least, 3 * threads)
    edges = [jobs * piece // pieces for piece in range(pieces + 1)]
    pool = _pool(os.getpid(), threads)
    running = [
        pool.submit(_timed, kernel, first, last, arguments)
        for first, last in itertools.pairwise(edges)
    ]
    for piece in running:
        _LOAD.notice(*piece.result())


class _Load:
    """Whether other programs want the cores: threads then wait for longer than they run.

    Known from the threads' own clocks, which costs a microsecond a piece. A second thread in
    vain is tried again after a second. Chosen by us: with one other program on two cores each of
    three threads runs two thirds of the time, on free cores nearly all of it.
    """

    _WATCHED_S, _PAUSE_S, _LEAST_SHARE = 0.005, 1.0, 0.8

    def __init__(self) -> None:
        self._taken = self._ran = 0.0
        self._crowded_until = -math.inf

    def crowded(self) -> bool:
        """Say whether one thread should do."""
        if os.environ.get("ROUNDVIEW_THREADS"):
            return False
        return time.monotonic() < self._crowded_until

    def notice(self, taken: float, ran: float) -> None:
        """Count the seconds that a piece took, and those of them in which it ran."""
        self._taken, self._ran = self._taken + taken, self._ran + ran
        if self._taken > self._WATCHED_S:
            if self._ran < self._LEAST_SHARE * self._taken:
                self._crowded_until = time.monotonic() + self._PAUSE_S
            self._taken = self._ran = 0.0


_LOAD = _Load()


def _timed(
    kernel: Callable[..., None],
    first: int,
    last: int,
    arguments: tuple[Any, ...],
) -> tuple[float, float]:
    taken, ran = time.perf_counter(), time.thread_time()
    kernel(first, last, *arguments)
    return time.perf_counter() - taken, time.thread_time() - ran


class Memory:
    """Arrays for kernels, without their first use, which costs more than many a kernel.

    The operating system hands out fresh memory page by page. So big arrays lie in buffers that are
    used again, as soon as the `Memory` that gave them is gone: keep it as long as its arrays.
    """

    def __init__(self) -> None:
        self._taken: list[NDArray[np.uint8]] = []

    def __del__(self) -> None:
        """Leave the buffers to those who come next."""
        if sum(buffer.nbytes for buffer in _FREE) < _MOST_FREE_BYTES:
            _FREE.extend(self._taken)

    def empty(self, shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
        """Give an array of unknown content that begins with a line of the processor's cache."""
        length = math.prod(shape) * np.dtype(kind).itemsize
        buffer = _take_buffer(length)
        self._taken.append(buffer)
        start = -buffer.ctypes.data % 64
        return buffer[start : start + length].view(kind).reshape(shape)


def _take_buffer(length: int) -> NDArray[np.uint8]:
    with _ONE_AT_A_TIME:
        fitting = [at for at, buffer in enumerate(_FREE) if length + 64 <= buffer.nbytes]
        if fitting:
            return _FREE.pop(min(fitting, key=lambda at: _FREE[at].nbytes))
    # A little more than asked for: the next picture may need more.
    return np.empty(length + length // 4 + 4096, np.uint8)


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Keep threads from call to call; a forked process has lost its parent's and needs its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"roundview-kernels-{process}")


@functools.cache
def _cache_directory(folder: Path) -> str | None:
    """Find a directory for a folder's compiled kernels, or None where nothing can be written.

    Its name holds a digest of all the folder's kernels, because numba compares the time of one file
    only and would go on using a kernel whose helper in another file has changed.
    """
    if os.environ.get("NUMBA_CACHE_DIR"):
        return os.environ["NUMBA_CACHE_DIR"]
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for source in sorted(folder.glob("*_numba.py")):
        digest.update(source.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    directory = Path(base, "roundview", "numba", digest.hexdigest()[:12])
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return str(directory)
    except OSError:
        return None


_FLAGS: dict[str, Any] = {
    # Sums may be reordered and multiply-adds fused, but infinities and NaN keep their meaning:
    # projections of points near the camera plane make them.
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
    "error_model": "numpy",
    "nogil": True,
}


def njit(function: Callable[..., Any] | None = None, **flags: Any) -> Callable[..., Any]:  # noqa: ANN401
    """Compile as `numba.njit` does with the project's flags; takes more: `@njit(parallel=True)`."""
    if function is None:
        return functools.partial(njit, **flags)
    # The test run wraps every function in type checks, which numba can neither compile nor cache.
    plain = inspect.unwrap(function)
    directory = _cache_directory(Path(plain.__code__.co_filename).parent)
    # numba asks for the directory while it decorates, not when it compiles.
    before, _CONFIG.CACHE_DIR = _CONFIG.CACHE_DIR, directory or ""
    try:
        return numba.njit(plain, cache=directory is not None, **_FLAGS | flags)
    finally:
        _CONFIG.CACHE_DIR = before
