import json
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bad_inputs import write_all
from fakes import KnowingOrbit, KnownElevation, block, photo_of
from PIL import Image as PilImage
from recipes_tiny import TINY
from torch import Generator

from roundview.cli import run
from roundview.export.glb import load_glb
from roundview.export.transforms import load_views
from roundview.image import Foreground
from roundview.loaders import Loaded, Wanted
from roundview.memory import MemoryPlan, Room
from roundview.models import Report, silent
from roundview.recipes.im3d import QUALITIES, Im3dModels
from roundview.segment import PhotoMatte, U2NetMatte
from roundview.stages import FOLDER
from roundview.views import Views
from roundview.weights import Card, card

Make = Callable[..., int]


class StoppedOnce(KnowingOrbit):
    """Is interrupted in the first redrawing, as by Ctrl-C."""

    stopped = False

    def redraw(
        self,
        subject: Foreground,
        views: Views,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        noise_level: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        if not self.stopped:
            self.stopped = True
            raise KeyboardInterrupt
        return super().redraw(
            subject,
            views,
            rng,
            photo_elevation_deg=photo_elevation_deg,
            noise_level=noise_level,
            steps=steps,
            report=report,
        )


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = photo_of(block())
    assert image.alpha is not None
    rgb = PilImage.fromarray((image.rgb.numpy() * 255).round().astype("uint8"))
    rgb.putalpha(PilImage.fromarray((image.alpha.numpy() * 255).round().astype("uint8")))
    path = tmp_path / "photo.png"
    rgb.save(path)
    return path


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[KnowingOrbit], None]:
    """Let `make` and `views` find a small recipe and models that need no weights."""
    monkeypatch.setitem(QUALITIES, "draft", TINY)

    def using(orbit: KnowingOrbit) -> None:
        models = Im3dModels(PhotoMatte(), orbit, KnownElevation(10.0))
        loaded = Loaded(models, (), "fakes")
        monkeypatch.setattr("roundview.loaders.im3d.load_im3d", lambda _: loaded)

    return using


def make(photo: Path, output: Path, *more: str) -> int:
    sizes = ("--faces", "1200", "--texture-size", "64")
    return run(["make", str(photo), "-o", str(output), "--quality", "draft", *sizes, *more])


def test_make_writes_what_it_promises(
    photo: Path, tmp_path: Path, use: Callable[[KnowingOrbit], None]
) -> None:
    use(KnowingOrbit(block()))
    out = tmp_path / "out"
    assert make(photo, out, "--quiet") == 0
    there = {path.name for path in out.iterdir()}
    assert {"asset.glb", "splats.ply", "preview.png", "views", "record.json"} <= there
    assert FOLDER not in there
    assert any(name.startswith("turntable.") for name in there)
    mesh = load_glb(out / "asset.glb")
    assert 0 < len(mesh.faces) <= 1200
    assert mesh.texture is not None
    assert len(load_views(out / "views")) == 13
    record = json.loads((out / "record.json").read_text())
    assert record["recipe"] == "im3d"
    assert record["settings"]["faces"] == 1200
    assert record["seed"] == 0
    assert record["mesh"]["faces"] == len(mesh.faces)
    assert record["peak_memory_mb"] > 50
    assert list(record["seconds"])[:3] == ["matte", "elevation", "draw"]


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    photo: Path,
    tmp_path: Path,
    use: Callable[[KnowingOrbit], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(KnowingOrbit(block()))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert make(photo, whole, "--quiet") == 0
    use(StoppedOnce(block()))
    assert make(photo, broken, "--quiet") == 130
    assert "--resume" in capsys.readouterr().err
    assert not (broken / "asset.glb").exists()
    assert make(photo, broken, "--resume", "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kept = {e["stage"] for e in events if e.get("event") == "finished" and e["resumed"]}
    assert kept == {"matte", "elevation", "draw", "fit"}
    for name in ("asset.glb", "splats.ply"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    # Once more: there is nothing left to do.
    assert make(photo, broken, "--resume", "--json") == 0
    assert "finished before" in capsys.readouterr().out


def test_another_seed_starts_over_and_says_so(
    photo: Path,
    tmp_path: Path,
    use: Callable[[KnowingOrbit], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    orbit = StoppedOnce(block())
    use(orbit)
    assert make(photo, tmp_path / "out", "--quiet") == 130
    assert make(photo, tmp_path / "out", "--resume", "--seed", "1") == 0
    assert caplog.text.count("starting over") == 1
    assert json.loads((tmp_path / "out" / "record.json").read_text())["seed"] == 1


def test_views_stand_where_they_were_asked_to(
    photo: Path, tmp_path: Path, use: Callable[[KnowingOrbit], None]
) -> None:
    use(KnowingOrbit(block()))
    out = tmp_path / "views"
    where = ["--azimuth-deg", "30,200", "--elevation-deg", "5", "--size", "40"]
    arguments = ["views", str(photo), "-o", str(out), "--quality", "draft", *where, "--quiet"]
    assert run(arguments) == 0
    views = load_views(out)
    assert views.cameras.size_hw == (40, 40)
    assert [round(float(a)) for a in views.cameras.azimuth_deg] == [30, 200]
    assert (out / "sheet.png").is_file()


def test_words_that_nobody_reads_are_refused_in_one_line(
    photo: Path,
    tmp_path: Path,
    use: Callable[[KnowingOrbit], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(KnowingOrbit(block()))
    for command in ("make", "views"):
        out = tmp_path / command
        told = [command, str(photo), "-o", str(out), "--quality", "draft", "--prompt", "a cat"]
        assert run(told) == 2
        said = capsys.readouterr().err
        assert said.startswith("roundview: --prompt: no model of im3d reads words with these weig")
        assert said.count("\n") == 1
        assert not out.exists()


def test_what_drew_views_is_gone_when_they_are_enhanced(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(QUALITIES, "draft", TINY)
    alive: list[bool] = []
    orbit = KnowingOrbit(block())
    drawing = weakref.ref(orbit)
    held = [Loaded(Im3dModels(PhotoMatte(), orbit, KnownElevation(10.0)), (), "fakes")]
    del orbit
    monkeypatch.setattr("roundview.loaders.im3d.load_im3d", lambda _: held.pop())
    planned: list[Wanted] = []

    def room(wanted: Wanted) -> Room:
        planned.append(wanted)
        assert held, "planned before anything is loaded"
        return Room(MemoryPlan(), torch.device("cpu"))

    def enhancer(wanted: Wanted, cards: list[Card], room: Room) -> str:
        del wanted, cards, room
        alive.append(drawing() is not None)
        return "enhancer"

    def enhanced(subject: Foreground, views: Views, enhancer: str, **told: object) -> Views:
        del subject, told
        assert enhancer == "enhancer"
        return views

    monkeypatch.setattr("roundview.loaders.hifi123.enhancer_room", room)
    monkeypatch.setattr("roundview.loaders.hifi123.load_enhancer", enhancer)
    monkeypatch.setattr("roundview.recipes.enhancing.enhanced_views", enhanced)
    out = tmp_path / "views"
    told = ["views", str(photo), "-o", str(out), "--quality", "draft", "--enhance", "rgnv"]
    assert run([*told, "--memory-gb", "9", "--azimuth-deg", "30", "--quiet"]) == 0
    assert len(load_views(out)) == 1
    assert alive == [False]
    assert [wanted.memory_gb for wanted in planned] == [9.0]


def test_bad_inputs_are_told_in_one_line_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    matte = PhotoMatte(U2NetMatte(card("u2netp").path))
    models = Im3dModels(matte, KnowingOrbit(block()), KnownElevation(10.0))
    monkeypatch.setattr("roundview.loaders.im3d.load_im3d", lambda _: Loaded(models, (), "x"))
    paths = write_all(tmp_path / "bad")
    assert len(paths) >= 50
    out = tmp_path / "out"
    for path in paths:
        assert run(["make", str(path), "-o", str(out), "--quiet"]) == 2, path.name
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("roundview: "), path.name
        assert said.err.count("\n") == 1, said.err
        assert not out.exists(), path.name
