"""Compiling the CPU kernels ahead of time, by running each of them once on something tiny."""

import time
from collections.abc import Callable

import torch

from .camera import Cameras
from .gaussians import Gaussians
from .stages import Listener, Quiet, seeded


def compile_kernels(listener: Listener | None = None) -> float:
    """Run every kernel that `make`, `fit` and `render` use; numba keeps what it compiles.

    Returns:
        Seconds that it took.
    """
    listener = listener or Quiet()
    begin = time.perf_counter()
    steps: dict[str, Callable[[], None]] = {"splatting": _splat, "surface": _surface}
    for name, work in steps.items():
        listener.began(name)
        step_begin = time.perf_counter()
        work()
        listener.finished(name, time.perf_counter() - step_begin, resumed=False)
    return time.perf_counter() - begin


def _splat() -> None:
    from .splat.fit import fit_gaussians  # noqa: PLC0415  compiles when it is imported
    from .splat.median_depth import render_median_depth  # noqa: PLC0415
    from .splat.render import render_gaussians  # noqa: PLC0415

    with torch.no_grad():
        views = render_gaussians(_ball(), _cameras())
        render_median_depth(_ball(), _cameras())
    fit_gaussians(views, steps=2, rng=seeded(0))


def _surface() -> None:
    from .recipes.surfacing import Meshing, asset_from_gaussians  # noqa: PLC0415  imports the kernels
    from .splat.render import render_gaussians  # noqa: PLC0415
    from .surface.photo_hull import Carving, photo_hull  # noqa: PLC0415
    from .surface.raster import render_mesh  # noqa: PLC0415
    from .surface.refine import Refining  # noqa: PLC0415

    ball = _ball()
    with torch.no_grad():
        views = render_gaussians(ball, _cameras())
        asset, _, _ = asset_from_gaussians(
            ball,
            views,
            meshing=Meshing(
                resolution=24, faces=200, texture_size=64, refining=Refining(), refine_steps=2
            ),
            rng=torch.Generator().manual_seed(0),
        )
        render_mesh(asset.mesh, _cameras())
        photo_hull(views, half_width=0.55, settings=Carving(resolution=12))


def _cameras() -> Cameras:
    return Cameras.orbit(
        [0.0, 90.0, 180.0, 270.0], elevation_deg=10.0, radius=1.5, fov_deg=49.13, size_hw=(48, 48)
    )


def _ball(count: int = 400) -> Gaussians:
    """Spread solid Gaussians over a ball of radius 0.4."""
    rng = seeded(0)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=-1)
    return Gaussians(
        centre=0.4 * direction,
        log_scale=torch.full((count, 3), -2.8),
        quat_wxyz=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        opacity_logit=torch.full((count,), 4.0),
        sh=torch.rand(count, 1, 3, generator=rng),
    )
