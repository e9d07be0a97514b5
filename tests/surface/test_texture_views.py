from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.mesh import Mesh
from roundview.surface.isosurface import mesh_from_density
from roundview.surface.raster import render_mesh
from roundview.surface.texels import texels_of
from roundview.surface.texture_views import (
    Baking,
    blend_reference,
    blended,
    no_finer_than_texels,
    pixels_per_unit,
    prepared_sources,
)
from roundview.surface.unwrap import unwrap
from roundview.surface.visibility import has_rays, visible_by_rays


def ball() -> Mesh:
    def inside(points: Tensor) -> Tensor:
        return 0.4 - points.norm(dim=-1)

    plain = mesh_from_density(inside, level=0.0, half_width=0.5, resolution=24)
    return replace(plain, vertex_rgb=0.5 + 0.4 * torch.sin(7 * plain.vertices))


@pytest.fixture(scope="module")
def painted() -> Mesh:
    return ball()


@pytest.fixture(scope="module")
def unwrapped(painted: Mesh) -> Mesh:
    return unwrap(painted, texture_size=256)


def front(size: int) -> Cameras:
    return Cameras.orbit([0.0], elevation_deg=0.0, radius=1.5, fov_deg=49.13, size_hw=(size, size))


def test_a_world_unit_fills_focal_over_distance_pixels(painted: Mesh) -> None:
    cameras = front(64)
    assert pixels_per_unit(painted, cameras) == pytest.approx(
        float(cameras.focal_px[0]) / 1.5, rel=1e-3
    )


def test_pictures_shrink_only_to_the_size_of_texels(painted: Mesh, unwrapped: Mesh) -> None:
    fine, coarse = (render_mesh(painted, front(size), geometry=False) for size in (512, 64))
    small, finer = no_finer_than_texels(unwrapped, fine, 128)
    assert finer > 2
    assert small.cameras.size_hw[0] * finer == pytest.approx(512)
    same, once = no_finer_than_texels(unwrapped, coarse, 128)
    assert same is coarse
    assert once == 1.0


@pytest.mark.kernel
@pytest.mark.parametrize("rays", [False, True])
@pytest.mark.parametrize(("count", "size_hw"), [(1, (1, 1)), (3, (17, 24)), (4, (40, 40))])
def test_kernel_matches_reference(
    painted: Mesh, unwrapped: Mesh, count: int, size_hw: tuple[int, int], rays: bool
) -> None:
    if rays and not has_rays():
        pytest.skip("embreex is not installed")
    cameras = Cameras.orbit(
        [50.0 * i for i in range(count)],
        elevation_deg=35.0,
        radius=1.1,
        fov_deg=40.0,
        size_hw=size_hw,
    )
    texels = texels_of(unwrapped, 48)
    sources = prepared_sources(unwrapped, render_mesh(painted, cameras))
    if rays:
        seen = visible_by_rays(unwrapped, texels.position, cameras, tolerance=0.006)
        sources = sources._replace(visible=seen)
    weight = torch.arange(count) + 0.5
    ours = np.zeros((len(texels), 5), np.float32)
    blended(texels, sources, weight, Baking(), ours)
    expected = blend_reference(texels, sources, weight, Baking())
    scale = expected.abs().amax(dim=0).clamp(min=1e-6)
    difference = ((torch.from_numpy(ours) - expected) / scale).abs().amax(dim=-1)
    # A texel between two pixels of the depth map may look at either of them.
    assert float((difference > 1e-3).float().mean()) < 0.01
    assert len(texels) > 500
