import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras, project
from roundview.mesh import Mesh
from roundview.surface.antialias import (
    Crossings,
    Edges,
    antialiased,
    edges_of,
    find_crossings,
    find_crossings_reference,
)
from roundview.surface.isosurface import mesh_from_density
from roundview.surface.raster import nearest_faces, render_mesh


def front(side: int) -> Cameras:
    """One camera on +Z at distance 2 with a view of 90 degrees."""
    return Cameras.orbit([0.0], elevation_deg=0.0, radius=2.0, fov_deg=90.0, size_hw=(side, side))


def coverage(mesh: Mesh, cameras: Cameras) -> Tensor:
    """What share of each pixel the mesh covers, by the antialiasing of the covered pixels."""
    face_at, depth = nearest_faces(mesh, cameras)
    pixel, away = project(mesh.vertices, cameras)
    crossings = find_crossings(face_at, depth, pixel, away, edges_of(mesh))
    return antialiased((face_at >= 0).to(pixel)[..., None], pixel, crossings)[..., 0]


def ball(resolution: int) -> Mesh:
    def inside(points: Tensor) -> Tensor:
        return 0.4 - points.norm(dim=-1)

    return mesh_from_density(inside, level=0.0, half_width=0.5, resolution=resolution)


def scene(count: int, seed: int) -> Mesh:
    rng = torch.Generator().manual_seed(seed)
    middle = torch.rand(count, 1, 3, generator=rng) * 3 - 1.5
    corners = middle + torch.randn(count, 3, 3, generator=rng) * 0.5
    return Mesh(corners.reshape(-1, 3), torch.arange(3 * count).reshape(count, 3))


def test_upright_edge_gives_its_exact_share() -> None:
    # A sheet from x = -9 to 0.3; at depth 2 a pixel of this picture is 1 wide and the centres lie
    # at -1.5, -0.5, 0.5, 1.5: the edge covers 0.3 of the third pixel.
    sheet = Mesh(
        torch.tensor([[-9.0, 9, 0], [-9.0, -9, 0], [0.3, -9, 0], [0.3, 9, 0]]),
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
    )
    torch.testing.assert_close(
        coverage(sheet, front(4))[0], torch.tensor([1.0, 1.0, 0.3, 0.0]).expand(4, 4)
    )
    shifted = Mesh(sheet.vertices + torch.tensor([0.6, 0, 0]), sheet.faces)
    torch.testing.assert_close(
        coverage(shifted, front(4))[0], torch.tensor([1.0, 1.0, 0.9, 0.0]).expand(4, 4)
    )


def test_level_edge_acts_on_vertical_pairs() -> None:
    sheet = Mesh(
        torch.tensor([[-9.0, 9, 0], [-9.0, 0.3, 0], [9.0, 0.3, 0], [9.0, 9, 0]]),
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
    )
    torch.testing.assert_close(
        coverage(sheet, front(4))[0, :, 1], torch.tensor([1.0, 0.7, 0.0, 0.0])
    )


def test_colours_of_two_sheets_mix_by_the_nearer_ones_share() -> None:
    near = [[-9.0, 9, 0.5], [-9.0, -9, 0.5], [0.3 * 0.75, -9, 0.5], [0.3 * 0.75, 9, 0.5]]
    far = [[-9.0, 9, 0], [-9.0, -9, 0], [9.0, -9, 0], [9.0, 9, 0]]
    mesh = Mesh(
        torch.tensor(near + far), torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    )
    face_at, depth = nearest_faces(mesh, front(4))
    pixel, away = project(mesh.vertices, front(4))
    crossings = find_crossings(face_at, depth, pixel, away, edges_of(mesh))
    colour = torch.tensor([1.0, 1.0, 5.0, 5.0])[face_at.long()][..., None]
    out = antialiased(colour, pixel, crossings)[0, 1, :, 0]
    torch.testing.assert_close(out, torch.tensor([1.0, 1.0, 0.3 * 1 + 0.7 * 5, 5.0]))


@pytest.mark.parametrize("side", [16, 61, 128])
def test_sum_of_coverage_is_the_area(side: int) -> None:
    corners = torch.tensor([[-0.5, 0.7, 0], [-0.9, -0.8, 0], [1.1, 0.1, 0]])
    mesh = Mesh(corners, torch.tensor([[0, 1, 2]]))
    a, b, c = project(corners, front(side))[0][0]
    area = float((b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0]) / -2
    assert area > 0
    # The corners of the triangle, where outlines turn, are worth a part of a pixel.
    assert float(coverage(mesh, front(side)).sum()) == pytest.approx(area, abs=0.8)


def test_outline_of_a_fine_ball_is_as_smooth_as_supersampling() -> None:
    # Most faces at the rim are slimmer than a pixel.
    cameras = Cameras.orbit([20.0], elevation_deg=30.0, radius=1.5, fov_deg=49.13, size_hw=(64, 64))
    mesh = ball(48)
    truth = render_mesh(mesh, cameras, supersample=16, geometry=False).alpha
    plain = render_mesh(mesh, cameras, supersample=1, geometry=False).alpha
    ours = coverage(mesh, cameras)
    assert float((ours - truth).abs().max()) < 0.15
    assert float((ours - truth).square().mean()) < float((plain - truth).square().mean()) / 30


def test_slope_is_that_of_the_supersampled_area() -> None:
    # Sum of the coverage weighted by a ramp, against finite differences of a picture of 8 x 8
    # samples a pixel, for every coordinate of a triangle.
    corners = torch.tensor([[-0.5, 0.7, 0], [-0.9, -0.8, 0.2], [1.1, 0.1, -0.3]])
    faces = torch.tensor([[0, 1, 2]])
    ramp = torch.linspace(0.5, 1.5, 96)[:, None] * torch.linspace(1.5, 0.3, 96)
    moving = corners.clone().requires_grad_()
    (coverage(Mesh(moving, faces), front(96))[0] * ramp).sum().backward()
    assert moving.grad is not None

    def truth(vertices: Tensor) -> float:
        alpha = render_mesh(Mesh(vertices, faces), front(96), supersample=8, geometry=False).alpha
        return float((alpha[0] * ramp).double().sum())

    step = 0.05
    slopes = torch.zeros(9)
    for index in range(9):
        shift = torch.zeros(9)
        shift[index] = step
        there, back = (truth(corners + sign * shift.reshape(3, 3)) for sign in (1, -1))
        slopes[index] = (there - back) / (2 * step)
    # Rows are summed where their middles lie, so each corner is out by a part of a pixel.
    difference = (moving.grad.reshape(-1) - slopes).norm() / slopes.norm()
    assert float(difference) < 0.04


def test_gradient_is_that_of_its_own_forward() -> None:
    mesh = scene(6, 3)
    cameras = Cameras.orbit([20.0], elevation_deg=10.0, radius=1.5, fov_deg=49.13, size_hw=(9, 9))
    face_at, depth = nearest_faces(mesh, cameras)
    pixel, away = project(mesh.vertices, cameras)
    crossings = find_crossings(face_at, depth, pixel, away, edges_of(mesh))
    assert len(crossings.first) == 10
    rng = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 9, 9, 2, generator=rng, dtype=torch.float64).requires_grad_()
    place = pixel.double().requires_grad_()

    def blended(colours: Tensor, at: Tensor) -> Tensor:
        return antialiased(colours, at, crossings)

    torch.autograd.gradcheck(blended, (picture, place), eps=1e-6, atol=1e-6)


def test_no_pixel_gives_away_more_than_itself() -> None:
    # A speck that covers little more than one centre is cut off on all four sides.
    speck = Mesh(
        torch.tensor([[0.45, 0.55, 0], [0.45, 0.45, 0], [0.55, 0.45, 0], [0.55, 0.55, 0]]),
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
    )
    alpha = coverage(speck, front(4))
    assert float(alpha.min()) >= 0
    assert float(alpha.sum()) < 0.2


def test_seams_are_no_outlines() -> None:
    # Two faces that share a side but not its vertices, as at a texture seam.
    square = [[-1.0, 1, 0], [-1.0, -1, 0], [1.0, -1, 0], [-1.0, 1, 0], [1.0, -1, 0], [1.0, 1, 0]]
    edges = edges_of(Mesh(torch.tensor(square), torch.tensor([[0, 1, 2], [3, 4, 5]])))
    inner = (edges.opposite >= 0).all(dim=1)
    assert int(inner.sum()) == 1
    assert edges.ends[inner][0].tolist() == [0, 2]
    assert sorted(edges.opposite[inner][0].tolist()) == [1, 5]
    assert len(edges.ends) == 5


def test_edge_of_three_faces_is_the_rim_of_each() -> None:
    fan = torch.tensor([[0.0, 1, 0], [0.0, -1, 0], [1.0, 0, 0], [-1.0, 0, 1], [-1.0, 0, -1]])
    edges = edges_of(Mesh(fan, torch.tensor([[0, 1, 2], [0, 1, 3], [1, 0, 4]])))
    shared = (edges.ends < 2).all(dim=1)
    assert edges.opposite[shared].tolist() == [[2, -1], [3, -1], [4, -1]]


def test_collapsed_faces_have_no_edges() -> None:
    corners = torch.tensor([[0.0, 1, 0], [0.0, -1, 0], [0.0, 1, 0]])
    assert len(edges_of(Mesh(corners, torch.tensor([[0, 1, 2]]))).ends) == 0


@pytest.mark.kernel
@pytest.mark.parametrize("size_hw", [(1, 1), (7, 13), (16, 16)])
@pytest.mark.parametrize("kind", ["empty", "one", "many", "behind", "ball"])
def test_kernel_matches_reference(kind: str, size_hw: tuple[int, int]) -> None:
    mesh = ball(6) if kind == "ball" else scene({"empty": 0, "one": 1}.get(kind, 12), seed=4)
    if kind == "behind":
        mesh = Mesh(mesh.vertices + torch.tensor([0.0, 0, 1.0]), mesh.faces)
    cameras = Cameras.orbit(
        [20.0, 150.0], elevation_deg=[10.0, -40.0], radius=1.5, fov_deg=49.13, size_hw=size_hw
    )
    face_at, depth = nearest_faces(mesh, cameras)
    edges = edges_of(mesh)
    picture = torch.rand(2, *size_hw, 4, generator=torch.Generator().manual_seed(0))
    found: list[tuple[Crossings, list[Tensor]]] = []
    for find in (find_crossings, find_crossings_reference):
        vertices = mesh.vertices.clone().requires_grad_()
        pixel, away = project(vertices, cameras)
        crossings = find(face_at, depth, pixel, away, edges)
        out = antialiased(picture, pixel, crossings)
        (slope,) = torch.autograd.grad(out.square().sum(), vertices)
        found.append((crossings, [out, slope]))
    for ours, expected in zip(found[0][0], found[1][0], strict=True):
        assert torch.equal(ours, expected)
    for ours, expected in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    if kind in ("many", "ball") and size_hw == (16, 16):
        assert len(found[0][0].first) > 20


def test_no_edges_leave_a_picture_as_it_is() -> None:
    picture = torch.rand(1, 3, 3, 2, generator=torch.Generator().manual_seed(0))
    edges = Edges(torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, 2, dtype=torch.int64))
    face_at = torch.zeros(1, 3, 3, dtype=torch.int32)
    nothing = torch.zeros(1, 0, 2)
    crossings = find_crossings(face_at, torch.ones(1, 3, 3), nothing, nothing[..., 0], edges)
    assert torch.equal(antialiased(picture, nothing, crossings), picture)
