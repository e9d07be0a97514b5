"""Several methods by one protocol in one table: `roundview eval table`.

Melas-Kyriazi et al., "IM-3D", 2024, table 4 sets methods side by side with what each costs; so does
this, with how each differs from the first, object by object.
"""

from collections.abc import Sequence
from typing import Any

from .compare import Difference, compare
from .marks import INTERVAL, MARKS, known_marks, shown


def methods_table(results: Sequence[dict[str, Any]]) -> str:
    """Write the main rows of several results as one Markdown table.

    Means are of the objects that each method finished; differences, in brackets, of those that
    both it and the first one did, with * where their interval leaves out 0.

    Args:
        results: As `compare.read_results` gives them, of one protocol.

    Raises:
        ValueError: If there are none, the protocols differ, or no object is common to all.
    """
    if not results:
        raise ValueError("name the results.json of at least one evaluation")
    first = results[0]
    rows = [one["mean"]["rows"].get(one["main"], {}) for one in results]
    marks = known_marks({str(k): row for k, row in enumerate(rows)})
    lines = [
        f"# {first['protocol']}: {len(results)} methods",
        "",
        "| method | " + " | ".join(MARKS[mark].label for mark in marks) + " | objects |",
        "|---" * (len(marks) + 2) + "|",
    ]
    for one, row in zip(results, rows, strict=True):
        against = {} if one is first else _against(first, one)
        cells = [_cell(mark, row.get(mark), against.get(mark)) for mark in marks]
        mean = one["mean"]
        lines.append(
            f"| {one['recipe']} | {' | '.join(cells)} | {mean['objects']} of {mean['of']} |"
        )
    lines += [
        "",
        f"In brackets: mean difference from {first['recipe']}, paired by object; * where its "
        f"{INTERVAL:.0%} bootstrap interval leaves out 0.",
    ]
    return "\n".join(lines) + "\n"


def _against(first: dict[str, Any], one: dict[str, Any]) -> dict[str, Difference]:
    renamed = one | {"objects": [_as_main(entry, one, first) for entry in one["objects"]]}
    return {d.mark: d for d in compare(first, renamed) if d.row == first["main"]}


def _as_main(entry: dict[str, Any], one: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """Call the main row of one method as that of the first is called."""
    if one["main"] == first["main"] or "rows" not in entry:
        return entry
    return entry | {"rows": {first["main"]: entry["rows"][one["main"]]}}


def _cell(mark: str, value: float | None, difference: Difference | None) -> str:
    if difference is None:
        return shown(mark, value)
    sure = difference.interval is not None and not (
        difference.interval[0] <= 0 <= difference.interval[1]
    )
    sign = "" if shown(mark, difference.mean).startswith("-") else "+"
    return f"{shown(mark, value)} ({sign}{shown(mark, difference.mean)}{'*' if sure else ''})"
