import json
from pathlib import Path

import pytest
from batch_work import Copying, not_installed
from typer import Typer
from typer.testing import CliRunner

from roundview.batch.local import LocalEngine
from roundview.batch.manifest import NAME, Manifest
from roundview.cli import batching
from roundview.weights import WeightsMissing

app = Typer(pretty_exceptions_enable=False)
app.command()(batching.batch)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, content in {"a": "fine", "b": "bad", "c": "flaky"}.items():
        (folder / f"{name}.png").write_text(content)
    copying = Copying(tmp_path / "log")  # Stands where models would be loaded.
    monkeypatch.setattr("roundview.batch.making.Wish", lambda *_: copying)
    return folder


def run(*arguments: object) -> tuple[list[dict[str, object]], BaseException | None]:
    """The events that were told, and what was raised."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json", "--jobs", "1"])
    events = [json.loads(line) for line in result.stdout.splitlines()]
    raised = None if isinstance(result.exception, SystemExit) else result.exception
    return events, raised


def test_a_batch_tells_of_each_photo_and_sums_up(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    events, raised = run(photos, "-o", out)
    assert isinstance(raised, ValueError)
    assert "1 of 3 photos failed" in str(raised)
    told = {Path(str(e["photo"])).stem: e for e in events if "photo" in e}
    assert {name: e["state"] for name, e in told.items()} == {
        "a": "done",
        "b": "failed",
        "c": "done",
    }
    assert told["b"]["reason"] == "it shows nothing"
    assert [e["left"] for e in events if "photo" in e] == [2, 1, 0]
    assert events[-1] | {"done": 2, "failed": 1, "before": 0} == events[-1]
    folders = {path.name for path in out.iterdir()} - {NAME}
    assert folders == {e["folder"] for name, e in told.items() if name != "b"}
    # Once more, the photo at fault mended: only that one is left to do.
    (photos / "b.png").write_text("fine now")
    events, raised = run(photos, "-o", out)
    assert raised is None
    assert [Path(str(e["photo"])).stem for e in events if "photo" in e] == ["b"]
    assert events[-1] | {"done": 3, "failed": 0, "before": 2} == events[-1]
    assert len(Manifest(out, "copies").entries) == 3


def test_missing_weights_keep_their_exit_code(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "_local", lambda *_: LocalEngine(not_installed, count=1))
    _, raised = run(photos, "-o", tmp_path / "out")
    assert isinstance(raised, WeightsMissing)


def test_an_address_needs_ray(photos: Path, tmp_path: Path) -> None:
    _, raised = run(photos, "-o", tmp_path / "out", "--address", "auto")
    assert isinstance(raised, ValueError)
    assert "--engine ray" in str(raised)
