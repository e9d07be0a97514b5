import json

import pytest
import torch
from checkpoints_tiny import UNET, zero123_state

from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.checkpoints.families import (
    FAMILIES,
    FirstStage,
    empty_networks,
    family,
    original_state,
    read_networks,
)
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.ldm_autoencoder import LdmAutoencoder
from roundview.diffusion.video_unet import VideoUNet

VIDEO = UNetShape(17, 4, 64, (1, 1), 1, (True, True), (1, 1), 24, linear=True, vector=32)
SMALL = AutoencoderShape(width=32, widths=(1, 1), res_blocks=1)


def test_a_zero123_checkpoint_comes_apart_and_together_again() -> None:
    state = zero123_state()
    networks, sizes = read_networks("zero123", {**state, "betas": torch.ones(1000)})
    assert list(networks) == ["net", "autoencoder", "image_tower"]
    assert networks["net"].unet.shape == UNET
    back = original_state(networks, sizes)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_sizes_survive_json() -> None:
    networks, sizes = read_networks("zero123", zero123_state())
    again = empty_networks("zero123", json.loads(json.dumps(sizes)))
    for name, network in networks.items():
        shapes = {n: t.shape for n, t in network.state_dict().items()}
        assert {n: t.shape for n, t in again[name].state_dict().items()} == shapes


def test_a_video_checkpoint_has_a_decoder_for_clips_and_an_encoder_of_its_own() -> None:
    torch.manual_seed(0)
    unet, stage, encoder = VideoUNet(VIDEO), FirstStage(SMALL), LdmAutoencoder(SMALL)
    parts = (
        ("model.diffusion_model.", unet),
        ("first_stage_model.", stage),
        ("conditioner.embedders.3.encoder.", encoder),
    )
    state = {
        prefix + name: tensor
        for prefix, network in parts
        for name, tensor in network.layout().to_original(network.state_dict()).items()
    }
    networks, sizes = read_networks("hi3d", state)
    assert list(networks) == ["unet", "first_stage", "condition_encoder"]
    assert sizes["first_stage"]["video"]
    back = original_state(networks, sizes)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_the_wrong_family_is_told() -> None:
    with pytest.raises(ValueError, match="no svd checkpoint"):
        read_networks("svd", {"layer1.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"--kind 'sd' is unknown; there are: zero123"):
        family("sd")
    assert {"zero123", "svd", "sv3d", "hi3d", "mvdream", "imagedream", "isotropic3d"} <= set(
        FAMILIES
    )
