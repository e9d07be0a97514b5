"""A red ball, its photograph, and a guide that knows it: for distillations that take a second."""

import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.diffusion.ddim import ScaledLinear
from roundview.diffusion.distill_cameras import RandomCameras, Range
from roundview.diffusion.guide import Guided, TimeRange, constant, shares_at
from roundview.field.grid import GridSettings
from roundview.field.radiance import RadianceField, RadianceSettings
from roundview.recipes.distilling import Distilling
from roundview.views import Views

SIDE = 16
SHARES = ScaledLinear().alphas_cumprod()
FIELD = RadianceSettings(
    grid=GridSettings(levels=4, log2_table=12, coarsest=8, finest=32), hidden=16, samples=32
)
CAMERAS = RandomCameras(
    SIDE,
    elevation_deg=Range(-20.0, 40.0),
    distance=Range(1.5, 1.5),
    fov_deg=Range(49.13, 49.13),
    views=4,
)
SETTINGS = Distilling(
    CAMERAS,
    steps=60,
    sizes=((0, SIDE, 4),),
    field=FIELD,
    grid_rate=0.05,
    network_rate=0.02,
    keep_every=20,
)
MID = TimeRange(constant(0.3), constant(0.6))


def red_ball(cameras: Cameras) -> Tensor:
    """RGBA pictures of a red ball of radius 0.3 over white, as every camera sees it."""
    h, w = cameras.size_hw
    v, u = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    slope = ((u - w / 2).square() + (v - h / 2).square()).sqrt() / cameras.focal_px[:, None, None]
    limit = 0.3 / (cameras.origin.norm(dim=1).square() - 0.09).sqrt()
    alpha = (slope < limit[:, None, None]).float()
    red = torch.tensor([0.9, 0.1, 0.1])[None, :, None, None]
    rgb = red * alpha[:, None] + 1 - alpha[:, None]
    return torch.cat([rgb, alpha[:, None]], dim=1)


class KnowsTheBall:
    """Predicts just the noise that leads to the ball."""

    shares = SHARES
    size_px = SIDE

    def __init__(self, together: int = 4) -> None:
        self.together = together

    def encode(self, rgba: Tensor) -> Tensor:
        return rgba * 2 - 1

    def told(self, cameras: Cameras) -> Guided[Tensor]:
        small = cameras.resized((SIDE, SIDE))
        truth = red_ball(small) * 2 - 1

        def predict(x: Tensor, t: Tensor, given: Tensor) -> Tensor:
            share = shares_at(SHARES, t, x)
            return (x - share.sqrt() * given) / (1 - share).sqrt()

        return Guided(predict, truth, truth, 2.0)


def ball_photo() -> Views:
    camera = Cameras.orbit(
        [0.0], elevation_deg=0.0, radius=1.5, fov_deg=49.13, size_hw=(SIDE, SIDE)
    )
    rgba = red_ball(camera)[0]
    return Views(rgba[:3].permute(1, 2, 0)[None], rgba[3][None], camera)


def difference(field: RadianceField) -> float:
    """Mean squared difference from the ball, seen from a side that was not drawn."""
    camera = Cameras.orbit(
        [77.0], elevation_deg=25.0, radius=1.5, fov_deg=49.13, size_hw=(SIDE, SIDE)
    )
    with torch.no_grad():
        views = field.render(camera, normals=False)
    truth = red_ball(camera).permute(0, 2, 3, 1)
    return float((torch.cat([views.rgb, views.alpha[..., None]], dim=-1) - truth).square().mean())
