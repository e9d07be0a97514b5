"""Answers that need no model, to know what a number is worth.

The first three may be given by anybody who has the photograph. The last two use the truth: no model
is asked to beat them, but one that comes near them is close to what its silhouettes or its
sharpness allow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..image import composite
from .protocol import Truth


@dataclass(frozen=True, eq=False)
class Baseline:
    """A row of the table.

    Attributes:
        key: Its name in `results.json`.
        label: What a reader sees.
        uses_truth: Whether it looks at more than the photograph.
        draw: Gives pictures of all views over white.
    """

    key: str
    label: str
    uses_truth: bool
    draw: Callable[[Truth], Float[Tensor, "n h w 3"]]


def all_white(truth: Truth) -> Float[Tensor, "n h w 3"]:
    """Show nothing at all."""
    return torch.ones_like(truth.views.rgb)


def photo_everywhere(truth: Truth) -> Float[Tensor, "n h w 3"]:
    """Show the photograph from every side."""
    return truth.photo.over().expand_as(truth.views.rgb)


def photo_mirrored_behind(truth: Truth) -> Float[Tensor, "n h w 3"]:
    """Show the photograph in front and at the sides, its mirror image behind them.

    The outline of an object from behind is the mirrored one from the front, seen from far away.
    """
    copies = photo_everywhere(truth)
    # The sides themselves, 90 and 270 degrees, are not behind, however they are rounded.
    behind = torch.deg2rad(truth.views.cameras.azimuth_deg).cos() < -1e-4
    return torch.where(behind[:, None, None, None], copies.flip(2), copies)


def mean_of_truth(truth: Truth) -> Float[Tensor, "n h w 3"]:
    """Show the mean of all true views: the best picture that is the same for every view."""
    return truth.views.rgb.mean(dim=0).expand_as(truth.views.rgb)


def true_silhouette(truth: Truth) -> Float[Tensor, "n h w 3"]:
    """Fill each true silhouette with the mean colour of the photographed subject."""
    photo, views = truth.photo, truth.views
    weight = photo.alpha[..., None]
    colour = (photo.rgb * weight).sum(dim=(0, 1)) / weight.sum().clamp(min=1e-6)
    return composite(colour.expand_as(views.rgb), views.alpha, (1.0, 1.0, 1.0))


BASELINES = (
    Baseline("white", "all white", False, all_white),
    Baseline("copy", "the photo for every view", False, photo_everywhere),
    Baseline("mirrored", "the photo, mirrored for the views behind", False, photo_mirrored_behind),
    Baseline("mean_of_truth", "mean of the true views", True, mean_of_truth),
    Baseline(
        "true_silhouette",
        "true silhouettes in the mean colour of the photo",
        True,
        true_silhouette,
    ),
)
