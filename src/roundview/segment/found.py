"""Decide whether a matte shows an object at all, and say so if not."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..image import Foreground

MIN_SUBJECT_PX = 32
"""A subject whose longer side is shorter than this is refused: too little to reconstruct from."""


class NoObjectError(ValueError):
    """The picture shows no object that could be cut out; the message is one line."""


def bounds(alpha: Float[Tensor, "h w"]) -> tuple[int, int, int, int] | None:
    """Find the box (top, left, bottom, right; the last two exclusive) of pixels mostly covered."""
    rows, columns = (alpha > 0.5).nonzero(as_tuple=True)
    if len(rows) == 0:
        return None
    top, bottom = int(rows.min()), int(rows.max()) + 1
    return top, int(columns.min()), bottom, int(columns.max()) + 1


def require_object(foreground: Foreground) -> Foreground:
    """Give the foreground back if it shows an object of useful size.

    Raises:
        NoObjectError: If nothing is covered or the subject is smaller than `MIN_SUBJECT_PX`.
    """
    box = bounds(foreground.alpha)
    if box is None:
        raise NoObjectError("no object found; give a picture that shows one, or a mask (--mask)")
    top, left, bottom, right = box
    if max(bottom - top, right - left) < MIN_SUBJECT_PX:
        raise NoObjectError(
            f"the object is only {right - left}x{bottom - top} pixels; its longer side must have "
            f"{MIN_SUBJECT_PX}, so crop the picture from a larger one"
        )
    return foreground


def require_contrast(rgb: Float[Tensor, "h w 3"]) -> None:
    """Refuse blank pictures, in which any matte would be noise.

    Raises:
        NoObjectError: If the colours spread less than two steps of 255 about their mean.
    """
    spread = float((rgb - rgb.mean(dim=(0, 1))).square().mean().sqrt())
    if spread < 2 / 255:
        raise NoObjectError("no object found: the picture is blank")


def require_background(foreground: Foreground) -> Foreground:
    """Refuse guessed mattes that took everything for the subject.

    Raises:
        NoObjectError: If more than 98 percent of the picture is covered.
    """
    if float((foreground.alpha > 0.5).to(torch.float32).mean()) > 0.98:
        raise NoObjectError(
            "no object found: nothing in the picture was taken for background; give a mask "
            "(--mask), or --no-matte if the whole picture is the object"
        )
    return foreground
