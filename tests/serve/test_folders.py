import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_fakes import made_folder

from roundview.serve.folders import Folders, JobFolder
from roundview.serve.jobs import DONE, JobStore, new_id


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    kept = JobStore(tmp_path)
    yield kept
    kept.close()


def ended_job(store: JobStore, folders: Folders, size: int) -> str:
    job = store.add(new_id(), {}, queued_at_most=9)
    folder = folders.incoming(job.id)
    folder.photo.write_bytes(bytes(size))
    folders.accept(job.id)
    store.end(job.id, DONE)
    return job.id


def test_what_can_be_had_follows_from_what_was_written(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    assert folder.names() == []
    made_folder(folder.output)
    names = folder.names()
    assert {"asset.glb", "asset.obj.zip", "splats.spz", "views.zip", "record.json"} <= set(names)
    (folder.output / "splats.ply").unlink()
    assert "splats.spz" not in folder.names()


def test_made_files_lie_apart_from_those_of_the_job(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    assert folder.file("asset.glb") == tmp_path / "out" / "asset.glb"
    assert folder.file("asset.stl") == tmp_path / "exports" / "asset.stl"
    assert folder.source("asset.stl").name == "asset.glb"
    assert folder.source("splats.spz").name == "splats.ply"


def test_the_preview_follows_the_pictures_of_the_work(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    assert folder.live_picture() is None
    folder.output.mkdir()
    pictures = [folder.stage_picture, folder.output / "progress.png", folder.output / "preview.png"]
    for moment, path in enumerate(pictures, start=1):
        path.touch()
        os.utime(path, (moment, moment))
        assert folder.live_picture() == path
    (folder.output / "preview.png").unlink()
    os.utime(folder.stage_picture, (9, 9))
    assert folder.live_picture() == folder.stage_picture


def test_the_oldest_jobs_go_first_when_space_is_short(tmp_path: Path, store: JobStore) -> None:
    folders = Folders(tmp_path)
    old, middle, new = (ended_job(store, folders, 1000) for _ in range(3))
    waiting = store.add(new_id(), {}, queued_at_most=9)
    folders.incoming(waiting.id).photo.write_bytes(bytes(1000))
    folders.accept(waiting.id)
    gone = folders.tidy(store, disk_bytes=2500)
    assert [job.id for job in gone] == [old, middle]
    assert store.get(new) is not None
    assert not folders.of(old).path.exists()
    assert [job.id for job in folders.tidy(store, disk_bytes=0)] == [new]
    assert folders.of(waiting.id).photo.exists()  # Only what is over may go.


def test_what_a_dead_server_left_is_cleared(tmp_path: Path, store: JobStore) -> None:
    Folders(tmp_path).incoming("half").photo.touch()
    folders = Folders(tmp_path)
    assert not (tmp_path / "incoming" / "half").exists()
    folders.of("unknown").path.mkdir()
    folders.tidy(store, disk_bytes=10**9)
    assert not folders.of("unknown").path.exists()
