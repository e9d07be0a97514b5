"""Results as files: a table for programs, one for documents, and a page with the pictures.

Every protocol's results have the same form: `protocol`, `recipe`, `weights`, `alignment`,
`settings`, `main` (the row that is measured), `uses_truth` (rows that are no competitors),
`objects` (each `name` and `rows` of marks, or `error`) and `mean` (see `marks.mean_rows`).
"""

from pathlib import Path
from typing import Any

from ..export.files import write_bytes, write_json
from .marks import INTERVAL, MARKS, known_marks, shown
from .report_page import html_page
from .report_text import alignment_line, count_line, failure, weights_line

_HEAD = "pictures or shape | uses the truth"


def save_report(results: dict[str, Any], strips: dict[str, Path], directory: Path) -> None:
    """Write `results.json`, `results.md` and `report.html` into a folder, each whole or not at all.

    Args:
        results: What an evaluation gave.
        strips: A picture of each measured object, by name, as `strips.strip_png` makes them.
        directory: The folder; made if need be.
    """
    write_json(directory / "results.json", results)
    write_bytes(directory / "results.md", markdown(results).encode())
    write_bytes(directory / "report.html", html_page(results, strips).encode())


def markdown(results: dict[str, Any]) -> str:
    """Write the tables as Markdown."""
    lines = [f"# {results['protocol']}", "", weights_line(results), "", alignment_line(results)]
    lines += ["", count_line(results), "", *_means(results), "", *_objects(results)]
    return "\n".join(lines) + "\n"


def _means(results: dict[str, Any]) -> list[str]:
    rows = results["mean"]["rows"]
    marks = known_marks(rows)
    lines = _table_head([*_HEAD.split(" | "), *(MARKS[mark].label for mark in marks), "objects"])
    for key, row in rows.items():
        cells = [row["label"], "yes" if key in results["uses_truth"] else ""]
        cells += [_with_interval(mark, row) for mark in marks]
        lines.append(_line([*cells, f"{row['objects']} of {results['mean']['of']}"]))
    note = f"In brackets: {INTERVAL:.0%} bootstrap interval of the mean over objects."
    return [*lines, "", note]


def _with_interval(mark: str, row: dict[str, Any]) -> str:
    interval = row["interval"].get(mark)
    if interval is None:
        return shown(mark, row.get(mark))
    low, high = (shown(mark, value) for value in interval)
    return f"{shown(mark, row.get(mark))} ({low} to {high})"


def _objects(results: dict[str, Any]) -> list[str]:
    main = results["main"]
    marks = known_marks({main: results["mean"]["rows"].get(main, {})})
    lines = _table_head(["object", *(MARKS[mark].label for mark in marks), ""])
    for entry in results["objects"]:
        row = entry.get("rows", {}).get(main, {})
        error = " ".join(failure(entry).split())
        lines.append(_line([entry["name"], *(shown(mark, row.get(mark)) for mark in marks), error]))
    return lines


def _table_head(names: list[str]) -> list[str]:
    return [_line(names), "|" + "---|" * len(names)]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
