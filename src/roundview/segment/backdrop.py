"""Plain backdrops, as in product pictures: recognise them, and correct a matte by them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from .regions import label

TOLERANCE = 0.035
"""Largest difference of a channel at which a pixel still counts as backdrop (9 of 255)."""
SHADOW_FLOOR = 0.45
"""Soft shadows keep more than this share of the backdrop's light; what is darker is an object.

This and the other numbers of this file were chosen by us on pictures with known alpha, laid over
white and grey, and on a few photographs.
"""


@dataclass(frozen=True, eq=False)
class Backdrop:
    """A backdrop that is one colour, or changes slowly across the picture.

    Attributes:
        rgb: Its colour at every pixel, behind the subject too.
    """

    rgb: Float[np.ndarray, "h w 3"]


def find_backdrop(rgb: Float[np.ndarray, "h w 3"]) -> Backdrop | None:
    """Fit a backdrop to the rim of the picture; None if the rim is not plain.

    Each channel is a quadratic polynomial of position, fitted by least squares to the outer 2
    percent of the picture, four times over, each time without the pixels that fitted badly. The
    rim is plain if at least 65 percent of it then fit (the rest may be a subject that is cut off),
    and half of those fit three times better than they must, as no wall or lawn would.
    """
    h, w = rgb.shape[:2]
    basis = _quadratic(h, w)
    width = max(2, round(0.02 * max(h, w)))
    rim = np.ones((h, w), bool)
    rim[width:-width, width:-width] = False
    colours, terms = rgb[rim].astype(np.float64), basis[rim]
    # A first guess that a subject touching the rim cannot pull: the median colour.
    error = np.abs(colours - np.median(colours, axis=0)).max(axis=1) / 4
    weights = np.zeros((terms.shape[1], 3))
    for _ in range(4):
        fits = error < TOLERANCE
        if fits.mean() < 0.5:
            return None
        weights = np.linalg.lstsq(terms[fits], colours[fits], rcond=None)[0]
        error = np.abs(terms @ weights - colours).max(axis=1)
    fits = error < TOLERANCE
    if fits.mean() < 0.65 or np.median(error[fits]) > TOLERANCE / 3:
        return None
    return Backdrop((basis @ weights).clip(0, 1).astype(np.float32))


def correct_by_backdrop(
    saliency: Float[np.ndarray, "h w"], rgb: Float[np.ndarray, "h w 3"], backdrop: Backdrop
) -> Float[np.ndarray, "h w"]:
    """Repair the usual faults of a network's matte where the backdrop is plain.

    Networks fill the openings of rings and handles, and lose parts that stick out. So
    - what looks like backdrop and is not surely subject becomes background, and so do whole
      openings that look like it and that the network was not sure of;
    - what cannot be backdrop, not even in shadow, and hangs together with the subject, joins it.
    """
    same = looks_like(rgb, backdrop)
    regions, count = label(same)
    result = saliency.copy()
    if count:
        area = np.bincount(regions.ravel(), minlength=count + 1)
        sure = np.bincount(regions.ravel(), saliency.ravel(), count + 1) / area.clip(1)
        subject = max(1, int((saliency > 0.5).sum()))
        opening = (sure < 0.97) & (area > 0.002 * subject)
        opening[0] = False
        result = np.where(same & (saliency < 0.9), 0.0, result)
        result = np.where(opening[regions], np.where(saliency < 0.99, 0.0, result), result)
    foreign, _ = label(_cannot_be_backdrop(rgb, backdrop), corners=True)
    joined = np.zeros(foreign.max() + 1, bool)
    joined[np.unique(foreign[saliency > 0.9])] = True
    joined[0] = False
    return np.where(joined[foreign], np.maximum(result, 1.0), result).astype(np.float32)


def looks_like(rgb: Float[np.ndarray, "h w 3"], backdrop: Backdrop) -> Bool[np.ndarray, "h w"]:
    """Mark the pixels that are as good as equal to the backdrop."""
    return np.abs(rgb - backdrop.rgb).max(axis=-1) < TOLERANCE


def _cannot_be_backdrop(
    rgb: Float[np.ndarray, "h w 3"], backdrop: Backdrop
) -> Bool[np.ndarray, "h w"]:
    """Mark colours that no shadow or glow makes of the backdrop's: other hue, or much darker."""
    power = (backdrop.rgb**2).sum(axis=-1).clip(min=1e-4)
    light = (rgb * backdrop.rgb).sum(axis=-1) / power
    hue = np.abs(rgb - light[..., None] * backdrop.rgb).max(axis=-1)
    return (hue > 0.12) | (light < SHADOW_FLOOR)


def _quadratic(h: int, w: int) -> Float[np.ndarray, "h w 6"]:
    y, x = np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
