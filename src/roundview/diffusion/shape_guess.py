"""The solid that is guessed behind a photograph."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..camera import Cameras, project
from ..image import Foreground
from ..models import FeatureModel
from .orbit import DISTANCE, FOV_DEG
from .shape_head import LAYERS, PICTURE_PX, REACH, ShapeDecoder, upright

_LEAST_LAYERS = 1.5
"""Of a ray that meets the subject."""
_FULLER = 1.25
"""How much more of a ray counts as solid than its probabilities add up to: best of 1 to 1.6 in
shape marks and PSNR together, on 24 left-out training objects."""
_DOUBT = -2.2
"""Logit below which a place is empty, however many its ray is to keep: one in ten. Chosen by us."""
_SEEN = 0.1
"""Alpha of such a ray, as in training."""
_FRONT_LAYERS = 2.5
"""How far behind the first surface the photograph's own colours go, layers. Chosen by us."""


@dataclass(frozen=True, eq=False)
class SolidGuess:
    """A solid in the frame of the photograph that shows it.

    Attributes:
        solid: Probability that a place is solid: layers from front to back, rows, columns.
        rgb: Colours, in fewer layers.
        front: Depth of the first surface on each ray, in layers; beyond the last far from any.
        subject: The photograph.
        camera: What took it.
    """

    solid: Float[Tensor, "l s s"]
    rgb: Float[Tensor, "3 k s s"]
    front: Float[Tensor, "s s"]
    subject: Foreground
    camera: Cameras

    def at(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        """Give the probability that world points lie in the solid; 0 out of the picture."""
        place, inside = self._places(points)
        share = _looked_up(self.solid[None], place)[:, 0]
        alpha = _looked_up(self.subject.alpha[None, None].to(share), place)[:, 0]
        return torch.minimum(share, alpha) * inside

    def rgb_at(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, "p 3"]:
        """Give the colours there: the photograph's own on the side that it shows."""
        place, _ = self._places(points)
        guessed = _looked_up(self.rgb, place)
        photo = _looked_up(self.subject.rgb.movedim(-1, 0)[:, None].to(guessed), place)
        front = _looked_up(self.front[None, None], place)[:, 0]
        layer = (place[:, 2] + 1) / 2 * LAYERS - 0.5
        shown = (1.5 - (layer - front).abs() / _FRONT_LAYERS).clamp(0, 1)[:, None]
        return (guessed + shown * (photo - guessed)).clamp(0, 1)

    def _places(self, points: Float[Tensor, "p 3"]) -> tuple[Tensor, Tensor]:
        """Give (across, down, along the ray), all in [-1, 1] in the picture, and what is in it."""
        pixel, depth = project(points, self.camera)
        h, w = self.camera.size_hw
        down = (pixel[0, :, 1] - h / 2) / self.camera.focal_px * depth[0]
        sine, cosine = upright(float(self.camera.elevation_deg[0]))
        place = torch.stack(
            [
                pixel[0, :, 0] / w * 2 - 1,
                pixel[0, :, 1] / h * 2 - 1,
                (cosine * (depth[0] - DISTANCE) - sine * down) / REACH,
            ],
            dim=-1,
        )
        return place, (place.abs() <= 1).all(dim=-1)


class ShapeModel:
    """Guesses solids: deep features of the photograph and of its mirror image, decoded."""

    def __init__(self, features: FeatureModel, decoder: ShapeDecoder) -> None:
        self.features = features
        self.decoder = decoder.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, subject: Foreground, *, elevation_deg: float) -> SolidGuess:
        """Guess what is behind a photograph.

        Args:
            subject: Square, framed as `frame_subject` does, seen from azimuth 0.
            elevation_deg: Where it was taken from.
        """
        place = next(self.decoder.parameters()).device
        small = subject.resized((PICTURE_PX, PICTURE_PX))
        rgba = torch.cat([small.over(), small.alpha[..., None]], dim=-1)
        rgba = rearrange(rgba, "h w c -> 1 c h w").to(place)
        both = torch.cat([rgba, rgba.flip(3)])
        told = torch.full((2,), float(elevation_deg), device=place)
        maps = self.features.maps(both[:, :3].movedim(1, -1))
        finest = nn.functional.interpolate(both, maps[0].shape[-2:], mode="area")
        solid, rgb = self.decoder(maps, finest, told)
        logit = ((solid[0] + solid[1].flip(2)) / 2).cpu()
        rgb = ((rgb[:1] + rgb[1:].flip(4)) / 2)[0].cpu()
        seen = finest[0].cpu()
        solid = (logit - _threshold(logit, seen[3] > _SEEN)).sigmoid()
        first = (solid > 0.5).float()
        front = torch.where(first.any(dim=0), first.argmax(dim=0).float(), float(2 * LAYERS))
        # Rays beside the subject take their nearest neighbour's, for what is looked up at its rim.
        beside = -nn.functional.max_pool2d(-front[None, None], 3, stride=1, padding=1)[0, 0]
        front = torch.where(front < LAYERS, front, beside)
        camera = Cameras.orbit(
            [0.0],
            elevation_deg=elevation_deg,
            radius=DISTANCE,
            fov_deg=FOV_DEG,
            size_hw=subject.size_hw,
        )
        return SolidGuess(solid, (seen[:3, None] + rgb).clamp(0, 1), front, subject, camera)


def _threshold(logit: Float[Tensor, "l s s"], seen: Bool[Tensor, "s s"]) -> Float[Tensor, "s s"]:
    """Say above which logit a place counts as solid: so many on each ray as are to be expected.

    A leg whose depth is unsure is nowhere likelier than not; yet the photograph shows that its rays
    meet something. So each ray keeps its likeliest places, as many as its probabilities add up to.
    Thresholds are averaged with the neighbours' (3 x 3), or surfaces would be rough.
    """
    expected = (_FULLER * logit.sigmoid().sum(dim=0)).clamp(_LEAST_LAYERS, len(logit) - 1.001)
    ranked = logit.sort(dim=0, descending=True).values
    level = _ranked_at(ranked, expected).clamp(min=_DOUBT)
    level = level.minimum(_ranked_at(ranked, torch.full_like(expected, _LEAST_LAYERS)))
    weight = seen.float()
    summed, count = (
        nn.functional.avg_pool2d(x[None, None], 3, 1, 1)[0, 0] for x in (level * weight, weight)
    )
    return torch.where(count > 0, summed / count.clamp(min=1e-6), 0.0)


def _ranked_at(ranked: Float[Tensor, "l s s"], count: Float[Tensor, "s s"]) -> Float[Tensor, "s s"]:
    """Give the value of which `count` values, ranked from the largest, are at least as large."""
    below = count.floor()
    larger, smaller = (ranked.gather(0, (below.long() + k - 1)[None])[0] for k in (0, 1))
    return torch.lerp(larger, smaller, count - below)


def _looked_up(grid: Float[Tensor, "..."], place: Float[Tensor, "p 3"]) -> Float[Tensor, "p c"]:
    """Look a grid (c l h w) up trilinearly; a picture is (c 1 h w)."""
    grid = grid[None] if grid.dim() == 4 else grid[None, None]
    found = nn.functional.grid_sample(
        grid, place[None, None, None], padding_mode="border", align_corners=False
    )
    return found[0, :, 0, 0].T
