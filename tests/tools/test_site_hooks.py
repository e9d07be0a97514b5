"""The site says of a recipe what the code and the results say."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from roundview.recipes import RECIPES


@pytest.fixture(scope="module")
def hooks(repository: Path) -> ModuleType:
    path = repository / "tools" / "site_hooks.py"
    spec = importlib.util.spec_from_file_location("site_hooks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_qualities_are_told_where_they_differ(hooks: ModuleType) -> None:
    table = hooks.qualities("im3d").splitlines()
    assert table[0] == "| setting | draft | standard | high |"
    assert "| `fit_steps` | 600 | 1,200 | 3,000 |" in table
    assert not any("`faces`" in row for row in table), "all qualities have as many"


def test_results_are_the_rows_about_a_recipe_under_their_heads(hooks: ModuleType) -> None:
    text = "# A\nMeasured so:\n\n| recipe | dB |\n|---|---|\n| `a` | 1 |\n| `b` | 2 |\n\nEnd."
    assert hooks.results("b", text).splitlines() == [
        "Measured so:",
        "",
        "| recipe | dB |",
        "|---|---|",
        "| `b` | 2 |",
    ]
    with pytest.raises(ValueError, match="no row"):
        hooks.results("c", text)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_has_a_page_and_every_place_in_it_is_filled(
    repository: Path, hooks: ModuleType, recipe: str
) -> None:
    page = (repository / "docs" / "site" / "recipes" / f"{recipe}.md").read_text()
    assert f"<!-- qualities: {recipe} -->" in page
    filled = hooks.on_page_markdown(page, page=None)
    assert "<!--" not in filled
    assert "| setting | draft | standard | high |" in filled
    assert f"| `{recipe}` |" in filled


def test_other_comments_are_left_alone(hooks: ModuleType) -> None:
    assert hooks.on_page_markdown("a <!-- note --> b") == "a <!-- note --> b"


def test_the_site_fetches_nothing_from_another_host(repository: Path, hooks: ModuleType) -> None:
    output = f'<script src="{hooks.FETCHED}"></script>'
    page = SimpleNamespace(url="site/recipes/im3d.html")
    assert f'src="../../{hooks.OURS}"' in hooks.on_post_page(output, page=page, config=None)
    assert f'src="/{hooks.OURS}"' in hooks.on_post_template(output, template_name="404.html")
    assert (repository / "docs" / hooks.OURS).is_file()
