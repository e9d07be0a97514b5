"""Fit Gaussians to pictures of a known object and measure them from sides they have not seen."""

import numpy as np
import torch

import roundview as rv
from roundview.data.procedural import procedural_object
from roundview.metrics import psnr
from roundview.views import concatenate_views

truth = procedural_object(np.random.default_rng(3))


def ring(elevation_deg: float, count: int, first_deg: float = 0.0) -> rv.Cameras:
    """Cameras round the object at one elevation."""
    return rv.Cameras.orbit(
        [first_deg + 360 * k / count for k in range(count)],
        elevation_deg=elevation_deg,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(96, 96),
    )


seen = [rv.render_mesh(truth, ring(elevation_deg, 8)) for elevation_deg in (-20.0, 15.0, 50.0)]
hidden = rv.render_mesh(truth, ring(30.0, 6, first_deg=17.0))

for name, views in (("one ring", seen[1]), ("three rings", concatenate_views(seen))):
    fitted = rv.fit_gaussians(views, steps=200, rng=torch.Generator().manual_seed(0))
    again = rv.render_gaussians(fitted, hidden.cameras)
    print(f"{name:11}: {len(fitted)} Gaussians, {psnr(again.rgb, hidden.rgb).mean():.1f} dB unseen")
