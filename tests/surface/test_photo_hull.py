from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from roundview.camera import Cameras, concatenate_cameras
from roundview.mesh import Mesh
from roundview.surface.isosurface import grid_points
from roundview.surface.photo_hull import (
    Carving,
    _Scene,  # pyright: ignore[reportPrivateUsage]  compared with the reference
    bounded,
    gaps_reference,
    photo_hull,
)
from roundview.surface.raster import render_mesh
from roundview.views import Views

HALF_WIDTH = 0.55
SMALL = Carving(resolution=48, px=96)


def rings() -> Cameras:
    return concatenate_cameras(
        [
            Cameras.orbit(
                [45.0 * k for k in range(8)],
                elevation_deg=elevation,
                radius=1.5,
                fov_deg=49.13,
                size_hw=(96, 96),
            )
            for elevation in (-20.0, 10.0, 50.0)
        ]
    )


def tray(*, shaded: bool = True) -> Mesh:
    """An open box with a deep hollow; corners of its walls and floor have colours of their own."""
    outer, inner, floor = 0.4, 0.3, -0.15
    ring = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])

    def level(half: float, y: float) -> Tensor:
        return torch.stack([ring[:, 0] * half, torch.full((4,), y), ring[:, 1] * half], -1)

    bottom, top = level(outer, -0.25), level(outer, 0.25)
    rim, deep = level(inner, 0.25), level(inner, floor)
    corners, faces, colours = [], [], []
    generator = Generator().manual_seed(3)

    def add(quad: list[Tensor]) -> None:
        first = 4 * len(corners)
        corners.append(torch.stack(quad))
        faces.append(torch.tensor([[0, 1, 2], [0, 2, 3]]) + first)
        shades = torch.rand(4, 3, generator=generator) * 0.8
        colours.append(shades if shaded else torch.full((4, 3), 0.5))

    for a in range(4):
        b = (a + 1) % 4
        add([bottom[b], bottom[a], top[a], top[b]])
        add([top[b], top[a], rim[a], rim[b]])
        add([rim[b], rim[a], deep[a], deep[b]])
    add([deep[3], deep[2], deep[1], deep[0]])
    add([bottom[0], bottom[1], bottom[2], bottom[3]])
    return Mesh(torch.cat(corners), torch.cat(faces), vertex_rgb=torch.cat(colours))


def seen(mesh: Mesh) -> Views:
    return render_mesh(mesh, rings(), supersample=3, geometry=False)


def solid(points: Tensor) -> Tensor:
    x, y, z = points.abs().unbind(-1)
    height = points[:, 1]
    return (x < 0.4) & (z < 0.4) & (y < 0.25) & ~((x < 0.3) & (z < 0.3) & (height > -0.15))


def hollow(points: Tensor) -> Tensor:
    """Well inside the hollow."""
    x, y, z = points.unbind(-1)
    return (x.abs() < 0.22) & (z.abs() < 0.22) & (y > -0.05) & (y < 0.2)


def share(inside: Tensor, where: Tensor) -> float:
    return float((inside.flatten() & where).sum() / where.sum())


POINTS = grid_points(SMALL.resolution, HALF_WIDTH)


def test_a_hollow_with_shades_is_found_and_nothing_solid_is_lost() -> None:
    hull = photo_hull(seen(tray()), half_width=HALF_WIDTH, settings=SMALL)
    assert share(hull, hollow(POINTS)) < 0.1
    assert share(hull, solid(POINTS)) > 0.999


def test_a_hollow_of_one_colour_keeps_the_lid_of_the_visual_hull() -> None:
    hull = photo_hull(seen(tray(shaded=False)), half_width=HALF_WIDTH, settings=SMALL)
    assert share(hull, solid(POINTS)) > 0.999
    assert share(hull, hollow(POINTS)) > 0.4


def test_views_that_disagree_everywhere_carve_by_their_outlines_alone() -> None:
    views = seen(tray())
    noise = torch.rand(views.rgb.shape, generator=Generator().manual_seed(0))
    wild = replace(views, rgb=torch.where(views.alpha[..., None] > 0.5, noise, views.rgb))
    tints = torch.linspace(0.1, 1, len(views))[:, None, None, None]
    hull = photo_hull(replace(views, rgb=views.rgb * tints), half_width=HALF_WIDTH, settings=SMALL)
    outlines = photo_hull(
        seen(tray(shaded=False)), half_width=HALF_WIDTH, settings=replace(SMALL, most_median=-1.0)
    )
    assert torch.equal(hull, outlines)
    assert share(photo_hull(wild, half_width=HALF_WIDTH, settings=SMALL), solid(POINTS)) > 0.99


def test_one_wrong_view_of_many_does_not_eat_the_subject() -> None:
    views = seen(tray())
    rgb = views.rgb.clone()
    rgb[10] = torch.where(views.alpha[10, ..., None] > 0.5, 1 - rgb[10], rgb[10])
    hull = photo_hull(replace(views, rgb=rgb), half_width=HALF_WIDTH, settings=SMALL)
    assert share(hull, solid(POINTS)) > 0.97


def test_one_missing_cut_out_of_many_is_outvoted() -> None:
    views = seen(tray())
    alpha = views.alpha.clone()
    alpha[3] = 0.0
    hull = photo_hull(replace(views, alpha=alpha), half_width=HALF_WIDTH, settings=SMALL)
    assert share(hull, solid(POINTS)) > 0.97


def test_what_floats_and_no_outline_needs_is_dropped() -> None:
    scene = _Scene.of(seen(tray()), HALF_WIDTH, SMALL, SMALL.resolution)
    inside = solid(POINTS).reshape((SMALL.resolution,) * 3).numpy()
    floating = inside.copy()
    floating[22:26, 33:36, 22:26] = True
    assert (floating & ~inside).any()
    assert np.array_equal(scene.without_strays(floating), scene.without_strays(inside))
    assert scene.without_strays(inside).sum() == inside.sum()


def test_the_kernels_compute_what_the_reference_says() -> None:
    settings = Carving(resolution=15, px=96)
    views = seen(tray())
    scene = _Scene.of(views, HALF_WIDTH, settings, settings.resolution)
    inside = scene.hull()
    nodes, gap = scene.gaps(inside)
    full = torch.from_numpy(inside).float()
    empty = 1 - torch.nn.functional.pad(full, (2,) * 6)
    outward = torch.stack(
        [
            sum(
                (
                    torch.tensor([i, j, k]) * float(empty[x + 2 + i, y + 2 + j, z + 2 + k])
                    for i in range(-2, 3)
                    for j in range(-2, 3)
                    for k in range(-2, 3)
                ),
                torch.zeros(3),
            )
            for x, y, z in nodes.tolist()
        ]
    )
    wanted = gaps_reference(
        torch.from_numpy(nodes).long(),
        torch.nn.functional.normalize(outward, dim=-1),
        views,
        half_width=HALF_WIDTH,
        resolution=settings.resolution,
        least_cosine=settings.least_cosine,
    )
    assert (wanted > 0.01).sum() > 20
    # A pixel or a depth on the edge may fall to either side in single precision.
    assert ((torch.from_numpy(gap) - wanted).abs() < 1e-5).float().mean() > 0.98


def test_silhouettes_without_a_common_inside_are_refused() -> None:
    views = seen(tray())
    with pytest.raises(ValueError, match="common inside"):
        photo_hull(
            replace(views, alpha=torch.zeros_like(views.alpha)),
            half_width=HALF_WIDTH,
            settings=SMALL,
        )


def test_a_field_is_bounded_by_a_set_and_left_alone_inside() -> None:
    points = grid_points(60, HALF_WIDTH)
    field = (0.3 - points.norm(dim=-1)).reshape(60, 60, 60) / 0.05
    field = field.clamp(-1, 1)
    inside = (POINTS[:, 0] < 0.1).reshape((SMALL.resolution,) * 3)
    cut = bounded(field, inside, half_width=HALF_WIDTH, unit=0.05)
    x = points[:, 0].reshape(60, 60, 60)
    assert float(cut[x > 0.16].max()) < 0
    assert torch.equal(cut[x < 0.03], field[x < 0.03])
    # The outermost nodes lie at 0.09, the border half a step, the margin a step beyond.
    row = cut[:, 30, 30]
    zero = int((row > 0).nonzero().max())
    assert float(x[zero, 30, 30]) == pytest.approx(0.125, abs=0.025)
