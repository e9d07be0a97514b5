"""Draw Gaussians as flat discs, and the readable reference of what the kernel computes.

Huang et al., "2D Gaussian Splatting for Geometrically Accurate Radiance Fields", 2024. A disc is a
Gaussian without its third axis. Each pixel's ray meets the plane of the disc in one point, so depth
is that of a surface, and the normal is known: a fit by discs finds surfaces that a fit by solid
Gaussians leaves vague.

With the ray x = (x, y, 1) of a pixel in the camera frame, and a disc with centre c, axes t_u and
t_v, deviations s_u and s_v and normal n = t_u x t_v there (the inverse of the paper's eq. 8):

    U = (t_v x c) . x / s_u        V = (c x t_u) . x / s_v        W = n . x
    u = U / W,  v = V / W, in deviations from the centre;    depth = n . c / W
    alpha = opacity exp(-power),    power = min((u^2 + v^2) / 2, |pixel - middle|^2)

The second power is the low-pass filter of eq. 11, a Gaussian of deviation sqrt(2) / 2 px in the
picture, which keeps discs seen from the edge from vanishing. Where it is the smaller one, depth is
the centre's. Its middle is that of the box round the circle of one deviation, as in gsplat and the
authors' code (the paper takes the centre's picture). Limits on alpha are those of `render.py`.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..camera import Cameras, project
from ..gaussians import Gaussians
from ..rotation import rotation_from_quat
from ..views import Views
from .render import (
    ALPHA_MAX,
    ALPHA_MIN,
    NEAR,
    TRANSMITTANCE_MIN,
    _rgb_towards,  # pyright: ignore[reportPrivateUsage]  one colour for both primitives
    in_tiles,
)

MEDIAN_LIGHT = 0.5
"""The median depth is that of the last disc that more than this share of the light reaches."""


@dataclass(frozen=True, eq=False)
class Discs:
    """What `render_discs` sees: pictures, and two maps that tell how sharp the surface is.

    Attributes:
        views: Colour over the background, alpha, depth and normal. Depth is the mean depth of
            what is seen, weighted by its share of the alpha; normal is the mean of the discs'
            normals so weighted, at unit length, each turned towards the camera. Both are 0 where
            alpha is.
        median_depth: Depth of the last disc that more than half the light reaches (the paper's
            section 6.1); 0 where alpha is. Its gradient goes to that disc.
        distortion: The sum over pairs of discs of w_i w_j (z_i - z_j)^2, where w is a disc's share
            of the alpha and z its depth, world units (the squared form of eq. 13 that the paper's
            appendix derives). The appendix maps depth to NDC, so that what is far counts less; we
            do not, for an object's depths differ little, and squares of their small differences in
            NDC lose their digits in float32.
    """

    views: Views
    median_depth: Float[Tensor, "n h w"]
    distortion: Float[Tensor, "n h w"]


def render_discs(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    backend: Literal["auto", "reference", "numba"] = "auto",
) -> Discs:
    """Draw Gaussians as discs in the plane of their first two axes, from every camera.

    Differentiable in every field of the Gaussians, not in the cameras; the third scale is ignored.
    Overlapping discs are ordered by the depth of their centres, equal depths by their index. A
    disc whose circle of one deviation comes nearer than `NEAR` to the focal plane is not drawn.

    Args:
        gaussians: What to draw; may be empty.
        cameras: The n cameras; on the Gaussians' device.
        background: Colour behind everything, sRGB.
        backend: "numba" is the compiled CPU kernel (float32), "reference" plain PyTorch for any
            device and dtype; "auto" takes the kernel for float32 tensors on the CPU.

    Returns:
        The pictures; see `Discs`.

    Raises:
        ValueError: If the backend is unknown or cannot take these tensors.
    """
    on_cpu = gaussians.centre.device.type == "cpu"
    if backend == "auto":
        backend = "numba" if on_cpu and gaussians.centre.dtype == torch.float32 else "reference"
    if backend == "numba":
        from .discs_numba import render_discs_numba  # noqa: PLC0415  numba is slow to import

        return render_discs_numba(gaussians, cameras, background=background)
    if backend == "reference":
        return render_discs_reference(gaussians, cameras, background=background)
    raise ValueError(f"backend must be auto, reference or numba, got {backend!r}")


def render_discs_reference(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Discs:
    """Say what the kernel must compute; differentiable by autograd, on any device."""
    cameras_like = Cameras(
        cameras.world_from_camera.to(gaussians.centre),
        cameras.focal_px.to(gaussians.centre),
        cameras.size_hw,
    )
    pictures = [_draw(gaussians, cameras_like[n]) for n in range(len(cameras))]
    # The empty picture in front keeps zero cameras from failing in the stack.
    nothing = gaussians.centre.new_zeros(0, *cameras.size_hw, 10)
    seen = torch.cat([nothing, *(picture[None] for picture in pictures)])
    rgb, normal, (alpha, depth, median, distortion) = (
        seen[..., :3],
        seen[..., 3:6],
        seen[..., 6:].unbind(-1),
    )
    behind = torch.tensor(background).to(rgb) * (1 - alpha[..., None])
    views = Views(rgb + behind, alpha, cameras, depth=depth, normal=unit_or_zero(normal))
    return Discs(views, median, distortion)


def unit_or_zero(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Bring vectors to unit length; those of length 0 stay, and get no gradient."""
    square = vectors.square().sum(dim=-1, keepdim=True)
    some = square > 0
    return torch.where(some, vectors * torch.where(some, square, 1.0).rsqrt(), 0.0)


@dataclass(frozen=True, eq=False)
class _Plates:
    """Discs as one camera sees them. U, V and W of the module are linear in the pixel.

    Attributes:
        centre: Where the centres appear, pixels.
        middle: Middle of the box round the circle of one deviation, pixels.
        slope: How U, V and W grow by pixels right and down from the centre, where U = V = 0.
        facing: W at the centre.
        depth: Depth of the centres.
        nearest: Depth of the nearest point of the circle of one deviation.
        opacity: Peak opacity.
        rgb: Colour towards the camera, at least 0.
        normal: Unit normal in the world, turned towards the camera.
        axes: The deviations t_u s_u and t_v s_v, carried into the picture, as rows: pixels right
            and down times depth, and depth.
    """

    centre: Float[Tensor, "g 2"]
    middle: Float[Tensor, "g 2"]
    slope: Float[Tensor, "g 3 2"]
    facing: Float[Tensor, " g"]
    depth: Float[Tensor, " g"]
    nearest: Float[Tensor, " g"]
    opacity: Float[Tensor, " g"]
    rgb: Float[Tensor, "g 3"]
    normal: Float[Tensor, "g 3"]
    axes: Float[Tensor, "g 2 3"]


def _draw(gaussians: Gaussians, camera: Cameras) -> Float[Tensor, "h w 10"]:
    """Give rgb and normal, each summed by share, then alpha and the three maps of depth."""
    h, w = camera.size_hw
    with torch.no_grad():
        everything = _plates(gaussians, camera)
        low, high = _box(everything, (h, w))
        seen = ((high > 0) & (low < torch.tensor([w, h]).to(low))).all(dim=-1).nonzero()[:, 0]
        nearest_first = seen[everything.depth[seen].argsort(stable=True)]
    # Projected again with a gradient, but without those that cannot be seen: a disc in the focal
    # plane has an infinite picture, and its zero gradient would come out as NaN.
    plates = _plates(gaussians[nearest_first], camera)
    low, high = low[nearest_first], high[nearest_first]
    return in_tiles(low, high, (h, w), functools.partial(_composite_tile, plates))


def _plates(gaussians: Gaussians, camera: Cameras) -> _Plates:
    """Carry discs into one camera."""
    pose, focal = camera.camera_from_world[0], camera.focal_px[0]
    centre_px, depth = (value[0] for value in project(gaussians.centre, camera))
    c = gaussians.centre @ pose[:3, :3].T + pose[:3, 3]
    turn = rotation_from_quat(gaussians.quat_wxyz)
    t_u, t_v, n = (pose[:3, :3] @ turn).unbind(dim=-1)
    s_u, s_v = gaussians.scale[:, :1], gaussians.scale[:, 1:2]
    u_by_ray, v_by_ray = torch.linalg.cross(t_v, c) / s_u, torch.linalg.cross(c, t_u) / s_v
    facing = (n * c).sum(-1)
    axes = torch.stack([t_u * s_u, t_v * s_v], dim=1)
    in_depth = axes[..., 2:]
    across = focal * (axes[..., :2] - (c[:, None, :2] / depth[:, None, None]) * in_depth)
    # The dual conic of the circle gives the box (Sigg et al., "GPU-Based Ray-Casting of Quadratic
    # Surfaces", 2006), taken relative to the centre, where no digits are lost.
    leaning = in_depth.square().sum(dim=(1, 2))
    shift = -(in_depth * across).sum(dim=1) / (depth.square() - leaning)[:, None]
    towards = torch.where(facing < 0, 1.0, -1.0).to(n)
    return _Plates(
        centre=centre_px,
        middle=centre_px + shift,
        slope=torch.stack([u_by_ray, v_by_ray, n], dim=1)[..., :2] / focal,
        facing=facing / depth,
        depth=depth,
        nearest=depth - leaning.detach().sqrt(),
        opacity=gaussians.opacity,
        rgb=_rgb_towards(gaussians, camera),
        normal=turn[..., 2] * towards[:, None],
        axes=torch.cat([across, in_depth], dim=-1),
    )


def _box(
    plates: _Plates, size_hw: tuple[int, int]
) -> tuple[Float[Tensor, "g 2"], Float[Tensor, "g 2"]]:
    """Find a box where alpha reaches ALPHA_MIN: low and high corner; none for what is unseen."""
    power = torch.log(plates.opacity / ALPHA_MIN)
    across, in_depth = plates.axes[..., :2], plates.axes[..., 2:]
    # The circle of that power reaches behind the camera where its conic is no ellipse.
    level = 2 * power[:, None]
    rest = plates.depth.square()[:, None] - level * in_depth.square().sum(dim=1)
    in_front = rest > 1e-6 * plates.depth.square()[:, None]
    safe = torch.where(in_front, rest, 1.0)
    shift = -level * (in_depth * across).sum(dim=1) / safe
    half = (shift.square() + level * across.square().sum(dim=1) / safe).clamp(min=0).sqrt()
    blur = power.clamp(min=0).sqrt()[:, None]
    low = torch.minimum(plates.centre + shift - half, plates.middle - blur)
    high = torch.maximum(plates.centre + shift + half, plates.middle + blur)
    size_wh = torch.tensor(size_hw[::-1]).to(low)
    low, high = torch.where(in_front, low, 0.0), torch.where(in_front, high, size_wh)
    drawable = (plates.nearest > NEAR) & (power >= 0) & (low + high).isfinite().all(dim=-1)
    return (
        torch.where(drawable[:, None], low, torch.inf),
        torch.where(drawable[:, None], high, -torch.inf),
    )


def _composite_tile(
    plates: _Plates, near: Bool[Tensor, " g"], rows: range, columns: range
) -> Float[Tensor, "y x 10"]:
    """Lay the chosen discs over one another, nearest first, at the pixels of a tile."""
    x = torch.tensor(columns).to(plates.depth) + 0.5
    y = torch.tensor(rows).to(plates.depth) + 0.5
    pixel = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), dim=-1)[:, :, None]
    power, z = _meet(plates, near, pixel)
    alpha = (plates.opacity[near] * torch.exp(-power)).clamp(max=ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, 0.0)
    light_left = torch.cumprod(1 - alpha, dim=-1)
    light_before = torch.cat([torch.ones_like(alpha[..., :1]), light_left[..., :-1]], dim=-1)
    share = alpha * light_before * (light_left >= TRANSMITTANCE_MIN)
    total = share.sum(dim=-1)
    safe = torch.where(total > 0, total, 1.0)
    mean = (share * z).sum(dim=-1) / safe
    # The double sum over pairs is the total times the spread round the mean.
    distortion = total * (share * (z - mean[..., None]).square()).sum(dim=-1)
    maps = torch.stack([total, mean, _median(share, light_before, z), distortion], dim=-1)
    return torch.cat([share @ plates.rgb[near], share @ plates.normal[near], maps], dim=-1)


def _meet(
    plates: _Plates, near: Bool[Tensor, " g"], pixel: Float[Tensor, "y x 1 2"]
) -> tuple[Float[Tensor, "y x near"], Float[Tensor, "y x near"]]:
    """Find where the rays of pixels meet discs: power and depth there."""
    facing, depth = plates.facing[near], plates.depth[near]
    offset = (pixel - plates.centre[near])[..., None, :]
    u, v, w = (offset * plates.slope[near]).sum(dim=-1).unbind(dim=-1)
    w = w + facing
    # A ray along the plane never meets it.
    met = w.abs() > 1e-20
    safe = torch.where(met, w, 1.0)
    z = facing * depth / safe
    power = 0.5 * ((u / safe).square() + (v / safe).square())
    blurred = (pixel - plates.middle[near]).square().sum(dim=-1)
    on_plane = met & (z > NEAR) & _sharper(power, blurred)
    return torch.where(on_plane, power, blurred), torch.where(on_plane, z, depth)


def _sharper(power: Float[Tensor, "y x g"], blurred: Float[Tensor, "y x g"]) -> Tensor:
    return power <= blurred


def _median(
    share: Float[Tensor, "y x g"], light_before: Float[Tensor, "y x g"], z: Float[Tensor, "y x g"]
) -> Float[Tensor, "y x"]:
    """Take the depth of the last disc that enough light reaches; 0 where there is none."""
    reached = (share > 0) & (light_before > MEDIAN_LIGHT)
    # Depth by the number of the disc: the last one is the largest.
    number = torch.arange(1, z.shape[-1] + 1, device=z.device) * reached
    nothing = z.new_zeros(*z.shape[:-1], 1)
    last = torch.cat([nothing.long(), number], dim=-1).amax(dim=-1, keepdim=True)
    return torch.cat([nothing, z], dim=-1).gather(-1, last)[..., 0]
