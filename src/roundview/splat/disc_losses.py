"""What makes discs lie on one surface: normals that fit the depth, and depths that fit each other.

Huang et al., "2D Gaussian Splatting for Geometrically Accurate Radiance Fields", 2024, section 5.
Every function gives one value a picture and is differentiable in what was drawn.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Cameras, lift
from .discs import Discs, unit_or_zero


def surface_depth(seen: Discs, *, median_share: float) -> Float[Tensor, "n h w"]:
    """Mix the mean and the median depth: the paper takes the median alone for bounded objects.

    The mean lies between surfaces where a pixel sees two; the median jumps from disc to disc.

    Raises:
        ValueError: If the share is not in [0, 1].
    """
    if not 0 <= median_share <= 1:
        raise ValueError(f"median_share must lie between 0 and 1, got {median_share}")
    mean = _given(seen.views.depth)
    return mean * (1 - median_share) + seen.median_depth * median_share


def normals_of_depth(depth: Float[Tensor, "n h w"], cameras: Cameras) -> Float[Tensor, "n h w 3"]:
    """Give the normals of the surface that a depth map describes (eq. 15 of the paper).

    Central differences of the points in the world that the pixels show.

    Args:
        depth: Distance along the optical axis, 0 where nothing is seen.
        cameras: The n cameras that saw it.

    Returns:
        Unit normals in the world frame, turned towards the camera; 0 where the pixel or one of its
        four neighbours shows nothing, and so all round the picture.
    """
    points = lift(depth, cameras)
    across = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    # x runs right and y down, so that this order points out of the picture.
    normal = unit_or_zero(torch.linalg.cross(down, across))
    some = depth > 0
    known = some[:, 1:-1, 1:-1] & some[:, 1:-1, 2:] & some[:, 1:-1, :-2]
    known = known & some[:, 2:, 1:-1] & some[:, :-2, 1:-1]
    inner = torch.where(known[..., None], normal, 0.0)
    return torch.nn.functional.pad(inner, (0, 0, 1, 1, 1, 1))


def normal_consistency(seen: Discs, *, median_share: float) -> Float[Tensor, " n"]:
    """Measure how far the discs' normals are from those of the surface they form (eq. 14).

    The mean over the picture of alpha (1 - n . N), with n the normal that was drawn, at unit
    length, and N that of the depth map; pixels without N count 0. Alpha is taken as it is: a
    picture must not fade to please this term.

    Args:
        seen: What was drawn.
        median_share: How much of the median is in the depth, as for `surface_depth`.
    """
    depth = surface_depth(seen, median_share=median_share)
    of_depth = normals_of_depth(depth, seen.views.cameras)
    agreement = (_given(seen.views.normal) * of_depth).sum(dim=-1)
    known = (of_depth != 0).any(dim=-1)
    wrong = torch.where(known, seen.views.alpha.detach() * (1 - agreement), 0.0)
    return wrong.mean(dim=(1, 2))


def distortion_loss(seen: Discs) -> Float[Tensor, " n"]:
    """Average the distortion over the picture (eq. 13): 0 where every ray meets one depth.

    In squared world units: divide by the square of the subject's size to compare subjects.
    """
    return seen.distortion.mean(dim=(1, 2))


def _given(picture: Tensor | None) -> Tensor:
    if picture is None:
        raise ValueError("the views have no depth or normal; pass what render_discs gave")
    return picture
