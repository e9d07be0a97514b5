import math

import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.mesh import Mesh, Texture
from roundview.surface.isosurface import mesh_from_density
from roundview.surface.raster import Light, mesh_depth, render_mesh, render_mesh_reference


def front(size_hw: tuple[int, int] = (4, 4), radius: float = 2.0) -> Cameras:
    """One camera on +Z with focal length h / 2, so the picture is 4 wide at depth 2."""
    return Cameras.orbit([0.0], elevation_deg=0.0, radius=radius, fov_deg=90.0, size_hw=size_hw)


def triangle(*corners: tuple[float, float, float]) -> Mesh:
    return Mesh(torch.tensor(corners), torch.tensor([[0, 1, 2]]), vertex_rgb=torch.eye(3))


def scene(count: int, seed: int) -> Mesh:
    """Random triangles, textured, round the origin; some through and behind the cameras."""
    rng = torch.Generator().manual_seed(seed)
    middle = torch.rand(count, 1, 3, generator=rng) * 3 - 1.5
    corners = middle + torch.randn(count, 3, 3, generator=rng) * 0.5
    return Mesh(
        corners.reshape(-1, 3),
        torch.arange(3 * count).reshape(count, 3),
        torch.rand(3 * count, 2, generator=rng) * 1.4 - 0.2,
        Texture(torch.rand(5, 7, 3, generator=rng)),
    )


def test_one_triangle_by_hand() -> None:
    # The picture shows x and y in [-2, 2], a pixel is 1 x 1. Corners at pixels (0, 0), (4, 0) and
    # (0, 4): the 6 centres with u + v < 4 are inside, the 4 on the hypotenuse count as well.
    mesh = triangle((-2.0, 2.0, 0.0), (-2.0, -2.0, 0.0), (2.0, 2.0, 0.0))
    views = render_mesh(mesh, front(), supersample=1)
    u, v = torch.meshgrid(torch.arange(4) + 0.5, torch.arange(4) + 0.5, indexing="xy")
    inside = u + v < 4
    assert bool((views.alpha[0][inside] == 1).all())
    assert bool((views.alpha[0][u + v > 4] == 0).all())
    assert views.depth is not None
    assert views.normal is not None
    torch.testing.assert_close(views.depth[0][inside], torch.full((6,), 2.0))
    torch.testing.assert_close(views.normal[0, 0, 0], torch.tensor([0.0, 0.0, 1.0]))
    # Top left centre: shares 1/8 down (second corner, green) and 1/8 right (third, blue).
    torch.testing.assert_close(views.rgb[0, 0, 0], torch.tensor([0.75, 0.125, 0.125]))
    torch.testing.assert_close(views.rgb[0, 3, 3], torch.ones(3))


def test_depth_and_colour_are_perspective_correct() -> None:
    # A strip that recedes from depth 1 (red) to depth 3: half-way across the screen at
    # 1 / z = (1 + 1 / 3) / 2 lies depth 1.5, a quarter of the way back.
    mesh = Mesh(
        torch.tensor([[-1.0, -9.0, 1.0], [3.0, -9.0, -1.0], [3.0, 9.0, -1.0], [-1.0, 9.0, 1.0]]),
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
        vertex_rgb=torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0], [1.0, 0, 0]]),
    )
    views = render_mesh(mesh, front((3, 3)), supersample=1)
    assert views.depth is not None
    assert float(views.depth[0, 1, 1]) == pytest.approx(1.5, rel=1e-5)
    assert float(views.rgb[0, 1, 1, 0]) == pytest.approx(0.75, rel=1e-5)


def test_nearer_face_hides_the_farther() -> None:
    near = torch.tensor([[-2.0, 2.0, 0.5], [-2.0, -2.0, 0.5], [2.0, 2.0, 0.5]])
    both = Mesh(
        torch.cat([near - torch.tensor([0.0, 0.0, 1.0]), near]),
        torch.tensor([[0, 1, 2], [3, 4, 5]]),
        vertex_rgb=torch.tensor([[1.0, 0, 0]] * 3 + [[0, 1.0, 0]] * 3),
    )
    views = render_mesh(both, front(), supersample=1)
    torch.testing.assert_close(views.rgb[0, 0, 0], torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(mesh_depth(both, front())[0, 0, 0], torch.tensor(1.5))


def test_back_face_is_drawn_with_its_normal_turned() -> None:
    mesh = triangle((-2.0, 2.0, 0.0), (2.0, 2.0, 0.0), (-2.0, -2.0, 0.0))
    views = render_mesh(mesh, front(), supersample=1)
    assert views.normal is not None
    torch.testing.assert_close(views.normal[0, 0, 0], torch.tensor([0.0, 0.0, 1.0]))


def test_texture_corner_is_top_left() -> None:
    square = Mesh(
        torch.tensor([[-1.0, 1, 0], [-1.0, -1, 0], [1.0, -1, 0], [1.0, 1, 0]]),
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
        torch.tensor([[0.0, 0], [0, 1.0], [1.0, 1.0], [1.0, 0]]),
        Texture(torch.tensor([[[1.0, 0, 0], [0, 1.0, 0]], [[0, 0, 1.0], [1.0, 1.0, 0]]])),
    )
    cameras = Cameras.orbit([0.0], elevation_deg=0.0, radius=1.0, fov_deg=90.0, size_hw=(4, 4))
    rgb = render_mesh(square, cameras, supersample=1).rgb[0]
    torch.testing.assert_close(rgb[0, 0], torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(rgb[0, 3], torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(rgb[3, 0], torch.tensor([0.0, 0.0, 1.0]))


def test_supersampling_gives_coverage() -> None:
    # The left half of a pixel row is covered: x < 0.5 at depth 2, where a pixel is 1 wide.
    mesh = Mesh(
        torch.tensor([[-9.0, 9, 0], [-9.0, -9, 0], [0.5, -9, 0], [0.5, 9, 0]]),
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
    )
    views = render_mesh(mesh, front(), background=(0.0, 0.0, 1.0), supersample=4)
    torch.testing.assert_close(views.alpha[0, 1], torch.tensor([1.0, 1.0, 0.5, 0.0]))
    torch.testing.assert_close(views.rgb[0, 1, 2], torch.tensor([0.25, 0.25, 0.75]))
    assert views.depth is not None
    assert float(views.depth[0, 1, 2]) == pytest.approx(2.0)


def test_light_brightens_by_the_cosine() -> None:
    mesh = triangle((-2.0, 2.0, 0.0), (-2.0, -2.0, 0.0), (2.0, 2.0, 0.0))
    lamp = Light((0.0, math.sqrt(3) / 2, 0.5), ambient=0.2, diffuse=0.4)
    lit = render_mesh(mesh, front(), light=lamp, supersample=1).rgb[0, 0, 0]
    torch.testing.assert_close(lit, torch.tensor([0.75, 0.125, 0.125]) * 0.4)


def test_triangles_that_meet_leave_no_pinholes() -> None:
    # Marching cubes put vertices of a ball onto lines of sight through pixel centres, where
    # rounding used to lose some pixels to neither neighbour.
    def inside(points: Tensor) -> Tensor:
        return 0.4 - points.norm(dim=-1)

    ball = mesh_from_density(inside, level=0.0, half_width=0.5, resolution=24)
    coarse = Cameras.orbit([0.0], elevation_deg=0.0, radius=1.5, fov_deg=49.13, size_hw=(256, 256))
    v, u = torch.meshgrid(torch.arange(1536) - 767.5, torch.arange(1536) - 767.5, indexing="ij")
    middle = torch.hypot(u, v) < 400
    assert bool((mesh_depth(ball, coarse.resized((1536, 1536)))[0][middle] > 0).all())


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="supersample"):
        render_mesh(scene(1, 0), front(), supersample=0)


@pytest.mark.kernel
@pytest.mark.parametrize("size_hw", [(1, 1), (7, 13), (16, 16)])
@pytest.mark.parametrize("kind", ["empty", "one", "many", "behind", "degenerate", "plain"])
def test_kernel_matches_reference(kind: str, size_hw: tuple[int, int]) -> None:
    mesh = scene({"empty": 0, "one": 1}.get(kind, 12), seed=4)
    if kind == "behind":
        mesh = Mesh(mesh.vertices + torch.tensor([0.0, 0, 9.0]), mesh.faces, mesh.uv, mesh.texture)
    if kind == "degenerate":
        collapsed = mesh.vertices.reshape(-1, 3, 3).clone()
        collapsed[::2, 2] = collapsed[::2, 0]
        collapsed[1::4, 2] = (collapsed[1::4, 0] + collapsed[1::4, 1]) / 2
        mesh = Mesh(collapsed.reshape(-1, 3), mesh.faces, mesh.uv, mesh.texture)
    if kind == "plain":
        mesh = Mesh(mesh.vertices, mesh.faces)
    cameras = Cameras.orbit(
        [20.0, 150.0], elevation_deg=[10.0, -40.0], radius=1.5, fov_deg=49.13, size_hw=size_hw
    )
    lamp = Light((1.0, 2.0, 3.0))
    for smooth in (True, False):
        ours = render_mesh(mesh, cameras, light=lamp, smooth=smooth, supersample=1)
        expected = render_mesh_reference(mesh, cameras, light=lamp, smooth=smooth, supersample=1)
        assert bool((ours.alpha == expected.alpha).all())
        for name in ("rgb", "depth", "normal"):
            # float32, and barycentrics of slender triangles lose a few digits.
            torch.testing.assert_close(
                getattr(ours, name), getattr(expected, name), rtol=1e-3, atol=2e-4
            )
