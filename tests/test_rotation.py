"""Claims about rotations and spherical harmonics: turns by hand, laws, published constants."""

import math

import pytest
import torch
from torch import Tensor

from roundview.rotation import (
    SH_C0,
    quat_from_rotation,
    quat_multiply,
    rotation_from_quat,
    sh_basis,
)

HALF = math.sqrt(0.5)


def random_quats(count: int) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    quat = torch.randn(count, 4, generator=rng, dtype=torch.float64)
    return torch.nn.functional.normalize(quat, dim=-1)


def directions(count: int) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    vector = torch.randn(count, 3, generator=rng, dtype=torch.float64)
    return torch.nn.functional.normalize(vector, dim=-1)


@pytest.mark.parametrize(
    ("quat", "before", "after"),
    [
        ((1.0, 0.0, 0.0, 0.0), (1.0, 2.0, 3.0), (1.0, 2.0, 3.0)),
        ((HALF, HALF, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),  # quarter turn about x
        ((HALF, 0.0, HALF, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)),  # about y
        ((HALF, 0.0, 0.0, HALF), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),  # about z
        ((0.0, 0.0, 3.0, 0.0), (1.0, 2.0, 3.0), (-1.0, 2.0, -3.0)),  # half turn, not unit
    ],
)
def test_turns_by_hand(
    quat: tuple[float, ...], before: tuple[float, ...], after: tuple[float, ...]
) -> None:
    got = rotation_from_quat(torch.tensor(quat)) @ torch.tensor(before)
    torch.testing.assert_close(got, torch.tensor(after), rtol=1e-6, atol=1e-6)


def test_matrices_are_rotations() -> None:
    r = rotation_from_quat(random_quats(50))
    torch.testing.assert_close(r @ r.mT, torch.eye(3).double().expand_as(r), rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(r), torch.ones(50).double(), rtol=0, atol=1e-12)


def test_quaternions_return_up_to_sign() -> None:
    quat = random_quats(50)
    got = quat_from_rotation(rotation_from_quat(quat))
    assert bool((got[:, 0] >= 0).all())
    torch.testing.assert_close((got * quat).sum(-1).abs(), torch.ones(50).double())


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("miss", [0.0, 1e-7, -1e-7])
def test_half_turns_lose_no_digits(axis: int, miss: float) -> None:
    """Where the trace is -1 the textbook formula divides by zero."""
    quat = torch.zeros(4, dtype=torch.float64)
    quat[0], quat[axis + 1] = math.sin(miss / 2), math.cos(miss / 2)
    got = rotation_from_quat(quat_from_rotation(rotation_from_quat(quat)))
    torch.testing.assert_close(got, rotation_from_quat(quat), rtol=0, atol=1e-12)


def test_products_of_quaternions_are_products_of_matrices() -> None:
    a, b = random_quats(20), random_quats(40)[20:]
    torch.testing.assert_close(
        rotation_from_quat(quat_multiply(a, b)), rotation_from_quat(a) @ rotation_from_quat(b)
    )


def test_the_rotation_has_the_right_gradient() -> None:
    quat = (random_quats(3) * 1.7).requires_grad_()
    assert torch.autograd.gradcheck(rotation_from_quat, (quat,))


def test_harmonics_along_the_axes_have_their_published_values() -> None:
    """Kerbl et al. 2023, as in the release: -C1 y, C1 z, -C1 x after the constant."""
    c1 = math.sqrt(3 / (4 * math.pi))
    got = sh_basis(torch.eye(3).double(), 1)
    wanted = torch.tensor([[SH_C0, 0, 0, -c1], [SH_C0, -c1, 0, 0], [SH_C0, 0, c1, 0]])
    torch.testing.assert_close(got, wanted.double(), rtol=1e-6, atol=1e-7)
    # Zonal ones at the pole: sqrt((2l + 1) / 4 pi).
    pole = sh_basis(torch.tensor([0.0, 0.0, 1.0]).double(), 3)
    for degree, at in ((2, 6), (3, 12)):
        assert float(pole[at]) == pytest.approx(math.sqrt((2 * degree + 1) / (4 * math.pi)))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_sum_to_the_addition_theorem(degree: int) -> None:
    """For each degree, the squares sum to (2 l + 1) / 4 pi in every direction."""
    values = sh_basis(directions(20), degree)
    assert values.shape == (20, (degree + 1) ** 2)
    total = (degree + 1) ** 2 / (4 * math.pi)
    squares = values.square().sum(-1)
    torch.testing.assert_close(squares, torch.full_like(squares, total), rtol=1e-9, atol=0)


def test_harmonics_are_orthonormal() -> None:
    """Integrated over the sphere by a rule that is exact for their products."""
    z, weight = (torch.tensor(x, dtype=torch.float64) for x in _gauss_legendre(8))
    angle = torch.arange(16).double() * (2 * math.pi / 16)
    ring = (1 - z * z).sqrt()
    x, y = ring[:, None] * angle.cos(), ring[:, None] * angle.sin()
    points = torch.stack([x, y, z[:, None].expand_as(x)], dim=-1)
    basis = sh_basis(points.reshape(-1, 3), 3)
    area = (weight[:, None] * (2 * math.pi / 16)).expand(8, 16).reshape(-1)
    gram = basis.mT @ (basis * area[:, None])
    torch.testing.assert_close(gram, torch.eye(16).double(), rtol=0, atol=1e-9)


def test_other_degrees_are_refused() -> None:
    with pytest.raises(ValueError, match="degree must be 0, 1, 2 or 3, got 4"):
        sh_basis(torch.zeros(1, 3), 4)


def _gauss_legendre(count: int) -> tuple[list[float], list[float]]:
    import numpy as np  # noqa: PLC0415

    nodes, weights = np.polynomial.legendre.leggauss(count)
    return nodes.tolist(), weights.tolist()
