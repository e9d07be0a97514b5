"""Draw Gaussians: the public renderer, and the readable reference of what the kernels compute.

Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering", 2023; the projection
is from Zwicker et al., "EWA Splatting", 2002. Each Gaussian becomes a blurred ellipse in the
picture, and each pixel lays its ellipses over one another, nearest first.
"""

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..camera import Cameras, project
from ..gaussians import Gaussians
from ..rotation import rotation_from_quat, sh_basis
from ..views import Views

NEAR = 0.01
"""Gaussians whose centre is nearer than this along the axis are not drawn (gsplat's value)."""
BLUR_PX2 = 0.3
"""Added to the variances in the picture, so that no Gaussian falls between pixels (3DGS)."""
FRUSTUM_MARGIN = 1.3
"""The projection is linearised no further out than this many half images from the axis (3DGS)."""
ALPHA_MAX = 0.99
"""Highest opacity of one Gaussian at one pixel (3DGS)."""
ALPHA_MIN = 1 / 255
"""Contributions below this are skipped (3DGS)."""
TRANSMITTANCE_MIN = 1e-4
"""A pixel is finished before the Gaussian that would leave less light than this (3DGS)."""

_TILE_PX = 16


Backend = Literal["auto", "reference", "numba", "triton", "gsplat"]


def render_gaussians(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    backend: Backend = "auto",
) -> Views:
    """Draw Gaussians from every camera.

    Differentiable in every field of the Gaussians, and in the cameras' pose and focal length.
    Overlapping Gaussians are ordered by the depth of their centres, equal depths by their index.

    Args:
        gaussians: What to draw; may be empty.
        cameras: The n cameras; on the Gaussians' device.
        background: Colour behind everything, sRGB.
        backend: "numba" is the compiled CPU kernel (float32), "triton" the GPU kernel (CUDA,
            float32), "gsplat" the optional package of that name (CUDA, float32, needs nvcc; no
            gradient of the focal length), "reference" plain PyTorch for any device and dtype.
            "auto" takes the kernel for float32 tensors on the CPU or a CUDA device, else the
            reference.

    Returns:
        Colour over the background, alpha, and depth: the mean depth of what is seen at the pixel,
        weighted by its share of the alpha; 0 where alpha is 0.

    Raises:
        ValueError: If the backend is unknown, absent or cannot take these tensors.
    """
    if backend == "auto":
        backend = _best_backend(gaussians.centre)
    if backend == "reference":
        return render_gaussians_reference(gaussians, cameras, background=background)
    # Imported only now: numba and Triton are slow to import, Triton and gsplat may be absent.
    if backend == "numba":
        from .render_numba import render_gaussians_numba as render  # noqa: PLC0415  see above
    elif backend == "triton":
        if not _has_triton():
            raise ValueError(
                "backend 'triton' needs the package triton, which PyTorch for CUDA brings along on "
                "Linux; pip install triton, or use backend='auto'"
            )
        from .render_triton import render_gaussians_triton as render  # noqa: PLC0415  see above
    elif backend == "gsplat":
        from .render_gsplat import render_gaussians_gsplat as render  # noqa: PLC0415  see above
    else:
        raise ValueError(f"backend must be one of {get_args(Backend)}, got {backend!r}")
    return render(gaussians, cameras, background=background)


def _best_backend(centre: Float[Tensor, "g 3"]) -> Backend:
    """Choose the fastest backend that takes such tensors."""
    if centre.dtype != torch.float32:
        return "reference"
    if centre.device.type == "cpu":
        return "numba"
    return "triton" if centre.is_cuda and _has_triton() else "reference"


def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def render_gaussians_reference(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Views:
    """Say what the kernels must compute; differentiable by autograd, on any device."""
    cameras_like = Cameras(
        cameras.world_from_camera.to(gaussians.centre),
        cameras.focal_px.to(gaussians.centre),
        cameras.size_hw,
    )
    pictures = [_draw(gaussians, cameras_like[n]) for n in range(len(cameras))]
    h, w = cameras.size_hw
    # The empty picture in front keeps zero cameras from failing in the stack.
    nothing = gaussians.centre.new_zeros(0, h, w, 5)
    light = torch.cat([nothing, *(picture[None] for picture in pictures)])
    rgb, depth_sum, alpha = light[..., :3], light[..., 3], light[..., 4]
    seen = alpha > 0
    depth = torch.where(seen, depth_sum / torch.where(seen, alpha, 1.0), 0.0)
    behind = torch.tensor(background).to(rgb) * (1 - alpha[..., None])
    return Views(rgb + behind, alpha, cameras, depth=depth)


@dataclass(frozen=True, eq=False)
class _Ellipses:
    """Gaussians as one camera sees them.

    Attributes:
        middle: Where the centres appear, pixels.
        covariance: Covariance in the picture with the blur, px^2: the entries xx, xy, yy.
        determinant: Determinant of the covariance, px^4.
        opacity: Peak opacity.
        rgb: Colour towards the camera, at least 0.
        depth: Depth of the centres.
    """

    middle: Float[Tensor, "g 2"]
    covariance: Float[Tensor, "g 3"]
    determinant: Float[Tensor, " g"]
    opacity: Float[Tensor, " g"]
    rgb: Float[Tensor, "g 3"]
    depth: Float[Tensor, " g"]


def _draw(gaussians: Gaussians, camera: Cameras) -> Float[Tensor, "h w 5"]:
    """Sum up the light at each pixel of one camera: rgb, depth and alpha, each weighted."""
    h, w = camera.size_hw
    with torch.no_grad():
        everything = _ellipses(gaussians, camera)
        seen = (_reach_px(everything, (h, w)) > 0).all(dim=-1).nonzero()[:, 0]
        nearest_first = seen[everything.depth[seen].argsort(stable=True)]
    # Projected again with a gradient, but without those that cannot be seen: a Gaussian in the
    # focal plane has an infinite ellipse, and its zero gradient would come out as NaN.
    ellipses = _ellipses(gaussians[nearest_first], camera)
    reach = _reach_px(ellipses, (h, w)).detach()
    low, high = ellipses.middle.detach() - reach, ellipses.middle.detach() + reach
    return in_tiles(low, high, (h, w), functools.partial(_composite_tile, ellipses))


def in_tiles(
    low: Float[Tensor, "g 2"],
    high: Float[Tensor, "g 2"],
    size_hw: tuple[int, int],
    composite: Callable[[Bool[Tensor, " g"], range, range], Float[Tensor, "y x c"]],
) -> Float[Tensor, "h w c"]:
    """Put a picture together from tiles.

    Args:
        low: Least column and row that each thing may reach.
        high: The highest.
        size_hw: Height and width of the picture.
        composite: Draws one tile, of those things that may reach it: which, rows, columns.
    """
    h, w = size_hw
    strips = []
    for top in range(0, h, _TILE_PX):
        rows = range(top, min(top + _TILE_PX, h))
        in_strip = (high[:, 1] > rows.start) & (low[:, 1] < rows.stop)
        tiles = []
        for left in range(0, w, _TILE_PX):
            columns = range(left, min(left + _TILE_PX, w))
            near = in_strip & (high[:, 0] > columns.start) & (low[:, 0] < columns.stop)
            tiles.append(composite(near, rows, columns))
        strips.append(torch.cat(tiles, dim=1))
    return torch.cat(strips)


def camera_numbers(cameras: Cameras) -> Float[Tensor, "n 16"]:
    """Say in a row for each camera what kernels know of it; differentiable.

    Turn and shift of camera_from_world, origin, focal length.
    """
    pose = cameras.camera_from_world
    parts = [pose[:, :3, :3].flatten(1), pose[:, :3, 3], cameras.origin, cameras.focal_px[:, None]]
    return torch.cat(parts, dim=1)


def _ellipses(gaussians: Gaussians, camera: Cameras) -> _Ellipses:
    """Project Gaussians into one camera (Zwicker et al. 2002, eq. 29; Kerbl et al. 2023, eq. 5)."""
    pose = camera.camera_from_world[0]
    middle, depth = (value[0] for value in project(gaussians.centre, camera))
    p_camera = gaussians.centre @ pose[:3, :3].T + pose[:3, 3]
    # The Jacobian of the perspective division, focal / depth * [[1, 0, -x/z], [0, 1, -y/z]]. Far
    # outside the picture it stretches Gaussians without bound, so it is taken at the margin there.
    h, w = camera.size_hw
    limit = FRUSTUM_MARGIN * torch.tensor([w / 2, h / 2]).to(depth) / camera.focal_px
    slope = torch.clamp(p_camera[:, :2] / p_camera[:, 2:], -limit, limit)
    jacobian = torch.cat([torch.eye(2).to(depth).expand(len(depth), 2, 2), -slope[..., None]], -1)
    jacobian = jacobian * (camera.focal_px / depth)[:, None, None]
    half = jacobian @ pose[:3, :3] @ _half_covariance(gaussians)
    across, down = half.unbind(dim=1)
    xx, xy, yy = (across * across).sum(-1), (across * down).sum(-1), (down * down).sum(-1)
    # det(half half^T) as a sum of squares (Cauchy-Binet). The difference xx * yy - xy^2 would
    # leave no correct digit of a long thin Gaussian in float32.
    minors = torch.linalg.cross(across, down).square().sum(-1)
    return _Ellipses(
        middle=middle,
        covariance=torch.stack([xx + BLUR_PX2, xy, yy + BLUR_PX2], dim=-1),
        determinant=minors + BLUR_PX2 * (xx + yy) + BLUR_PX2**2,
        opacity=gaussians.opacity,
        rgb=_rgb_towards(gaussians, camera),
        depth=depth,
    )


def _half_covariance(gaussians: Gaussians) -> Float[Tensor, "g 3 3"]:
    """Square roots R S of the covariances, world frame."""
    return rotation_from_quat(gaussians.quat_wxyz) * gaussians.scale[:, None, :]


def _rgb_towards(gaussians: Gaussians, camera: Cameras) -> Float[Tensor, "g 3"]:
    direction = torch.nn.functional.normalize(gaussians.centre - camera.origin, dim=-1)
    basis = sh_basis(direction, gaussians.sh_degree)
    return (0.5 + (basis[..., None] * gaussians.sh).sum(dim=-2)).clamp(min=0)


def _reach_px(ellipses: _Ellipses, size_hw: tuple[int, int]) -> Float[Tensor, "g 2"]:
    """Half the width and height of the box where alpha reaches ALPHA_MIN; 0 for what is unseen."""
    power = torch.log(ellipses.opacity / ALPHA_MIN)
    reach = (2 * power[:, None] * ellipses.covariance[:, [0, 2]]).clamp(min=0).sqrt()
    size_wh = torch.tensor(size_hw[::-1]).to(reach)
    touches = (ellipses.middle + reach > 0) & (ellipses.middle - reach < size_wh)
    drawable = (ellipses.depth > NEAR) & ellipses.determinant.isfinite() & touches.all(dim=-1)
    return torch.where(drawable[:, None], reach, 0.0)


def _composite_tile(
    ellipses: _Ellipses, near: Bool[Tensor, " g"], rows: range, columns: range
) -> Float[Tensor, "y x 5"]:
    """Lay the chosen ellipses over one another, nearest first, at the pixels of a tile."""
    x = torch.tensor(columns).to(ellipses.depth) + 0.5
    y = torch.tensor(rows).to(ellipses.depth) + 0.5
    middle, covariance = ellipses.middle[near], ellipses.covariance[near]
    dx = x[None, :, None] - middle[:, 0]
    dy = y[:, None, None] - middle[:, 1]
    # The Mahalanobis distance as that of y, plus that of x given y. The usual quadratic form
    # subtracts large numbers from one another where the ellipse is long and thin.
    _, xy, yy = covariance.unbind(dim=-1)
    spread_of_x = ellipses.determinant[near] / yy
    power = 0.5 * ((dx - xy / yy * dy) ** 2 / spread_of_x + dy**2 / yy)
    alpha = (ellipses.opacity[near] * torch.exp(-power)).clamp(max=ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, 0.0)
    light_left = torch.cumprod(1 - alpha, dim=-1)
    light_before = torch.cat([torch.ones_like(alpha[..., :1]), light_left[..., :-1]], dim=-1)
    share = alpha * light_before * (light_left >= TRANSMITTANCE_MIN)
    shown = [ellipses.rgb[near], ellipses.depth[near, None], torch.ones_like(middle[:, :1])]
    return share @ torch.cat(shown, dim=-1)
