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

_ONE_AT_A_TIME = threading.RLock()


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
    most = int(numba.config.NUMBA_NUM_THREADS)
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


def _cache_directory() -> Path | None:
    """Find a directory for compiled kernels, or None where nothing can be written.

    Its name holds a digest of all kernel sources, because numba compares the time of one file only
    and would go on using a kernel whose helper in another file has changed.
    """
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        if source.name == "kernels.py" or "_numba" in source.name:
            digest.update(source.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    directory = Path(base, "roundview", "numba", digest.hexdigest()[:12])
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except OSError:
        return None


def _prepare_cache() -> bool:
    """Point numba at a writable cache, unless the user chose one; say whether there is any."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return True
    directory = _cache_directory()
    if directory is not None:
        # The variable as well as the setting: numba reads its variables again when it reloads.
        os.environ["NUMBA_CACHE_DIR"] = str(directory)
        numba.config.CACHE_DIR = str(directory)
    return directory is not None


_FLAGS: dict[str, Any] = {
    "cache": _prepare_cache(),
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
    return numba.njit(inspect.unwrap(function), **_FLAGS | flags)
