"""Jobs are done once each on any number of threads, and memory is used again."""

import os
import threading
import time
from typing import Any

import numpy as np
import pytest

from roundview import kernels


def test_threads_are_as_few_as_the_user_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDVIEW_THREADS", "1")
    assert kernels.thread_count() == 1
    monkeypatch.setenv("ROUNDVIEW_THREADS", "1000")
    assert 1 <= kernels.thread_count() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("wanted", ["0", "-1", "two", "1.5"])
def test_a_number_of_threads_that_is_none_is_refused(
    wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDVIEW_THREADS", wanted)
    with pytest.raises(ValueError, match="ROUNDVIEW_THREADS"):
        kernels.thread_count()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("jobs", [0, 1, 2, 7, 100])
def test_every_job_is_done_once(threads: int, jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "thread_count", lambda: threads)
    done = np.zeros(jobs, np.int64)
    workers = set()

    def kernel(first: int, last: int, counts: np.ndarray) -> None:
        counts[first:last] += 1
        workers.add(threading.get_ident())

    kernels.run_jobs(kernel, jobs, done)
    assert (done == 1).all()
    assert len(workers) <= threads


def test_few_jobs_are_not_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "thread_count", lambda: 2)
    called: list[tuple[int, int, int]] = []

    def kernel(first: int, last: int) -> None:
        called.append((first, last, threading.get_ident()))

    kernels.run_jobs(kernel, 15, at_least=8)
    assert called == [(0, 15, threading.get_ident())]


def pieces_of_run(monkeypatch: pytest.MonkeyPatch, *, busy: bool) -> tuple[int, int]:
    """Pieces of the first run and of the one after it, whose threads waited or not."""
    monkeypatch.setattr(kernels, "thread_count", lambda: 2)
    monkeypatch.setattr(kernels, "_LOAD", kernels._Load())  # pyright: ignore[reportPrivateUsage]  not one that other tests have filled
    called: list[int] = []

    def kernel(first: int, last: int) -> None:
        called.append(last - first)
        if busy:
            time.sleep(0.005)

    kernels.run_jobs(kernel, 6)
    before = len(called)
    kernels.run_jobs(kernel, 6)
    return before, len(called) - before


def test_threads_that_only_wait_give_way_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROUNDVIEW_THREADS", raising=False)
    assert pieces_of_run(monkeypatch, busy=True) == (6, 1)
    assert pieces_of_run(monkeypatch, busy=False) == (6, 6)


def test_a_wanted_number_of_threads_is_kept_on_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROUNDVIEW_THREADS", "2")
    assert pieces_of_run(monkeypatch, busy=True) == (6, 6)


def test_one_thread_is_given_up_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROUNDVIEW_THREADS", raising=False)
    load, now = kernels._Load(), [100.0]  # pyright: ignore[reportPrivateUsage]  its clock is set here
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    load.notice(0.02, 0.01)
    assert load.crowded()
    now[0] += 1.1
    assert not load.crowded()
    load.notice(0.02, 0.019)
    assert not load.crowded()


def test_an_error_in_a_job_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "thread_count", lambda: 2)

    def kernel(first: int, last: int) -> None:
        raise ArithmeticError(f"jobs {first} to {last}")

    with pytest.raises(ArithmeticError, match="jobs 0"):
        kernels.run_jobs(kernel, 5)


def test_arrays_of_one_memory_do_not_overlap_and_are_aligned() -> None:
    memory = kernels.Memory()
    kinds = (np.float32, np.uint8, np.int64, np.uint32)
    arrays = [memory.empty((3, 50), kind) for kind in kinds]
    for value, array in enumerate(arrays):
        array.fill(value)
    assert all((array == value).all() for value, array in enumerate(arrays))
    assert all(array.ctypes.data % 64 == 0 for array in arrays)
    assert memory.empty((0, 4), np.float32).shape == (0, 4)


def test_memory_is_used_again_once_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    # None of other tests' buffers: one may fit as closely, or they may be all that is kept.
    monkeypatch.setattr(kernels, "_FREE", [])
    memory = kernels.Memory()
    first = memory.empty((1_234_567,), np.uint8).ctypes.data
    held = kernels.Memory()
    assert held.empty((1_234_567,), np.uint8).ctypes.data != first
    del memory
    assert kernels.Memory().empty((1_234_567,), np.uint8).ctypes.data == first


def test_a_kernel_is_compiled_without_the_type_checks_of_the_test_run() -> None:
    kernel: Any = kernels.njit(cached_total)
    assert kernel(np.arange(5.0)) == 10.0
    assert kernel.targetoptions["nogil"]


def cached_total(values: np.ndarray) -> float:
    result = 0.0
    for value in values:
        result += value
    return result
