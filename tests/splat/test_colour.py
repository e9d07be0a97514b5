"""The colour kernel against `sh_basis`, with the derivative that autograd gives."""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import numpy as np
import pytest
import torch

from roundview.kernels import njit
from roundview.rotation import sh_basis
from roundview.splat.colour_numba import add_colour_gradient, put_colour


@njit
def forward(centre, sh, camera, basis, out):  # noqa: ANN001, ANN201
    for i in range(len(centre)):
        put_colour(centre, sh, i, camera, basis, out, 1)


@njit
def backward(colour, camera, d_rgb, gradients, basis):  # noqa: ANN001, ANN201
    for i in range(len(colour[0])):
        pulled = (d_rgb[i, 0], d_rgb[i, 1], d_rgb[i, 2])
        add_colour_gradient(colour, i, camera, pulled, gradients, basis)


@pytest.mark.kernel
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colour_and_its_gradient_are_those_of_autograd(degree: int) -> None:
    rng = torch.Generator().manual_seed(degree)
    count, terms = 50, (degree + 1) ** 2
    centre = torch.randn(count, 3, generator=rng).requires_grad_()
    sh = torch.randn(count, terms, 3, generator=rng).mul_(0.4).requires_grad_()
    weights = torch.randn(count, 3, generator=rng)
    origin = torch.tensor([0.5, -1.0, 2.0])
    direction = torch.nn.functional.normalize(centre - origin, dim=-1)
    rgb = (0.5 + torch.einsum("gk,gkc->gc", sh_basis(direction, degree), sh)).clamp(min=0)
    expected = torch.autograd.grad((rgb * weights).sum(), (centre, sh), allow_unused=True)

    camera = np.zeros(16, np.float32)
    camera[12:15] = origin.numpy()
    colour = (centre.detach().numpy(), sh.detach().numpy())
    basis, out = np.empty((16, 4), np.float32), np.zeros((count, 4), np.float32)
    forward(*colour, camera, basis, out)
    np.testing.assert_allclose(out[:, 1:], rgb.detach().numpy(), rtol=1e-5, atol=1e-5)
    gradients = tuple(np.zeros_like(array) for array in colour)
    backward(colour, camera, weights.numpy(), gradients, basis)
    towards = torch.zeros_like(centre) if expected[0] is None else expected[0]
    np.testing.assert_allclose(gradients[0], towards.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradients[1], expected[1].numpy(), rtol=1e-5, atol=1e-5)
