"""The colour kernel against `sh_basis`, with the derivative that autograd gives."""

import numpy as np
import pytest
import torch

from roundview.rotation import sh_basis
from roundview.splat.colour_numba import add_colour_gradients, put_colours


@pytest.mark.kernel
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colour_and_its_gradient_are_those_of_autograd(degree: int) -> None:
    rng = torch.Generator().manual_seed(degree)
    # As many as the lanes of a block: the gradients come in planes of 16.
    count, terms = 16, (degree + 1) ** 2
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
    put_colours(*colour, (0, count), camera, basis, out, 1)
    np.testing.assert_allclose(out[:, 1:], rgb.detach().numpy(), rtol=1e-5, atol=1e-5)
    gradients = tuple(np.zeros_like(array) for array in colour)
    planes = np.ascontiguousarray(weights.numpy().T).reshape(-1)
    add_colour_gradients(colour, (0, count), camera, planes, gradients, basis)
    towards = torch.zeros_like(centre) if expected[0] is None else expected[0]
    np.testing.assert_allclose(gradients[0], towards.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradients[1], expected[1].numpy(), rtol=1e-5, atol=1e-5)
