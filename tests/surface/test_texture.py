from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras, concatenate_cameras
from roundview.mesh import Mesh
from roundview.surface.isosurface import mesh_from_density
from roundview.surface.raster import render_mesh
from roundview.surface.texels import texels_of
from roundview.surface.texture import (
    Baking,
    bake_texture,
    blend_reference,
    blended,
    prepared_sources,
    unwrap,
)
from roundview.views import Views


def orbit(count: int, elevation_deg: float, size: int) -> Cameras:
    return Cameras.orbit(
        [360 * i / count for i in range(count)],
        elevation_deg=elevation_deg,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(size, size),
    )


def all_round(size: int) -> Cameras:
    return concatenate_cameras([orbit(8, 15.0, size), orbit(5, -50.0, size), orbit(5, 65.0, size)])


def coloured(vertices: Tensor) -> Tensor:
    """A smooth colour for every place."""
    return 0.5 + 0.4 * torch.sin(7 * vertices + torch.tensor([0.0, 1.0, 2.0]))


def ball(radius: float = 0.4, shift: float = 0.0, resolution: int = 24) -> Mesh:
    def inside(points: Tensor) -> Tensor:
        return radius - (points - torch.tensor([shift, 0, 0])).norm(dim=-1)

    return mesh_from_density(inside, level=0.0, half_width=0.5, resolution=resolution)


def psnr(ours: Tensor, true: Tensor) -> float:
    return -10 * float(torch.log10((ours - true).square().mean()))


@pytest.fixture(scope="module")
def painted() -> Mesh:
    plain = ball()
    return replace(plain, vertex_rgb=coloured(plain.vertices))


@pytest.fixture(scope="module")
def unwrapped(painted: Mesh) -> Mesh:
    return unwrap(painted, texture_size=256)


def test_texture_looks_like_what_was_painted(painted: Mesh, unwrapped: Mesh) -> None:
    mesh = bake_texture(unwrapped, render_mesh(painted, all_round(96)), texture_size=256)
    elsewhere = orbit(3, 30.0, 96)
    ours, true = render_mesh(mesh, elsewhere), render_mesh(painted, elsewhere)
    both = (ours.alpha > 0.99) & (true.alpha > 0.99)
    assert psnr(ours.rgb[both], true.rgb[both]) > 32


def test_white_behind_the_subject_stays_out(painted: Mesh, unwrapped: Mesh) -> None:
    dark = replace(painted, vertex_rgb=torch.full_like(painted.vertices, 0.1))
    mesh = bake_texture(unwrapped, render_mesh(dark, orbit(6, 0.0, 48)), texture_size=256)
    assert mesh.texture is not None
    assert float(mesh.texture.rgb.max()) < 0.11


def test_hidden_side_is_not_painted_with_what_hides_it() -> None:
    # Seen from +X the red ball hides the green one; from -X it is the other way round.
    red, green = ball(0.15, 0.3), ball(0.15, -0.3)
    both = Mesh(
        torch.cat([red.vertices, green.vertices]),
        torch.cat([red.faces, green.faces + len(red.vertices)]),
        vertex_rgb=torch.cat(
            [
                torch.tensor([[1.0, 0, 0]]).expand(len(red.vertices), 3),
                torch.tensor([[0, 1.0, 0]]).expand(len(green.vertices), 3),
            ]
        ),
    )
    cameras = Cameras.orbit(
        [90.0, 270.0], elevation_deg=0.0, radius=1.5, fov_deg=49.13, size_hw=(96, 96)
    )
    mesh = bake_texture(
        unwrap(both, texture_size=256), render_mesh(both, cameras), texture_size=256
    )
    texels = texels_of(mesh, 256)
    assert mesh.texture is not None
    rgb = mesh.texture.rgb[texels.at[:, 0], texels.at[:, 1]]
    on_red = texels.position[:, 0] > 0
    # The sides that face each other are filled from the rims, which are of the right colour.
    assert float(rgb[on_red, 1].max()) < 0.05
    assert float(rgb[~on_red, 0].max()) < 0.05


def test_unseen_side_takes_the_fallback(painted: Mesh, unwrapped: Mesh) -> None:
    def blue(points: Tensor) -> Tensor:
        return torch.tensor([0.0, 0.0, 1.0]).expand(len(points), 3)

    grey = replace(painted, vertex_rgb=None)
    mesh = bake_texture(
        unwrapped, render_mesh(grey, orbit(1, 0.0, 64)), texture_size=256, fallback_rgb=blue
    )
    front, back = render_mesh(mesh, orbit(2, 0.0, 32)).rgb[:, 16, 16]
    torch.testing.assert_close(front, torch.full((3,), 0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(back, torch.tensor([0.0, 0.0, 1.0]), atol=0.01, rtol=0)


def test_unseen_side_is_filled_smoothly_from_its_surroundings(
    painted: Mesh, unwrapped: Mesh
) -> None:
    left_right = replace(
        painted, vertex_rgb=(painted.vertices[:, :1] > 0).float().expand(-1, 3) * 0.8 + 0.1
    )
    mesh = bake_texture(unwrapped, render_mesh(left_right, orbit(1, 0.0, 64)), texture_size=256)
    # From behind, +X is at the left of the picture.
    back = render_mesh(mesh, orbit(2, 0.0, 33)[1]).rgb[0, 16, :, 0]
    assert float(back[7]) > 0.6
    assert float(back[25]) < 0.4
    assert 0.45 < float(back[16]) < 0.55
    assert bool((back[7:25].diff() < 0.01).all())


def test_heavier_and_sharper_views_win(painted: Mesh, unwrapped: Mesh) -> None:
    def flat(value: float, size: int) -> Views:
        grey = replace(painted, vertex_rgb=torch.full_like(painted.vertices, value))
        return render_mesh(grey, orbit(1, 0.0, size))

    def centre(mesh: Mesh) -> float:
        return float(render_mesh(mesh, orbit(1, 0.0, 32)).rgb[0, 16, 16, 0])

    pair = [flat(0.2, 64), flat(0.8, 64)]
    even = bake_texture(unwrapped, pair, texture_size=256)
    heavy = bake_texture(unwrapped, pair, texture_size=256, view_weights=torch.tensor([1.0, 99.0]))
    sharp = bake_texture(unwrapped, [flat(0.2, 64), flat(0.8, 256)], texture_size=256)
    assert centre(even) == pytest.approx(0.5, abs=0.01)
    assert centre(heavy) == pytest.approx(0.794, abs=0.005)
    # Four times the pixels a unit: weight 256 to 1.
    assert centre(sharp) == pytest.approx(0.7977, abs=0.005)


def test_bad_input_is_refused(painted: Mesh, unwrapped: Mesh) -> None:
    views = render_mesh(painted, orbit(2, 0.0, 16))
    with pytest.raises(ValueError, match="view_weights"):
        bake_texture(unwrapped, views, texture_size=64, view_weights=torch.ones(3))
    with pytest.raises(ValueError, match="unwrap first"):
        bake_texture(painted, views, texture_size=64)


def test_no_views_give_the_fallback_everywhere(unwrapped: Mesh) -> None:
    mesh = bake_texture(unwrapped, [], texture_size=64)
    assert mesh.texture is not None
    torch.testing.assert_close(mesh.texture.rgb, torch.full((64, 64, 3), 0.5))


@pytest.mark.kernel
@pytest.mark.parametrize(("count", "size_hw"), [(1, (1, 1)), (3, (17, 24)), (4, (40, 40))])
def test_kernel_matches_reference(
    painted: Mesh, unwrapped: Mesh, count: int, size_hw: tuple[int, int]
) -> None:
    cameras = Cameras.orbit(
        [50.0 * i for i in range(count)],
        elevation_deg=35.0,
        radius=1.1,
        fov_deg=40.0,
        size_hw=size_hw,
    )
    texels = texels_of(unwrapped, 48)
    sources = prepared_sources(unwrapped, render_mesh(painted, cameras))
    weight = torch.arange(count) + 0.5
    ours = np.zeros((len(texels), 5), np.float32)
    blended(texels, sources, weight, Baking(), ours)
    expected = blend_reference(texels, sources, weight, Baking())
    scale = expected.abs().amax(dim=0).clamp(min=1e-6)
    difference = ((torch.from_numpy(ours) - expected) / scale).abs().amax(dim=-1)
    # A texel between two pixels of the depth map may look at either of them.
    assert float((difference > 1e-3).float().mean()) < 0.01
    assert len(texels) > 500
