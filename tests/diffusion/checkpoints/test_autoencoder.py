import pytest
import torch

from roundview.diffusion.checkpoints.autoencoder import (
    AutoencoderShape,
    autoencoder_shape_from_config,
    autoencoder_shape_from_state,
)
from roundview.diffusion.checkpoints.layout import load_original
from roundview.diffusion.ldm_autoencoder import ClipDecoder, LdmAutoencoder

SMALL = AutoencoderShape(width=32, widths=(1, 1, 2), res_blocks=1)


def test_the_shape_is_told_by_configuration_and_by_tensors() -> None:
    told = {"ch": 32, "ch_mult": [1, 1, 2], "num_res_blocks": 1, "z_channels": 4, "out_ch": 3}
    assert autoencoder_shape_from_config(told) == SMALL
    net = LdmAutoencoder(SMALL)
    assert autoencoder_shape_from_state(net.layout().to_original(net.state_dict())) == SMALL
    with pytest.raises(ValueError, match="outside the middle"):
        autoencoder_shape_from_config({**told, "attn_resolutions": [16]})
    with pytest.raises(ValueError, match="lacks 'ch'"):
        autoencoder_shape_from_config({"ch_mult": [1]})


def test_attention_is_made_of_convolutions_in_the_original() -> None:
    net = LdmAutoencoder(SMALL)
    original = net.layout().to_original(net.state_dict())
    assert original["encoder.mid.attn_1.q.weight"].shape == (64, 64, 1, 1)
    assert original["decoder.up.0.block.1.norm1.weight"].shape == (32,)  # The last, not the first.
    other = LdmAutoencoder(SMALL)
    load_original(other, other.layout(), original)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_the_clip_decoder_has_names_of_its_own() -> None:
    net = ClipDecoder(SMALL)
    original = net.layout().to_original(net.state_dict())
    assert "decoder.conv_out.time_mix_conv.weight" in original
    assert "decoder.mid.block_1.time_stack.in_layers.0.weight" in original
    assert "decoder.mid.block_1.mix_factor" in original
    other = ClipDecoder(SMALL)
    load_original(other, other.layout(), original)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
