"""What can be marked, what it is called, and how marks of many objects become one number."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

Entry = dict[str, Any]
"""What is known about one object: `name`, and `rows` of marks or an `error`."""

RESAMPLINGS = 2000
INTERVAL = 0.90


@dataclass(frozen=True)
class Mark:
    """How a mark is shown.

    Attributes:
        label: With its unit.
        digits: Behind the decimal point.
        better: +1 if more is better, -1 if less is, 0 if it is neither.
    """

    label: str
    digits: int
    better: int


MARKS = {
    "psnr": Mark("PSNR, dB", 2, 1),
    "ssim": Mark("SSIM", 3, 1),
    "ms_ssim": Mark("MS-SSIM", 3, 1),
    "lpips_vgg": Mark("LPIPS (VGG)", 3, -1),
    "lpips_alex": Mark("LPIPS (Alex)", 3, -1),
    "deep_features": Mark("deep features (EfficientNet-lite0), not LPIPS", 3, -1),
    "clip": Mark("CLIP similarity", 3, 1),
    "contextual": Mark("contextual distance", 3, -1),
    "matte_iou": Mark("silhouette IoU", 3, 1),
    "elevation_error_deg": Mark("elevation error, degrees", 1, -1),
    "view_consistency": Mark("colour between views", 3, -1),
    "chamfer_depth": Mark("Chamfer (SyncDreamer)", 4, -1),
    "chamfer": Mark("Chamfer (surface)", 4, -1),
    "f_score_001": Mark("F-score at 0.01", 3, 1),
    "f_score_002": Mark("F-score at 0.02", 3, 1),
    "volume_iou": Mark("volume IoU", 3, 1),
    "normal_consistency": Mark("normal consistency", 3, 1),
    "seconds": Mark("seconds", 1, -1),
    "network_calls": Mark("network calls", 0, -1),
    "peak_memory_mb": Mark("peak memory, MB", 0, -1),
    "faces": Mark("faces", 0, 0),
    "shells": Mark("shells", 1, -1),
    "watertight": Mark("watertight", 2, 1),
    "degenerate_faces": Mark("degenerate faces", 1, -1),
    "validator_errors": Mark("validator errors", 1, -1),
    "validator_warnings": Mark("validator warnings", 1, -1),
}
"""In the order in which tables show them."""

HEALTH = frozenset(list(MARKS)[list(MARKS).index("seconds") :])
"""Marks of cost and soundness, which the page shows apart from those of likeness."""


def shown(key: str, value: float | int | None) -> str:
    """Write a mark with its digits; a dash where there is none."""
    digits = MARKS[key].digits if key in MARKS else 3
    return "-" if value is None else f"{value:.{digits}f}"


def known_marks(rows: dict[str, dict[str, Any]]) -> list[str]:
    """List the marks that at least one of the rows has, in the order of `MARKS`."""
    return [key for key in MARKS if any(key in row for row in rows.values())]


def mean_rows(entries: Sequence[Entry], labels: dict[str, str]) -> dict[str, Any]:
    """Average each row over the objects that have it.

    Args:
        entries: All objects; those with an `error` have no rows.
        labels: What each row is called.

    Returns:
        `objects` measured, `of` how many, and `rows`: for each its `label`, the mean of each mark,
        `interval` ([low, high] of `bootstrap_interval`, null for one object) and `objects`, how
        many have it.
    """
    measured = [entry for entry in entries if "error" not in entry]
    rows: dict[str, Any] = {}
    for key in dict.fromkeys(key for entry in measured for key in entry["rows"]):
        found = [entry["rows"][key] for entry in measured if key in entry["rows"]]
        row: dict[str, Any] = {"label": labels.get(key, key), "objects": len(found)}
        intervals: dict[str, Any] = {}
        for name in dict.fromkeys(name for marks in found for name in marks):
            values = [float(marks[name]) for marks in found if marks.get(name) is not None]
            row[name] = round(fmean(values), 5) if values else None
            intervals[name] = bootstrap_interval(values)
        rows[key] = {**row, "interval": intervals}
    return {"objects": len(measured), "of": len(entries), "rows": rows}


def bootstrap_interval(values: Sequence[float]) -> list[float] | None:
    """Say within what a mean of as many other objects would lie nine times of ten.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3: percentiles of the
    means of 2,000 draws with replacement, from a fixed seed. It knows of no objects but these: with
    fewer than ten it is rather too narrow.

    Returns:
        The 5th and 95th percentile; None for fewer than two values.
    """
    if len(values) < 2:
        return None
    rng = np.random.default_rng(0)
    drawn = np.asarray(values)[rng.integers(0, len(values), (RESAMPLINGS, len(values)))]
    tail = 50 * (1 - INTERVAL)
    low, high = np.percentile(drawn.mean(axis=1), [tail, 100 - tail])
    return [round(float(low), 5), round(float(high), 5)]
