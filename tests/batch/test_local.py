import multiprocessing
import time
from pathlib import Path

import pytest
from batch_work import Copying, dies_at_once, do_locally, not_installed, photos_in

from roundview.batch.local import LocalEngine, free_cores
from roundview.batch.manifest import Manifest
from roundview.batch.run import Summary, run_batch
from roundview.batch.tasks import BuildError, Engine, Task


def run(
    tasks: list[Task], tmp_path: Path, *, count: int = 1, limit: float | None = None
) -> Summary:
    def engine() -> Engine:
        build = Copying(tmp_path / "log")
        return LocalEngine(build, count=count, threads=1, limit_seconds=limit)

    return run_batch(tasks, Manifest(tmp_path / "out", "asked"), engine)


def test_a_worker_builds_once_and_one_that_dies_costs_its_photo_only(tmp_path: Path) -> None:
    tasks = photos_in(tmp_path, a="fine", b="deadly", c="crashes once", d="fine", e="bad")
    summary = run(tasks, tmp_path)
    assert [bool(entry.reason) for entry in summary.entries] == [False, True, False, False, True]
    assert summary.entries[1].reason == "its worker died (SIGKILL)"
    assert summary.entries[2].tries == 2
    log = (tmp_path / "log").read_text().splitlines()
    # Once at first, and once after each of the three deaths.
    assert log.count("built") == 4
    assert all(log.count(f"ended {name}.png") == 1 for name in "acd")


def test_a_photo_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    slow, fine = photos_in(tmp_path, slow="slow", fine="fine")
    engine = LocalEngine(Copying(tmp_path / "log"), count=1, threads=1, limit_seconds=0.5)
    engine.give(slow)
    engine.give(fine)
    errors = [ended.error for _ in range(2) for ended in engine.wait()]
    assert errors == ["it took over 0.5 s", ""]
    assert engine.wait() == []
    engine.close()


@pytest.mark.parametrize(
    ("build", "missing", "said"),
    [(not_installed, True, "not installed"), (dies_at_once, False, "die before they can begin")],
)
def test_work_that_cannot_be_built_stops_everything(
    build: object, missing: bool, said: str, tmp_path: Path
) -> None:
    engine = LocalEngine(build, count=1, threads=1)  # pyright: ignore[reportArgumentType]  both kinds
    engine.give(photos_in(tmp_path, a="fine")[0])
    with pytest.raises(BuildError, match=said) as caught:
        engine.wait()
    engine.close()
    assert caught.value.missing is missing


def test_a_worker_is_replaced_after_so_many_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundview.batch.local.MOST_TASKS", 2)
    summary = run(photos_in(tmp_path, a="fine", b="fine", c="fine"), tmp_path)
    assert not summary.failed
    assert (tmp_path / "log").read_text().splitlines().count("built") == 2


def test_somebody_must_work() -> None:
    assert free_cores() >= 1
    with pytest.raises(ValueError, match="count"):
        LocalEngine(dies_at_once, count=0)


def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    log, tasks = tmp_path / "log", photos_in(tmp_path, a="slow")
    process = multiprocessing.get_context("spawn").Process
    coordinator = process(target=do_locally, args=(Copying(log), tasks))
    coordinator.start()
    _wait_for("began a.png", log)
    coordinator.kill()
    coordinator.join()
    _wait_for("gave up a.png", log)


def _wait_for(line: str, log: Path) -> None:
    last = time.monotonic() + 50
    while not (log.is_file() and line in log.read_text().splitlines()):
        assert time.monotonic() < last, f"no line {line!r} came"
        time.sleep(0.02)
