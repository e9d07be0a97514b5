"""Frame the subject like the pictures that the models were trained on."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..image import Foreground
from .found import NoObjectError, bounds
from .refine import spread_colours

FRAMING = 0.77
"""Longest side of the subject's box over the side of the picture.

The models saw objects of longest side 1 from distance 1.5 through a field of view of 49.13 degrees,
where the picture spans 1.37 world units at the object's centre. Measured on 2,016 training renders:
mean 0.775, half of them between 0.70 and 0.86.
"""


def frame_subject(
    foreground: Foreground, *, size_px: int = 256, keep_if_framed: bool = False
) -> Foreground:
    """Bring the subject to the middle of a square picture, at the scale the models expect.

    The box of the subject (alpha above 0.5) is centred and its longest side becomes `FRAMING` of
    the picture. Colour is resampled premultiplied, by a triangle filter that cannot ring. Behind
    alpha 0 the colours of the subject's rim go on, so that whoever samples near the rim later finds
    the subject's colour there.

    Args:
        foreground: The subject in a picture of any shape.
        size_px: Side of the result.
        keep_if_framed: Keep the picture's own framing if `is_framed`. Meant for alpha that came
            with the file: that is a render for such a model, and re-framing would change its scale.

    Returns:
        The framed subject.

    Raises:
        NoObjectError: If nothing is covered.
    """
    box = bounds(foreground.alpha)
    if box is None:
        raise NoObjectError("no object found: alpha is below 0.5 everywhere")
    if keep_if_framed and is_framed(foreground):
        window = (0.0, 0.0, float(foreground.size_hw[0]))
    else:
        top, left, bottom, right = box
        side = max(bottom - top, right - left) / FRAMING
        window = ((top + bottom - side) / 2, (left + right - side) / 2, side)
    return _seen_through(foreground, window, size_px)


def is_framed(foreground: Foreground) -> bool:
    """Tell whether a picture looks like one made for an image-to-3D model.

    That is: it is square, the subject does not touch its border, the middle of the subject's box is
    within 15 percent of the picture's side from the picture's middle, and the longest side of the
    box is 45 to 97 percent of it. The numbers are ours: they admit the framings of Zero123, SV3D
    and TripoSR pictures.
    """
    h, w = foreground.size_hw
    box = bounds(foreground.alpha)
    if h != w or box is None:
        return False
    top, left, bottom, right = box
    alpha = foreground.alpha
    touches = bool((torch.cat([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]]) > 0.5).any())
    off_centre = max(abs(top + bottom - h), abs(left + right - w)) / 2 / h
    longest = max(bottom - top, right - left) / h
    return not touches and off_centre <= 0.15 and 0.45 <= longest <= 0.97


def _seen_through(
    foreground: Foreground, window: tuple[float, float, float], size_px: int
) -> Foreground:
    """Resample what a square window (top, left, side; may reach outside) shows."""
    top, left, side = window
    h, w = foreground.size_hw
    rows = _triangle_filter(h, size_px, top, side).to(foreground.rgb)
    columns = _triangle_filter(w, size_px, left, side).to(foreground.rgb)
    alpha = foreground.alpha[..., None]
    premultiplied = torch.cat([foreground.rgb * alpha, alpha], dim=-1)
    seen = torch.einsum("yh,hwc,xw->yxc", rows, premultiplied, columns)
    alpha = seen[..., 3].clamp(0, 1)
    rgb = (seen[..., :3] / seen[..., 3:].clamp(min=1e-6)).clamp(0, 1)
    # Filters leave traces of coverage that no eye sees but that make "where alpha > 0" too wide.
    alpha = torch.where(alpha < 1 / 255, torch.zeros_like(alpha), alpha)
    return Foreground(spread_colours(rgb, alpha), alpha)


def _triangle_filter(
    size_in: int, size_out: int, start: float, length: float
) -> Float[Tensor, "out in"]:
    """Weights that resample [start, start + length) of a line of pixels; outside it is empty.

    A tent as wide as the coarser of the two grids: bilinear going up, area-like going down.
    """
    step = length / size_out
    reach = max(step, 1.0)
    at = start + (torch.arange(size_out, dtype=torch.float64) + 0.5) * step
    # The sum runs over pixels outside the line as well, so that the rim fades instead of smearing.
    margin = int(reach) + 1
    pixel = torch.arange(-margin, size_in + margin, dtype=torch.float64) + 0.5
    weights = (1 - (at[:, None] - pixel[None, :]).abs() / reach).clamp(min=0)
    total = weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
    return (weights / total)[:, margin : margin + size_in]
