import math

import pytest
import torch
from torch import Tensor

from roundview.field.march import RaySamples
from roundview.field.regularise import (
    depth_variance_loss,
    eikonal_loss,
    opaque_loss,
    orientation_loss,
    sparsity_loss,
)
from roundview.field.render import Rendered, Shade


def drawn(weight: list[float], normal: Tensor | None = None) -> Rendered:
    """Two rays along -z: the first with two samples at distances 1 and 2, the second with none."""
    share = torch.tensor(weight, requires_grad=True)
    samples = RaySamples(
        torch.tensor([1.0, 2.0]), torch.tensor([0, 0]), torch.tensor([0, 2, 2]), 1.0
    )
    return Rendered(
        torch.zeros(2, 3),
        torch.stack([share.sum(), torch.zeros(())]),
        torch.stack([share[0] + 2 * share[1], torch.zeros(())]),
        None,
        share,
        samples,
        Shade(share, torch.zeros(2, 3), normal),
        torch.tensor([[0.0, 0.0, -1.0]]).expand(2, 3),
        torch.zeros(2, 3),
    )


def test_slope_of_length_one_costs_nothing() -> None:
    slope = torch.tensor([[0.0, 1.0, 0.0], [3.0, 0.0, 0.0]])
    torch.testing.assert_close(eikonal_loss(slope), torch.tensor(2.0))


def test_only_what_turns_its_back_is_oriented() -> None:
    facing, away = [0.0, 0.0, 1.0], [0.0, 0.6, -0.8]
    loss = orientation_loss(drawn([0.5, 0.25], torch.tensor([facing, away])))
    torch.testing.assert_close(loss, torch.tensor(0.25 * 0.64))
    with pytest.raises(ValueError, match="normals=True"):
        orientation_loss(drawn([0.5, 0.25]))


def test_empty_pictures_are_sparse() -> None:
    expected = (math.sqrt(0.75**2 + 0.01) + 0.1) / 2
    torch.testing.assert_close(sparsity_loss(drawn([0.5, 0.25])), torch.tensor(expected))


def test_half_covered_pixels_cost_most() -> None:
    half, full = (float(opaque_loss(drawn(w)).detach()) for w in ([0.3, 0.2], [0.7, 0.3]))
    assert half == pytest.approx((math.log(2) + 0.0079) / 2, abs=1e-3)
    assert full < 0.01


def test_thickness_is_the_variance_of_distance() -> None:
    # Shares 2/3 and 1/3 at distances 1 and 2: variance 2/9.
    loss = depth_variance_loss(drawn([0.5, 0.25]))
    torch.testing.assert_close(loss, torch.tensor(2 / 9))
    loss.backward()
    assert float(depth_variance_loss(drawn([0.1, 0.1])).detach()) == 0
