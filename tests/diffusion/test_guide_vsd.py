"""Variational score distillation by hand, and the additions to a real UNet."""

import pytest
import torch
from torch import Tensor

from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.ddim import ScaledLinear
from roundview.diffusion.guide import noised, shares_at
from roundview.diffusion.guide_vsd import (
    Lora,
    noise_from_velocity,
    shown_camera,
    vsd_gradient,
    vsd_training_loss,
)
from roundview.diffusion.ldm_unet import LdmUNet

SHARES = ScaledLinear().alphas_cumprod()
TINY = UNetShape(
    in_channels=4,
    out_channels=4,
    width=32,
    widths=(1, 1),
    res_blocks=1,
    attends=(True, False),
    heads=(2, 2),
    context=8,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_gradient_is_the_difference_of_the_two_models() -> None:
    clean, noise = torch.randn(2, 2, 3, generator=seeded(0))
    t = torch.tensor([100, 900])
    gradient = vsd_gradient(
        lambda x, _t: x + 2, lambda x, _t: x - 1, clean, t, noise, shares=SHARES
    )
    expected = 3 * (1 - SHARES[t]).float()[:, None].expand(2, 3)
    torch.testing.assert_close(gradient, expected)


def test_a_copy_that_tells_velocities_says_the_same() -> None:
    clean, noise = torch.randn(2, 2, 3, generator=seeded(1), dtype=torch.float64)
    t = torch.tensor([50, 700])
    share = shares_at(SHARES, t, clean)
    velocity = share.sqrt() * noise - (1 - share).sqrt() * clean
    torch.testing.assert_close(
        noise_from_velocity(noised(clean, noise, share), velocity, share), noise
    )
    gradient = vsd_gradient(
        lambda _x, _t: noise,
        lambda _x, _t: velocity,
        clean,
        t,
        noise,
        shares=SHARES,
        target="velocity",
    )
    assert float(gradient.abs().max()) < 1e-12
    loss = vsd_training_loss(
        lambda _x, _t: velocity, clean, t, noise, shares=SHARES, target="velocity"
    )
    assert float(loss) == 0


def test_the_training_loss_is_the_mean_squared_error() -> None:
    clean, noise = torch.zeros(2, 3), torch.ones(2, 3)
    loss = vsd_training_loss(
        lambda _x, _t: 3 * noise, clean, torch.tensor([1, 2]), noise, shares=SHARES
    )
    assert float(loss) == 4


def test_cameras_are_hidden_a_tenth_of_the_time() -> None:
    rng, camera = seeded(2), torch.ones(1, 16)
    hidden = sum(not bool(shown_camera(camera, rng).any()) for _ in range(500))
    assert 30 <= hidden <= 70  # Three deviations of 6.7 about 50.
    assert bool(shown_camera(camera, rng, dropout=0.0).all())


def test_additions_are_off_unless_switched_on_and_learn() -> None:
    torch.manual_seed(0)
    unet = LdmUNet(TINY).eval().requires_grad_(False)
    x, t = torch.randn(2, 4, 8, 8, generator=seeded(3)), torch.tensor([10, 500])
    tokens, camera = torch.randn(2, 1, 8, generator=seeded(4)), torch.ones(2, 16)
    before = unet(x, t, tokens)
    lora = Lora(unet, seeded(5), rank=2)
    assert torch.equal(unet(x, t, tokens), before)
    optimiser = torch.optim.AdamW(lora.parameters(), lr=1e-2)
    losses: list[float] = []

    def learned(x: Tensor, t: Tensor) -> Tensor:
        with lora.on(camera):
            return unet(x, t, tokens)

    noise = torch.randn(x.shape, generator=seeded(6))
    for _ in range(5):
        loss = vsd_training_loss(learned, x, t, noise, shares=SHARES)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert torch.equal(unet(x, t, tokens), before)
    assert not torch.equal(learned(x, t), before)
    assert all(p.grad is None for p in unet.parameters())


def test_only_the_camera_matters_at_first() -> None:
    torch.manual_seed(0)
    unet = LdmUNet(TINY).eval().requires_grad_(False)
    lora = Lora(unet, seeded(7))
    for parameter in lora.camera_embedding.parameters():
        torch.nn.init.zeros_(parameter)
    x, t, tokens = torch.ones(1, 4, 8, 8), torch.tensor([10]), torch.ones(1, 1, 8)
    before = unet(x, t, tokens)
    with lora.on(torch.ones(1, 16)):
        assert torch.equal(unet(x, t, tokens), before)


def test_a_network_without_attention_is_refused() -> None:
    with pytest.raises(ValueError, match="no attention layers"):
        Lora(torch.nn.Linear(2, 2), seeded(8))
