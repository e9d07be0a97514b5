"""The page of an evaluation: one HTML file that a person can sort, read and print offline."""

import base64
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

from .marks import HEALTH, INTERVAL, MARKS, known_marks, shown
from .plots import Line, line_plot
from .report_text import alignment_line, count_line, failure, settings_text, weights_line

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #606b78; --line: #d5d9de;
  --soft: #f3f5f7; --best: #dff3e4; --c0: #0b62c4; --c1: #b4450f; --c2: #16794a; --c3: #7a3fb0;
  --c4: #8a6d00; --c5: #a3175d; --c6: #4d5a68; --c7: #007a87; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --paper: #14171a; --faint: #98a1ab; --line: #363c43; --soft: #1d2126;
    --best: #17392a; --c0: #69b1ff; --c1: #ff9d66; --c2: #5fd39a; --c3: #c79bff; --c4: #e0c350;
    --c5: #ff87bd; --c6: #a9b6c4; --c7: #53cfdd; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin: 1.8rem 0 .3rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: .9rem; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.best { background: var(--best); } td small { display: block; color: var(--faint);
  white-space: nowrap; } td:first-child { min-width: 11rem; }
th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0;
  padding: 0; cursor: pointer; text-align: inherit; }
th button:hover { text-decoration: underline; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
tr.measured td:first-child { font-weight: 600; } .faint { color: var(--faint); }
a { color: inherit; } img { display: block; width: 100%; height: auto; border-radius: 4px; }
.strip { display: grid; grid-template-columns: 7rem 1fr; gap: 0 .6rem; }
.strip ol { list-style: none; margin: 0; padding: 0; display: grid; grid-auto-rows: 1fr;
  font-size: .75rem; line-height: 1.2; color: var(--faint); }
.strip li { display: flex; align-items: center; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif;
  fill: var(--faint); } .key span { margin-right: 1.2rem; white-space: nowrap; }
pre { overflow-x: auto; font-size: .8rem; background: var(--soft); padding: .7rem; }
p.error { border-left: 3px solid #c0392b; padding-left: .7rem; }
"""

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => {
    const head = button.parentElement, at = [...head.parentElement.children].indexOf(head);
    const up = head.getAttribute("aria-sort") !== "ascending";
    const value = (row) => row.children[at].dataset.value ?? row.children[at].textContent;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)], [p, q] = [parseFloat(x), parseFloat(y)];
      if (isNaN(p) !== isNaN(q)) return isNaN(p) ? 1 : -1;
      const order = isNaN(p) ? x.localeCompare(y) : p - q;
      return up ? order : -order;
    };
    head.parentElement.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    [...body.rows].sort(compare).forEach((row) => body.append(row));
  }));
}
"""


def html_page(results: dict[str, Any], strips: dict[str, Path]) -> str:
    """Write a page that needs no other file, sorts its tables, and is readable in the dark.

    Args:
        results: What an evaluation gave.
        strips: A picture of each measured object, by name.
    """
    title = f"{results['protocol']}: {results['recipe']}"
    lines = [weights_line(results), alignment_line(results), count_line(results)]
    objects = results["objects"]
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{'<br>'.join(escape(line) for line in lines)}</p>",
        _means_table(results, health=False),
        f"<p class=faint>Means over views, then over objects; below each the {INTERVAL:.0%} "
        "bootstrap interval of the mean over objects. Shaded: the best of each column that does "
        "not use the truth. Rows that use it are no competitors: they tell what silhouettes or "
        "blur alone would be worth.</p>",
        *_azimuth_plot(results),
        *_health(results),
        *_stage_table(objects),
        "<h2>Objects</h2>",
        _objects_table(results),
        *(
            _object(entry, results, strips.get(entry["name"]), at)
            for at, entry in enumerate(objects)
        ),
        "<h2>Settings</h2>",
        f"<pre>{escape(settings_text(results))}</pre>",
        f"<script>{SCRIPT}</script>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _health(results: dict[str, Any]) -> list[str]:
    have = known_marks(results["mean"]["rows"])
    if HEALTH.isdisjoint(have):
        return []
    return ["<h2>Cost and soundness</h2>", _means_table(results, health=True)]


def _means_table(results: dict[str, Any], *, health: bool) -> str:
    of, uses_truth = results["mean"]["of"], results["uses_truth"]
    marks = [key for key in known_marks(results["mean"]["rows"]) if (key in HEALTH) == health]
    rows = {
        key: row for key, row in results["mean"]["rows"].items() if not set(marks).isdisjoint(row)
    }
    best = {mark: _best(mark, rows, uses_truth) for mark in marks}
    texts = ["pictures or shape", *(["uses the truth"] if uses_truth else [])]
    lines = []
    for key, row in rows.items():
        kind = " class=measured" if key == results["main"] else ""
        truth = f"<td>{'yes' if key in uses_truth else ''}" if uses_truth else ""
        cells = [
            _number(mark, row.get(mark), row["interval"].get(mark), best=key == best[mark])
            for mark in marks
        ]
        lines.append(
            f"<tr{kind}><td>{escape(row['label'])}{truth}{''.join(cells)}"
            f"<td class=number>{row['objects']} of {of}</tr>"
        )
    heads = [*texts, *(MARKS[mark].label for mark in marks), "objects"]
    return _table(heads, lines, texts=len(texts))


def _best(mark: str, rows: dict[str, Any], uses_truth: list[str]) -> str | None:
    """Give the row that is best in a mark, if there is something to choose from."""
    better = MARKS[mark].better
    have = [key for key, row in rows.items() if row.get(mark) is not None and key not in uses_truth]
    return max(have, key=lambda key: better * rows[key][mark]) if better and len(have) > 1 else None


def _objects_table(results: dict[str, Any]) -> str:
    main = results["main"]
    marks = known_marks({main: results["mean"]["rows"].get(main, {})})
    lines = []
    for at, entry in enumerate(results["objects"]):
        row = entry.get("rows", {}).get(main, {})
        cells = "".join(_number(mark, row.get(mark)) for mark in marks)
        wrong = f"<td>{escape('failed' if failure(entry) else '')}"
        lines.append(
            f'<tr><td><a href="#object-{at}">{escape(entry["name"])}</a>{cells}{wrong}</tr>'
        )
    return _table(["object", *(MARKS[mark].label for mark in marks), ""], lines, texts=1)


def _table(heads: list[str], lines: list[str], *, texts: int) -> str:
    """Lay out a table that can be sorted; the first columns hold text, the others numbers."""
    cells = [
        f"<th{'' if at < texts else ' class=number'}><button>{escape(head)}</button>"
        for at, head in enumerate(heads)
    ]
    body = "\n".join(lines)
    return (
        f"<div class=wide><table class=sortable><thead><tr>{''.join(cells)}</tr></thead>"
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _number(
    mark: str, value: float | int | None, interval: list[float] | None = None, *, best: bool = False
) -> str:
    spread = ""
    if interval is not None and interval[0] < interval[1]:
        spread = f"<small>{shown(mark, interval[0])} to {shown(mark, interval[1])}</small>"
    kind = "number best" if best else "number"
    sorted_by = "" if value is None else value
    return f'<td class="{kind}" data-value="{sorted_by}">{shown(mark, value)}{spread}'


def _azimuth_plot(results: dict[str, Any]) -> list[str]:
    """Draw the mean PSNR of each row against the azimuth of the view."""
    measured = [entry for entry in results["objects"] if "psnr_by_row" in entry]
    if not measured:
        return []
    azimuth = measured[0]["azimuth_deg"]
    lines = []
    for key, row in results["mean"]["rows"].items():
        have = [entry["psnr_by_row"][key] for entry in measured if key in entry["psnr_by_row"]]
        if have:
            means = [fmean(values) for values in zip(*have, strict=True)]
            lines.append(Line(row["label"], list(zip(azimuth, means, strict=True))))
    plot = line_plot(lines, x_label="azimuth of the view, degrees", y_label="PSNR, dB", x_step=45.0)
    return ["<h2>PSNR against azimuth</h2>", plot]


def _stage_table(objects: list[dict[str, Any]]) -> list[str]:
    """List the mean seconds of each stage, if there is more than one."""
    timed = [entry["seconds"] for entry in objects if isinstance(entry.get("seconds"), dict)]
    stages = list(dict.fromkeys(name for seconds in timed for name in seconds))
    if len(stages) < 2:
        return []
    means = {name: fmean(seconds.get(name, 0.0) for seconds in timed) for name in stages}
    lines = [
        f'<tr><td>{escape(name)}<td class=number data-value="{mean}">{mean:.2f}'
        f"<td class=number>{mean / max(sum(means.values()), 1e-9):.0%}</tr>"
        for name, mean in means.items()
    ]
    lines.append(f"<tr><td>all<td class=number>{sum(means.values()):.2f}<td class=number>100%</tr>")
    table = _table(["stage", "seconds an object", "share"], lines, texts=1)
    return ["<h2>Time</h2>", table]


def _object(entry: dict[str, Any], results: dict[str, Any], strip: Path | None, at: int) -> str:
    name, wrong = escape(entry["name"]), failure(entry)
    told = f"<p class=error>failed: {escape(wrong)}</p>" if wrong else ""
    if "error" in entry:
        return f'<h3 id="object-{at}">{name}</h3>{told}'
    row = entry["rows"].get(results["main"], {})
    marks = ", ".join(
        f"{MARKS[mark].label} {shown(mark, row[mark])}" for mark in ("psnr", "ssim") if mark in row
    )
    parts = [f'<h3 id="object-{at}">{name} <span class=faint>{marks}</span></h3>{told}']
    if strip is not None:
        data = base64.b64encode(strip.read_bytes()).decode()
        labels = {key: found["label"] for key, found in results["mean"]["rows"].items()}
        rows = [_strip_label(text, labels) for text in entry["strip"]]
        listed = "".join(f"<li>{escape(text)}" for text in rows)
        parts.append(
            f'<div class=strip><ol>{listed}</ol><img alt="{name}: {escape("; ".join(rows))}" '
            f'src="data:image/png;base64,{data}"></div>'
        )
    return "\n".join(parts)


def _strip_label(text: str, labels: dict[str, str]) -> str:
    """Say what a row of the strip shows: 'truth', the key of a row, or 'error of' that."""
    start = "error of " if text.startswith("error of ") else ""
    key = text.removeprefix(start)
    return start + ("the truth" if key == "truth" else labels.get(key, key))
