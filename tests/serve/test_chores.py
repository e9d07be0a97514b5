import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fakes import block, photo_of
from PIL import Image as PilImage

from roundview.export.files import write_png
from roundview.export.glb import save_glb
from roundview.image import Foreground
from roundview.serve.chores import answer, check, export, matte, picture, ready
from roundview.stages import FOLDER, Stages, seeded


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = photo_of(block())
    path = tmp_path / "photo"
    rgb = PilImage.fromarray((image.rgb.numpy() * 255).round().astype("uint8"))
    assert image.alpha is not None
    rgb.putalpha(PilImage.fromarray((image.alpha.numpy() * 255).round().astype("uint8")))
    rgb.save(path, "PNG")
    return path


def test_a_good_photo_gets_a_thumbnail_over_white(photo: Path, tmp_path: Path) -> None:
    assert check(str(photo), None, str(tmp_path / "t.jpg")) == {"width": 128, "height": 128}
    with PilImage.open(tmp_path / "t.jpg") as small:
        assert small.format == "JPEG"
        assert small.getpixel((1, 1)) == (255, 255, 255)


def test_a_mask_of_another_shape_is_refused(photo: Path, tmp_path: Path) -> None:
    PilImage.new("L", (200, 50), 255).save(tmp_path / "mask.png")
    asked = [str(photo), str(tmp_path / "mask.png"), str(tmp_path / "t.jpg")]
    told = answer({"chore": "check", "arguments": asked})
    assert "the mask is 200x50" in told["error"]


def test_the_matte_has_the_size_of_the_photo_and_its_alpha(photo: Path, tmp_path: Path) -> None:
    matte(str(photo), str(tmp_path / "matte.png"))
    with PilImage.open(tmp_path / "matte.png") as picture, PilImage.open(photo) as source:
        assert picture.mode == "L"
        assert picture.size == source.size
        assert picture.getpixel((64, 64)) == 255
        assert picture.getpixel((1, 1)) == 0


def test_assets_are_converted_and_what_has_parts_is_zipped(tmp_path: Path) -> None:
    save_glb(block(), tmp_path / "asset.glb")
    export(str(tmp_path / "asset.glb"), str(tmp_path / "exports" / "asset.stl"))
    assert (tmp_path / "exports" / "asset.stl").stat().st_size > 600
    export(str(tmp_path / "asset.glb"), str(tmp_path / "exports" / "asset.obj.zip"))
    with zipfile.ZipFile(tmp_path / "exports" / "asset.obj.zip") as archive:
        assert "asset.obj" in archive.namelist()
    write_png(tmp_path / "views" / "000.png", photo_of(block()).rgb)
    export(str(tmp_path / "views"), str(tmp_path / "exports" / "views.zip"))
    with zipfile.ZipFile(tmp_path / "exports" / "views.zip") as archive:
        assert archive.namelist() == ["000.png"]
        assert archive.testzip() is None


def test_the_newest_stage_of_a_job_is_drawn(tmp_path: Path) -> None:
    assert answer({"chore": "picture", "arguments": [str(tmp_path), "x"]}) == {"result": False}
    seen = photo_of(block())
    assert seen.alpha is not None
    subject = Foreground(seen.rgb, seen.alpha)
    run = Stages(seeded(0), directory=tmp_path / FOLDER)
    run("matte", lambda _: subject)
    assert picture(str(tmp_path), str(tmp_path / "stage.png"))
    with PilImage.open(tmp_path / "stage.png") as drawn:
        assert (drawn.mode, drawn.size) == ("RGBA", (128, 128))


def test_errors_are_answers(tmp_path: Path) -> None:
    missing = answer({"chore": "check", "arguments": [str(tmp_path / "none"), None, "t"]})
    assert "no such file" in missing["error"]
    ready()


def test_the_process_answers_line_by_line() -> None:
    lines = b'{"chore": "check", "arguments": ["/none", null, "t"]}\n' * 2
    done = subprocess.run(
        [sys.executable, "-m", "roundview.serve.chores"],
        input=lines,
        capture_output=True,
        check=True,
        timeout=120,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [set(told) for told in answers] == [{"error"}] * 2
