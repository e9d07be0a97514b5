"""Where the surface of a cloud of Gaussians is: before their middles, not at them."""

import math
from dataclasses import replace

import torch

from ..camera import Cameras
from ..gaussians import Gaussians
from ..rotation import rotation_from_quat


def front_of(gaussians: Gaussians, camera: Cameras, *, deviations: float = 1.0) -> Gaussians:
    """Move every Gaussian towards a camera by its own thickness along the line of sight.

    Renderers give the depth of a Gaussian's middle, but a fit places Gaussians so that their light,
    not their middles, ends at the surface: fused depth maps then lie inside the subject. Where a
    Gaussian appears stays the same, and its size in the picture, for it shrinks as it comes nearer.
    So render the result with the same camera, for its depth alone.

    Args:
        gaussians: A fitted cloud.
        camera: One camera; the middles must lie in front of it.
        deviations: How far, in standard deviations along the line of sight. Chosen by us on fits of
            three training scans, 24 views each, compared with the true depth: with 1 the median
            error of mean depth fell from 0.0064, 0.0067, 0.0046 (longest side 1) to 0.0044, 0.0038,
            0.0034, of median depth from 0.0055, 0.0056, 0.0041 to 0.0040, 0.0035, 0.0032, and how
            much too deep it was from 0.002-0.006 to 0.002 at most; 0.5 and 1.5 were worse or alike.

    Returns:
        The cloud to render; colours and opacities are as they were.

    Raises:
        ValueError: If there is not one camera.
    """
    if len(camera) != 1:
        raise ValueError(f"front_of moves a cloud for one camera at a time, got {len(camera)}")
    away = gaussians.centre - camera.origin[0].to(gaussians.centre)
    distance = away.norm(dim=-1, keepdim=True)
    towards = away / distance.clamp(min=1e-12)
    turned = torch.einsum("gji,gj->gi", rotation_from_quat(gaussians.quat_wxyz), towards)
    # Along a line through the middle: (d^T S^-1 d)^(-1/2), not the wider shadow (d^T S d)^(1/2).
    thickness = 1 / (turned / gaussians.scale).norm(dim=-1, keepdim=True)
    # Never past the camera.
    share = (1 - deviations * thickness / distance.clamp(min=1e-12)).clamp(min=0.5)
    # The shrinking holds the picture still across the line of sight.
    return replace(
        gaussians,
        centre=gaussians.centre - (1 - share) * away,
        log_scale=gaussians.log_scale + share.log().clamp(min=math.log(0.5)),
    )
