from pathlib import Path

import pytest
from batch_work import photos_in

from roundview.batch.manifest import NAME, Manifest
from roundview.batch.tasks import Ended, Task


def written(task: Task) -> None:
    task.folder.mkdir(parents=True)
    for name in ("asset.glb", "record.json"):
        (task.folder / name).write_text("x")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return photos_in(tmp_path, a="fine")[0]


def test_what_is_done_stays_done(task: Task, tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "out", "asked")
    assert not manifest.is_done(task)
    written(task)
    manifest.write(Ended(task, seconds=2.0), tries=1)
    again = Manifest(tmp_path / "out", "asked")
    assert again.is_done(task)
    assert again.of(task).seconds == 2.0


def test_other_wishes_changed_photos_and_lost_assets_are_not_done(
    task: Task, tmp_path: Path
) -> None:
    written(task)
    Manifest(tmp_path / "out", "asked").write(Ended(task), tries=1)
    assert not Manifest(tmp_path / "out", "asked otherwise").is_done(task)
    task.photo.write_text("changed since")
    assert not Manifest(tmp_path / "out", "asked").is_done(task)
    Manifest(tmp_path / "out", "asked").write(Ended(task), tries=1)
    assert Manifest(tmp_path / "out", "asked").is_done(task)
    (task.folder / "asset.glb").unlink()
    assert not Manifest(tmp_path / "out", "asked").is_done(task)


def test_failures_are_remembered_and_not_done(task: Task, tmp_path: Path) -> None:
    Manifest(tmp_path / "out", "asked").write(Ended(task, "it is too dark"), tries=2)
    manifest = Manifest(tmp_path / "out", "asked")
    assert not manifest.is_done(task)
    assert (manifest.of(task).reason, manifest.of(task).tries) == ("it is too dark", 2)


def test_a_line_cut_short_costs_that_line_only(tmp_path: Path) -> None:
    first, second = photos_in(tmp_path, a="fine", b="fine")
    for task in (first, second):
        written(task)
        Manifest(tmp_path / "out", "asked").write(Ended(task), tries=1)
    path = tmp_path / "out" / NAME
    whole = path.read_bytes()
    for end in range(len(whole) - 1, whole.index(b"\n"), -7):
        path.write_bytes(whole[:end])
        manifest = Manifest(tmp_path / "out", "asked")
        assert manifest.is_done(first)
        manifest.write(Ended(second), tries=1)
        assert Manifest(tmp_path / "out", "asked").is_done(second)


@pytest.mark.parametrize("junk", [b"{}\n", b"[1]\n", b'{"stamp": 3}\n', b"\xff\xfe\n", b"null\n"])
def test_lines_of_others_are_passed_over(junk: bytes, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(junk)
    assert Manifest(tmp_path, "asked").entries == {}


def test_a_place_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="cannot use"):
        Manifest(tmp_path / "file", "asked")


def test_two_batches_are_kept_apart(tmp_path: Path) -> None:
    mine, other = Manifest(tmp_path, "a"), Manifest(tmp_path, "b")
    with mine.held(), pytest.raises(ValueError, match="another batch is at work"), other.held():
        pass
    with other.held():
        assert other.path.read_bytes() == b""


def test_a_folder_that_cannot_be_locked_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr("roundview.batch.manifest.fcntl.flock", no_locks)
    with Manifest(tmp_path, "a").held():
        assert "cannot be locked" in caplog.text
