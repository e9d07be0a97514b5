"""Pictures for reports: rows of views side by side, and where they are wrong."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..export.files import png_bytes
from ..image import resize

STRIP_PX = 112
"""Side of the report's pictures: small enough that a page of thirty objects stays below 10 MB."""

# Black, purple, orange, pale yellow: each lighter than the one before, also without colours.
_HEAT = ((0.0, 0.0, 0.02), (0.45, 0.11, 0.43), (0.93, 0.41, 0.15), (0.99, 1.0, 0.64))


def strip_png(rows: Sequence[Float[Tensor, "n h w 3"]]) -> bytes:
    """Lay every second view of each set of pictures side by side, one row a set."""
    small = [resize(rgb[::2], (STRIP_PX, STRIP_PX)).clamp(0, 1) for rgb in rows]
    return png_bytes(torch.cat([torch.cat(list(row), dim=1) for row in small], dim=0))


def error_picture(
    picture: Float[Tensor, "n h w 3"], truth: Float[Tensor, "n h w 3"], *, most: float = 0.5
) -> Float[Tensor, "n h w 3"]:
    """Show how far off each pixel is: black where equal, pale yellow from `most` on.

    The root mean square over the channels, as a colour between those of `_HEAT`.
    """
    error = (picture - truth).square().mean(dim=-1).sqrt()
    at = (error / most).clamp(0, 1) * (len(_HEAT) - 1)
    heat = torch.tensor(_HEAT).to(picture)
    low = at.floor().clamp(max=len(_HEAT) - 2).long()
    share = (at - low)[..., None]
    return heat[low] * (1 - share) + heat[low + 1] * share
