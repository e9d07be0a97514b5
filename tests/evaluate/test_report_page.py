import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch

from roundview.evaluate.report_page import html_page
from roundview.evaluate.strips import strip_png

VOID = {"meta", "img", "br", "line", "td", "th", "tr", "li"}


def results() -> dict[str, Any]:
    """Two objects measured, one failed."""

    def entry(name: str, psnr: float) -> dict[str, Any]:
        return {
            "name": name,
            "rows": {"orbit": {"psnr": psnr, "ssim": 0.75}, "truth_row": {"psnr": 30.0}},
            "azimuth_deg": [90.0, 180.0],
            "psnr_by_row": {"orbit": [psnr - 1, psnr + 1]},
            "seconds": {"fit": 3.0, "mesh": 1.0},
            "strip": ["truth", "orbit", "error of orbit"],
        }

    means = {
        "orbit": {"label": "the <i>drawings", "psnr": 16.0, "ssim": 0.75, "objects": 2},
        "white": {"label": "all white", "psnr": 12.0, "ssim": 0.8, "objects": 2},
        "truth_row": {"label": "knows it", "psnr": 30.0, "objects": 2},
    }
    rows = {key: {**row, "interval": {"psnr": [10.0, 20.0]}} for key, row in means.items()}
    return {
        "protocol": "nvs-syncdreamer",
        "recipe": "im3d",
        "weights": [],
        "alignment": "none",
        "settings": {"seed": 0, "protocol": {"size_px": 32}},
        "main": "orbit",
        "uses_truth": ["truth_row"],
        "objects": [
            entry("a <b> cup", 15.0),
            entry("bowl", 17.0),
            {"name": "vase", "error": "ValueError: it | broke"},
        ],
        "mean": {"objects": 2, "of": 3, "rows": rows},
    }


class Balance(HTMLParser):
    """Checks that what is opened is closed, in the right order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_is_well_formed() -> None:
    balance = Balance()
    balance.feed(html_page(results(), {}))
    assert balance.open == []
    assert balance.seen.count("table") == 3
    assert "polyline" in balance.seen


def test_the_page_holds_its_pictures_and_asks_for_no_other_file(tmp_path: Path) -> None:
    strip = tmp_path / "strip.png"
    strip.write_bytes(strip_png([torch.rand(4, 32, 32, 3), torch.ones(4, 32, 32, 3)]))
    page = html_page(results(), {"a <b> cup": strip})
    assert "a &lt;b&gt; cup" in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert "prefers-color-scheme: dark" in page
    assert "protocol.size_px = 32" in page
    found = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert [link for link in found if not link.startswith("#")] == [
        next(link for link in found if link.startswith("data:image/png;base64,"))
    ]
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    data = re.search(r'base64,([^"]*)"', page)
    assert data is not None
    assert base64.b64decode(data[1]) == strip.read_bytes()
    assert "<li>the truth<li>the &lt;i&gt;drawings<li>error of the &lt;i&gt;drawings" in page


def test_failures_and_counts_are_told() -> None:
    page = html_page(results(), {})
    assert "failed: ValueError: it | broke" in page
    assert "2 of 3" in page
    assert "Measured 2 of 3 objects; 1 failed" in page
    assert "Alignment: none." in page


def test_the_best_that_does_not_use_the_truth_is_shaded() -> None:
    page = html_page(results(), {})
    assert '<td class="number best" data-value="16.0">16.00<small>10.00 to 20.00</small>' in page
    assert '<td class="number best" data-value="0.8">0.800' in page
    assert page.count('class="number best"') == 2


def test_every_link_leads_somewhere_and_tables_sort_by_value() -> None:
    page = html_page(results(), {})
    for link in re.findall(r'href="#([^"]*)"', page):
        assert f'id="{link}"' in page
    assert 'data-value="17.0"' in page
    assert "addEventListener" in page


def test_time_is_shown_by_stage() -> None:
    page = html_page(results(), {})
    assert '<td>fit<td class=number data-value="3.0">3.00<td class=number>75%' in page
    alone = results()
    for entry in alone["objects"]:
        entry.pop("seconds", None)
    assert "<h2>Time</h2>" not in html_page(alone, {})


def test_cost_and_soundness_stand_apart() -> None:
    assert "<h2>Cost and soundness</h2>" not in html_page(results(), {})
    sound = results()
    sound["mean"]["rows"]["orbit"]["faces"] = 2000.0
    page = html_page(sound, {})
    after = page.split("<h2>Cost and soundness</h2>")[1].split("</table>")[0]
    assert ">2000<" in after
    assert "PSNR" not in after
    assert "all white" not in after  # It has no faces.
    assert "faces" not in page.split("</table>")[0]
