import json
from pathlib import Path
from typing import Any

from roundview.evaluate.report import markdown, save_report


def results() -> dict[str, Any]:
    """One object measured, one failed."""
    marks = {"psnr": 16.25, "ssim": 0.75}
    rows = {"orbit": marks, "mean_of_truth": {"psnr": 17.5, "ssim": 0.8}}
    means = {
        "orbit": {
            "label": "the drawings",
            **marks,
            "objects": 1,
            "interval": {"psnr": [15.0, 18.0]},
        },
        "mean_of_truth": {"label": "mean", **rows["mean_of_truth"], "objects": 1, "interval": {}},
    }
    return {
        "protocol": "nvs-syncdreamer",
        "recipe": "im3d",
        "weights": [{"name": "orbit-small", "sha256": "0123456789abcdef"}],
        "alignment": "none",
        "settings": {"seed": 0, "protocol": {"size_px": 32}},
        "main": "orbit",
        "uses_truth": ["mean_of_truth"],
        "objects": [
            {"name": "a | cup", "rows": rows, "strip": ["truth", "orbit"]},
            {"name": "vase", "error": "ValueError: it | broke\nbadly"},
        ],
        "mean": {"objects": 1, "of": 2, "rows": means},
    }


def test_markdown_says_how_many_what_failed_and_how_sure_it_is() -> None:
    text = markdown(results())
    assert "Measured 1 of 2 objects; 1 failed" in text
    assert "Alignment: none." in text
    assert "| pictures or shape | uses the truth | PSNR, dB | SSIM | objects |" in text
    assert "| the drawings |  | 16.25 (15.00 to 18.00) | 0.750 | 1 of 2 |" in text
    assert "| mean | yes | 17.50 | 0.800 | 1 of 2 |" in text
    assert "| a \\| cup | 16.25 | 0.750 |  |" in text
    assert "| vase | - | - | ValueError: it \\| broke badly |" in text
    assert "orbit-small (0123456789ab)" in text


def test_a_recipe_that_fails_is_told_beside_the_marks() -> None:
    told = results()
    told["objects"][0]["recipe_error"] = "ValueError: <nothing> solid"
    assert "| 16.25 | 0.750 | the recipe: ValueError: <nothing> solid |" in markdown(told)


def test_three_files_are_written(tmp_path: Path) -> None:
    save_report(results(), {}, tmp_path / "new")
    written = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert written == ["report.html", "results.json", "results.md"]
    assert json.loads((tmp_path / "new" / "results.json").read_text()) == results()
