import pytest
import torch

from roundview.mesh import Mesh
from roundview.surface.isosurface import mesh_from_density
from roundview.surface.winding import hierarchy_of, winding_numbers, winding_numbers_reference

TETRAHEDRON = Mesh(
    torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)


def ball(resolution: int = 20) -> Mesh:
    return mesh_from_density(
        lambda points: 0.4 - points.norm(dim=-1),
        level=0.0,
        half_width=0.5,
        resolution=resolution,
    )


def some_points(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)).double() - 0.5


def soup(count: int) -> Mesh:
    rng = torch.Generator().manual_seed(count)
    corner = torch.rand(count * 3, 3, generator=rng) - 0.5
    return Mesh(corner, torch.arange(count * 3).reshape(count, 3))


def test_one_inside_and_zero_outside() -> None:
    points = torch.tensor([[0.2, 0.2, 0.2], [0.5, 0.5, 0.5], [-0.1, 0.1, 0.1], [9.0, 9.0, 9.0]])
    expected = torch.tensor([1.0, 0, 0, 0])
    torch.testing.assert_close(winding_numbers(points, TETRAHEDRON), expected)
    torch.testing.assert_close(winding_numbers_reference(points, TETRAHEDRON), expected)


def test_inside_out_counts_backwards_and_twice_counts_double() -> None:
    point = torch.tensor([[0.2, 0.2, 0.2]])
    turned = Mesh(TETRAHEDRON.vertices, TETRAHEDRON.faces.flip(1))
    twice = Mesh(TETRAHEDRON.vertices, TETRAHEDRON.faces.repeat(2, 1))
    assert float(winding_numbers(point, turned)) == pytest.approx(-1)
    assert float(winding_numbers(point, twice)) == pytest.approx(2)


def test_one_octant_seen_from_its_corner_is_an_eighth() -> None:
    face = Mesh(torch.eye(3), torch.tensor([[0, 1, 2]]))
    assert float(winding_numbers(torch.zeros(1, 3), face)) == pytest.approx(1 / 8)
    assert float(winding_numbers(torch.ones(1, 3), face)) < 0


def test_ball_is_told_from_its_surroundings() -> None:
    points = some_points(4000)
    radius = points.norm(dim=-1)
    clear = (radius - 0.4).abs() > 0.01  # The ball's faces lie a little inside the sphere.
    number = winding_numbers(points, ball())
    torch.testing.assert_close(number[clear], (radius < 0.4).double()[clear], atol=1e-9, rtol=0)


def test_hole_fades_the_number_by_the_angle_that_it_covers() -> None:
    mesh = ball()
    open_ball = Mesh(mesh.vertices, mesh.faces[mesh.vertices[mesh.faces].amin(dim=1)[:, 1] < 0])
    # From the middle, half of the sphere is gone, but for the rim's jags.
    assert float(winding_numbers(torch.zeros(1, 3), open_ball)) == pytest.approx(0.5, abs=0.05)


@pytest.mark.kernel
@pytest.mark.parametrize("faces", [1, 2, 7, 8, 9, 17, 300])
def test_kernel_matches_reference_on_soups(faces: int) -> None:
    points, mesh = some_points(257), soup(faces)
    torch.testing.assert_close(
        winding_numbers(points, mesh),
        winding_numbers_reference(points, mesh),
        atol=1e-9,
        rtol=0,
    )


@pytest.mark.kernel
def test_kernel_matches_reference_on_an_open_mesh() -> None:
    mesh = ball()
    keep = torch.rand(len(mesh.faces), generator=torch.Generator().manual_seed(1)) < 0.9
    damaged = Mesh(mesh.vertices, mesh.faces[keep])
    points = some_points(500)
    torch.testing.assert_close(
        winding_numbers(points, damaged),
        winding_numbers_reference(points, damaged),
        atol=1e-9,
        rtol=0,
    )


def test_no_faces_and_no_points() -> None:
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    for verb in (winding_numbers, winding_numbers_reference):
        assert verb(torch.zeros(2, 3), empty).tolist() == [0, 0]
        assert len(verb(torch.zeros(0, 3), TETRAHEDRON)) == 0


def test_corner_of_the_mesh_is_a_number() -> None:
    found = winding_numbers(TETRAHEDRON.vertices, TETRAHEDRON)
    assert bool(found.isfinite().all())


def test_closed_mesh_has_no_rim_as_a_whole_and_halves_share_theirs() -> None:
    tree = hierarchy_of(ball())
    length = tree.rim_first[:, 1] - tree.rim_first[:, 0]
    assert length[0] == 0
    assert length[1] == length[2] > 0
    assert tree.first[0].tolist() == [0, len(tree.corner)]


def test_seams_do_not_count_as_rims() -> None:
    mesh = ball()
    corners = Mesh(
        mesh.vertices[mesh.faces].reshape(-1, 3), torch.arange(mesh.faces.numel()).reshape(-1, 3)
    )
    assert hierarchy_of(corners).rim_first[0].tolist() == [0, 0]


def test_reference_has_gradients() -> None:
    point = torch.tensor([[0.1, 0.2, 0.1]], dtype=torch.float64, requires_grad=True)
    face = Mesh(torch.eye(3), torch.tensor([[0, 1, 2]]))
    assert torch.autograd.gradcheck(lambda p: winding_numbers_reference(p, face), (point,))
