from dataclasses import replace

import pytest
import torch

from roundview.diffusion.checkpoints.layout import load_original
from roundview.diffusion.checkpoints.unet import (
    UNetShape,
    shape_from_config,
    shape_from_state,
)
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.video_unet import VideoUNet

CONFIG = {
    "in_channels": 8,
    "out_channels": 4,
    "model_channels": 32,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 2, 4],
    "num_heads": 8,
    "context_dim": 24,
}
SD2 = {**CONFIG, "num_head_channels": 16, "use_linear_in_transformer": True}


def test_a_configuration_says_heads_by_number_or_by_width() -> None:
    assert shape_from_config(CONFIG).heads == (8, 8, 8, 8)
    assert shape_from_config(SD2).heads == (2, 4, 4, 8)
    assert shape_from_config(CONFIG).attends == (True, True, True, False)
    assert shape_from_config(CONFIG).channels == (32, 64, 64, 128)


@pytest.mark.parametrize("lacking", ["model_channels", "channel_mult", "context_dim"])
def test_an_incomplete_configuration_is_refused(lacking: str) -> None:
    config = {key: value for key, value in CONFIG.items() if key != lacking}
    with pytest.raises(ValueError, match=lacking):
        shape_from_config(config)


def test_widths_that_no_normalisation_divides_are_refused() -> None:
    with pytest.raises(ValueError, match="33 channels"):
        shape_from_config({**CONFIG, "model_channels": 33})


@pytest.mark.parametrize(
    ("shape", "video"),
    [
        (shape_from_config(CONFIG), False),
        (shape_from_config({**SD2, "camera_dim": 16}), False),
        (shape_from_config({**SD2, "adm_in_channels": 48, "num_classes": "sequential"}), True),
        (replace(shape_from_config(SD2), attends=(True,), widths=(1,), heads=(2,)), False),
    ],
)
def test_every_tensor_has_one_original_name_and_the_shape_is_read_off(
    shape: UNetShape, video: bool
) -> None:
    with torch.device("meta"):
        net = VideoUNet(shape) if video else LdmUNet(shape)
    original = net.layout().to_original(net.state_dict())
    told = shape_from_state(original, heads=0 if shape.linear else 8)
    # Heads of 16 channels are this test's; a checkpoint's have 64.
    assert replace(told, heads=shape.heads) == shape
    assert "input_blocks.0.0.weight" in original
    assert "out.2.bias" in original
    if video:
        assert "middle_block.0.time_mixer.mix_factor" in original
        assert "input_blocks.1.1.time_stack.0.ff_in.net.0.proj.weight" in original
        assert "label_emb.0.2.weight" in original


def test_weights_go_there_and_back_bit_by_bit() -> None:
    shape = replace(shape_from_config(SD2), camera=16)
    net, other = LdmUNet(shape), LdmUNet(shape)
    original = net.layout().to_original(net.state_dict())
    load_original(other, other.layout(), original)
    again = other.layout().to_original(other.state_dict())
    assert all(torch.equal(again[name], tensor) for name, tensor in original.items())


def test_what_is_no_unet_is_refused() -> None:
    with pytest.raises(ValueError, match="no UNet in the LDM layout"):
        shape_from_state({"input_blocks.0.0.weight": torch.ones(4, 4, 3, 3)})
