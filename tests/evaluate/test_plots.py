import xml.etree.ElementTree as ElementTree

import pytest

from roundview.evaluate.plots import Line, line_plot, round_ticks, ticks_of


def test_ticks_are_round_and_hold_all() -> None:
    assert round_ticks(11.2, 19.7, 6) == [10.0, 12.0, 14.0, 16.0, 18.0, 20.0]
    assert round_ticks(9.0, 26.1, 6) == [5.0, 10.0, 15.0, 20.0, 25.0, 30.0]
    assert ticks_of(22.5, 100.0, 45.0) == [0.0, 45.0, 90.0, 135.0]
    ticks = round_ticks(3.0, 3.0, 6)
    assert ticks[0] <= 3.0 <= ticks[-1]
    assert ticks[0] < ticks[-1] < 3.1


def test_a_plot_places_points_between_its_ticks() -> None:
    plot = line_plot(
        [Line("a <b>", [(0.0, 10.0), (360.0, 20.0)]), Line("other", [(0.0, 12.0)])],
        x_label="azimuth",
        y_label="PSNR, dB",
        x_step=90.0,
    )
    svg = ElementTree.fromstring(plot[: plot.index("</svg>") + 6])
    points = [line.attrib["points"] for line in svg.iter("polyline")]
    # The axes go from 10 to 20 and from 0 to 360: corner to corner.
    assert points[0] == "48.0,256.0 748.0,12.0"
    assert points[1].startswith("48.0,")
    assert "a &lt;b&gt;" in plot
    assert "<b>" not in plot


def test_nothing_cannot_be_plotted() -> None:
    with pytest.raises(ValueError, match="no points"):
        line_plot([Line("a", [])], x_label="x", y_label="y", x_step=1.0)
