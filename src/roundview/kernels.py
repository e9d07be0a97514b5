"""Compiled CPU kernels: how they are built, where they are cached, on how many threads they run.

Importing this module imports numba, so only the modules that hold kernels import it, and those are
imported where they are called. Decorate a kernel with `njit`, and launch parallel ones inside
`launching()`.
"""

import functools
import hashlib
import inspect
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from numba.core import config

# numba fills this module while it runs, so a type checker sees nothing in it.
_CONFIG: Any = config
_ONE_AT_A_TIME = threading.RLock()

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
