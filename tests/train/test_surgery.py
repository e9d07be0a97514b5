import pytest
import torch

from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.video_unet import VideoUNet
from roundview.train.surgery import moved_columns, refiner_from_orbit, widened

ORBIT = UNetShape(8, 4, 32, (1,), 1, (True,), (2,), 24, linear=True, vector=768)
REFINER = UNetShape(17, 4, 32, (1,), 1, (True,), (2,), 24, linear=True, vector=512)


def test_columns_move_where_they_are_sent() -> None:
    old = torch.tensor([[1.0, 2.0, 3.0]])
    assert moved_columns(old, [2, None, 0]).tolist() == [[3.0, 0.0, 1.0]]


def test_new_channels_are_not_heard() -> None:
    state = {"unet.conv_in.weight": torch.ones(2, 4, 3, 3), "other": torch.ones(1)}
    new = widened(state, 8)
    assert new["unet.conv_in.weight"][:, :, 0, 0].tolist() == [[1.0] * 4 + [0.0] * 4] * 2
    assert new["other"] is state["other"]


@pytest.mark.parametrize("tells_elevation", [False, True])
def test_the_refiner_begins_with_the_columns_of_the_orbit_network(tells_elevation: bool) -> None:
    torch.manual_seed(0)
    old = VideoUNet(ORBIT).state_dict()
    new = refiner_from_orbit(old, latents=4, tells_elevation=tells_elevation)
    VideoUNet(REFINER).load_state_dict(new, strict=True)
    conv, before = new["unet.conv_in.weight"], old["unet.conv_in.weight"]
    assert torch.equal(conv[:, :4], before[:, :4])
    assert not bool(conv[:, 4:13].any())
    assert torch.equal(conv[:, 13:], before[:, 4:])
    vector = new["unet.add_embedding.linear_1.weight"]
    was = old["unet.add_embedding.linear_1.weight"]
    assert torch.equal(vector[:, 256:], was[:, 512:])
    wanted = was[:, 256:512] if tells_elevation else torch.zeros_like(was[:, 256:512])
    assert torch.equal(vector[:, :256], wanted)


def test_a_network_of_another_size_is_refused() -> None:
    state = VideoUNet(REFINER).state_dict()
    with pytest.raises(ValueError, match="8 channels and 768 numbers, this one takes 17 and 512"):
        refiner_from_orbit(state, latents=4, tells_elevation=True)
