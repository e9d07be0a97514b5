from typing import Any

import pytest

from roundview.evaluate.marks import mean_rows
from roundview.evaluate.table import methods_table


def results(recipe: str, main: str, psnr: list[float], calls: float) -> dict[str, Any]:
    entries = [
        {"name": str(k), "rows": {main: {"psnr": value, "network_calls": calls}}}
        for k, value in enumerate(psnr)
    ]
    return {
        "protocol": "mesh-syncdreamer",
        "recipe": recipe,
        "main": main,
        "objects": entries,
        "mean": mean_rows(entries, {}),
    }


FIRST = results("im3d", "measured", [10.0, 20.0, 30.0], 60)
SECOND = results("hi3d", "measured", [11.0, 21.5, 31.0], 90)


def test_methods_stand_side_by_side_with_what_they_cost() -> None:
    text = methods_table([FIRST, SECOND])
    assert "| method | PSNR, dB | network calls | objects |" in text
    assert "| im3d | 20.00 | 60 | 3 of 3 |" in text
    assert "| hi3d | 21.17 (+1.17*) | 90 (+30*) | 3 of 3 |" in text


def test_a_difference_that_chance_may_explain_has_no_star() -> None:
    mixed = results("hi3d", "measured", [9.0, 21.0, 30.3], 60)
    assert "| hi3d | 20.10 (+0.10) | 60 (+0) |" in methods_table([FIRST, mixed])


def test_main_rows_of_other_names_are_compared() -> None:
    other = results("files", "orbit", [12.0, 22.0, 32.0], 60)
    assert "| files | 22.00 (+2.00*) |" in methods_table([FIRST, other])


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        methods_table([])
    with pytest.raises(ValueError, match="two protocols"):
        methods_table([FIRST, SECOND | {"protocol": "single-view"}])
