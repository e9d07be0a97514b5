from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import block

from roundview.data.objects import ObjectFile
from roundview.evaluate.keeping import (
    Measured,
    choose_objects,
    kept_file,
    kept_strip,
    measure_each,
    program_identity,
)
from roundview.evaluate.strips import strip_png
from roundview.mesh import Mesh
from roundview.models import Report

PICTURE = strip_png([torch.ones(2, 8, 8, 3)])


class Widths:
    """Measures how wide an object is, and counts how often it was asked."""

    def __init__(self, *, complete: bool = True, salt: int = 0) -> None:
        self.asked: list[str] = []
        self.complete = complete
        self.salt = salt

    def facts(self) -> dict[str, Any]:
        return {"salt": self.salt}

    def __call__(self, name: str, mesh: Mesh, report: Report) -> Measured:
        self.asked.append(name)
        report(1.0)
        width = float(mesh.vertices[:, 0].max() - mesh.vertices[:, 0].min())
        rows = {"it": {"psnr": width}}
        return Measured({"rows": rows}, PICTURE, {".txt": b"kept"}, complete=self.complete)


def broken() -> Mesh:
    raise ValueError("this is no GLB file")


WIDE, SLIM = ObjectFile("a/wide", lambda: block(0.9)), ObjectFile("slim", lambda: block(0.2))


def test_each_object_is_measured_once(tmp_path: Path) -> None:
    widths = Widths()
    first = measure_each([WIDE, SLIM], widths, tmp_path)
    assert [entry["name"] for entry in first] == ["a/wide", "slim"]
    assert first[0]["rows"]["it"]["psnr"] == pytest.approx(0.9)
    assert measure_each([WIDE, SLIM], widths, tmp_path) == first
    assert widths.asked == ["a/wide", "slim"]
    assert kept_strip(tmp_path, "slim").read_bytes() == PICTURE
    assert kept_file(tmp_path, "slim", ".txt").read_bytes() == b"kept"


def test_other_facts_or_another_object_are_measured_anew(tmp_path: Path) -> None:
    measure_each([SLIM], Widths(), tmp_path)
    changed = Widths(salt=1)
    measure_each([SLIM], changed, tmp_path)
    measure_each([ObjectFile("slim", lambda: block(0.3))], changed, tmp_path)
    assert changed.asked == ["slim", "slim"]


def test_what_is_incomplete_or_damaged_is_measured_anew(tmp_path: Path) -> None:
    half = Widths(complete=False)
    measure_each([SLIM], half, tmp_path)
    measure_each([SLIM], half, tmp_path)
    assert len(half.asked) == 2
    whole = Widths()
    measure_each([SLIM], whole, tmp_path)
    kept_file(tmp_path, "slim", ".json").write_text("[")
    measure_each([SLIM], whole, tmp_path)
    assert len(whole.asked) == 2


def test_a_failure_is_told_and_costs_the_others_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = measure_each([ObjectFile("broken", broken), SLIM], Widths(), tmp_path)
    assert entries[0] == {"name": "broken", "error": "ValueError: this is no GLB file"}
    assert "error" not in entries[1]
    assert "broken failed" in caplog.text


def test_an_interruption_is_no_failure(tmp_path: Path) -> None:
    def interrupt() -> Mesh:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_each([SLIM, ObjectFile("later", interrupt)], Widths(), tmp_path)
    again = Widths()
    measure_each([SLIM], again, tmp_path)
    assert again.asked == []


def test_names_from_a_zip_stay_in_the_folder(tmp_path: Path) -> None:
    strip = kept_strip(tmp_path, "../../evil")
    assert strip.parent == tmp_path / "objects"
    assert strip != kept_strip(tmp_path, "..-..-evil")


def test_objects_are_chosen_by_name() -> None:
    assert choose_objects([WIDE, SLIM], [" slim", "a/wide"]) == [WIDE, SLIM]
    with pytest.raises(ValueError, match=r"'tall'; there are: a/wide, slim"):
        choose_objects([WIDE, SLIM], ["slim", "tall"])


def test_the_program_has_an_identity() -> None:
    assert program_identity() == program_identity()
    assert len(program_identity()) == 64
