from typing import Any

from roundview.evaluate.report_text import (
    alignment_line,
    count_line,
    failure,
    settings_text,
    weights_line,
)

RESULTS: dict[str, Any] = {
    "recipe": "im3d",
    "weights": [{"name": "orbit-small", "sha256": "0123456789abcdef"}],
    "alignment": "none",
    "settings": {"seed": 0, "protocol": {"size_px": 32}},
    "mean": {"objects": 1, "of": 2},
}


def test_what_was_used_and_how_is_said() -> None:
    assert weights_line(RESULTS) == "Recipe im3d; weights: orbit-small (0123456789ab)."
    assert weights_line(RESULTS | {"weights": []}) == "Recipe im3d; weights: not from cards."
    assert alignment_line(RESULTS) == "Alignment: none."
    assert settings_text(RESULTS) == "seed = 0\nprotocol.size_px = 32"


def test_counts_say_n_of_m() -> None:
    assert count_line(RESULTS) == "Measured 1 of 2 objects; 1 failed (in no mean)."
    assert count_line({"mean": {"objects": 2, "of": 2}}) == "Measured 2 of 2 objects."


def test_a_failure_is_of_the_object_or_of_the_recipe() -> None:
    assert failure({}) == ""
    assert failure({"error": "ValueError: no"}) == "ValueError: no"
    assert failure({"recipe_error": "no"}) == "the recipe: no"
