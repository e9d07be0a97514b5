"""Where the surface of a cloud of Gaussians is: before their middles, not at them."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Cameras
from ..gaussians import Gaussians
from ..rotation import rotation_from_quat
from ..views import Views

Render = Callable[[Gaussians, Cameras], Views]
RenderDepth = Callable[[Gaussians, Cameras], Float[Tensor, "n h w"]]


def views_to_fuse(
    gaussians: Gaussians, cameras: Cameras, *, render: Render, render_depth: RenderDepth
) -> Views:
    """Render a cloud as `mesh_from_depth` likes it best: sharp outlines, depth without pinholes.

    Renderers widen every Gaussian by a fraction of a pixel. At full size outlines are then true,
    but between Gaussians one sees through the front; at half size the front is whole, but outlines
    are too wide. So outlines come from full size, and depth from half, of `front_of`. Chosen by us
    on fits of two training scans, fused with a truncation of 0.017: their overlap with the truth
    (IoU at 64) was 0.958 and 0.897 with pictures of 256, and 0.957 and 0.865 where outlines and
    depth both had 128, and 0.944 and 0.774 with plain mean depth at 128 and a truncation of 0.035.

    Args:
        gaussians: A fitted cloud.
        cameras: Cameras all round it, with pictures about as large as those of the fit, of even
            height and width.
        render: Draws alpha, and depth where `render_depth` has none.
        render_depth: Draws depth, 0 where unknown; median depth is best.

    Returns:
        Views with depth, 0 where alpha is under half.

    Raises:
        ValueError: If the pictures' height or width is odd.
    """
    h, w = cameras.size_hw
    if h % 2 or w % 2:
        raise ValueError(f"cameras must have even height and width, got {h} x {w}")
    seen = render(gaussians, cameras)
    half = cameras.resized((h // 2, w // 2))
    maps = []
    for n in range(len(half)):
        front, camera = front_of(gaussians, half[n : n + 1]), half[n : n + 1]
        depth = render_depth(front, camera)
        drawn = render(front, camera).depth
        if drawn is not None:
            depth = torch.where(depth > 0, depth, drawn)
        maps.append(depth)
    # Each value four times: a blend across an edge would be a surface that nobody saw.
    full = torch.cat(maps).repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    return replace(seen, depth=full * (seen.alpha > 0.5))


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
