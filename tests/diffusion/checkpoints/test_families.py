import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import UNET, mvdream_state, sd1_state, sd2_state, zero123_state
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

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
from roundview.diffusion.checkpoints.transformers_clip import NamedText
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.ldm_autoencoder import LdmAutoencoder
from roundview.diffusion.ldm_unet import LdmUNet, diffusers_config
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


SD2 = UNetShape(
    4, 4, 320, (1, 2, 4, 4), 2, (True, True, True, False), (5, 10, 20, 20), 1024, linear=True
)
SD1 = replace(SD2, heads=(8, 8, 8, 8), context=768, linear=False)


@pytest.mark.parametrize(
    ("shape", "parameters", "known"),
    # Their numbers of parameters are published; their names and shapes are those of networks that
    # were made from them, but for what those have beside.
    [(SD1, 859_520_964, "zero123_ckpt_state_dict"), (SD2, 865_910_724, "mvdream_sd21_unet")],
)
def test_stable_diffusion_at_full_size_has_the_names_of_its_descendants(
    shape: UNetShape, parameters: int, known: str
) -> None:
    with torch.device("meta"):
        network = LdmUNet(shape)
    state = network.layout().to_original(network.state_dict())
    assert sum(tensor.numel() for tensor in state.values()) == parameters
    prefix = "model.diffusion_model."
    others = {n.removeprefix(prefix): t for n, t in names_of(known).items() if prefix in n}
    wanted = {n: t.shape for n, t in others.items() if not n.startswith("camera_embed.")}
    first = "input_blocks.0.0.weight"
    assert {n: t.shape for n, t in state.items() if n != first} == {
        n: shape for n, shape in wanted.items() if n != first
    }
    part = family("sd1" if shape is SD1 else "sd2")[0]
    read = part.measure(state)["shape"]
    assert UNetShape(**read) == shape


@pytest.mark.parametrize(
    ("kind", "made"), [("sd1", sd1_state), ("sd2", sd2_state), ("sd2-v", sd2_state)]
)
def test_a_file_of_stable_diffusion_comes_apart_and_together_again(
    kind: str, made: Callable[[], dict[str, torch.Tensor]]
) -> None:
    state = made()
    buffers = {"betas": torch.ones(1000), "model_ema.decay": torch.ones(())}
    if kind == "sd1":
        position = "cond_stage_model.transformer.text_model.embeddings.position_ids"
        buffers[position] = torch.arange(8)[None]
    networks, sizes = read_networks(kind, state | buffers)
    assert list(networks) == ["unet", "autoencoder", "text_tower"]
    assert isinstance(networks["text_tower"], NamedText) == (kind == "sd1")
    back = original_state(networks, sizes)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    end = "final_layer_norm.weight" if kind == "sd1" else "ln_final.weight"
    cut = {n: t for n, t in state.items() if not n.endswith(end)}
    with pytest.raises(ValueError, match=rf"lacks .*{end}"):
        read_networks(kind, cut)


def test_mvdream_keeps_the_text_tower_of_either_stable_diffusion() -> None:
    state = mvdream_state()
    assert not isinstance(read_networks("mvdream", state)[0]["text_tower"], NamedText)
    first = {n: t for n, t in sd1_state().items() if n.startswith("cond_stage_model.")}
    rest = {n: t for n, t in state.items() if not n.startswith("cond_stage_model.")}
    networks, sizes = read_networks("mvdream", rest | first)
    assert isinstance(networks["text_tower"], NamedText)
    again = empty_networks("mvdream", json.loads(json.dumps(sizes)))
    assert isinstance(again["text_tower"], NamedText)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "made"), [("sd1", sd1_state), ("sd2", sd2_state)])
def test_diffusers_own_conversion_gives_the_same_numbers(
    kind: str, made: Callable[[], dict[str, torch.Tensor]]
) -> None:
    state = made()
    networks = read_networks(kind, state)[0]
    ours = networks["unet"].eval()
    assert isinstance(ours, LdmUNet)
    theirs = UNet2DConditionModel(**diffusers_config(ours.shape)).eval()
    named = convert_ldm_unet_checkpoint(dict(state), dict(theirs.config))
    theirs.load_state_dict(named, strict=True)
    torch.manual_seed(0)
    x, t, tokens = torch.randn(2, 4, 8, 8), torch.tensor([7, 900]), torch.randn(2, 5, 64)
    torch.testing.assert_close(
        ours(x, t, tokens), theirs(x, t, tokens).sample, atol=1e-4, rtol=1e-4
    )


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
