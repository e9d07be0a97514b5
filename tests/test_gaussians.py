"""Claims about clouds of Gaussians: activations by hand, covariances, taking apart and joining."""

import math

import pytest
import torch

from roundview.gaussians import Gaussians, concatenate_gaussians
from roundview.rotation import SH_C0, rotation_from_quat

FIELDS = ("centre", "log_scale", "quat_wxyz", "opacity_logit", "sh")


def cloud(count: int = 5, coefficients: int = 4) -> Gaussians:
    rng = torch.Generator().manual_seed(count)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    return Gaussians(
        numbers(count, 3),
        numbers(count, 3),
        numbers(count, 4),
        numbers(count),
        numbers(count, coefficients, 3),
    )


def single(**change: torch.Tensor) -> Gaussians:
    values = {
        "centre": torch.zeros(1, 3),
        "log_scale": torch.log(torch.tensor([[1.0, 2.0, 3.0]])),
        "quat_wxyz": torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        "opacity_logit": torch.zeros(1),
        "sh": torch.zeros(1, 1, 3),
    }
    return Gaussians(**(values | change))


def test_parameters_are_activated_as_3dgs_does() -> None:
    g = single(opacity_logit=torch.tensor([math.log(3.0)]), sh=torch.tensor([[[1.0, 0.0, -1.0]]]))
    torch.testing.assert_close(g.scale, torch.tensor([[1.0, 2.0, 3.0]]))
    torch.testing.assert_close(g.opacity, torch.tensor([0.75]))
    wanted = torch.tensor([[0.5 + 0.28209479, 0.5, 0.5 - 0.28209479]])
    torch.testing.assert_close(g.base_rgb, wanted)
    assert pytest.approx(0.5 / math.sqrt(math.pi)) == SH_C0


def test_an_unturned_covariance_is_the_squared_scales() -> None:
    torch.testing.assert_close(
        single().covariance(), torch.diag(torch.tensor([1.0, 4.0, 9.0]))[None]
    )


def test_a_quarter_turn_about_z_swaps_x_and_y() -> None:
    half = math.sqrt(0.5)
    turned = single(quat_wxyz=torch.tensor([[half, 0.0, 0.0, half]]))
    torch.testing.assert_close(
        turned.covariance(), torch.diag(torch.tensor([4.0, 1.0, 9.0]))[None], rtol=1e-6, atol=1e-6
    )


def test_covariances_have_the_scales_along_the_axes() -> None:
    """Eigenvectors are the turned axes: S r_k = s_k^2 r_k. Quaternions need not be unit."""
    g = cloud()
    axes = rotation_from_quat(g.quat_wxyz)
    torch.testing.assert_close(
        g.covariance() @ axes, axes * g.scale.square()[:, None, :], rtol=1e-9, atol=1e-9
    )


def test_covariances_have_the_right_gradient() -> None:
    g = cloud(2, 1)
    scale, quat = (t.clone().requires_grad_() for t in (g.log_scale, g.quat_wxyz))
    assert torch.autograd.gradcheck(
        lambda s, q: Gaussians(g.centre, s, q, g.opacity_logit, g.sh).covariance(), (scale, quat)
    )


@pytest.mark.parametrize(("coefficients", "degree"), [(1, 0), (4, 1), (9, 2), (16, 3)])
def test_the_degree_follows_from_the_coefficients(coefficients: int, degree: int) -> None:
    assert cloud(2, coefficients).sh_degree == degree


@pytest.mark.parametrize("coefficients", [0, 2, 5, 25])
def test_other_coefficient_counts_are_refused(coefficients: int) -> None:
    with pytest.raises(ValueError, match=f"1, 4, 9 or 16 coefficients, got {coefficients}"):
        cloud(2, coefficients)


def test_clouds_can_be_taken_apart_and_joined() -> None:
    g = cloud()
    near = g.centre[:, 0] > 0
    both = concatenate_gaussians(g[near], g[~near])
    order = torch.cat([near.nonzero()[:, 0], (~near).nonzero()[:, 0]])
    for field in FIELDS:
        assert torch.equal(getattr(both, field), getattr(g, field)[order])
    assert len(g[:0]) == 0
    assert len(concatenate_gaussians(g[:0], g)) == len(g)


def test_detaching_cuts_every_field() -> None:
    g = Gaussians(*(getattr(cloud(), field).requires_grad_() for field in FIELDS))
    assert all(getattr(g, field).requires_grad for field in FIELDS)
    assert not any(getattr(g.detach(), field).requires_grad for field in FIELDS)
    assert torch.equal(g.to("cpu").centre, g.centre)
