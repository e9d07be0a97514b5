import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serve_fakes import made_folder, stand_in

from roundview.serve.folders import Folders, JobFolder
from roundview.serve.jobs import CANCELLED, DONE, FAILED, QUEUED, Job, JobStore, new_id
from roundview.serve.limits import Limits
from roundview.serve.workers import Workers, last_words, make_command

SETTINGS = {
    "recipe": "im3d",
    "quality": "draft",
    "faces": 500,
    "texture_size": 64,
    "watertight": False,
    "no_matte": False,
    "photo_elevation_deg": None,
}
Start = Callable[..., Workers]


@dataclasses.dataclass
class Shop:
    """A store, folders and workers whose jobs are stand-ins."""

    root: Path
    store: JobStore
    folders: Folders
    made: Path
    staged: list[Job] = dataclasses.field(default_factory=list)
    ended: list[Job] = dataclasses.field(default_factory=list)
    workers: list[Workers] = dataclasses.field(default_factory=list)

    def start(self, **limits: float) -> Workers:
        bounds = dataclasses.replace(Limits(threads=1), **limits)
        command = stand_in(self.made)
        workers = Workers(
            self.store,
            self.folders,
            bounds,
            command=command,
            staged=self.staged.append,
            ended=self.ended.append,
        )
        workers.start()
        self.workers.append(workers)
        return workers

    def job(self, seed: int) -> Job:
        id = new_id()
        self.folders.incoming(id).photo.touch()
        self.folders.accept(id)
        return self.store.add(id, {**SETTINGS, "seed": seed}, queued_at_most=9)

    def after(self, job: Job, *, until: Callable[[Job], bool]) -> Job:
        deadline, found = time.monotonic() + 60, job
        while time.monotonic() < deadline:
            found = self.store.get(job.id)
            assert found is not None, "it is gone"
            if until(found):
                return found
            time.sleep(0.02)
        raise AssertionError(f"it stayed {found.state} at {found.stage}")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    store = JobStore(tmp_path)
    made = Shop(tmp_path, store, Folders(tmp_path), made_folder(tmp_path / "made"))
    yield made
    for workers in made.workers:
        workers.stop()
    store.close()


def over(job: Job) -> bool:
    return job.ended is not None


def at_work(job: Job) -> bool:
    return job.stage == "draw"


def test_a_job_runs_to_its_end(shop: Shop) -> None:
    job = shop.job(seed=0)
    shop.start()
    done = shop.after(job, until=over)
    assert done.state == DONE
    assert [(stage["name"], stage["seconds"]) for stage in done.stages] == [
        ("matte", 0.25),
        ("draw", 1.5),
    ]
    assert [staged.id for staged in shop.staged] == [job.id, job.id]
    assert (shop.folders.of(job.id).output / "asset.glb").exists()


@pytest.mark.parametrize(
    ("seed", "reason"), [(1, "its worker was ended by SIGKILL"), (2, "photo: no object found")]
)
def test_a_bad_job_fails_with_its_reason_and_the_next_one_runs(
    shop: Shop, seed: int, reason: str
) -> None:
    bad, good = shop.job(seed=seed), shop.job(seed=0)
    shop.start()
    failed = shop.after(bad, until=over)
    assert failed.state == FAILED
    assert failed.reason is not None
    assert failed.reason.startswith(reason)
    assert str(shop.root) not in failed.reason
    assert shop.after(good, until=over).state == DONE
    assert [job.id for job in shop.ended] == [bad.id, good.id]


def test_a_cancelled_job_is_gone_within_two_seconds_though_it_will_not_listen(shop: Shop) -> None:
    job = shop.job(seed=3)
    workers = shop.start()
    shop.after(job, until=at_work)
    pid = shop.folders.of(job.id).output / "pid"
    while not pid.exists() or not pid.read_text():
        time.sleep(0.02)
    begin = time.monotonic()
    assert workers.cancel(job.id)
    found = shop.store.get(job.id)
    assert found is not None
    assert found.state == CANCELLED
    while alive(int(pid.read_text())):
        assert time.monotonic() - begin < 10  # Far over, for machines under load; measured: 1.1.
        time.sleep(0.02)


def test_a_job_that_waits_can_be_cancelled(shop: Shop) -> None:
    first, second = shop.job(seed=3), shop.job(seed=0)
    workers = shop.start()
    shop.after(first, until=at_work)
    assert workers.cancel(second.id)
    assert workers.cancel(first.id)
    assert not workers.cancel(first.id)
    assert shop.after(second, until=over).state == CANCELLED


def test_a_job_that_takes_too_long_is_ended(shop: Shop) -> None:
    job = shop.job(seed=3)
    shop.start(job_seconds=1.0)
    late = shop.after(job, until=over)
    assert late.state == FAILED
    assert "longer than" in str(late.reason)


def test_what_runs_when_the_server_stops_goes_on_with_the_next(shop: Shop) -> None:
    job = shop.job(seed=3)
    first = shop.start()
    shop.after(job, until=at_work)
    first.stop()
    found = shop.store.get(job.id)
    assert found is not None
    assert (found.state, found.attempts) == (QUEUED, 0)
    second = shop.start()
    shop.after(job, until=at_work)
    second.cancel(job.id)


def test_the_command_is_that_of_the_command_line(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    settings = {**SETTINGS, "seed": 5, "photo_elevation_deg": -10.0, "watertight": True}
    words = make_command(Limits(threads=2))(Job("x", QUEUED, settings, 0.0), folder)
    assert words[3:6] == ["make", str(folder.photo), "-o"]
    assert {"--resume", "--json", "--watertight", "--photo-elevation-deg=-10.0"} <= set(words)
    assert "--mask" not in words
    folder.mask.touch()
    assert "--mask" in make_command(Limits())(Job("x", QUEUED, settings, 0.0), folder)


def test_the_last_words_are_short_and_name_no_folder(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    assert last_words(folder.log, folder) == ""
    folder.log.write_bytes(b"\xff" * 9000 + f"\nroundview: {folder.photo}: {'x' * 900}\n".encode())
    said = last_words(folder.log, folder)
    assert said.startswith("photo: xxx")
    assert len(said) == 500


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
