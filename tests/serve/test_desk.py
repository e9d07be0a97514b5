import asyncio
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_fakes import desk, made_folder

from roundview.serve.desk import Desk, NoSpaceError
from roundview.serve.helper import ChoreError
from roundview.serve.jobs import DONE, QUEUED, Job, QueueFullError
from roundview.serve.limits import Limits

LIMITS = Limits(queued=2, free_bytes=0)


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Desk]:
    """A desk whose workers have not begun."""
    made = desk(tmp_path / "data", made_folder(tmp_path / "made"), LIMITS)
    yield made
    made.helper.stop()
    made.store.close()


def take_in(idle: Desk, content: bytes = b"a photo") -> Job:
    return asyncio.run(idle.take_in(io.BytesIO(content), None, {"seed": 0}))


def test_an_accepted_job_has_its_files_and_waits(idle: Desk) -> None:
    job = asyncio.run(idle.take_in(io.BytesIO(b"photo"), io.BytesIO(b"mask"), {"seed": 0}))
    folder = idle.folders.of(job.id)
    assert job.state == QUEUED
    assert folder.photo.read_bytes() == b"photo"
    assert folder.mask.read_bytes() == b"mask"
    assert folder.thumbnail.exists()


def test_a_job_is_made_again_from_the_photo_and_the_mask_of_another(idle: Desk) -> None:
    job = asyncio.run(idle.take_in(io.BytesIO(b"photo"), io.BytesIO(b"mask"), {"seed": 0}))
    idle.limits = dataclasses.replace(LIMITS, queued=9)
    again = asyncio.run(idle.again(job, {"seed": 1}))
    folder = idle.folders.of(again.id)
    assert (again.settings, again.state) == ({"seed": 1}, QUEUED)
    assert folder.photo.read_bytes() == b"photo"
    assert folder.mask.read_bytes() == b"mask"
    assert folder.thumbnail.exists()
    whole = asyncio.run(idle.again(again, {"seed": 2, "no_matte": True}))
    assert not idle.folders.of(whole.id).mask.exists()
    idle.folders.remove(idle.folders.of(job.id))
    with pytest.raises(FileNotFoundError):
        asyncio.run(idle.again(job, {"seed": 3}))
    assert len(idle.store.latest(9)) == 3


def test_a_refused_photo_leaves_nothing_and_names_no_folder(idle: Desk, tmp_path: Path) -> None:
    with pytest.raises(ChoreError, match=r"^photo: is not a picture"):
        take_in(idle, b"bad")
    left = [path for path in (tmp_path / "data").rglob("*") if path.suffix != ".sqlite"]
    assert {path.name for path in left if path.is_file()} <= {
        "jobs.sqlite-wal",
        "jobs.sqlite-shm",
        "lock.sqlite-journal",
    }
    assert idle.store.latest(9) == []


def test_a_full_queue_is_told_and_leaves_nothing(idle: Desk) -> None:
    jobs = [take_in(idle), take_in(idle)]
    with pytest.raises(QueueFullError):
        take_in(idle)
    assert len(idle.store.latest(9)) == len(jobs)
    assert idle.retry_after() == 60


def test_a_full_disk_is_told(idle: Desk) -> None:
    idle.limits = dataclasses.replace(LIMITS, free_bytes=2**62)
    with pytest.raises(NoSpaceError, match="nearly full"):
        take_in(idle)


def test_files_are_made_when_they_are_asked_for_and_kept(idle: Desk) -> None:
    job = take_in(idle)
    made_folder(idle.folders.of(job.id).output)
    path = asyncio.run(idle.file(job, "asset.stl"))
    assert path is not None
    assert path.read_bytes() == b"made of asset.glb"
    path.write_bytes(b"kept")
    assert asyncio.run(idle.file(job, "asset.stl")) == path
    assert path.read_bytes() == b"kept"
    for name in ("../jobs.sqlite", "asset.exe", "photo", ""):
        assert asyncio.run(idle.file(job, name)) is None


def test_a_job_is_cancelled_first_and_removed_then(idle: Desk) -> None:
    job = take_in(idle)
    cancelled = idle.cancel_or_remove(job)
    assert cancelled is not None
    assert cancelled.state == "cancelled"
    assert idle.cancel_or_remove(job) is None
    assert idle.store.get(job.id) is None
    assert not idle.folders.of(job.id).path.exists()


def test_old_jobs_make_room_when_a_new_one_ends(tmp_path: Path) -> None:
    limits = Limits(disk_bytes=700, free_bytes=0)
    there = desk(tmp_path / "data", made_folder(tmp_path / "made"), limits)
    there.start()
    jobs = [take_in(there, bytes(300)) for _ in range(3)]

    async def end() -> None:
        for _ in range(600):
            if any(job.state == DONE and job.id == jobs[2].id for job in there.store.latest(9)):
                return
            if there.store.get(jobs[2].id) is None:
                return
            await asyncio.sleep(0.05)

    asyncio.run(end())
    there.stop()
    assert not there.folders.of(jobs[0].id).path.exists()
    assert not there.well()
