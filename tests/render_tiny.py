"""A multi-view set of two procedural objects, for the tests of training."""

from pathlib import Path

import numpy as np

from roundview.data.procedural import procedural_object
from roundview.data.render_set import MultiViewSet, RenderSettings, render_set


def tiny_set(directory: Path, *, objects: int = 2, size_px: int = 16) -> MultiViewSet:
    """Render it; 2 rings of 4 views and 3 free ones an object."""
    rng = np.random.default_rng(0)
    settings = RenderSettings(size_px, rings=2, ring_views=4, free_views=3, supersample=1)
    made = [(f"thing {i}", procedural_object(rng)) for i in range(objects)]
    return render_set(made, objects, directory, settings=settings)
