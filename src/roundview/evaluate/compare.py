"""Two evaluations of the same objects: `roundview eval compare`, difference by difference.

Objects differ far more than methods do; so the difference is taken object by object, and what is
told is the mean of the differences with its interval, not the difference of two means.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ..export.files import read_json
from .marks import INTERVAL, MARKS, bootstrap_interval, known_marks, shown


@dataclass(frozen=True)
class Difference:
    """How one mark of one row differs, second results less first.

    Attributes:
        row: Key of the row.
        mark: Key of the mark.
        objects: Names of the objects that both have it for.
        differences: One for each of them.
        interval: `bootstrap_interval` of their mean; None for a single object.
    """

    row: str
    mark: str
    objects: list[str]
    differences: list[float]
    interval: list[float] | None

    @property
    def mean(self) -> float:
        """Their mean."""
        return fmean(self.differences)

    @property
    def verdict(self) -> str:
        """Better or worse where the interval leaves out 0; else undecided."""
        better = MARKS[self.mark].better
        if self.interval is None or better == 0 or self.interval[0] <= 0 <= self.interval[1]:
            return "undecided"
        return "better" if self.mean * better > 0 else "worse"


def read_results(path: Path) -> dict[str, Any]:
    """Read what an evaluation wrote.

    Raises:
        ValueError: If the file is missing or holds something else.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; name the results.json of an evaluation")
    results = read_json(path)
    if not isinstance(results.get("objects"), list) or "protocol" not in results:
        raise ValueError(f"{path} holds no results of `roundview eval`")
    return results


def compare(first: dict[str, Any], second: dict[str, Any]) -> list[Difference]:
    """Subtract the first results from the second, object by object.

    Raises:
        ValueError: If the protocols differ or no object was measured by both.
    """
    if first["protocol"] != second["protocol"]:
        raise ValueError(
            f"results are of two protocols, {first['protocol']} and {second['protocol']}; "
            "only numbers of one compare"
        )
    before, after = _rows_by_object(first), _rows_by_object(second)
    names = [name for name in before if name in after]
    if not names:
        raise ValueError("no object was measured in both results")
    pairs = dict.fromkeys(key for name in names for key in before[name] if key in after[name])
    differences = []
    for key in pairs:
        both = [n for n in names if key in before[n] and key in after[n]]
        for mark in known_marks({n: before[n][key] for n in both}):
            found = {
                n: float(after[n][key][mark]) - float(before[n][key][mark])
                for n in both
                if after[n][key].get(mark) is not None and before[n][key].get(mark) is not None
            }
            if found:
                values = [round(value, 6) for value in found.values()]
                interval = bootstrap_interval(values)
                differences.append(Difference(key, mark, list(found), values, interval))
    return differences


def comparison_text(
    first: dict[str, Any], second: dict[str, Any], differences: list[Difference]
) -> str:
    """Write differences as Markdown: means with intervals, then object by object."""
    lines = [
        f"# {first['protocol']}: second less first",
        "",
        f"First: {_named(first)}. Second: {_named(second)}.",
        "",
        f"| row | mark | mean difference | {INTERVAL:.0%} interval | objects | the second is |",
        "|---|---|---|---|---|---|",
    ]
    for one in differences:
        interval = "-"
        if one.interval is not None:
            interval = " to ".join(_signed(one.mark, end) for end in one.interval)
        lines.append(
            f"| {one.row} | {MARKS[one.mark].label} | {_signed(one.mark, one.mean)} | {interval} "
            f"| {len(one.objects)} of {len(second['objects'])} | {one.verdict} |"
        )
    main = [one for one in differences if one.row == second.get("main")] or differences[:1]
    return "\n".join([*lines, "", *_by_object(main)]) + "\n"


def _by_object(differences: list[Difference]) -> list[str]:
    heads = " | ".join(MARKS[one.mark].label for one in differences)
    lines = [
        f"| object, row {differences[0].row} | {heads} |",
        "|---" * (len(differences) + 1) + "|",
    ]
    for name in dict.fromkeys(name for one in differences for name in one.objects):
        cells = []
        for one in differences:
            of = dict(zip(one.objects, one.differences, strict=True))
            cells.append(_signed(one.mark, of[name]) if name in of else "-")
        lines.append(f"| {name.replace('|', '_')} | {' | '.join(cells)} |")
    return lines


def _rows_by_object(results: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    return {entry["name"]: entry["rows"] for entry in results["objects"] if "rows" in entry}


def _named(results: dict[str, Any]) -> str:
    mean = results["mean"]
    cards = ", ".join(card["name"] for card in results.get("weights", []))
    what = f"{results['recipe']}{f' ({cards})' if cards else ''}"
    return f"{what}, {mean['objects']} of {mean['of']} objects"


def _signed(mark: str, value: float) -> str:
    text = shown(mark, value)
    return text if text.startswith("-") else f"+{text}"
