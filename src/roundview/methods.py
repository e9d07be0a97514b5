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
    found = _METHODS.get(name)
    if found is None:
        raise ValueError(f"recipe {name!r} is unknown; there are: {', '.join(RECIPES)}")
    return found()


def _im3d() -> Method:
    from .loaders.im3d import load_im3d  # noqa: PLC0415  each method when it is wanted
    from .recipes import im3d as recipe  # noqa: PLC0415

    return Method("im3d", recipe.im3d, recipe.novel_views, recipe.QUALITIES, load_im3d)


def _hi3d() -> Method:
    from .loaders.hi3d import load_hi3d  # noqa: PLC0415
    from .recipes import hi3d as recipe  # noqa: PLC0415

    return Method("hi3d", recipe.hi3d, recipe.novel_views, recipe.QUALITIES, load_hi3d)


def _cascade_zero123() -> Method:
    from .loaders.cascade_zero123 import load_cascade_zero123  # noqa: PLC0415
    from .recipes import cascade_zero123 as recipe  # noqa: PLC0415

    return Method(
        "cascade-zero123",
        recipe.cascade_zero123,
        recipe.novel_views,
        recipe.QUALITIES,
        load_cascade_zero123,
    )


def _hifi123() -> Method:
    from .loaders.hifi123 import load_hifi123  # noqa: PLC0415
    from .recipes import hifi123 as recipe  # noqa: PLC0415

    return Method("hifi123", recipe.hifi123, recipe.novel_views, recipe.QUALITIES, load_hifi123)


def _isotropic3d() -> Method:
    from .loaders.isotropic3d import load_isotropic3d  # noqa: PLC0415
    from .recipes import isotropic3d as recipe  # noqa: PLC0415

    return Method(
        "isotropic3d",
        recipe.isotropic3d,
        recipe.novel_views,
        recipe.QUALITIES,
        load_isotropic3d,
    )


_METHODS: dict[str, Callable[[], Method]] = {
    "im3d": _im3d,
    "hi3d": _hi3d,
    "cascade-zero123": _cascade_zero123,
    "hifi123": _hifi123,
    "isotropic3d": _isotropic3d,
}
