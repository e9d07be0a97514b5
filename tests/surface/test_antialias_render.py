from dataclasses import replace

import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras, project
from roundview.mesh import Mesh, Texture
from roundview.surface.antialias_render import (
    Shown,
    interpolated,
    interpolated_reference,
    looked_up,
    looked_up_reference,
    render_mesh_antialiased,
    render_mesh_antialiased_reference,
)
from roundview.surface.raster import nearest_faces, render_mesh


def cameras(size_hw: tuple[int, int] = (12, 12)) -> Cameras:
    return Cameras.orbit(
        [20.0, 150.0], elevation_deg=[10.0, -40.0], radius=1.5, fov_deg=49.13, size_hw=size_hw
    )


def sheet(rng: torch.Generator, count: int = 4, size: float = 1.0) -> Mesh:
    """A bumpy, textured sheet of count x count cells through the origin."""
    axis = torch.linspace(-0.5, 0.5, count + 1) * size
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    z = 0.2 * size * torch.rand(x.shape, generator=rng)
    number = torch.arange(x.numel()).reshape(x.shape)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    faces = torch.cat([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)]).reshape(-1, 3)
    uv = torch.stack([x, -y], dim=-1).reshape(-1, 2) / size + 0.5
    texture = Texture(torch.rand(9, 7, 3, generator=rng))
    return Mesh(torch.stack([x, y, z], dim=-1).reshape(-1, 3), faces, uv, texture)


def scene(count: int, rng: torch.Generator) -> Mesh:
    middle = torch.rand(count, 1, 3, generator=rng) * 2 - 1
    corners = middle + torch.randn(count, 3, 3, generator=rng) * 0.5
    return Mesh(
        corners.reshape(-1, 3),
        torch.arange(3 * count).reshape(count, 3),
        torch.rand(3 * count, 2, generator=rng) * 1.4 - 0.2,
        Texture(torch.rand(5, 7, 3, generator=rng)),
    )


def shown(mesh: Mesh, views: Cameras) -> Shown:
    pixel, away = project(mesh.vertices, views)
    return Shown(nearest_faces(mesh, views)[0], mesh.faces, pixel, away)


def test_inside_outlines_it_is_the_plain_picture() -> None:
    mesh = sheet(torch.Generator().manual_seed(0), size=4.0)
    mesh = replace(mesh, vertices=mesh.vertices * torch.tensor([1.0, 1.0, 0.2]))
    plain = render_mesh(mesh, cameras()[0], supersample=1)
    ours = render_mesh_antialiased(mesh, cameras()[0], geometry=True)
    assert bool((ours.alpha == 1).all())
    for name in ("rgb", "depth", "normal"):
        # float32; the two project the vertices with other roundings.
        torch.testing.assert_close(getattr(ours, name), getattr(plain, name), rtol=1e-4, atol=1e-4)


def test_outlines_are_as_smooth_as_supersampling_makes_them() -> None:
    mesh = sheet(torch.Generator().manual_seed(0))
    truth = render_mesh(mesh, cameras((64, 64)), supersample=16, geometry=False)
    plain = render_mesh(mesh, cameras((64, 64)), supersample=1, geometry=False)
    ours = render_mesh_antialiased(mesh, cameras((64, 64)))
    finer = render_mesh_antialiased(mesh, cameras((64, 64)), supersample=2)
    errors = [float((v.alpha - truth.alpha).square().mean()) for v in (plain, ours, finer)]
    assert errors[1] < errors[0] / 20
    assert errors[2] < errors[1]
    assert float((ours.rgb - truth.rgb).square().mean()) < errors[0] / 20


def test_background_and_untextured_meshes() -> None:
    mesh = replace(sheet(torch.Generator().manual_seed(0)), texture=None, uv=None)
    views = render_mesh_antialiased(mesh, cameras(), background=(0.0, 0.25, 1.0))
    alpha = views.alpha[..., None]
    assert 0 < float(alpha.mean()) < 1
    expected = 0.5 * alpha + torch.tensor([0.0, 0.25, 1.0]) * (1 - alpha)
    torch.testing.assert_close(views.rgb, expected)


def test_nothing_to_draw_gives_the_background() -> None:
    mesh = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    views = render_mesh_antialiased(mesh, cameras(), geometry=True)
    assert bool((views.rgb == 1).all())
    assert views.depth is not None
    assert bool((views.depth == 0).all())


def test_slopes_of_the_picture_are_those_of_finite_differences() -> None:
    # The mean colour over both pictures, while the whole mesh moves and grows: float32 pictures
    # of 256 samples a pixel jump less than they change over a step of 0.02.
    mesh = sheet(torch.Generator().manual_seed(1))
    views = cameras((48, 48))
    weight = torch.rand(2, 48, 48, 3, generator=torch.Generator().manual_seed(2))
    weight = torch.nn.functional.avg_pool2d(weight.permute(0, 3, 1, 2), 9, 1, 4).permute(0, 2, 3, 1)
    moves = [torch.eye(3)[axis].expand_as(mesh.vertices) for axis in range(3)] + [mesh.vertices]
    vertices = mesh.vertices.clone().requires_grad_()
    ours = render_mesh_antialiased(replace(mesh, vertices=vertices), views, supersample=2)
    (slope,) = torch.autograd.grad((ours.rgb * weight).sum(), vertices)

    def drawn(at: Tensor) -> float:
        picture = render_mesh(replace(mesh, vertices=at), views, supersample=16, geometry=False)
        return float((picture.rgb * weight).double().sum())

    found = torch.stack([(slope * move).sum() for move in moves])
    step = 0.02
    expected = torch.tensor(
        [
            (drawn(mesh.vertices + step * m) - drawn(mesh.vertices - step * m)) / (2 * step)
            for m in moves
        ]
    )
    assert float((found - expected).norm() / expected.norm()) < 0.02


def test_reference_interpolation_has_the_slope_of_its_forward() -> None:
    rng = torch.Generator().manual_seed(0)
    mesh = sheet(rng)
    seen = shown(mesh, cameras((5, 5)))
    values = torch.rand(2, len(mesh.vertices), 2, generator=rng, dtype=torch.float64)

    def at(*inputs: Tensor) -> Tensor:
        return interpolated_reference(inputs[0], seen._replace(pixel=inputs[1], away=inputs[2]))

    inputs = (values, seen.pixel.double(), seen.away.double())
    torch.autograd.gradcheck(at, tuple(x.requires_grad_() for x in inputs), eps=1e-6, atol=1e-5)


def test_reference_texture_has_the_slope_of_its_forward() -> None:
    rng = torch.Generator().manual_seed(0)
    texture = torch.rand(4, 3, 3, generator=rng, dtype=torch.float64).requires_grad_()
    uv = torch.rand(1, 3, 4, 2, generator=rng, dtype=torch.float64).requires_grad_()
    face_at = torch.ones(1, 3, 4, dtype=torch.int32)
    face_at[0, 1, 1] = -1

    def at(*inputs: Tensor) -> Tensor:
        return looked_up_reference(inputs[0], inputs[1], face_at)

    torch.autograd.gradcheck(at, (texture, uv), eps=1e-6, atol=1e-6)


@pytest.mark.kernel
@pytest.mark.parametrize("size_hw", [(1, 1), (7, 13), (32, 32)])
@pytest.mark.parametrize("kind", ["empty", "one", "many", "sheet"])
def test_parts_match_their_references(kind: str, size_hw: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(4)
    mesh = sheet(rng) if kind == "sheet" else scene({"empty": 0, "one": 1}.get(kind, 12), rng)
    seen = shown(mesh, cameras(size_hw))
    values = torch.rand(2, len(mesh.vertices), 5, generator=rng)
    upstream = torch.rand(2, *size_hw, 5, generator=rng)
    results: list[list[Tensor]] = []
    for interpolate in (interpolated, interpolated_reference):
        inputs = [x.clone().requires_grad_() for x in (values, seen.pixel, seen.away)]
        out = interpolate(inputs[0], seen._replace(pixel=inputs[1], away=inputs[2]))
        results.append([out, *torch.autograd.grad((out * upstream).sum(), inputs)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=1e-5)
    assert mesh.texture is not None
    uv = torch.rand(2, *size_hw, 2, generator=rng) * 1.4 - 0.2
    for look_up in (looked_up, looked_up_reference):
        inputs = [x.clone().requires_grad_() for x in (mesh.texture.rgb, uv)]
        out = look_up(inputs[0], inputs[1], seen.face_at)
        results.append([out, *torch.autograd.grad((out * upstream[..., :3]).sum(), inputs)])
    for ours, expected in zip(*results[2:], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.kernel
@pytest.mark.parametrize("supersample", [1, 2])
@pytest.mark.parametrize("kind", ["sheet", "many", "plain"])
def test_kernel_matches_reference(kind: str, supersample: int) -> None:
    rng = torch.Generator().manual_seed(4)
    mesh = scene(6, rng) if kind == "many" else sheet(rng)
    if kind == "plain":
        mesh = Mesh(mesh.vertices, mesh.faces, vertex_rgb=torch.rand(25, 3, generator=rng))
    results: list[list[Tensor]] = []
    for render in (render_mesh_antialiased, render_mesh_antialiased_reference):
        vertices = mesh.vertices.clone().requires_grad_()
        moved = replace(mesh, vertices=vertices)
        views = render(moved, cameras(), supersample=supersample, geometry=True)
        assert views.depth is not None
        assert views.normal is not None
        pictures = [views.rgb, views.alpha, views.depth, views.normal]
        value = torch.stack([p.square().sum() for p in pictures]).sum()
        results.append([*pictures, *torch.autograd.grad(value, vertices)])
    for ours, expected in zip(*results, strict=True):
        # float32, and the slopes of slender triangles lose digits.
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=2e-4)
