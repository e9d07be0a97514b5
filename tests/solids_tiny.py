"""A ball that an estimator knows."""

import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.diffusion.orbit import DISTANCE, FOV_DEG
from roundview.diffusion.shape_guess import ShapeModel, SolidGuess
from roundview.diffusion.shape_head import (
    COLOUR_LAYERS,
    LAYERS,
    REACH,
    SIDE,
    ShapeDecoder,
    ShapeSize,
    upright,
)
from roundview.image import Foreground
from roundview.surface.isosurface import mesh_from_density
from roundview.surface.raster import render_mesh
from roundview.surface.solid import solid_views
from roundview.views import Views

RADIUS = 0.35
BALL = mesh_from_density(
    lambda p: RADIUS - p.norm(dim=-1), level=0.0, half_width=0.5, resolution=48
)
RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)


class NoFeatures:
    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.new_zeros(len(rgb), 1, SIDE, SIDE)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


class Ball(ShapeDecoder):
    """Knows a ball, red in front and blue behind, as surely as it is told to."""

    def __init__(self, logit: float = 8.0) -> None:
        super().__init__(ShapeSize(widths=(8, 8, 32, 8), blocks=(0, 0, 0, 0), attends=0))
        self.logit = logit

    def forward(
        self, maps: list[Tensor], rgba: Tensor, elevation_deg: Tensor
    ) -> tuple[Tensor, Tensor]:
        focal = float(orbit([0.0], 1).focal_px[0])
        middle = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
        layer = ((torch.arange(LAYERS) + 0.5) / LAYERS * 2 - 1) * REACH
        wall, y, x = torch.meshgrid(layer, middle / focal, middle / focal, indexing="ij")
        sine, cosine = upright(float(elevation_deg[0]))
        k = (wall + DISTANCE * cosine) / (cosine - y * sine)
        away = ((x * k).square() + (y * k).square() + (k - DISTANCE).square()).sqrt() / RADIUS
        solid = torch.where(away < 1, self.logit - away, -8.0).expand(len(rgba), -1, -1, -1)
        change = torch.tensor(BLUE)[:, None, None] - rgba[:, :3]
        layers = torch.arange(COLOUR_LAYERS) >= COLOUR_LAYERS // 2
        return solid, change[:, :, None] * layers[:, None, None]


def orbit(azimuth_deg: list[float], size_px: int, elevation_deg: float = 20.0) -> Cameras:
    return Cameras.orbit(
        azimuth_deg,
        elevation_deg=elevation_deg,
        radius=DISTANCE,
        fov_deg=FOV_DEG,
        size_hw=(size_px, size_px),
    )


def photo() -> Foreground:
    alpha = render_mesh(BALL, orbit([0.0], 128)).alpha[0]
    return Foreground(torch.tensor(RED).expand(128, 128, 3).clone(), alpha)


def look(guess: SolidGuess, cameras: Cameras) -> Views:
    return solid_views(guess.at, guess.rgb_at, cameras)


def ball(logit: float = 8.0) -> ShapeModel:
    return ShapeModel(NoFeatures(), Ball(logit))
