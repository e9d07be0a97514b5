import pytest
import torch

from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.video_unet import VideoUNet, diffusers_config, sinusoids

SHAPE = UNetShape(
    in_channels=8,
    out_channels=4,
    width=32,
    widths=(1, 1),
    res_blocks=1,
    attends=(True, False),
    heads=(2, 2),
    context=24,
    linear=True,
    vector=48,
)


def test_sinusoids_are_cosines_then_sines() -> None:
    told = sinusoids(torch.tensor([[2.0, 0.0]]), 4)
    # Frequencies 1 and 1 / 100.
    expected = [-0.41614684, 0.99980001, 0.90929743, 0.01999867, 1, 1, 0, 0]
    torch.testing.assert_close(told, torch.tensor([expected]), atol=1e-6, rtol=0)
    assert sinusoids(torch.tensor([[2.0]]), 5)[0, 4] == 0


@torch.no_grad()
def test_still_frames_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    net = VideoUNet(SHAPE).eval()
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(1, 3, 8, 8, 8, generator=rng)
    told = (torch.zeros(1), torch.randn(1, 1, 24, generator=rng), torch.zeros(1, 48))
    changed = x.clone()
    changed[:, 2] += 1
    still, moving = net(x, *told, still=True), net(x, *told)
    torch.testing.assert_close(net(changed, *told, still=True)[:, 0], still[:, 0])
    assert float((net(changed, *told)[:, 0] - moving[:, 0]).abs().max()) > 1e-4


@torch.no_grad()
def test_a_vector_a_clip_is_that_vector_for_each_frame() -> None:
    torch.manual_seed(0)
    net = VideoUNet(SHAPE).eval()
    x, tokens = torch.zeros(2, 3, 8, 8, 8), torch.zeros(2, 1, 24)
    vector = torch.randn(2, 48, generator=torch.Generator().manual_seed(1))
    per_frame = vector[:, None].expand(2, 3, 48)
    c_noise = torch.zeros(2)
    torch.testing.assert_close(net(x, c_noise, tokens, vector), net(x, c_noise, tokens, per_frame))


def test_a_picture_network_is_refused() -> None:
    with pytest.raises(ValueError, match="vector beside the time"):
        diffusers_config(UNetShape(4, 4, 32, (1,), 1, (True,), (2,), 24))
