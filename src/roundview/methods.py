"""The published methods by the names that users give them: recipe, settings and models of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .loaders.parts import Loaded, Wanted
from .mesh import Asset
from .recipes import RECIPES
from .views import Views


@dataclass(frozen=True, eq=False)
class Method:
    """What it takes to run a recipe.

    Attributes:
        name: One of `RECIPES`.
        run: The recipe: (photo, models, rng, settings, stage) -> Asset.
        views: Draws novel views only, as `im3d.novel_views` does.
        qualities: Settings by the names of qualities.
        load: Loads the models that the recipe asks for.
    """

    name: str
    run: Callable[..., Asset]
    views: Callable[..., Views]
    qualities: Mapping[str, Any]
    load: Callable[[Wanted], Loaded]

    def settings(self, quality: str) -> Any:  # noqa: ANN401  each recipe has its own dataclass
        """Look up the settings of a quality.

        Raises:
            ValueError: If there is none of that name.
        """
        if quality not in self.qualities:
            known = ", ".join(self.qualities)
            raise ValueError(f"quality {quality!r} is unknown; there are: {known}")
        return self.qualities[quality]


def method_of(name: str) -> Method:
    """Look up a method; only what it needs is imported.

    Raises:
        ValueError: If there is none of that name.
    """
    if name == "im3d":
        from .loaders.im3d import load_im3d  # noqa: PLC0415  each method when it is wanted
        from .recipes import im3d  # noqa: PLC0415

        return Method(name, im3d.im3d, im3d.novel_views, im3d.QUALITIES, load_im3d)
    raise ValueError(f"recipe {name!r} is unknown; there are: {', '.join(RECIPES)}")
