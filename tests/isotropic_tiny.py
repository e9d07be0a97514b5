"""Isotropic3D with a model that knows the block of `fakes`, so small that it runs in seconds."""

from dataclasses import replace

import torch
from fakes import KnownElevation, block
from torch import Tensor

from roundview.camera import Cameras
from roundview.diffusion.ddim import ScaledLinear
from roundview.diffusion.guide import shares_at
from roundview.diffusion.multiview import (
    Autoencoder,
    MultiviewModel,
    MultiviewSettings,
    Told,
    ViewsTold,
    camera_vectors,
)
from roundview.field.grid import GridSettings
from roundview.field.radiance import RadianceSettings
from roundview.frames import cameras_from_mvdream
from roundview.image import Foreground
from roundview.recipes.distilling_asset import FieldMeshing
from roundview.recipes.isotropic3d import DRAFT, Isotropic3dModels
from roundview.segment import whole_picture
from roundview.surface.raster import render_mesh

SIDE = 16
SHARES = ScaledLinear().alphas_cumprod()
TINY = replace(
    DRAFT,
    size_px=16,
    photo_px=32,
    photo_elevation_deg=10.0,
    ring_views=8,
    draw_steps=2,
    steps=70,
    px=(12, 16),
    views=(4, 4),
    most_times=(0.6, 0.3),
    least_times=(0.6, 0.1),
    orientation=(0.1, 1.0),
    grid_rate=0.05,
    network_rate=0.02,
    field=RadianceSettings(
        grid=GridSettings(levels=4, log2_table=12, coarsest=8, finest=32), hidden=16, samples=32
    ),
    meshing=FieldMeshing(resolution=40, view_px=32, fit_steps=20),
    faces=600,
    texture_size=64,
)


def knowing_multiview() -> MultiviewModel:
    """Knows all sides of the block, and looks at nothing of the photograph but its mean colour."""

    def tell(subject: Foreground) -> Told:
        token = subject.over().mean().reshape(1, 1, 1)

        def told(cameras: Cameras) -> tuple[ViewsTold, ViewsTold]:
            views = ViewsTold(token.expand(len(cameras), -1, -1), camera_vectors(cameras, "once"))
            return views, views.without_picture()

        return told

    def predict(x: Tensor, t: Tensor, told: ViewsTold) -> Tensor:
        focal = Cameras.orbit(
            [0.0], elevation_deg=0.0, radius=1.5, fov_deg=49.13, size_hw=(SIDE, SIDE)
        ).focal_px
        cameras = cameras_from_mvdream(
            told.camera, radius=1.5, focal_px=focal.expand(len(x)), size_hw=(SIDE, SIDE)
        )
        views = render_mesh(block(), cameras)
        rgba = torch.cat([views.rgb, views.alpha[..., None]], dim=-1).movedim(-1, 1)
        share = shares_at(SHARES, t, x)
        return (x - share.sqrt() * (rgba * 2 - 1)) / (1 - share).sqrt()

    keep = Autoencoder(lambda picture: picture, lambda latents: latents, alpha=True)
    settings = MultiviewSettings(size_px=SIDE, latent_px=SIDE, channels=4, guidance=2.0, eta=0.0)
    return MultiviewModel(predict, keep, tell, settings)


def tiny_models() -> Isotropic3dModels:
    """The recipe's models; the photograph is used whole."""
    return Isotropic3dModels(whole_picture, KnownElevation(10.0), knowing_multiview())
