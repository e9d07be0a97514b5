from functools import partial
from pathlib import Path

import pytest
from fakes import block
from job_measures import Death, Heights, no_measure

from roundview.data.objects import find_objects
from roundview.evaluate.jobs import Workers, measure_all, measure_in_processes
from roundview.export.glb import save_glb
from roundview.stages import Quiet


class Heard(Quiet):
    """Keeps what ended and whether it was there already."""

    def __init__(self) -> None:
        self.ends: dict[str, bool] = {}

    def finished(self, stage: str, seconds: float, *, resumed: bool) -> None:
        self.ends[stage] = resumed


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "objects"
    folder.mkdir()
    for name, height in (("flat", 0.3), ("tall", 1.0)):
        save_glb(block(1.0, height, 0.5), folder / f"{name}.glb")
    (folder / "broken.glb").write_bytes(b"no GLB at all")
    return folder


def test_processes_measure_what_one_would_and_keep_it(data: Path, tmp_path: Path) -> None:
    out, heard = tmp_path / "out", Heard()
    things = find_objects(data)
    workers = Workers(data, Heights, 2, threads=1)
    many = measure_all(things, Heights(), out, workers=workers, listener=heard)
    assert heard.ends == {"broken": False, "flat": False, "tall": False}
    # The same folder, in this process: what was kept is taken; what failed fails again.
    heard = Heard()
    one = measure_all(things, Heights(), out, listener=heard)
    assert one == many
    assert heard.ends == {"broken": False, "flat": True, "tall": True}
    assert [entry["name"] for entry in one] == ["broken", "flat", "tall"]
    assert "GLB" in one[0]["error"]
    assert one[1]["rows"]["it"]["psnr"] == pytest.approx(0.3)


def test_a_process_that_dies_costs_its_object_only(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workers = Workers(data, partial(Heights, "flat"), 2, threads=1)
    flat, tall = measure_in_processes(["flat", "tall"], workers, tmp_path / "out")
    assert flat == {"name": "flat", "error": "RuntimeError: its worker died (exit code 7)"}
    assert tall["rows"]["it"]["psnr"] == pytest.approx(1.0)
    assert "flat failed" in caplog.text


def test_a_death_that_was_no_object_s_fault_costs_one_more_try(data: Path, tmp_path: Path) -> None:
    build = partial(Heights, dies_once=Death(tmp_path / "died"))
    measured = measure_in_processes(["flat", "tall"], Workers(data, build, 2, threads=1), tmp_path)
    assert (tmp_path / "died").exists()
    heights = [entry["rows"]["it"]["psnr"] for entry in measured]
    assert heights == pytest.approx([0.3, 1.0])


def test_workers_that_cannot_build_their_measure_say_why(data: Path, tmp_path: Path) -> None:
    workers = Workers(data, no_measure, 2)
    with pytest.raises(ValueError, match="cannot begin: there is none"):
        measure_in_processes(["flat"], workers, tmp_path)


def test_nobody_cannot_work(data: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Workers(data, Heights, 0)
