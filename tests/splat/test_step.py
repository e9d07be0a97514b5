"""One step of a fit: the kernels against autograd, which says what they must compute."""

import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.gaussians import Gaussians
from roundview.kernels import thread_count
from roundview.losses import mask_loss, ms_ssim, photometric
from roundview.splat.cloud import CENTRE, CloudAdam, pack
from roundview.splat.step import (
    FitGradient,
    LossWeights,
    fit_gradient,
    fit_gradient_reference,
)
from roundview.splat.step_numba import compare_pictures
from roundview.views import Views

ALL = LossWeights(10.0, 1, 0.2, 1.0, opacity=0.5, scale=0.3)
SIZES = ((1, 1), (2, 3), (7, 9), (11, 13), (22, 23), (33, 47), (45, 70), (128, 128), (180, 179))


def rows(count: int, degree: int = 0, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return pack(
        Gaussians(
            torch.randn(count, 3, generator=rng) * 0.3,
            torch.randn(count, 3, generator=rng) * 0.4 - 2.5,
            torch.randn(count, 4, generator=rng),
            torch.randn(count, generator=rng),
            torch.randn(count, (degree + 1) ** 2, 3, generator=rng) * 0.4,
        )
    )


def view(size_hw: tuple[int, int], degree: int = 0) -> Views:
    cameras = Cameras.orbit([20.0], elevation_deg=10.0, radius=1.6, fov_deg=50.0, size_hw=size_hw)
    from_rows = CloudAdam(rows(80, degree, seed=1))
    drawn = fit_gradient(from_rows, blank(cameras), LossWeights(0.0, 1, 0.0, 1.0)).drawn
    return Views(drawn.rgb, drawn.alpha, cameras)


def blank(cameras: Cameras) -> Views:
    shape = (1, *cameras.size_hw)
    return Views(torch.ones(*shape, 3), torch.zeros(shape), cameras)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


@pytest.mark.kernel
@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize(
    "weights",
    [LossWeights(0.0, 1, 1.0, 0.0), LossWeights(2.0, 1, 0.3, 0.7), LossWeights(2.0, 2, 0.0, 0.7)],
    ids=["structure", "absolute", "squared"],
)
def test_the_loss_is_that_of_autograd(size_hw: tuple[int, int], weights: LossWeights) -> None:
    rng = torch.Generator().manual_seed(size_hw[1])
    rgb = torch.rand(1, *size_hw, 3, generator=rng)
    goal = (rgb + 0.1 * torch.randn(rgb.shape, generator=rng)).clamp(0, 1)
    alpha, goal_alpha = (torch.rand(1, *size_hw, generator=rng) for _ in range(2))
    exposure = torch.eye(3, 4) + 0.1 * torch.randn(3, 4, generator=rng)
    compared = compare_pictures(
        (rgb[0].numpy(), alpha[0].numpy()),
        (goal[0].numpy(), goal_alpha[0].numpy()),
        exposure.numpy(),
        weights,
    )
    moved = [tensor.double().requires_grad_() for tensor in (rgb, alpha, exposure)]
    exposed = moved[0] @ moved[2][:, :3].mT + moved[2][:, 3]
    loss = weights.structure * (1 - ms_ssim(exposed, goal.double()))
    loss = loss + weights.photometric * photometric(
        exposed, goal.double(), power=weights.photometric_power
    )
    loss = (loss + weights.mask * mask_loss(moved[1], goal_alpha.double())).sum()
    assert compared.value == pytest.approx(loss.item(), rel=1e-5, abs=2e-6)
    found = (compared.d_rgb, compared.d_alpha, compared.d_exposure)
    for ours, theirs in zip(found, torch.autograd.grad(loss, moved), strict=True):
        # At one pixel the variances are differences of equal numbers.
        assert error(torch.from_numpy(ours), theirs[0] if theirs.dim() > 2 else theirs) < (
            1e-4 if min(size_hw) < 3 else 1e-5
        )


@pytest.mark.kernel
def test_a_flat_picture_has_a_finite_gradient() -> None:
    shape = (40, 40)
    white, black = np.ones((*shape, 3), np.float32), np.zeros((*shape, 3), np.float32)
    alpha = np.zeros(shape, np.float32)
    compared = compare_pictures((white, alpha), (black, alpha), np.eye(3, 4, dtype=np.float32), ALL)
    assert np.isfinite(compared.d_rgb).all()
    # White where black is wanted: structure too poor to push, so colour alone does.
    np.testing.assert_allclose(compared.d_rgb, 10 / (3 * 1600), rtol=1e-3)


@pytest.mark.kernel
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("size_hw", [(31, 45), (64, 64)])
@pytest.mark.parametrize("exposed", [False, True])
def test_the_gradient_is_that_of_autograd(
    degree: int, size_hw: tuple[int, int], exposed: bool
) -> None:
    rng = torch.Generator().manual_seed(degree)
    target = view(size_hw, degree)
    exposure = torch.eye(3, 4) + 0.1 * torch.randn(3, 4, generator=rng) if exposed else None
    pushed = torch.randn(1, *size_hw, 3, generator=rng) * 1e-3

    def more(rgb: Tensor) -> tuple[Tensor, Tensor]:
        return (rgb * pushed).sum(), pushed

    found: list[tuple[FitGradient, Tensor]] = []
    for step in (fit_gradient, fit_gradient_reference):
        cloud = CloudAdam(rows(200, degree))
        done = step(cloud, target, ALL, background=(1.0, 0.9, 0.8), exposure=exposure, more=more)
        assert cloud.rows.grad is not None
        found.append((done, cloud.rows.grad))
    (ours, our_rows), (theirs, their_rows) = found
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    assert error(our_rows, their_rows) < 1e-5
    assert error(ours.pull, theirs.pull) < 1e-5
    if ours.exposure is None or theirs.exposure is None:
        assert not exposed
    else:
        assert error(ours.exposure, theirs.exposure) < 1e-4
    # The same kernels drew both.
    assert torch.equal(ours.drawn.rgb, theirs.drawn.rgb)


def test_the_reference_takes_float64() -> None:
    target = view((20, 24))
    cloud, rough = CloudAdam(rows(50).double()), CloudAdam(rows(50))
    exact = fit_gradient(cloud, target, LossWeights(1.0, 2, 0.0, 1.0))
    found = fit_gradient(rough, target, LossWeights(1.0, 2, 0.0, 1.0))
    assert cloud.rows.grad is not None
    assert rough.rows.grad is not None
    assert exact.loss == pytest.approx(found.loss, rel=1e-4)
    assert error(rough.rows.grad, cloud.rows.grad) < 1e-3


def test_regularisers_alone_pull_at_opacity_and_scale() -> None:
    """Of Gaussians behind the camera: the picture has no say."""
    hidden = rows(4)
    hidden[:, CENTRE] += 100.0
    cloud = CloudAdam(hidden)
    cameras = Cameras.orbit([0.0], elevation_deg=0.0, radius=1.6, fov_deg=50.0, size_hw=(8, 8))
    weights = LossWeights(0.0, 1, 0.0, 0.0, opacity=0.5, scale=0.25)
    done = fit_gradient(cloud, blank(cameras), weights)
    opacity, scale = hidden[:, 10].sigmoid(), hidden[:, 3:6].exp()
    expected_loss = float(0.5 * opacity.mean() + 0.25 * scale.mean())
    assert done.loss == pytest.approx(expected_loss, rel=1e-6)
    expected = torch.zeros_like(hidden)
    expected[:, 10] = 0.5 / 4 * opacity * (1 - opacity)
    expected[:, 3:6] = 0.25 / 12 * scale
    torch.testing.assert_close(cloud.rows.grad, expected)
    assert not done.pull.any()


def test_pull_goes_with_the_place_in_the_picture() -> None:
    """A Gaussian twice as far away and twice as big is pulled at alike."""
    pulls = []
    for distance in (1.0, 2.0):
        cameras = Cameras.orbit(
            [0.0], elevation_deg=0.0, radius=distance, fov_deg=40.0, size_hw=(32, 32)
        )
        row = torch.zeros(1, 14)
        row[0, 0], row[0, 3:6], row[0, 6] = 0.05 * distance, -3.0, 1.0
        row[0, 3:6] += torch.log(torch.tensor(distance))
        pulls.append(fit_gradient(CloudAdam(row), blank(cameras), ALL).pull)
    assert pulls[0] > 0
    torch.testing.assert_close(pulls[0], pulls[1], rtol=1e-4, atol=0.0)


@pytest.mark.kernel
def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROUNDVIEW_THREADS", raising=False)
    if thread_count() < 2:
        pytest.skip("needs two cores and NUMBA_NUM_THREADS of at least two")
    target, found = view((101, 131), 1), []
    for threads in ("1", "2"):
        monkeypatch.setenv("ROUNDVIEW_THREADS", threads)
        cloud = CloudAdam(rows(5000, 1))
        done = fit_gradient(cloud, target, ALL, exposure=torch.eye(3, 4))
        assert done.exposure is not None
        assert cloud.rows.grad is not None
        gradient = cloud.rows.grad
        cloud.step(torch.full((cloud.rows.shape[1],), 0.01))
        found.append((done.loss, done.exposure, done.pull, gradient, cloud.rows.detach()))
    assert found[0][0] == found[1][0]
    for one, two in zip(found[0][1:], found[1][1:], strict=True):
        assert torch.equal(one, two)


def test_no_gaussian_at_all_has_the_loss_of_the_background() -> None:
    target = view((16, 16))
    cloud = CloudAdam(rows(0))
    done = fit_gradient(cloud, target, LossWeights(1.0, 1, 0.0, 0.0, opacity=1.0, scale=1.0))
    assert done.loss == pytest.approx(float((1 - target.rgb).abs().mean()), rel=1e-5)
    assert done.pull.shape == (0,)


def test_more_than_one_view_is_refused() -> None:
    cameras = Cameras.orbit(
        [0.0, 90.0], elevation_deg=0.0, radius=1.6, fov_deg=50.0, size_hw=(8, 8)
    )
    two = Views(torch.ones(2, 8, 8, 3), torch.zeros(2, 8, 8), cameras)
    with pytest.raises(ValueError, match="one view, got 2"):
        fit_gradient(CloudAdam(rows(3)), two, ALL)


def test_steps_lower_the_loss() -> None:
    target = view((40, 40))
    cloud = CloudAdam(rows(150))
    losses = []
    for _ in range(40):
        losses.append(fit_gradient(cloud, target, LossWeights(10.0, 1, 0.2, 1.0)).loss)
        cloud.step(torch.full((cloud.rows.shape[1],), 0.02))
    assert losses[-1] < 0.5 * losses[0]
