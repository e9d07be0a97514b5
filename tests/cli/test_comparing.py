import json
from pathlib import Path

import pytest

from roundview.cli import run


@pytest.fixture
def written(tmp_path: Path) -> list[Path]:
    paths = []
    for recipe, psnr in (("im3d", 10.0), ("hi3d", 11.0)):
        rows = {"measured": {"psnr": psnr, "label": "", "objects": 1, "interval": {"psnr": None}}}
        results = {
            "protocol": "mesh-syncdreamer",
            "recipe": recipe,
            "weights": [],
            "main": "measured",
            "objects": [{"name": "a", "rows": {"measured": {"psnr": psnr}}}],
            "mean": {"objects": 1, "of": 1, "rows": rows},
        }
        paths.append(tmp_path / f"{recipe}.json")
        paths[-1].write_text(json.dumps(results))
    return paths


def test_a_table_is_printed_or_written(
    written: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", "table", *map(str, written)]) == 0
    printed = capsys.readouterr().out
    assert "| hi3d | 11.00 (+1.00) | 1 of 1 |" in printed
    output = written[0].parent / "table.md"
    assert run(["eval", "table", *map(str, written), "-o", str(output)]) == 0
    assert output.read_text() == printed


def test_differences_are_printed_as_text_or_json(
    written: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", "compare", *map(str, written)]) == 0
    assert "| measured | PSNR, dB | +1.00 |" in capsys.readouterr().out
    assert run(["eval", "compare", *map(str, written), "--json"]) == 0


def test_a_missing_file_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "table", "nowhere.json"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
