from collections.abc import Iterator
from pathlib import Path

import pytest

from roundview.serve.jobs import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    Job,
    JobStore,
    QueueFullError,
    new_id,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    kept = JobStore(tmp_path)
    yield kept
    kept.close()


def added(store: JobStore) -> Job:
    return store.add(new_id(), {"seed": 7}, queued_at_most=3)


def state(store: JobStore, job: Job) -> str:
    found = store.get(job.id)
    assert found is not None
    return found.state


def test_jobs_are_taken_in_the_order_they_came(store: JobStore) -> None:
    first, second = added(store), added(store)
    assert store.ahead_of(second) == 1
    taken = store.take()
    assert taken is not None
    assert (taken.id, taken.state, taken.settings, taken.attempts) == (
        first.id,
        RUNNING,
        {"seed": 7},
        1,
    )
    again = store.take()
    assert again is not None
    assert again.id == second.id
    assert store.take() is None


def test_the_last_job_of_a_kind_says_how_the_next_may_go(store: JobStore) -> None:
    kinds = [("im3d", "draft"), ("im3d", "draft"), ("hi3d", "draft"), ("im3d", "high")]
    jobs = [
        store.add(new_id(), {"recipe": recipe, "quality": quality}, queued_at_most=9)
        for recipe, quality in kinds
    ]
    assert store.last_like({"recipe": "im3d", "quality": "draft"}) is None
    for job in jobs[:3]:
        store.end(job.id, DONE)
    store.end(jobs[3].id, FAILED)
    for kind, expected in ((kinds[0], jobs[1]), (kinds[2], jobs[2]), (kinds[3], None)):
        found = store.last_like({"recipe": kind[0], "quality": kind[1], "seed": 5})
        assert (found and found.id) == (expected and expected.id)


def test_the_queue_is_bounded_and_running_jobs_do_not_count(store: JobStore) -> None:
    for _ in range(3):
        added(store)
    with pytest.raises(QueueFullError, match="3 jobs"):
        added(store)
    store.take()
    added(store)


def test_a_job_ends_once(store: JobStore) -> None:
    job = added(store)
    assert store.end(job.id, CANCELLED)
    assert not store.end(job.id, DONE)
    assert state(store, job) == CANCELLED


def test_only_what_is_over_can_be_forgotten(store: JobStore) -> None:
    job = added(store)
    assert not store.forget(job.id)
    store.end(job.id, DONE)
    assert store.forget(job.id)
    assert store.get(job.id) is None


def test_the_list_comes_in_pages_newest_first(store: JobStore) -> None:
    jobs = [added(store) for _ in range(3)]
    first = store.latest(2)
    assert [job.id for job in first] == [jobs[2].id, jobs[1].id]
    assert [job.id for job in store.latest(2, before=first[-1].number)] == [jobs[0].id]


def test_progress_is_written_for_running_jobs_only(store: JobStore) -> None:
    job = added(store)
    store.progress(job.id, "draw", 0.5, [])
    found = store.get(job.id)
    assert found is not None
    assert found.stage is None
    store.take()
    store.progress(job.id, "draw", 0.5, [{"name": "matte", "seconds": 1.0}])
    found = store.get(job.id)
    assert found is not None
    assert (found.stage, found.fraction, found.stages[0]["name"]) == ("draw", 0.5, "matte")


def test_jobs_outlive_the_server_and_one_that_keeps_killing_it_does_not(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = added(store)
    for left in (QUEUED, FAILED):
        store.take()
        store.close()  # As a kill would: the job is still marked as running.
        store = JobStore(tmp_path)
        assert state(store, job) == RUNNING
        store.recover(attempts=2)
        assert state(store, job) == left
    store.close()


def test_a_job_that_comes_further_has_its_attempts_back(store: JobStore) -> None:
    job = added(store)
    for _ in range(2):
        store.take()
        store.recover(attempts=9)
    store.take()
    for resumed, left in ((True, 3), (False, 1)):
        store.progress(job.id, "draw", 0.5, [{"name": "matte", "resumed": resumed}])
        found = store.get(job.id)
        assert found is not None
        assert found.attempts == left


def test_a_job_put_back_has_lost_no_attempt(store: JobStore) -> None:
    job = added(store)
    store.take()
    store.put_back(job.id)
    found = store.get(job.id)
    assert found is not None
    assert (found.state, found.attempts) == (QUEUED, 0)


@pytest.mark.usefixtures("store")
def test_two_servers_cannot_share_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another server"):
        JobStore(tmp_path)


def test_the_typical_time_is_that_of_done_jobs(store: JobStore) -> None:
    assert store.typical_seconds() == 60.0
    job = added(store)
    store.take()
    store.end(job.id, DONE)
    assert 0 <= store.typical_seconds() < 5


def test_ids_are_not_guessable() -> None:
    assert len({new_id() for _ in range(100)}) == 100
    assert len(new_id()) == 16
