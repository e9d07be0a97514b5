"""Where a fit begins: a ball of grey Gaussians, or the skin of the visual hull."""

import math
import warnings

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from ..camera import Cameras, project
from ..gaussians import Gaussians
from ..rotation import SH_C0
from ..views import Views

_GRID = 64
_HULL_OPACITY, _BALL_OPACITY = 0.5, 0.1


def cloud_in_ball(views: Views, *, points: int, sh_degree: int, rng: Generator) -> Gaussians:
    """Fill a ball in the middle of what the cameras see with faint grey Gaussians.

    IM-3D starts from points "at the centre"; the ball's radius, half of what all cameras see, and
    the opacity of 0.1 follow DreamGaussian (Tang et al. 2023).
    """
    focus, half_width = seen_cube(views.cameras)
    direction = torch.nn.functional.normalize(_normal((points, 3), rng), dim=-1)
    radius = 0.5 * half_width * _uniform((points, 1), rng) ** (1 / 3)
    spacing = 0.5 * half_width * (4 / 3 * math.pi / points) ** (1 / 3)
    grey = torch.full((points, 3), 0.5)
    cloud = _isotropic(direction * radius, 0.7 * spacing, grey, _BALL_OPACITY, sh_degree)
    return _moved(cloud, focus).to(views.rgb.device)


def cloud_on_hull(
    views: Views,
    *,
    points: int,
    sh_degree: int,
    agreement: float,
    rng: Generator,
    inside_share: float = 0.0,
) -> Gaussians:
    """Cover the visual hull of the silhouettes with Gaussians of the colours seen there.

    The hull (Laurentini, "The Visual Hull Concept for Silhouette-Based Image Understanding", 1994)
    is carved from a grid of 64 cells a side. Each point takes its colour from the views that its
    outward direction faces; what hides it is not asked, the fit corrects that.

    Args:
        views: Pictures over white with alpha.
        points: How many Gaussians.
        sh_degree: Degree of the colour; all but the constant part is 0.
        agreement: Share of the views that must show a cell as covered. Below 1, since generated
            views disagree.
        rng: Draws the points.
        inside_share: Share of the points that fill the hull, faintly, instead of covering it: what
            is hollow has its true surface there, where the hull's own points cannot go.

    Returns:
        The cloud; in a ball (with a warning) where the silhouettes have nothing in common.
    """
    focus, half_width = seen_cube(views.cameras)
    middles = _grid_middles(focus, half_width, _GRID)
    inside = _covered(middles.flatten(0, 2), views, agreement).reshape(middles.shape[:3])
    if not bool(inside.any()):
        warnings.warn(
            "the silhouettes have nothing in common, so the fit starts from a ball; "
            "check the cameras and the alpha of the views",
            stacklevel=2,
        )
        return cloud_in_ball(views, points=points, sh_degree=sh_degree, rng=rng)
    return cloud_on_cells(
        inside,
        views,
        focus=focus,
        half_width=half_width,
        points=points,
        sh_degree=sh_degree,
        rng=rng,
        inside_share=inside_share,
    )


def cloud_on_cells(
    inside: Bool[Tensor, "r r r"],
    views: Views,
    *,
    focus: Float[Tensor, " 3"],
    half_width: float,
    points: int,
    sh_degree: int,
    rng: Generator,
    inside_share: float = 0.0,
) -> Gaussians:
    """Cover a set of cells with Gaussians, as `cloud_on_hull` covers the visual hull.

    Args:
        inside: Which cells of a cube are full, indexed [x, y, z]; one at least.
        views: As there, as the rest.
        focus: The cube's middle.
        half_width: Half the cube's side.
        points: How many Gaussians.
        sh_degree: See there.
        rng: See there.
        inside_share: See there.
    """
    cell = 2 * half_width / len(inside)
    middles = _grid_middles(focus, half_width, len(inside))
    filling = round(inside_share * points)
    points -= filling
    cells = (inside & ~_eroded(inside)).nonzero()
    chosen, centre = _placed(cells, points, middles, cell, rng)
    outward = _outward(inside)[chosen]
    # The skin's area over the number of points: their mean distance on it.
    spacing = cell * math.sqrt(max(len(cells) / points, 0.05))
    rgb = _seen_colour(centre, outward, views)
    cover = _isotropic(centre, 0.6 * spacing, rgb, _HULL_OPACITY, sh_degree)
    if not filling:
        return cover
    cells = inside.nonzero()
    _, centre = _placed(cells, filling, middles, cell, rng)
    towards = torch.nn.functional.normalize(_normal((filling, 3), rng).to(middles), dim=-1)
    spacing = cell * (len(cells) / filling) ** (1 / 3)
    rgb = _seen_colour(centre, towards, views)
    return _joined(cover, _isotropic(centre, 0.5 * spacing, rgb, _BALL_OPACITY, sh_degree))


def seen_cube(cameras: Cameras) -> tuple[Float[Tensor, " 3"], float]:
    """Find where the optical axes meet, and half the width of the cube round it that all see."""
    # Unit length to the last digit, or one camera alone would seem to know the distance.
    axis = torch.nn.functional.normalize(cameras.world_from_camera[:, :3, 2].double(), dim=-1)
    origin = cameras.origin.double()
    across = torch.eye(3).to(axis) - axis[:, :, None] * axis[:, None, :]
    # The faint pull to the world's origin settles where along parallel axes the point lies.
    pull = 1e-6 * len(cameras) * torch.eye(3).to(axis)
    focus = torch.linalg.solve(
        across.sum(dim=0) + pull, (across @ origin[:, :, None]).sum(dim=0)[:, 0]
    )
    distance = ((focus - origin) * axis).sum(dim=-1)
    reach = distance.clamp(min=1e-3) * (min(cameras.size_hw) / 2) / cameras.focal_px
    return focus.to(cameras.focal_px), float(reach.min())


def _grid_middles(
    focus: Float[Tensor, " 3"], half_width: float, count: int
) -> Float[Tensor, "r r r 3"]:
    step = ((torch.arange(count) + 0.5) / count * 2 - 1).to(focus) * half_width
    return torch.stack(torch.meshgrid(step, step, step, indexing="ij"), dim=-1) + focus


def _covered(points: Float[Tensor, "p 3"], views: Views, agreement: float) -> Bool[Tensor, " p"]:
    """Ask which points lie in the silhouettes of enough of the views whose frame they are in."""
    h, w = views.cameras.size_hw
    # A cell is about as wide as two pixels: widened silhouettes keep thin parts.
    wide = torch.nn.functional.max_pool2d(views.alpha[:, None], 3, stride=1, padding=1)[:, 0]
    votes = torch.zeros(len(points), device=points.device)
    asked = torch.zeros_like(votes)
    for n in range(len(views)):
        pixel, depth = project(points, views.cameras[n])
        column, row = pixel[0].floor().long().unbind(-1)
        framed = (row >= 0) & (row < h) & (column >= 0) & (column < w) & (depth[0] > 0)
        alpha = wide[n, row.clamp(0, h - 1), column.clamp(0, w - 1)]
        asked += framed
        votes += framed & (alpha > 0.5)
    return (votes >= agreement * asked) & (asked >= max(1, len(views) / 2))


def _eroded(inside: Bool[Tensor, "x y z"]) -> Bool[Tensor, "x y z"]:
    """Take away the cells with a free neighbour, or at the edge of the grid."""
    outside = (~inside).float()[None, None]
    outside = torch.nn.functional.pad(outside, (1,) * 6, value=1.0)
    return torch.nn.functional.max_pool3d(outside, 3, stride=1)[0, 0] == 0


def _outward(inside: Bool[Tensor, "x y z"]) -> Float[Tensor, "x y z 3"]:
    """Point from full cells to empty ones, judged over a few cells; unit length, or 0."""
    smooth = inside.float()[None, None]
    for _ in range(2):
        smooth = torch.nn.functional.avg_pool3d(smooth, 3, stride=1, padding=1)
    slope = torch.stack(torch.gradient(smooth[0, 0]), dim=-1)
    return -torch.nn.functional.normalize(slope, dim=-1)


def _seen_colour(
    points: Float[Tensor, "p 3"], outward: Float[Tensor, "p 3"], views: Views
) -> Float[Tensor, "p 3"]:
    """Average the views' colours at the points, the more the straighter a view looks at them."""
    h, w = views.cameras.size_hw
    pixel, _ = project(points, views.cameras)
    at = pixel / torch.tensor([w / 2, h / 2]).to(pixel) - 1
    pictures = torch.cat(
        [views.straight_rgb() * views.alpha[..., None], views.alpha[..., None]], -1
    )
    sampled = torch.nn.functional.grid_sample(
        pictures.permute(0, 3, 1, 2), at[:, None], align_corners=False
    )[:, :, 0]
    towards = torch.nn.functional.normalize(views.cameras.origin[:, None] - points, dim=-1)
    weight = (towards * outward).sum(dim=-1).clamp(min=0) ** 4 + 1e-4
    total = (sampled * weight[:, None]).sum(dim=0)
    return (total[:3] / total[3].clamp(min=1e-6)).clamp(0, 1).T.contiguous()


def _isotropic(
    centre: Float[Tensor, "g 3"],
    scale: float,
    rgb: Float[Tensor, "g 3"],
    opacity: float,
    sh_degree: int,
) -> Gaussians:
    count = len(centre)
    sh = torch.zeros(count, (sh_degree + 1) ** 2, 3).to(centre)
    sh[:, 0] = (rgb - 0.5) / SH_C0
    return Gaussians(
        centre,
        torch.full((count, 3), math.log(scale)).to(centre),
        torch.tensor([1.0, 0, 0, 0]).to(centre).repeat(count, 1),
        torch.full((count,), math.log(opacity / (1 - opacity))).to(centre),
        sh,
    )


def _placed(
    cells: Int[Tensor, "c 3"],
    count: int,
    middles: Float[Tensor, "x y z 3"],
    cell: float,
    rng: Generator,
) -> tuple[tuple[Tensor, ...], Float[Tensor, "g 3"]]:
    """Choose cells by chance, as often as points are wanted, and a place in each."""
    pick = (_uniform((count,), rng) * len(cells)).long().clamp(max=len(cells) - 1)
    chosen = tuple(cells[pick.to(cells.device)].unbind(-1))
    jitter = (_uniform((count, 3), rng).to(middles) - 0.5) * cell
    return chosen, middles[chosen] + jitter


def _joined(a: Gaussians, b: Gaussians) -> Gaussians:
    return Gaussians(*map(torch.cat, zip(a.tensors, b.tensors, strict=True)))


def _moved(cloud: Gaussians, shift: Float[Tensor, " 3"]) -> Gaussians:
    return Gaussians(
        cloud.centre + shift.cpu(), cloud.log_scale, cloud.quat_wxyz, cloud.opacity_logit, cloud.sh
    )


def _uniform(shape: tuple[int, ...], rng: Generator) -> Tensor:
    return torch.rand(shape, generator=rng, device=rng.device).cpu()


def _normal(shape: tuple[int, ...], rng: Generator) -> Tensor:
    return torch.randn(shape, generator=rng, device=rng.device).cpu()
