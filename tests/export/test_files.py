"""Claims about files: whole or not there, and pictures that come back as they went."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from roundview.export.files import (
    atomic_directory,
    atomic_path,
    png_bytes,
    read_json,
    read_png,
    write_json,
    write_png,
)


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "asset.glb"
    with atomic_path(path) as temporary:
        assert temporary.suffix == ".glb"  # writers choose the format by it
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "asset.glb"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_no_new_folder(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_path(tmp_path / "a" / "b" / "c.txt"):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    def fill(*, fail: bool) -> None:
        with atomic_directory(tmp_path / "out" / "views") as folder:
            (folder / "000.png").write_text("x")
            assert not (tmp_path / "out" / "views" / "000.png").exists()
            if fail:
                raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fill(fail=True)
    assert list(tmp_path.iterdir()) == []
    fill(fail=False)
    assert [p.name for p in (tmp_path / "out" / "views").iterdir()] == ["000.png"]


def test_a_folder_keeps_what_the_user_has_there(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    (tmp_path / "a.txt").write_text("old")
    with atomic_directory(tmp_path) as folder:
        (folder / "a.txt").write_text("new")
        (folder / "sub").mkdir()
        (folder / "sub" / "b.txt").write_text("b")
    files = {str(p.relative_to(tmp_path)): p.read_text() for p in tmp_path.rglob("*.txt")}
    assert files == {"mine.txt": "keep", "a.txt": "new", "sub/b.txt": "b"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "mine.txt", "sub"]


def test_a_folder_cannot_be_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")

    def fill() -> None:
        with atomic_directory(tmp_path / "out"):
            pytest.fail("the block must not run")

    with pytest.raises(ValueError, match="is a file"):
        fill()

    def write() -> None:
        with atomic_path(tmp_path / "out" / "x.txt"):
            pytest.fail("the block must not run")

    with pytest.raises(ValueError, match="cannot make the folder"):
        write()


def test_four_levels_are_these_bytes(tmp_path: Path) -> None:
    picture = torch.tensor([[[0.0], [0.5]], [[1.0], [2.0]]])  # the last one is clamped
    write_png(tmp_path / "x.png", picture)
    with Pillow.open(tmp_path / "x.png") as opened:
        assert opened.mode == "L"
        np.testing.assert_array_equal(np.array(opened), [[0, 128], [255, 255]])


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_pictures_return(tmp_path: Path, channels: int, bits: int) -> None:
    generator = torch.Generator().manual_seed(channels * bits)
    levels = torch.randint(0, 2**bits, (5, 7, channels), generator=generator)
    picture = levels.float() / (2**bits - 1)
    write_png(tmp_path / "x.png", picture, bits=bits)
    torch.testing.assert_close(read_png(tmp_path / "x.png"), picture, rtol=1e-6, atol=0)


def test_the_same_picture_gives_the_same_bytes() -> None:
    picture = torch.rand(9, 9, 3, generator=torch.Generator().manual_seed(0))
    assert png_bytes(picture) == png_bytes(picture.clone())


def test_palettes_and_transparency_are_read(tmp_path: Path) -> None:
    flat = Pillow.new("P", (2, 1), 0)
    flat.putpalette([255, 0, 0, 0, 255, 0])
    flat.save(tmp_path / "p.png")
    torch.testing.assert_close(read_png(tmp_path / "p.png")[0, 0], torch.tensor([1.0, 0.0, 0.0]))
    flat.save(tmp_path / "t.png", transparency=0)
    got = read_png(tmp_path / "t.png")[0, 0]
    torch.testing.assert_close(got, torch.tensor([1.0, 0.0, 0.0, 0.0]))


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "half.png").write_bytes(png_bytes(torch.rand(64, 64, 3))[:2000])
    for name in ("text.png", "half.png", "missing.png"):
        with pytest.raises(ValueError, match=name):
            read_png(tmp_path / name)
    with pytest.raises(ValueError, match="NaN"):
        png_bytes(torch.full((1, 1, 3), torch.nan))
    with pytest.raises(ValueError, match="channels"):
        png_bytes(torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match="bits"):
        png_bytes(torch.zeros(1, 1, 3), bits=12)


def test_json_returns_and_bad_json_is_refused(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "ü"}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert (tmp_path / "x.json").read_text().index('"b"') < 10  # the order is kept
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "nan.json", {"x": float("nan")})
    assert not (tmp_path / "nan.json").exists()
    for content in ("{", "[1]", "\xff"):
        (tmp_path / "bad.json").write_text(content, encoding="latin-1")
        with pytest.raises(ValueError, match=r"bad\.json"):
            read_json(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="cannot read"):
        read_json(tmp_path / "missing.json")
