import base64
import json
import re
from pathlib import Path
from typing import Any

import torch

from roundview.evaluate.report import html_page, markdown, row_label, save_report, strip_png
from roundview.export.files import picture_from_bytes


def results() -> dict[str, Any]:
    """One object measured, one failed."""
    marks = {"psnr": 16.25, "ssim": 0.75}
    rows = {"orbit": marks, "mean_of_truth": {"psnr": 17.5, "ssim": 0.8}}
    good = {"name": "a <b> cup", **marks, "rows": rows, "strip": ["truth", "orbit"]}
    means = {key: {"label": row_label(key), **values, "objects": 1} for key, values in rows.items()}
    return {
        "protocol": "nvs-syncdreamer",
        "recipe": "im3d",
        "weights": [{"name": "orbit-small", "sha256": "0123456789abcdef"}],
        "settings": {"seed": 0, "protocol": {"size_px": 32}},
        "objects": [good, {"name": "vase", "error": "ValueError: it | broke\nbadly"}],
        "mean": {**marks, "objects": 1, "of": 2, "rows": means},
    }


def test_markdown_says_how_many_and_what_failed() -> None:
    text = markdown(results())
    assert "Measured 1 of 2 objects; 1 failed" in text
    assert "| the orbit model's drawings |  | 16.25 | 0.750 | 1 of 2 |" in text
    assert "| mean of the true views | yes | 17.50 | 0.800 | 1 of 2 |" in text
    assert "| vase | - | - | ValueError: it \\| broke badly |" in text
    assert "orbit-small (0123456789ab)" in text


def test_a_recipe_that_fails_is_told_beside_the_marks() -> None:
    told = results()
    told["objects"][0]["recipe_error"] = "ValueError: <nothing> solid"
    assert "| 16.25 | 0.750 | the recipe: ValueError: <nothing> solid |" in markdown(told)
    page = html_page(told, {})
    assert "failed: the recipe: ValueError: &lt;nothing&gt; solid" in page
    assert "16.25 dB" in page


def test_the_page_holds_its_pictures_and_asks_for_no_other_file(tmp_path: Path) -> None:
    strip = tmp_path / "strip.png"
    strip.write_bytes(strip_png([torch.rand(4, 32, 32, 3), torch.ones(4, 32, 32, 3)]))
    page = html_page(results(), {"a <b> cup": strip})
    assert "a &lt;b&gt; cup" in page
    assert "<b>" not in page
    assert "failed: ValueError: it | broke" in page
    assert "prefers-color-scheme: dark" in page
    assert "protocol.size_px = 32" in page
    found = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert len(found) == 1
    assert found[0].startswith("data:image/png;base64,")
    data = re.search(r'base64,([^"]*)"', page)
    assert data is not None
    assert base64.b64decode(data[1]) == strip.read_bytes()


def test_a_strip_shows_every_second_view_a_row_a_set() -> None:
    greys = torch.tensor([0.0, 0.2, 0.4, 0.6])[:, None, None, None].expand(4, 112, 112, 3)
    picture = picture_from_bytes(strip_png([greys, torch.ones(4, 112, 112, 3)]), "strip")
    assert picture.shape == (224, 224, 3)
    assert [round(255 * float(picture[50, x, 0])) for x in (50, 150)] == [0, 102]
    assert float(picture[150, 50, 0]) == 1.0


def test_rows_are_named_in_words() -> None:
    assert row_label("white") == "all white"
    assert row_label("recipe fit 1") == "the recipe's Gaussians after 'fit 1'"
    assert row_label("recipe mesh") == "the recipe's mesh"


def test_three_files_are_written(tmp_path: Path) -> None:
    save_report(results(), {}, tmp_path / "new")
    written = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert written == ["report.html", "results.json", "results.md"]
    assert json.loads((tmp_path / "new" / "results.json").read_text()) == results()
