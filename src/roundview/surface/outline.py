"""What a photograph's outline shows and a surface lacks: ears, legs, handles.

Drawn views are blurred where they are unsure, and thin parts are what they are least sure of; a
surface fused from them ends where most of them end. The photograph knows better, from one side. So
parts of its outline that the surface does not fill are added, as thick as they are wide, upright
above or below what they grow out of. Ours; the rounding is that of inflated silhouettes (Igarashi
et al., "Teddy: A Sketching Interface for 3D Freeform Design", 1999).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..camera import Cameras, project, rays
from ..views import Views
from .isosurface import grid_points

_SMOOTHED_PX = 3.0
"""Deviation of the filter over guessed depths, so that what is added has no steps."""
_STEEPEST = 0.3
"""Of a ray, how far it goes over ground for each unit of depth, at least."""
_ACROSS_PX = 9
"""Parts up to this wide come out round, wider ones flatter."""


@dataclass(frozen=True)
class Outline:
    """Settings of `filled_outline`, chosen by us.

    On 12 training objects left out of the training, as `im3d` drafts them at a known elevation: the
    overlap with the photograph's outline rose from 0.75 to 0.91, the F-score at 0.02 from 0.379 to
    0.413, the PSNR of 15 other views from 17.19 to 17.41 dB; volume IoU stayed (0.394, 0.397). A
    thirteenth, a bow, had no mesh before.

    Attributes:
        px: Side of the photograph's outline.
        tolerance_px: By how much outlines differ when nothing is missing.
        overlap_px: How far what is added reaches into what is there, so that they grow together.
        most_thick: Half of the thickness that a part may have, world units.
        least_share: Of the outline that must be missing for anything to be done.
    """

    px: int = 160
    tolerance_px: float = 2.5
    overlap_px: int = 4
    most_thick: float = 0.12
    least_share: float = 0.002


_DEFAULTS = Outline()


def filled_outline(
    field: Float[Tensor, "r r r"],
    photo: Views,
    *,
    half_width: float,
    unit: float,
    settings: Outline = _DEFAULTS,
) -> Float[Tensor, "r r r"]:
    """Add to a field what the photograph's outline shows and the field lacks.

    Args:
        field: Signed distance on a grid over the cube round the origin, positive inside, cut off
            somewhere or not.
        photo: One view with alpha, the first of several.
        half_width: Half the side of the grid's cube, world units.
        unit: World length of a field value of 1.
        settings: Sizes.

    Returns:
        The field, higher where something was added; the same tensor if nothing is missing.
    """
    seen = photo[:1].resized((settings.px, settings.px))
    camera, inside = seen.cameras, seen.alpha[0] > 0.5
    near, far, filled = _spans(field, camera, half_width)
    beyond = inside & (_away(filled) > settings.tolerance_px)
    missing = inside & ~filled & (_away(beyond) <= settings.tolerance_px)
    if float(missing.sum()) <= settings.least_share * float(inside.sum()):
        return field
    depth = _continued(torch.where(filled, 0.5 * (near + far), 0.0), filled, camera)
    half = _half_thickness(inside) * depth / camera.focal_px[0]
    # What is added thins out inside of what is there.
    fading = (1 - _away(missing) / (settings.overlap_px + 1)).clamp(min=0.0)
    half = half.clamp(max=settings.most_thick) * fading
    # A pixel's own width at least: a grid would miss a thinner sheet.
    least = 2.0 * half_width / (len(field) - 1)
    half = torch.where(missing, half.clamp(min=least), half)
    points = grid_points(len(field), half_width)
    pixel, z = project(points, camera)
    at = pixel[0].round().long().clamp(0, settings.px - 1)
    framed = ((pixel[0] >= 0) & (pixel[0] < settings.px)).all(dim=-1)
    thick, middle = _looked_up(half, pixel[0]), depth[at[:, 1], at[:, 0]]
    added = torch.where(framed & (thick > 0), thick - (z[0] - middle).abs(), -1e3) / unit
    return torch.maximum(field, added.reshape(field.shape).clamp(max=1.0).to(field))


def _spans(
    field: Float[Tensor, "r r r"], camera: Cameras, half_width: float
) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"], Bool[Tensor, "h w"]]:
    """Say between which depths each pixel's ray is inside; and whether it ever is."""
    reach = half_width * 3**0.5
    distance = float(camera.origin[0].norm())
    depth = torch.linspace(max(distance - reach, 1e-3), distance + reach, 2 * len(field))
    ray = rays(camera)[0]
    near = torch.full(ray.shape[:2], torch.inf)
    far = torch.zeros(ray.shape[:2])
    for z in depth.tolist():
        inside = _sampled(field, camera.origin[0] + z * ray, half_width) > 0
        near = torch.where(inside, near.clamp(max=z), near)
        far = torch.where(inside, z, far)
    return near, far, far > 0


def _sampled(
    field: Float[Tensor, "r r r"], points: Float[Tensor, "h w 3"], half_width: float
) -> Float[Tensor, "h w"]:
    """Read a grid between its nodes; outside of it nothing is."""
    at = (points / half_width).flip(-1)  # grid_sample names the last axis first.
    inside = (at.abs() <= 1).all(dim=-1)
    value = torch.nn.functional.grid_sample(
        field[None, None].float(), at[None, None], align_corners=True, padding_mode="border"
    )[0, 0, 0]
    return torch.where(inside, value, -1.0)


def _continued(
    depth: Float[Tensor, "h w"], known: Bool[Tensor, "h w"], camera: Cameras
) -> Float[Tensor, "h w"]:
    """Carry depth on from where it is known, up and down upright walls that face the camera.

    Legs stand and ears stick up, so it is the distance over ground that stays the same, and not
    that from the picture's plane. Where nothing is known the wall runs through the origin.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter  # noqa: PLC0415  slow

    ray = rays(camera)[0]
    ahead = -camera.origin[0] * torch.tensor([1.0, 0.0, 1.0])
    ahead = torch.nn.functional.normalize(ahead, dim=0)
    # Seen from straight above there are no walls; the guard tilts them then.
    climb = (ray @ ahead).clamp(min=_STEEPEST)
    begin = camera.origin[0] @ ahead
    over_ground = torch.where(known, begin + depth * climb, 0.0)
    if bool(known.any()):
        where: np.ndarray = distance_transform_edt(
            ~known.numpy(), return_distances=False, return_indices=True
        )  # pyright: ignore[reportAssignmentType]  scipy's stubs know one of its answers
        nearest = over_ground.numpy()[where[0], where[1]]
        over_ground = torch.from_numpy(gaussian_filter(nearest, _SMOOTHED_PX)).to(depth)
    return torch.where(known, depth, (over_ground - begin) / climb)


def _half_thickness(inside: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Round a silhouette: half the thickness, in pixels, of a tube as wide as each part of it."""
    from scipy.ndimage import distance_transform_edt, grey_dilation  # noqa: PLC0415  slow

    rim = np.asarray(distance_transform_edt(np.pad(inside.numpy(), 1)))[1:-1, 1:-1]
    # Next to the rim of a part, how wide it is shows a few pixels further in.
    radius = grey_dilation(rim, size=(_ACROSS_PX, _ACROSS_PX))
    half = np.sqrt(np.maximum(2 * radius * rim - rim**2, 0.0))
    return torch.from_numpy(half.astype(np.float32))


def _away(mask: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Say how far each pixel is from a mask; very far from an empty one."""
    from scipy.ndimage import distance_transform_edt  # noqa: PLC0415  slow to import

    if not bool(mask.any()):
        return torch.full(mask.shape, 1e6)
    return torch.from_numpy(np.asarray(distance_transform_edt(~mask.numpy()))).float()


def _looked_up(picture: Float[Tensor, "h w"], pixel: Float[Tensor, "p 2"]) -> Float[Tensor, " p"]:
    """Read a picture between its pixels' middles."""
    size = torch.tensor(picture.shape[::-1]).to(pixel)
    at = (2 * pixel / size - 1)[None, None]
    return torch.nn.functional.grid_sample(
        picture[None, None], at, align_corners=False, padding_mode="zeros"
    )[0, 0, 0]
