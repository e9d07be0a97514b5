"""A recipe that runs in a second, for tests of everything round it."""

from dataclasses import replace

from roundview.recipes.im3d import DRAFT

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
