"""Recipes that run in a second, for tests of everything round it."""

from dataclasses import replace

from roundview.recipes.im3d import DRAFT
from roundview.recipes.reconstruct import DRAFT as RECONSTRUCT_DRAFT
from roundview.recipes.surfacing import Meshing

TINY = replace(
    DRAFT,
    ring_views=8,
    more_rings=((60.0, 3), (-25.0, 2)),
    size_px=48,
    photo_px=96,
    redraw_after=(60,),
    fit_steps=90,
    mesh_resolution=48,
    faces=1500,
    texture_size=128,
)
RECONSTRUCT_TINY = replace(
    RECONSTRUCT_DRAFT,
    fit_px=48,
    fit_steps=60,
    fit=replace(
        RECONSTRUCT_DRAFT.fit, points=600, max_gaussians=800, coarse_until=0.0, colour_rate=0.05
    ),
    meshing=Meshing(resolution=48, faces=600, texture_size=128),
)
