"""One photograph of an object in; a textured mesh, Gaussian splats and a turntable out.

The public names are imported when they are first used: `import roundview` itself is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .camera import Cameras
    from .export import save_asset
    from .gaussians import Gaussians
    from .image import Foreground, Image
    from .mesh import Asset, Mesh, Texture
    from .photo import load_image
    from .pipeline import make
    from .recipes import RECIPES
    from .splat.fit import FitSettings, fit_gaussians
    from .splat.render import render_gaussians
    from .surface.raster import render_mesh
    from .views import Views

__version__ = "0.1.0"

__all__ = [
    "RECIPES",
    "Asset",
    "Cameras",
    "FitSettings",
    "Foreground",
    "Gaussians",
    "Image",
    "Mesh",
    "Texture",
    "Views",
    "fit_gaussians",
    "load_image",
    "make",
    "render_gaussians",
    "render_mesh",
    "save_asset",
]

_HOME = {
    "RECIPES": "recipes",
    "Asset": "mesh",
    "Cameras": "camera",
    "FitSettings": "splat.fit",
    "Foreground": "image",
    "Gaussians": "gaussians",
    "Image": "image",
    "Mesh": "mesh",
    "Texture": "mesh",
    "Views": "views",
    "fit_gaussians": "splat.fit",
    "load_image": "photo",
    "make": "pipeline",
    "render_gaussians": "splat.render",
    "render_mesh": "surface.raster",
    "save_asset": "export",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  any of the public names
    """Import a public name from its home."""
    if name not in _HOME:
        raise AttributeError(f"module 'roundview' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
