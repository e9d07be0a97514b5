import os

import pytest
import torch

from roundview.cli.options import (
    check_fit,
    check_recipe,
    parse_elevation,
    parse_numbers,
    use_threads,
)
from roundview.kernels import thread_count
from roundview.recipes import RECIPES


def test_the_recipes_named_are_those_that_there_are() -> None:
    for recipe in RECIPES:
        check_recipe(recipe)
    with pytest.raises(ValueError, match="'dreamfusion' is unknown; there are: im3d, hi3d"):
        check_recipe("dreamfusion")


def test_other_fits_are_refused() -> None:
    check_fit("splat")
    with pytest.raises(ValueError, match="there are: splat, sdf, radiance"):
        check_fit("voxels")


def test_lists_of_numbers_are_read() -> None:
    assert parse_numbers("0,-90, 22.5", "--azimuth-deg") == [0.0, -90.0, 22.5]


@pytest.mark.parametrize("text", ["", "a", "1,,2", "nan", "1e9", "inf"])
def test_what_is_no_list_of_angles_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--azimuth-deg"):
        parse_numbers(text, "--azimuth-deg")


def test_elevation_is_auto_or_one_number() -> None:
    assert parse_elevation("auto") is None
    assert parse_elevation("-12.5") == -12.5
    for text in ("81", "1,2"):
        with pytest.raises(ValueError, match=r"-80\.\.80"):
            parse_elevation(text)


def test_threads_reach_networks_and_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("ROUNDVIEW_THREADS", "7")
    try:
        use_threads(1)
        assert torch.get_num_threads() == 1
        assert os.environ["ROUNDVIEW_THREADS"] == "1"
        assert thread_count() == 1
    finally:
        torch.set_num_threads(before)
