"""What the documentation's site says of a recipe and its figures, taken from where they are kept.

`mkdocs.yml` names this file. In a page of the site

    <!-- qualities: im3d -->    becomes the settings in which the recipe's qualities differ
    <!-- results: im3d -->      becomes the rows about the recipe of the tables in docs/results.md

so that neither can be forgotten when it changes. And the one script that the theme would fetch from
another host, for searching in pages that are opened from the disk, comes from the site itself.
"""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from roundview.methods import method_of

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results.md"
PLACE = re.compile(r"^<!-- (qualities|results): ([a-z0-9-]+) -->$", re.MULTILINE)
FETCHED = "https://unpkg.com/iframe-worker/shim"
OURS = "assets/iframe-worker.min.js"
"""Taken from npm by `tools/vendor_web.py`."""


def on_page_markdown(markdown: str, **_: object) -> str:
    """Fill in the places of a page; mkdocs calls this."""
    return PLACE.sub(lambda place: filled(place[1], place[2]), markdown)


def on_post_page(output: str, *, page: Any, **_: object) -> str:  # noqa: ANN401  mkdocs' own
    """Let a finished page fetch nothing from another host; mkdocs calls this."""
    return output.replace(FETCHED, "../" * page.url.count("/") + OURS)


def on_post_template(output_content: str, **_: object) -> str:
    """Do the same for the page that says that there is no such page."""
    return output_content.replace(FETCHED, f"/{OURS}")


def filled(what: str, recipe: str) -> str:
    """Say what stands in a place."""
    return qualities(recipe) if what == "qualities" else results(recipe, RESULTS.read_text())


def qualities(recipe: str) -> str:
    """Write the settings in which the qualities of a recipe differ, as a table."""
    found = {name: flat(asdict(s)) for name, s in method_of(recipe).qualities.items()}
    keys = list(next(iter(found.values())))
    rows = [f"| setting | {' | '.join(found)} |", f"|---|{'---|' * len(found)}"]
    for key in keys:
        values = [shown(settings[key]) for settings in found.values()]
        if len(set(values)) > 1:
            rows.append(f"| `{key}` | {' | '.join(values)} |")
    return "\n".join(rows)


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Name the settings inside settings as Python does: `refining.steps`."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= {f"{key}.{inner}": part for inner, part in flat(value).items()}
        else:
            found[key] = value
    return found


def shown(value: Any) -> str:  # noqa: ANN401  any setting
    """Write a value as a reader would."""
    if isinstance(value, tuple | list):
        return "none" if not value else ", ".join(shown(part) for part in value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)


def results(recipe: str, text: str) -> str:
    """Take the rows about a recipe out of the tables of the results, and what is said before them.

    Raises:
        ValueError: If there are none: the page would promise what it does not hold.
    """
    found: list[str] = []
    for table in tables(text):
        rows = [row for row in table["rows"] if row.startswith(f"| `{recipe}` |")]
        if rows:
            found += [table["told"], "", *table["head"], *rows, ""]
    if not found:
        raise ValueError(f"docs/results.md has no row that begins with | `{recipe}` |")
    return "\n".join(found)


def tables(text: str) -> list[dict[str, Any]]:
    """Find the tables of a page in Markdown, with the paragraphs that they follow."""
    found: list[dict[str, Any]] = []
    told, before = "", ""
    for line in text.splitlines():
        if not line.startswith("|"):
            told = line or told
        elif not before.startswith("|"):
            found.append({"told": told, "head": [line], "rows": []})
        else:
            found[-1]["head" if set(line) <= set("|-: ") else "rows"].append(line)
        before = line
    return found
