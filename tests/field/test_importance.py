from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.field.importance import STEEPNESS, sample_distribution, samples_near_surface


@pytest.fixture(scope="module")
def golden(repository: Path) -> dict[str, Tensor]:
    with np.load(repository / "tests" / "golden" / "neus_alpha.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def test_even_draws_are_those_of_the_original(golden: dict[str, Tensor]) -> None:
    drawn = sample_distribution(golden["pdf_bins"], golden["pdf_w"], 8)
    torch.testing.assert_close(drawn, golden["pdf_det8"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("inv_s", STEEPNESS)
def test_rounds_are_those_of_the_original(golden: dict[str, Tensor], inv_s: float) -> None:
    distance = golden["up_z"]
    points = golden["up_ro"][:, None] + distance[..., None] * golden["up_rd"][:, None]
    inside = (points.norm(dim=-1) < 1).float()
    drawn = samples_near_surface(distance, golden["up_sdf"], inside, 16, inv_s=inv_s)
    # Sums of 64 weights of which most are 1e-5 alike.
    torch.testing.assert_close(drawn, golden[f"neus_upsample_inv{inv_s:.0f}"], rtol=1e-4, atol=1e-4)


def test_random_draws_follow_the_weights() -> None:
    rng = torch.Generator().manual_seed(0)
    edges = torch.tensor([[0.0, 1.0, 3.0]])
    drawn = sample_distribution(edges, torch.tensor([[1.0, 3.0]]), 4000, rng)
    assert float((drawn < 1).float().mean()) == pytest.approx(0.25, abs=0.03)
    late = drawn[drawn > 1]
    assert float(late.mean()) == pytest.approx(2.0, abs=0.05)


def test_ray_without_weight_is_sampled_evenly() -> None:
    drawn = sample_distribution(torch.tensor([[0.0, 1.0, 2.0]]), torch.zeros(1, 2), 4)
    torch.testing.assert_close(drawn, torch.tensor([[0.25, 0.75, 1.25, 1.75]]))
