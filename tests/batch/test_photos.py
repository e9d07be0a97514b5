import os
from pathlib import Path

import pytest

from roundview.batch.photos import find_photos, folder_name, tasks_for


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", "below/a.JPG", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_folders_give_the_pictures_in_them_and_below(folder: Path) -> None:
    found = [p.relative_to(folder).as_posix() for p in find_photos(str(folder))]
    assert found == ["a.JPG", "b.png", "below/a.JPG"]


def test_patterns_and_single_pictures(folder: Path) -> None:
    assert find_photos(f"{folder}/**/a.*") == [folder / "a.JPG", folder / "below" / "a.JPG"]
    assert find_photos(f"{folder}/b.png") == [folder / "b.png"]


def test_lists_are_relative_to_themselves_and_keep_their_order(folder: Path) -> None:
    lines = f"# mine\nb.png\n\nbelow/a.JPG\n{folder}/b.png\nmissing.png\n"
    (folder / "list.txt").write_text(lines)
    named = [p.name for p in find_photos(str(folder / "list.txt"))]
    assert named == ["b.png", "a.JPG", "missing.png"]


@pytest.mark.parametrize("source", ["nowhere", "nowhere/*.png", "."])
def test_nothing_found_is_refused(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="names no photo"):
        find_photos(source)


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ValueError, match="neither a picture nor a text file"):
        find_photos(str(tmp_path / "list"))


def test_no_two_photos_share_a_folder(folder: Path, tmp_path: Path) -> None:
    photos = [folder / "a.JPG", folder / "below" / "a.JPG", folder / "a.png", folder / "ä b.png"]
    photos.append(Path(os.fsdecode(b"/photos/caf\xe9.png")))
    names = [task.folder.name for task in tasks_for(photos, tmp_path / "out")]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and "/" not in name for name in names)
    assert folder_name(Path("/x/..png")).startswith("photo-")


def test_the_same_photo_keeps_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert folder_name(Path("b.png")) == folder_name(folder / "below" / ".." / "b.png")
