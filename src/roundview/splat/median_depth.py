"""Depth of surfaces: where half the light of a pixel has been taken.

Huang et al., "2D Gaussian Splatting for Geometrically Accurate Radiance Fields", 2024, section 4.2
and appendix B. The mean depth of `render_gaussians` lies between a near and a far surface at the
rim of the near one; the median lies on one of them, so fused depth maps have no skin in between.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Cameras
from ..gaussians import Gaussians
from .render import (
    ALPHA_MAX,
    ALPHA_MIN,
    _Ellipses,  # pyright: ignore[reportPrivateUsage]  the same projection, another composite
    _ellipses,  # pyright: ignore[reportPrivateUsage]  the same projection, another composite
    _reach_px,  # pyright: ignore[reportPrivateUsage]  the same projection, another composite
)

MEDIAN_LIGHT = 0.5
"""The light that must be left in front of the Gaussian that is taken for the surface."""


def render_median_depth(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "n h w"]:
    """Give the depth of the Gaussian at which less than half of the light is left.

    Not differentiable: a small change moves it from one Gaussian to another or not at all. It is
    the depth of that Gaussian's centre. The compiled kernel draws float32 tensors on the CPU,
    PyTorch anything else.

    Args:
        gaussians: What to draw; may be empty.
        cameras: The n cameras; on the Gaussians' device.

    Returns:
        Distance along the optical axis, world units; 0 where more than half of the light is left,
        that is where alpha is below 0.5.
    """
    if gaussians.centre.device.type == "cpu" and gaussians.centre.dtype == torch.float32:
        from .median_depth_numba import render_median_depth_numba  # noqa: PLC0415  numba is slow

        return render_median_depth_numba(gaussians, cameras)
    return render_median_depth_reference(gaussians, cameras)


@torch.no_grad()
def render_median_depth_reference(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "n h w"]:
    """Say what the kernel must compute; on any device."""
    h, w = cameras.size_hw
    maps = [gaussians.centre.new_zeros(0, h, w)]
    for n in range(len(cameras)):
        pose = cameras.world_from_camera[n : n + 1].to(gaussians.centre)
        camera = Cameras(pose, cameras.focal_px[n : n + 1].to(gaussians.centre), (h, w))
        ellipses = _ellipses(gaussians, camera)
        seen = (_reach_px(ellipses, (h, w)) > 0).all(dim=-1).nonzero()[:, 0]
        nearest_first = seen[ellipses.depth[seen].argsort(stable=True)]
        ellipses = _ellipses(gaussians[nearest_first], camera)
        maps.append(torch.stack([_median_row(ellipses, row, w) for row in range(h)])[None])
    return torch.cat(maps)


def _median_row(ellipses: _Ellipses, row: int, width: int) -> Float[Tensor, " w"]:
    """Lay all ellipses over one another, nearest first, at the pixels of a row."""
    dx = torch.arange(width).to(ellipses.depth)[:, None] + 0.5 - ellipses.middle[:, 0]
    dy = row + 0.5 - ellipses.middle[:, 1]
    # The Mahalanobis distance as in `_composite_tile`.
    _, xy, yy = ellipses.covariance.unbind(dim=-1)
    power = 0.5 * ((dx - xy / yy * dy) ** 2 * yy / ellipses.determinant + dy**2 / yy)
    alpha = (ellipses.opacity * torch.exp(-power)).clamp(max=ALPHA_MAX)
    left = torch.cumprod(torch.where(alpha >= ALPHA_MIN, 1 - alpha, 1.0), dim=-1)
    # One column more, for pixels where light is left behind the last.
    nothing = torch.ones(width, 1, dtype=torch.bool, device=left.device)
    beyond = torch.cat([left < MEDIAN_LIGHT, nothing], dim=-1)
    depth = torch.cat([ellipses.depth, ellipses.depth.new_zeros(1)])
    return depth[beyond.int().argmax(dim=-1)]
