import gzip
import json
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import UNET, zero123_state

from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.checkpoints.families import (
    FAMILIES,
    LEFT_OUT,
    FirstStage,
    empty_networks,
    family,
    layout_of_network,
    original_state,
    read_networks,
)
from roundview.diffusion.checkpoints.layout import load_original
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.ldm_autoencoder import LdmAutoencoder
from roundview.diffusion.video_unet import VideoUNet

VIDEO = UNetShape(17, 4, 64, (1, 1), 1, (True, True), (1, 1), 24, linear=True, vector=32)
KEYS = Path(__file__).parents[2] / "golden" / "keys"
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


def names_of(list_of_keys: str) -> dict[str, torch.Tensor]:
    """A full-size checkpoint's tensors, without their numbers."""
    keys = json.loads(gzip.decompress((KEYS / f"{list_of_keys}.json.gz").read_bytes()))
    return {name: torch.empty(shape, device="meta") for name, shape in keys.items()}


# Video checkpoints differ in few names; the others are asked with --slow.
WHOLE = [
    ("zero123_ckpt_state_dict", "zero123"),
    ("svd_state_dict", "svd"),
    *(
        pytest.param(f"{name}_state_dict", kind, marks=pytest.mark.slow)
        for name, kind in (
            ("svd_image_decoder", "svd"),
            ("sv3d_u", "sv3d"),
            ("sv3d_p", "sv3d"),
            ("hi3d_first_stage", "hi3d"),
            ("hi3d_second_stage", "hi3d"),
        )
    ),
]


@pytest.mark.parametrize(("name", "kind"), WHOLE)
def test_full_size_checkpoints_go_there_and_back(name: str, kind: str) -> None:
    state = names_of(name)
    networks, sizes = read_networks(kind, state)
    back = original_state(networks, sizes)
    needed = {n: t.shape for n, t in state.items() if n in back or not n.startswith(LEFT_OUT)}
    assert {n: t.shape for n, t in back.items()} == needed
    # Of CLIP's other half, and of means and schedules, nothing is needed.
    spare = len(state) - len(back)
    assert spare == (706 if kind == "zero123" else 6)


@pytest.mark.parametrize(
    ("name", "kind"), [("mvdream_sd21_unet", "mvdream"), ("imagedream_ipmv_unet", "imagedream")]
)
def test_full_size_networks_go_there_and_back(name: str, kind: str) -> None:
    part = family(kind)[0]
    _, state = part.taken(names_of(name))
    assert len(state) == len(names_of(name))
    with torch.device("meta"):
        network = part.build(part.measure(state))
    load_original(network, layout_of_network(network), state)
    back = layout_of_network(network).to_original(network.state_dict())
    assert {n: t.shape for n, t in back.items()} == {n: t.shape for n, t in state.items()}


def test_a_tensor_that_nobody_needs_is_named() -> None:
    state = {**zero123_state(), "control_model.input_hint_block.0.weight": torch.ones(1)}
    with pytest.raises(ValueError, match=r"zero123 checkpoint has unknown control_model\.input_hi"):
        read_networks("zero123", state)
    # An autoencoder is taken out of any file.
    assert list(read_networks("autoencoder", state)[0]) == ["autoencoder"]


def test_the_wrong_family_is_told() -> None:
    with pytest.raises(ValueError, match="no svd checkpoint"):
        read_networks("svd", {"layer1.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"--kind 'sd' is unknown; there are: zero123"):
        family("sd")
    assert {"zero123", "svd", "sv3d", "hi3d", "mvdream", "imagedream", "isotropic3d"} <= set(
        FAMILIES
    )
