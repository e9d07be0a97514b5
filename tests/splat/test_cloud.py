import pytest
import torch

from roundview.gaussians import Gaussians
from roundview.splat.cloud import CloudAdam, pack, unpack


def gaussians(count: int, coefficients: int = 4) -> Gaussians:
    rng = torch.Generator().manual_seed(count)
    return Gaussians(
        torch.randn(count, 3, generator=rng),
        torch.randn(count, 3, generator=rng),
        torch.randn(count, 4, generator=rng),
        torch.randn(count, generator=rng),
        torch.randn(count, coefficients, 3, generator=rng),
    )


@pytest.mark.parametrize("count", [0, 1, 5])
def test_unpack_undoes_pack(count: int) -> None:
    before = gaussians(count)
    after = unpack(pack(before))
    for field in ("centre", "log_scale", "quat_wxyz", "opacity_logit", "sh"):
        assert torch.equal(getattr(before, field), getattr(after, field))


def test_gradients_reach_the_rows() -> None:
    rows = pack(gaussians(3)).requires_grad_()
    (unpack(rows).opacity_logit.sum() * 2 + unpack(rows).sh[:, 1, 2].sum()).backward()
    assert rows.grad is not None
    expected = torch.zeros_like(rows)
    expected[:, 10], expected[:, 16] = 2.0, 1.0
    assert torch.equal(rows.grad, expected)


def test_steps_are_those_of_the_paper() -> None:
    """Kingma and Ba 2015, algorithm 1, written out in float64."""
    start, goal = pack(gaussians(6)), pack(gaussians(6)) * 3
    cloud, x = CloudAdam(start), start.double()
    mean, square = torch.zeros_like(x), torch.zeros_like(x)
    for t in range(1, 31):
        (cloud.rows - goal).square().sum().backward()
        cloud.step(torch.full((start.shape[1],), 0.02))
        gradient = 2 * (x - goal)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient.square()
        x = x - 0.02 * mean / (1 - 0.9**t) / ((square / (1 - 0.999**t)).sqrt() + 1e-15)
    torch.testing.assert_close(cloud.rows.detach(), x.float(), rtol=1e-5, atol=1e-5)


def test_each_column_moves_at_its_own_rate() -> None:
    cloud = CloudAdam(torch.zeros(2, 14))
    cloud.rows.sum().backward()
    rates = torch.arange(14.0)
    cloud.step(rates)
    # The first step of Adam is the rate itself, against the sign of the gradient.
    torch.testing.assert_close(cloud.rows.detach(), -rates.expand(2, 14), rtol=1e-5, atol=1e-6)
    assert cloud.rows.grad is None


def test_new_rows_take_their_parents_momentum() -> None:
    cloud = CloudAdam(torch.zeros(3, 14))
    (cloud.rows * torch.tensor([[1.0], [-1.0], [0.0]])).sum().backward()
    cloud.step(torch.ones(14))
    parent = cloud.rows.detach()[1:2]
    cloud.replace(torch.tensor([True, False, True]), parent, torch.tensor([1]))
    assert cloud.rows.shape == (3, 14)
    assert cloud.rows.requires_grad
    before = cloud.rows.detach().clone()
    cloud.rows.grad = torch.zeros_like(cloud.rows)
    cloud.step(torch.ones(14))
    # Without a gradient momentum alone moves them: down, nowhere, up.
    assert (cloud.rows - before).detach().sign()[:, 0].tolist() == [-1, 0, 1]


def test_a_step_without_a_gradient_is_refused() -> None:
    with pytest.raises(ValueError, match="no gradient"):
        CloudAdam(torch.zeros(1, 14)).step(torch.ones(14))
