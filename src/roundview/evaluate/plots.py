"""Line plots as SVG, drawn in the colours of the page that holds them."""

import math
from html import escape
from typing import NamedTuple

COLOURS = 8
"""The page defines --c0 to --c7."""

_WIDTH, _HEIGHT = 760.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 12.0, 12.0, 44.0


class Line(NamedTuple):
    """A line of a plot: what it is, and its points (x, y)."""

    label: str
    points: list[tuple[float, float]]


def line_plot(lines: list[Line], *, x_label: str, y_label: str, x_step: float) -> str:
    """Draw lines over one pair of axes, with a key below.

    Axes span the points; the one to the right is ticked every `x_step`, the one up on round
    numbers.

    Raises:
        ValueError: If there is no point at all.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    if not xs:
        raise ValueError("lines hold no points to plot")
    x_ticks, y_ticks = ticks_of(min(xs), max(xs), x_step), round_ticks(min(ys), max(ys), 6)
    to_x = _scale(x_ticks, _LEFT, _WIDTH - _RIGHT)
    to_y = _scale(y_ticks, _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" width="{_WIDTH:g}" role="img" '
        f'aria-label="{escape(y_label)} against {escape(x_label)}">'
    ]
    for tick in y_ticks:
        y = to_y(tick)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="var(--line)"/><text x="{_LEFT - 6}" y="{y + 4:.1f}" '
            f'text-anchor="end">{tick:g}</text>'
        )
    for tick in x_ticks:
        x = to_x(tick)
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{tick:g}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text x="12" y="{_HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 12 {_HEIGHT / 2})">{escape(y_label)}</text>'
    )
    for at, line in enumerate(lines):
        path = " ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y in line.points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="var(--c{at % COLOURS})" '
            f'stroke-width="2" stroke-dasharray="{_dashes(at)}"><title>{escape(line.label)}</title>'
            "</polyline>"
        )
    parts.append("</svg>")
    key = "".join(
        f'<span><svg width="26" height="10"><line x1="0" x2="26" y1="5" y2="5" stroke="var('
        f'--c{at % COLOURS})" stroke-width="3" stroke-dasharray="{_dashes(at)}"/></svg> '
        f"{escape(line.label)}</span>"
        for at, line in enumerate(lines)
    )
    return "\n".join([*parts, f"<p class=key>{key}</p>"])


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """Choose at most so many round, evenly spaced numbers, from at or below low to above high."""
    span = max(high - low, 1e-3 * max(abs(low), abs(high), 1.0))
    unit = 10.0 ** math.floor(math.log10(span))
    found = ticks_of(low, high, 10 * unit)
    for factor in (5, 2.5, 2, 1, 0.5, 0.25, 0.2, 0.1):
        finer = ticks_of(low, high, factor * unit)
        if len(finer) > most:
            break
        found = finer
    return found


def ticks_of(low: float, high: float, step: float) -> list[float]:
    """Give the multiples of a step from at or below low to at or above high, two at least."""
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * k, 10) for k in range(first, max(last, first + 1) + 1)]


def _scale(ticks: list[float], start: float, stop: float) -> "_Scale":
    return _Scale(ticks[0], (stop - start) / (ticks[-1] - ticks[0]), start)


class _Scale(NamedTuple):
    first: float
    factor: float
    start: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.first) * self.factor


def _dashes(at: int) -> str:
    """Dash every second line, so that colour is not all that tells them apart."""
    return "6 4" if at % 2 else "none"
