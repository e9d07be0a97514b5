"""Depth of surfaces: by hand, and the kernel against its reference."""

import pytest
import torch

from roundview.camera import Cameras
from roundview.gaussians import Gaussians
from roundview.splat.median_depth import render_median_depth, render_median_depth_reference
from roundview.splat.render import render_gaussians

DISTANCE = 2.0


def plates(opacity: list[float], depth: list[float]) -> Gaussians:
    """Gaussians so wide that they are of one opacity all over the picture."""
    count = len(opacity)
    centre = torch.zeros(count, 3)
    centre[:, 2] = DISTANCE - torch.tensor(depth)
    quat = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1)
    log_scale = torch.tensor([5.0, 5.0, -5.0]).repeat(count, 1)
    logit = torch.logit(torch.tensor(opacity))
    return Gaussians(centre, log_scale, quat, logit, torch.zeros(count, 1, 3))


def cameras(size_hw: tuple[int, int] = (3, 5), count: int = 1) -> Cameras:
    azimuth = [360.0 * n / count for n in range(count)]
    return Cameras.orbit(azimuth, elevation_deg=0.0, radius=DISTANCE, fov_deg=40.0, size_hw=size_hw)


@pytest.mark.parametrize(
    ("opacity", "expected"),
    [([0.6, 0.5, 0.5], 1.0), ([0.4, 0.3, 0.5], 1.5), ([0.3, 0.2, 0.9], 2.5), ([0.2, 0.1], 0.0)],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_the_surface_is_where_half_the_light_is_gone(
    opacity: list[float], expected: float, backwards: bool
) -> None:
    """Light left: 0.4; 0.6, 0.42; 0.7, 0.56, 0.056; 0.8, 0.72."""
    depth = [1.0, 1.5, 2.5][: len(opacity)]
    subject = plates(opacity[::-1], depth[::-1]) if backwards else plates(opacity, depth)
    for render in (render_median_depth, render_median_depth_reference):
        found = render(subject, cameras())
        torch.testing.assert_close(found, torch.full((1, 3, 5), expected), rtol=1e-5, atol=0.0)


@pytest.mark.kernel
@pytest.mark.parametrize("size_hw", [(1, 1), (9, 17), (40, 33)])
def test_kernel_and_reference_agree(size_hw: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(size_hw[0])
    subject = Gaussians(
        torch.randn(300, 3, generator=rng) * 0.3,
        torch.randn(300, 3, generator=rng) * 0.4 - 2.5,
        torch.randn(300, 4, generator=rng),
        torch.randn(300, generator=rng),
        torch.zeros(300, 1, 3),
    )
    exact = Gaussians(*(getattr(subject, name).double() for name in subject.__dataclass_fields__))
    found = render_median_depth(subject, cameras(size_hw, 3))
    expected = render_median_depth(exact, cameras(size_hw, 3))
    assert expected.dtype == torch.float64
    # Float32 may fall on the other side of a half, a Gaussian earlier or later.
    near = (found - expected).abs() < 1e-5
    assert near.double().mean() > 0.99
    assert found.any() or size_hw == (1, 1)
    alpha = render_gaussians(subject, cameras(size_hw, 3)).alpha
    sure = (alpha - 0.5).abs() > 1e-5
    assert torch.equal((found > 0)[sure], (alpha > 0.5)[sure])


def test_nothing_has_no_surface() -> None:
    nothing = plates([], [])
    for render in (render_median_depth, render_median_depth_reference):
        found = render(nothing, cameras(count=2))
        assert found.shape == (2, 3, 5)
        assert not found.any()
