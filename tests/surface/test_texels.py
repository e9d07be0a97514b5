import pytest
import torch

from roundview.mesh import Mesh
from roundview.surface.texels import filled, nearest_triangles_reference, texels_of
from roundview.surface.texels_numba import nearest_triangles_kernel


def square() -> Mesh:
    """A square at z = 0 that fills the left half of its texture, upright."""
    return Mesh(
        torch.tensor([[-1.0, 2, 0], [-1.0, -2, 0], [1.0, -2, 0], [1.0, 2, 0]]),
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
        torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.5, 1.0], [0.5, 0.0]]),
    )


def test_texels_lie_where_the_layout_says() -> None:
    texels = texels_of(square(), 8)
    # 4 columns on the square and one more whose centre is within 1.5 texels of it: 0.5 away.
    assert len(texels) == 8 * 5
    first = (texels.at == torch.tensor([0, 0])).all(-1).nonzero()[0, 0]
    # A texel is 0.5 wide: its centre is a quarter off the corner.
    torch.testing.assert_close(texels.position[first], torch.tensor([-0.75, 1.75, 0.0]))
    torch.testing.assert_close(texels.normal[first], torch.tensor([0.0, 0.0, 1.0]))
    beyond = (texels.at == torch.tensor([3, 4])).all(-1).nonzero()[0, 0]
    torch.testing.assert_close(texels.position[beyond], torch.tensor([1.0, 0.25, 0.0]))


def test_mesh_without_coordinates_is_refused() -> None:
    with pytest.raises(ValueError, match="unwrap first"):
        texels_of(Mesh(square().vertices, square().faces), 8)


@pytest.mark.kernel
@pytest.mark.parametrize(("count", "size"), [(0, 4), (1, 1), (1, 9), (6, 16), (6, 31)])
def test_kernel_matches_reference(count: int, size: int) -> None:
    corner = torch.rand(count, 3, 2, generator=torch.Generator().manual_seed(size)) * size
    if count > 2:
        corner[2, 2] = corner[2, 0]  # No area.
    face_at, bary_at = nearest_triangles_kernel(corner.numpy(), size, 1.5)
    expected_face, expected_bary = nearest_triangles_reference(corner, size, 1.5)
    assert torch.equal(torch.from_numpy(face_at).long(), expected_face)
    torch.testing.assert_close(torch.from_numpy(bary_at), expected_bary, rtol=1e-4, atol=1e-4)


def test_colours_spread_over_the_gutter_and_no_farther() -> None:
    rgb = torch.zeros(1, 12, 3)
    rgb[0, 2], rgb[0, 9] = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 0, 1.0])
    known = torch.zeros(1, 12, dtype=torch.bool)
    known[0, [2, 9]] = True
    out = filled(rgb, known, gutter_px=2)[0]
    assert bool((out[:5] == torch.tensor([1.0, 0, 0])).all())
    assert bool((out[7:] == torch.tensor([0.0, 0, 1.0])).all())
    assert bool((out[5:7] == torch.tensor([0.5, 0, 0.5])).all())


def test_nothing_known_gives_grey() -> None:
    out = filled(torch.zeros(2, 3, 3), torch.zeros(2, 3, dtype=torch.bool), gutter_px=2)
    assert bool((out == 0.5).all())
