from dataclasses import replace

import pytest
import torch
from fakes import block

from roundview.camera import Cameras
from roundview.mesh import Mesh, Texture
from roundview.rotation import rotation_from_quat
from roundview.splat.render import render_gaussians
from roundview.surface.raster import render_mesh
from roundview.surface.surfels import gaussians_on_mesh


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_splats_on_a_mesh_look_like_the_mesh() -> None:
    mesh = block(0.8, 0.5, 0.6)
    coloured = replace(mesh, vertex_rgb=mesh.vertices + 0.5)
    camera = Cameras.orbit(
        [30.0, 200.0], elevation_deg=20.0, radius=1.6, fov_deg=49.13, size_hw=(128, 128)
    )
    wanted = render_mesh(coloured, camera, supersample=3)
    drawn = render_gaussians(gaussians_on_mesh(coloured, 20_000, rng()), camera)
    assert float((drawn.rgb - wanted.rgb).square().mean()) < 3e-3  # 25 dB, at 128 px
    inside = wanted.alpha > 0.999
    # No holes.
    assert float(drawn.alpha[inside].min()) > 0.9


def test_they_lie_flat_and_as_close_everywhere() -> None:
    mesh = block(0.8, 0.4, 0.2)
    laid = gaussians_on_mesh(mesh, 6_000, rng())
    normal = rotation_from_quat(laid.quat_wxyz)[:, :, 2]
    assert float(normal.abs().amax(dim=1).min()) > 0.999  # Along an axis, as the block's faces.
    assert float(laid.scale[:, 2].max()) < 0.3 * float(laid.scale[:, 0].min())
    shares = [float((normal[:, k].abs() > 0.9).float().mean()) for k in range(3)]
    areas = [0.4 * 0.2, 0.8 * 0.2, 0.8 * 0.4]
    assert shares == pytest.approx([a / sum(areas) for a in areas], abs=2e-3)
    # Every face looks outward.
    assert bool(((normal * laid.centre).sum(dim=1) > 0).all())


def test_colours_come_from_the_texture() -> None:
    corners = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    half = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]).repeat_interleave(8, dim=1)
    mesh = Mesh(
        corners,
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
        uv=corners[:, :2],
        texture=Texture(half.repeat(16, 1, 1)),
    )
    laid = gaussians_on_mesh(mesh, 2_000, rng())
    left = laid.centre[:, 0] < 0.45
    torch.testing.assert_close(
        laid.base_rgb[left], torch.tensor([1.0, 0.0, 0.0]).expand(int(left.sum()), 3)
    )
    assert float(laid.base_rgb[laid.centre[:, 0] > 0.55, 2].min()) > 0.99


def test_the_same_seed_gives_the_same_splats() -> None:
    first, second = (gaussians_on_mesh(block(), 500, rng()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.tensors, second.tensors, strict=True))


def test_nothing_cannot_be_covered() -> None:
    point = Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
    with pytest.raises(ValueError, match="area"):
        gaussians_on_mesh(point, 10, rng())
    with pytest.raises(ValueError, match="count"):
        gaussians_on_mesh(block(), 0, rng())
