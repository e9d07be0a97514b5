"""The gallery is drawn from what `make` writes, and publishes nothing that cannot be credited."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import block, photo_of
from PIL import Image as PilImage
from serve_asset import make_asset

from roundview.export.files import write_png


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    photos, made = tmp_path / "photos", tmp_path / "made"
    for name in ("block", "unknown"):
        write_png(photos / f"{name}.png", photo_of(block()).rgb)
        make_asset(made / name)
    return photos, made


def gallery(repository: Path, *words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, repository / "tools" / "gallery.py", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_page_shows_what_is_credited_and_says_what_is_missing(
    repository: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    photos, made = folders
    pictures = tmp_path / "site" / "images"
    pictures.mkdir(parents=True)
    (pictures / "credits.json").write_text(json.dumps({"block": ["Block", "by us"]}))
    page = tmp_path / "site" / "pages" / "gallery.md"
    methods = [f"im3d={made}", f"hi3d={tmp_path / 'none'}"]
    done = gallery(repository, photos, *methods, "-o", page, "--pictures", pictures, "--size", 32)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "## Block" in text
    assert "by us" in text
    assert "(../images/block-im3d.webp)" in text
    assert text.count("Not made.") == 1
    assert "unknown" not in text
    assert {path.name for path in pictures.iterdir()} == {
        "credits.json",
        "block.webp",
        "block-im3d.webp",
    }
    with PilImage.open(pictures / "block-im3d.webp") as strip:
        assert strip.size == (5 * 32, 32)
        red, back = strip.getpixel((16, 16)), strip.getpixel((2 * 32 + 16, 16))
        empty = strip.getpixel((0, 0))
    assert isinstance(red, tuple)
    assert isinstance(back, tuple)
    assert isinstance(empty, tuple)
    assert red[0] > 2 * red[2], "the photographed side comes first"
    assert back[2] > 2 * back[0], "the back is the third"
    assert empty[3] == 0


def test_a_sheet_has_a_row_a_photograph(
    repository: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    photos, made = folders
    sheet = tmp_path / "sheet.png"
    done = gallery(repository, photos, f"im3d={made}", "-o", sheet, "--size", 24)
    assert done.returncode == 0, done.stderr
    with PilImage.open(sheet) as picture:
        assert picture.size == (24 * 6, 2 * 24 + 18)
