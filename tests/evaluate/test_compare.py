import json
from pathlib import Path
from typing import Any

import pytest

from roundview.evaluate.compare import compare, comparison_text, read_results


def results(psnr: dict[str, float], **more: Any) -> dict[str, Any]:  # noqa: ANN401  parts of results
    """Results of one row over some objects, and one that failed."""
    rows = [
        {"name": name, "rows": {"orbit": {"psnr": value, "chamfer": 1 / value}}}
        for name, value in psnr.items()
    ]
    return {
        "protocol": "nvs-syncdreamer",
        "recipe": "im3d",
        "weights": [{"name": "orbit-small"}],
        "main": "orbit",
        "objects": [*rows, {"name": "broken", "error": "no"}],
        "mean": {"objects": len(rows), "of": len(rows) + 1},
        **more,
    }


FIRST = results({"a": 10.0, "b": 20.0, "c": 30.0, "only first": 50.0})
SECOND = results({"c": 31.0, "b": 21.5, "a": 11.0})


def test_differences_are_taken_object_by_object() -> None:
    psnr, chamfer = compare(FIRST, SECOND)
    assert (psnr.row, psnr.mark, psnr.objects) == ("orbit", "psnr", ["a", "b", "c"])
    assert psnr.differences == [1.0, 1.5, 1.0]
    assert psnr.mean == pytest.approx(3.5 / 3)
    # Objects differ by 20 dB; the differences only by half a one, and so does their interval.
    assert psnr.interval is not None
    assert 1.0 <= psnr.interval[0] <= psnr.mean <= psnr.interval[1] <= 1.5
    assert psnr.verdict == "better"
    assert chamfer.mean < 0
    assert chamfer.verdict == "better"  # Of distances less is better.
    assert compare(SECOND, FIRST)[0].verdict == "worse"


def test_an_interval_round_zero_decides_nothing() -> None:
    mixed = results({"a": 9.0, "b": 21.0, "c": 30.0})
    assert compare(FIRST, mixed)[0].verdict == "undecided"
    single = compare(results({"a": 1.0}), results({"a": 2.0}))[0]
    assert (single.interval, single.verdict) == (None, "undecided")


def test_the_text_says_what_was_compared() -> None:
    text = comparison_text(FIRST, SECOND, compare(FIRST, SECOND))
    assert "First: im3d (orbit-small), 4 of 5 objects." in text
    # Of 27 draws of three, one has 1.5 three times: less than the twentieth that is left out.
    assert "| orbit | PSNR, dB | +1.17 | +1.00 to +1.33 | 3 of 4 | better |" in text
    assert "| b | +1.50 | -0.0035 |" in text


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two protocols"):
        compare(FIRST, results({"a": 1.0}, protocol="mesh-syncdreamer"))
    with pytest.raises(ValueError, match="no object"):
        compare(FIRST, results({"z": 1.0}))
    with pytest.raises(ValueError, match="no such file"):
        read_results(tmp_path / "results.json")
    path = tmp_path / "results.json"
    path.write_text('{"a": 1}')
    with pytest.raises(ValueError, match="holds no results"):
        read_results(path)
    path.write_text(json.dumps(FIRST))
    assert read_results(path) == FIRST
