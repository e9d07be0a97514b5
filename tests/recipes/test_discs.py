"""Claims about meshes by way of discs."""

import math

import pytest
import torch
from fakes import block
from recipes_tiny import RECONSTRUCT_TINY

from roundview.camera import Cameras
from roundview.gaussians import Gaussians
from roundview.mesh import bounds
from roundview.recipes.discs import disc_views, fused_discs
from roundview.recipes.surfacing import all_round
from roundview.splat.disc_fit import DiscFit
from roundview.splat.fit import FitSettings
from roundview.surface.raster import render_mesh


def test_depth_is_that_of_a_disc_and_not_between_two() -> None:
    # Two discs across the axis, at depths 1 and 2; the nearer one lets 0.4 of the light through.
    discs = Gaussians(
        centre=torch.tensor([[0.0, 0, 1.0], [0.0, 0, 0.0]]),
        log_scale=torch.full((2, 3), math.log(0.5)),
        quat_wxyz=torch.tensor([[1.0, 0, 0, 0]] * 2),
        opacity_logit=torch.logit(torch.tensor([0.6, 0.99])),
        sh=torch.zeros(2, 1, 3),
    )
    camera = Cameras.orbit([0.0], elevation_deg=0.0, radius=2.0, fov_deg=10.0, size_hw=(9, 9))
    seen = disc_views(discs, camera)
    assert seen.depth is not None
    assert float(seen.depth[0, 4, 4]) == pytest.approx(1.0, abs=1e-4)
    assert float(disc_views(discs[1:], camera).depth[0, 4, 4]) == pytest.approx(2.0, abs=1e-4)  # pyright: ignore[reportOptionalSubscript]  it has depth


def test_depth_is_nothing_where_discs_are_faint() -> None:
    faint = Gaussians(
        centre=torch.zeros(1, 3),
        log_scale=torch.full((1, 3), math.log(0.5)),
        quat_wxyz=torch.tensor([[1.0, 0, 0, 0]]),
        opacity_logit=torch.logit(torch.tensor([0.4])),
        sh=torch.zeros(1, 1, 3),
    )
    camera = Cameras.orbit([0.0], elevation_deg=0.0, radius=2.0, fov_deg=10.0, size_hw=(9, 9))
    seen = disc_views(faint, camera)
    assert seen.depth is not None
    assert float(seen.alpha.max()) > 0.3
    assert not bool(seen.depth.any())


def test_a_mesh_of_discs_has_the_size_of_what_the_views_show() -> None:
    views = render_mesh(block(0.6, 1.0, 0.5), all_round(48, count=24), geometry=False)
    settings = DiscFit(fit=FitSettings(points=1000, max_gaussians=1000))
    mesh = fused_discs(
        views,
        torch.Generator().manual_seed(0),
        steps=60,
        meshing=RECONSTRUCT_TINY.meshing,
        settings=settings,
    )
    low, high = bounds(mesh.vertices)
    # A pixel is 0.03 wide, and so few steps leave the discs two of them before the faces.
    torch.testing.assert_close(high - low, torch.tensor([0.6, 1.0, 0.5]), atol=0.15, rtol=0)
    torch.testing.assert_close(high + low, torch.zeros(3), atol=0.03, rtol=0)
