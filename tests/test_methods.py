import pytest

from roundview.methods import method_of
from roundview.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_what_it_takes(name: str) -> None:
    method = method_of(name)
    assert method.name == name
    assert list(method.qualities) == ["draft", "standard", "high"]
    for settings in method.qualities.values():
        for option in ("photo_elevation_deg", "faces", "texture_size", "watertight", "size_px"):
            assert hasattr(settings, option), option


def test_unknown_names_are_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="recipe 'dreamfusion' is unknown; there are: im3d, hi3d"):
        method_of("dreamfusion")
    with pytest.raises(ValueError, match="there are: draft, standard, high"):
        method_of("im3d").settings("best")
