"""Results as files: a table for programs, one for documents, and a page with the pictures."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..export.files import png_bytes, write_bytes, write_json
from ..image import resize
from .baselines import BASELINES

_STRIP_PX = 112
"""Side of the report's pictures: small enough that a page of thirty objects stays below 10 MB."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #667; --line: #d5d9de; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --paper: #14171a; --faint: #98a1ab; --line: #363c43; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin: 1.8rem 0 .3rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.measured td { font-weight: 600; } .faint { color: var(--faint); }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: 4px; }
pre { overflow-x: auto; font-size: .8rem; } p.error { border-left: 3px solid #c0392b;
  padding-left: .7rem; }
"""


def save_report(results: dict[str, Any], strips: dict[str, Path], directory: Path) -> None:
    """Write `results.json`, `results.md` and `report.html` into a folder, each whole or not at all.

    Args:
        results: What an evaluation gave.
        strips: A picture of each measured object, by name, as `strip_png` makes them.
        directory: The folder; made if need be.
    """
    write_json(directory / "results.json", results)
    write_bytes(directory / "results.md", markdown(results).encode())
    write_bytes(directory / "report.html", html_page(results, strips).encode())


def row_label(key: str) -> str:
    """Say in words what a row of the table is."""
    labels = {row.key: row.label for row in BASELINES}
    if key in labels:
        return labels[key]
    if key == "orbit":
        return "the orbit model's drawings"
    stage = key.removeprefix("recipe ")
    return "the recipe's mesh" if stage == "mesh" else f"the recipe's Gaussians after '{stage}'"


def strip_png(rows: Sequence[Float[Tensor, "n h w 3"]]) -> bytes:
    """Lay every second view of each set of pictures side by side, one row a set."""
    small = [resize(rgb[::2], (_STRIP_PX, _STRIP_PX)).clamp(0, 1) for rgb in rows]
    return png_bytes(torch.cat([torch.cat(list(row), dim=1) for row in small], dim=0))


def markdown(results: dict[str, Any]) -> str:
    """Write the tables as Markdown."""
    lines = [f"# {results['protocol']}", "", _weights_line(results), "", _count_line(results), ""]
    lines += ["| pictures | uses the truth | PSNR, dB | SSIM | objects |", "|---|---|---|---|---|"]
    lines += [
        f"| {label} | {truth} | {psnr} | {ssim} | {objects} |"
        for _, label, truth, psnr, ssim, objects in _table(results)
    ]
    lines += ["", "| object | PSNR, dB | SSIM | |", "|---|---|---|---|"]
    for entry in results["objects"]:
        psnr, ssim = _number(entry.get("psnr"), 2), _number(entry.get("ssim"), 3)
        error = " ".join(_failure(entry).split()).replace("|", "\\|")
        lines.append(f"| {entry['name'].replace('|', '_')} | {psnr} | {ssim} | {error} |")
    return "\n".join(lines) + "\n"


def html_page(results: dict[str, Any], strips: dict[str, Path]) -> str:
    """Write a page that needs no other file."""
    title = f"{results['protocol']}: {results['recipe']}"
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(_weights_line(results))}<br>{escape(_count_line(results))}</p>",
        _html_table(results),
        "<p class=faint>PSNR and SSIM over white, of the novel views, mean over each object's "
        "views, then over the objects. Higher is better. Rows that use the truth are no "
        "competitors: they tell what silhouettes or blur alone would be worth.</p>",
        "<h2>Objects</h2>",
        *(_html_object(entry, strips.get(entry["name"])) for entry in results["objects"]),
        "<h2>Settings</h2>",
        f"<pre>{escape(_settings_text(results))}</pre>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _html_table(results: dict[str, Any]) -> str:
    head = "<tr><th>pictures<th>uses the truth<th class=number>PSNR, dB<th class=number>SSIM"
    rows = [f"<div class=wide><table>{head}<th class=number>objects</tr>"]
    for key, label, truth, psnr, ssim, objects in _table(results):
        kind = " class=measured" if key == "orbit" or key.startswith("recipe ") else ""
        rows.append(
            f"<tr{kind}><td>{escape(label)}<td>{truth}<td class=number>{psnr}"
            f"<td class=number>{ssim}<td class=number>{objects}</tr>"
        )
    return "\n".join([*rows, "</table></div>"])


def _html_object(entry: dict[str, Any], strip: Path | None) -> str:
    name = escape(entry["name"])
    failure = f"<p class=error>failed: {escape(_failure(entry))}</p>" if _failure(entry) else ""
    if "error" in entry:
        return f"<h3>{name}</h3>{failure}"
    marks = f"{entry['psnr']:.2f} dB, SSIM {entry['ssim']:.3f}"
    shown = ["the truth", *(row_label(key) for key in entry["strip"][1:])]
    rows = escape("; ".join(shown))
    parts = [f"<h3>{name} <span class=faint>{marks}</span></h3>{failure}"]
    if strip is not None:
        data = base64.b64encode(strip.read_bytes()).decode()
        parts.append(f'<img alt="{name}: {rows}" src="data:image/png;base64,{data}">')
        parts.append(f"<p class=faint>From above: {rows}. First column: the photo's side.</p>")
    return "\n".join(parts)


def _table(results: dict[str, Any]) -> list[tuple[str, str, str, str, str, str]]:
    """Give the rows of the table as text: key, label, uses the truth, PSNR, SSIM, objects."""
    of = results["mean"]["of"]
    using_truth = {row.key for row in BASELINES if row.uses_truth}
    return [
        (
            key,
            row["label"],
            "yes" if key in using_truth else "",
            _number(row["psnr"], 2),
            _number(row["ssim"], 3),
            f"{row['objects']} of {of}",
        )
        for key, row in results["mean"]["rows"].items()
    ]


def _failure(entry: dict[str, Any]) -> str:
    """Say what went wrong with an object; empty if nothing did."""
    recipe = f"the recipe: {entry['recipe_error']}" if "recipe_error" in entry else ""
    return entry.get("error", recipe)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _weights_line(results: dict[str, Any]) -> str:
    cards = [f"{card['name']} ({card['sha256'][:12]})" for card in results["weights"]]
    return f"Recipe {results['recipe']}; weights: {', '.join(cards) or 'not from cards'}."


def _count_line(results: dict[str, Any]) -> str:
    mean, failed = results["mean"], results["mean"]["of"] - results["mean"]["objects"]
    line = f"Measured {mean['objects']} of {mean['of']} objects"
    return line + (f"; {failed} failed (in no mean)." if failed else ".")


def _settings_text(results: dict[str, Any]) -> str:
    flat: list[str] = []
    for key, value in results["settings"].items():
        if isinstance(value, dict):
            flat += [f"{key}.{name} = {inner}" for name, inner in value.items()]
        else:
            flat.append(f"{key} = {value}")
    return "\n".join(flat)
