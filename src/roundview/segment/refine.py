"""Clean a coarse matte: tails, specks, pinholes, the edge itself, and the colours along it."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..image import Foreground, Image, resize
from .regions import box_mean, label, nearest

FindSubject = Callable[[Float[Tensor, "h w 3"]], tuple[Float[Tensor, "h w"], float]]
"""Gives coarse coverage of a picture, and how many pixels its outline may be off."""

WORK_PX = 1024
"""Larger pictures are cut out at this size: the outline of a matte is not known better than that,
and time and memory stay bounded."""
SMALLEST_PART = 0.05
"""Parts below this share of the largest one are specks. Chosen by us on product photographs."""
LARGEST_PINHOLE = 0.001
"""Holes below this share of the subject are filled; larger ones may be the handle of a cup."""


def cut_out(find: FindSubject, photo: Image) -> Foreground:
    """Cut the subject out of a photograph, given a way to find it roughly.

    Args:
        find: Gives coarse coverage of a picture, and how many pixels its outline may be off.
        photo: The photograph; its alpha is not looked at.

    Returns:
        The subject at the photograph's size, with its own colours along the edge.
    """
    scale = min(1.0, WORK_PX / max(photo.size_hw))
    h, w = (max(1, round(side * scale)) for side in photo.size_hw)
    rgb = resize(photo.rgb, (h, w)).clamp(0, 1)
    coarse, blur_px = find(rgb)
    alpha = refine_matte(rgb, coarse, blur_px=blur_px)
    colours = subject_colours(rgb, alpha)
    if scale == 1:
        return Foreground(colours, alpha)
    # The photograph's own pixels stay wherever the estimate is the picture itself.
    changed = (colours != rgb).any(dim=-1).to(rgb)
    layers = torch.cat([colours, changed[..., None], alpha[..., None]], dim=-1)
    layers = resize(layers, photo.size_hw).clamp(0, 1)
    return Foreground(torch.lerp(photo.rgb, layers[..., :3], layers[..., 3:4]), layers[..., 4])


def refine_matte(
    rgb: Float[Tensor, "h w 3"], coarse: Float[Tensor, "h w"], *, blur_px: float
) -> Float[Tensor, "h w"]:
    """Sharpen a coarse matte along the edges of the picture and tidy it up.

    He, Sun and Tang, "Guided Image Filtering", 2013, eq. 19 and 20 (colour guide). Ours uses the
    filter only in a band about the matte's outline: inside and outside it would print the
    picture's texture into alpha.

    Args:
        rgb: The picture.
        coarse: Coverage that is right but for a band `blur_px` wide about its outline.
        blur_px: How uncertain the outline is, in pixels of the picture.

    Returns:
        Alpha in [0, 1]: 0 and 1 almost everywhere, soft along the edge.
    """
    from scipy import ndimage  # noqa: PLC0415  heavy, and only mattes need it

    alpha = coarse.numpy()
    subject = main_parts(alpha > 0.5)
    band = max(1, round(1.5 * blur_px))
    inside = ndimage.binary_erosion(subject, iterations=band, border_value=1)
    near = ndimage.binary_dilation(subject, iterations=band)
    start = np.where(near, np.where(inside, np.maximum(alpha, 0.5), alpha), 0.0)
    radius = max(2, round(2 * blur_px))
    guided = guided_filter(rgb.numpy(), start.astype(np.float32), radius=radius)
    # The tails of the filter are haze: cut a sixth off either end.
    edge = ((guided - 1 / 6) * 1.5).clip(0, 1)
    edge = np.where(near, np.where(inside, 1.0, edge), 0.0)
    kept = ndimage.binary_dilation(main_parts(edge > 0.5), iterations=2)
    return torch.from_numpy(np.where(kept, edge, 0.0).astype(np.float32))


def main_parts(subject: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Keep the largest connected part and those not much smaller, and fill pinholes."""
    parts, count = label(subject, corners=True)
    if count == 0:
        return subject
    area = np.bincount(parts.ravel())
    area[0] = 0
    kept = (area >= SMALLEST_PART * area.max())[parts]
    holes, _ = label(~kept)
    size = np.bincount(holes.ravel())
    # Label 0 is the subject itself; the background is no hole, but is far larger than one.
    small = size < LARGEST_PINHOLE * kept.sum()
    small[0] = False
    return kept | small[holes]


def guided_filter(
    guide: Float[np.ndarray, "h w 3"],
    values: Float[np.ndarray, "h w"],
    *,
    radius: int,
    smoothness: float = 1e-4,
) -> Float[np.ndarray, "h w"]:
    """Filter `values` so that their edges follow the edges of `guide`.

    In each window the result is a linear function of the guide's colour (He et al. 2013, eq. 19):
    a = (Sigma + eps U)^-1 cov(guide, values), b = mean(values) - a . mean(guide).

    Args:
        guide: Colours in [0, 1].
        values: What is filtered.
        radius: Half side of the windows, pixels.
        smoothness: eps, a variance of colour: edges much weaker than its root are ignored.

    Returns:
        The filtered values, not clamped.
    """
    mean_guide, mean_values = box_mean(guide, radius), box_mean(values, radius)
    covariance = box_mean(guide * values[..., None], radius) - mean_guide * mean_values[..., None]
    first, second = np.triu_indices(3)
    products = box_mean(guide[..., first] * guide[..., second], radius)
    spread = products - mean_guide[..., first] * mean_guide[..., second]
    sigma = np.empty((*values.shape, 3, 3), np.float32)
    sigma[..., first, second] = spread
    sigma[..., second, first] = spread
    sigma += smoothness * np.eye(3, dtype=np.float32)
    a = np.linalg.solve(sigma, covariance[..., None])[..., 0]
    b = mean_values - (a * mean_guide).sum(axis=-1)
    return (box_mean(a, radius) * guide).sum(axis=-1) + box_mean(b, radius)


def subject_colours(
    rgb: Float[Tensor, "h w 3"], alpha: Float[Tensor, "h w"]
) -> Float[Tensor, "h w 3"]:
    """Estimate the subject's own colour where the picture mixes it with the background.

    Forte, "Approximate Fast Foreground Colour Estimation", 2021, eq. 4 to 6: local means of the
    foreground and background colours, corrected so that they mix to the picture. Two passes, wide
    and narrow, the first with a radius relative to the picture. Ours also distrusts the outermost
    pixels of full alpha, since mattes run a little wide: they take the colour just inside of them,
    where there is an inside. Last, the rim's colours go on behind alpha 0.

    Args:
        rgb: The picture, I = alpha F + (1 - alpha) B.
        alpha: Coverage.

    Returns:
        F, equal to the picture where alpha is 1 but for the outermost pixels.
    """
    from scipy import ndimage  # noqa: PLC0415

    picture, cover = rgb.numpy(), alpha.numpy()[..., None]
    front, back = picture, picture
    for radius in (max(12, round(0.06 * max(picture.shape[:2]))), 6):
        front, back = _colours_about(picture, cover, front, back, radius)
    front = np.where(cover >= 1, picture, front)
    rim_px = max(1, round(0.002 * max(picture.shape[:2])))
    core = ndimage.binary_erosion(cover[..., 0] > 0.98, iterations=rim_px, border_value=1)
    if core.any():
        distance, rows, columns = nearest(core)
        # Thin parts, such as stems, have no core near; Forte's estimate is all there is.
        rim = (distance > 0) & (distance <= 3 * rim_px)
        front = np.where(rim[..., None], front[rows, columns], front)
    # Where little of the subject shows, its colour is a guess that noise decides: spread over it.
    return spread_colours(torch.from_numpy(front), torch.where(alpha < 0.25, 0.0, alpha))


def _colours_about(
    picture: np.ndarray, cover: np.ndarray, front: np.ndarray, back: np.ndarray, radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """One pass of Forte 2021: weighted local means, then the correction towards the picture."""
    mean_front = box_mean(front * cover, radius) / (box_mean(cover, radius) + 1e-5)
    mean_back = box_mean(back * (1 - cover), radius) / (box_mean(1 - cover, radius) + 1e-5)
    missing = picture - cover * mean_front - (1 - cover) * mean_back
    return (mean_front + cover * missing).clip(0, 1), mean_back.clip(0, 1)


def spread_colours(
    rgb: Float[Tensor, "h w 3"], alpha: Float[Tensor, "h w"]
) -> Float[Tensor, "h w 3"]:
    """Give every pixel without cover the colour of the nearest pixel with some."""
    shown = (alpha >= 1 / 255).numpy()
    if shown.all() or not shown.any():
        return rgb
    _, rows, columns = nearest(shown)
    return rgb[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]
