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


def test_steps_are_those_of_torch_adam() -> None:
    start, goal = pack(gaussians(6)), pack(gaussians(6)) * 3
    ours, theirs = CloudAdam(start), start.clone().requires_grad_()
    reference = torch.optim.Adam([theirs], lr=0.02, eps=1e-15)
    for _ in range(30):
        for rows in (ours.rows, theirs):
            rows.grad = None
            (rows - goal).square().sum().backward()
        ours.step(torch.full((start.shape[1],), 0.02))
        reference.step()
    torch.testing.assert_close(ours.rows, theirs, rtol=1e-5, atol=1e-6)


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
