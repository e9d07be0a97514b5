from dataclasses import replace

import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras, concatenate_cameras
from roundview.export.glb import glb_bytes
from roundview.export.glb_read import mesh_from_glb_bytes
from roundview.mesh import Mesh
from roundview.surface.isosurface import mesh_from_density
from roundview.surface.raster import render_mesh
from roundview.surface.texels import texels_of
from roundview.surface.texture import Baking, bake_texture, unwrap
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
    with pytest.raises(ValueError, match="trusted"):
        bake_texture(unwrapped, views, texture_size=64, trusted=torch.tensor([True]))
    with pytest.raises(ValueError, match="unwrap first"):
        bake_texture(painted, views, texture_size=64)


def test_no_views_give_the_fallback_everywhere(unwrapped: Mesh) -> None:
    mesh = bake_texture(unwrapped, [], texture_size=64)
    assert mesh.texture is not None
    torch.testing.assert_close(mesh.texture.rgb, torch.full((64, 64, 3), 0.5))


def test_redrawing_takes_back_the_blur(painted: Mesh, unwrapped: Mesh) -> None:
    stripes = 0.5 + 0.4 * torch.sin(60 * painted.vertices)
    subject = replace(painted, vertex_rgb=stripes)
    seen, true = render_mesh(subject, all_round(64)), render_mesh(subject, orbit(3, 30.0, 64))
    inside = true.alpha > 0.99
    scores = []
    for redraws in (0, 2):
        mesh = bake_texture(unwrapped, seen, texture_size=256, settings=Baking(redraws=redraws))
        drawn = render_mesh(mesh, true.cameras)
        scores.append(psnr(drawn.rgb[inside], true.rgb[inside]))
    assert scores[1] > scores[0] + 3


def front_and_all_round(painted: Mesh, front: float, around: float) -> list[Views]:
    """A picture of the front in one grey, and pictures from all round in another."""
    return [
        render_mesh(replace(painted, vertex_rgb=torch.full_like(painted.vertices, value)), cameras)
        for value, cameras in ((around, all_round(64)), (front, orbit(1, 0.0, 128)))
    ]


def test_other_views_meet_the_trusted_one_at_its_rim(painted: Mesh, unwrapped: Mesh) -> None:
    pair = front_and_all_round(painted, front=0.6, around=0.4)
    trusted = torch.tensor([False] * len(pair[0]) + [True])
    mesh = bake_texture(unwrapped, pair, texture_size=256, trusted=trusted)
    texels = texels_of(mesh, 256)
    assert mesh.texture is not None
    grey = mesh.texture.rgb[texels.at[:, 0], texels.at[:, 1], 0]
    z = texels.position[:, 2]
    # What the camera sees squarely is the photograph's own.
    assert float((grey[z > 0.25] - 0.6).abs().max()) < 0.01
    # Past the rim (z = 0.1 from this near) the colour falls off slowly, and no ring jumps.
    ring = torch.stack(
        [grey[(z - at).abs() < 0.01].mean() for at in torch.arange(-0.38, 0.3, 0.02)]
    )
    assert float(ring.diff().abs().max()) < 0.02
    assert bool((ring.diff() > -0.002).all())
    assert 0.39 < float(ring[0]) < 0.48


def test_trust_without_other_views_changes_nothing(painted: Mesh, unwrapped: Mesh) -> None:
    photo = render_mesh(painted, orbit(1, 0.0, 64))
    plain = bake_texture(unwrapped, photo, texture_size=128, settings=Baking(rim=0.0))
    mine = bake_texture(
        unwrapped,
        photo,
        texture_size=128,
        trusted=torch.tensor([True]),
        settings=Baking(rim=0.0),
    )
    assert plain.texture is not None
    assert mine.texture is not None
    torch.testing.assert_close(mine.texture.rgb, plain.texture.rgb)


def test_rays_and_depth_maps_paint_alike(painted: Mesh, unwrapped: Mesh) -> None:
    pytest.importorskip("embreex")
    views = render_mesh(painted, orbit(5, 20.0, 64))
    one, other = (
        bake_texture(unwrapped, views, texture_size=128, settings=Baking(visibility=how)).texture
        for how in ("rays", "depth")
    )
    assert one is not None
    assert other is not None
    assert float((one.rgb - other.rgb).abs().mean()) < 1e-3


def test_rays_without_the_package_give_way_with_a_warning(
    painted: Mesh, unwrapped: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundview.surface.texture.has_rays", lambda: False)
    views = render_mesh(painted, orbit(1, 20.0, 32))
    with pytest.warns(UserWarning, match="embreex"):
        mesh = bake_texture(
            unwrapped, views, texture_size=64, settings=Baking(visibility="rays", redraws=0)
        )
    assert mesh.texture is not None


def test_photograph_finer_than_the_texels_is_averaged(painted: Mesh, unwrapped: Mesh) -> None:
    views = render_mesh(painted, orbit(1, 0.0, 512), geometry=False)
    # Black and white by pixel: every texel should come out mid-grey, as from afar.
    checked = ((torch.arange(512)[:, None] + torch.arange(512)) % 2).float()
    rgb = torch.where(views.alpha[..., None] > 0.99, checked[None, ..., None], views.rgb)
    mesh = bake_texture(unwrapped, replace(views, rgb=rgb), texture_size=128)
    centre = render_mesh(mesh, orbit(1, 0.0, 32)).rgb[0, 12:20, 12:20]
    torch.testing.assert_close(centre, torch.full_like(centre, 0.5), atol=0.05, rtol=0)


@pytest.mark.parametrize("size", [512, pytest.param(4096, marks=pytest.mark.slow)])
def test_flat_colour_stays_itself_through_the_file(painted: Mesh, size: int) -> None:
    colour = torch.tensor([37.0, 141.0, 203.0]) / 255
    flat = replace(painted, vertex_rgb=colour.expand_as(painted.vertices))
    mesh = bake_texture(
        unwrap(painted, texture_size=size), render_mesh(flat, all_round(64)), texture_size=size
    )
    back = mesh_from_glb_bytes(glb_bytes(mesh))
    assert back.texture is not None
    assert float((back.texture.rgb - colour).abs().max()) < 1.01 / 255
    # And so it looks from elsewhere, on both sides of every seam.
    seen = render_mesh(back, orbit(3, 35.0, 96))
    assert float((seen.rgb[seen.alpha > 0.999] - colour).abs().max()) < 1.01 / 255
