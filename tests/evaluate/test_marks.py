import numpy as np
import pytest
from scipy.stats import bootstrap

from roundview.evaluate.marks import MARKS, bootstrap_interval, known_marks, mean_rows, shown


def test_rows_are_averaged_over_the_objects_that_have_them() -> None:
    entries = [
        {"name": "a", "rows": {"x": {"psnr": 10.0, "ssim": 0.5}, "y": {"psnr": 1.0}}},
        {"name": "b", "rows": {"x": {"psnr": 20.0, "ssim": None}}},
        {"name": "c", "error": "ValueError: no"},
    ]
    mean = mean_rows(entries, {"x": "the drawings"})
    assert (mean["objects"], mean["of"]) == (2, 3)
    x, y = mean["rows"]["x"], mean["rows"]["y"]
    assert (x["label"], x["psnr"], x["ssim"], x["objects"]) == ("the drawings", 15.0, 0.5, 2)
    assert (y["label"], y["psnr"], y["objects"]) == ("y", 1.0, 1)
    # Of two values a draw holds one of them twice a quarter of the time each.
    assert x["interval"]["psnr"] == [10.0, 20.0]
    assert y["interval"]["psnr"] is None


def test_no_means_of_nothing() -> None:
    empty = mean_rows([{"name": "c", "error": "no"}], {})
    assert empty == {"objects": 0, "of": 1, "rows": {}}


def test_the_interval_is_the_percentile_bootstrap_and_the_same_each_time() -> None:
    values = list(np.random.default_rng(5).normal(20, 3, 15))
    low, high = bootstrap_interval(values) or (0, 0)
    theirs = bootstrap(
        (values,), np.mean, confidence_level=0.9, method="percentile", rng=1
    ).confidence_interval
    assert low == pytest.approx(theirs.low, abs=0.1)
    assert high == pytest.approx(theirs.high, abs=0.1)
    assert bootstrap_interval(values) == [low, high]
    assert bootstrap_interval([3.0, 3.0, 3.0]) == [3.0, 3.0]
    assert bootstrap_interval([3.0]) is None


def test_marks_are_shown_with_their_digits_in_one_order() -> None:
    assert shown("psnr", 20.126) == "20.13"
    assert shown("faces", 2000.0) == "2000"
    assert shown("chamfer", None) == "-"
    assert known_marks({"a": {"ssim": 1}, "b": {"chamfer": 0, "psnr": 2, "label": "x"}}) == [
        *("psnr", "ssim", "chamfer")
    ]
    assert all(mark.better in (-1, 0, 1) for mark in MARKS.values())
