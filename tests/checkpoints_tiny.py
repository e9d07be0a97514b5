"""Checkpoints in original layouts at reduced width, with random weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.checkpoints.dpt import DptShape
from roundview.diffusion.checkpoints.families import FirstStage, layout_of_network
from roundview.diffusion.checkpoints.transformers_clip import NamedText
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.clip import ClipShape, ClipTower
from roundview.diffusion.clip_text import ClipText, ClipTextShape
from roundview.diffusion.dpt import DptHybrid
from roundview.diffusion.imagedream import ImageDreamUNet, ResamplerShape
from roundview.diffusion.ldm_autoencoder import LdmAutoencoder
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.video_unet import VideoUNet
from roundview.diffusion.zero123 import Zero123Net

UNET = UNetShape(8, 4, 32, (1, 1), 1, (True, True), (8, 8), 24)
AUTOENCODER = AutoencoderShape(width=32, widths=(1, 1), res_blocks=1)
TOWER = ClipShape(width=64, layers=1, heads=1, patch=14, side=28, out=24, quick=False)


def zero123_state(*, tower: bool = True) -> dict[str, Tensor]:
    """As in a Lightning file's `state_dict`, numbers rounded to half precision."""
    torch.manual_seed(0)
    net, autoencoder, images = Zero123Net(UNET), LdmAutoencoder(AUTOENCODER), ClipTower(TOWER)
    state = net.layout().to_original(net.state_dict())
    named = autoencoder.layout().to_original(autoencoder.state_dict())
    state |= {f"first_stage_model.{name}": tensor for name, tensor in named.items()}
    if tower:
        for name, tensor in images.state_dict().items():
            state[f"cond_stage_model.model.visual.{name}"] = tensor
    return {name: tensor.half().float() for name, tensor in state.items()}


VIDEO = UNetShape(8, 4, 64, (1,), 1, (True,), (1,), 24, linear=True, vector=768)
# Three halvings: latents are an eighth of the pictures.
CODEC = AutoencoderShape(width=32, widths=(1, 1, 1, 1), res_blocks=1)


def hi3d_state() -> dict[str, Tensor]:
    """As in Hi3D's first stage, without its aesthetic network."""
    torch.manual_seed(0)
    unet, stage, condition, tower = (
        VideoUNet(VIDEO),
        LdmAutoencoder(CODEC),
        LdmAutoencoder(CODEC),
        ClipTower(TOWER),
    )
    named = {
        "model.diffusion_model.": unet.layout().to_original(unet.state_dict()),
        "first_stage_model.": stage.layout().to_original(stage.state_dict()),
        "conditioner.embedders.3.encoder.": condition.layout().to_original(condition.state_dict()),
        "conditioner.embedders.0.open_clip.model.visual.": tower.state_dict(),
    }
    return {
        prefix + name: tensor.half().float()
        for prefix, tensors in named.items()
        for name, tensor in tensors.items()
    }


def svd_state() -> dict[str, Tensor]:
    """As in Stable Video Diffusion's file: a decoder of clips, and an encoder of its own."""
    torch.manual_seed(2)
    stage = FirstStage(CODEC)
    named = stage.layout().to_original(stage.state_dict())
    rest = {n: t for n, t in hi3d_state().items() if not n.startswith("first_stage_model.")}
    return rest | {
        f"first_stage_model.{name}": tensor.half().float() for name, tensor in named.items()
    }


DEPTH = UNetShape(5, 4, 64, (1,), 1, (True,), (1,), 64, linear=True)
# 512 letters, one merge, beginning and end.
TEXT = ClipTextShape(64, 2, 1, 515, 8, 24, 2.0)


def sd2_depth_state() -> dict[str, Tensor]:
    """As in Stable Diffusion 2's file of the model that knows depth, without its MiDaS."""
    torch.manual_seed(3)
    unet, codec, text = LdmUNet(DEPTH), LdmAutoencoder(CODEC), ClipText(TEXT)
    named = {
        "model.diffusion_model.": unet.layout().to_original(unet.state_dict()),
        "first_stage_model.": codec.layout().to_original(codec.state_dict()),
        "cond_stage_model.model.": text.state_dict(),
    }
    return {
        prefix + name: tensor.half().float()
        for prefix, tensors in named.items()
        for name, tensor in tensors.items()
    }


PICTURE = UNetShape(4, 4, 64, (1,), 1, (True,), (8,), 64)
NAMED_TEXT = ClipTextShape(64, 2, 1, 515, 8, 0, 2.0, quick=True, skipped=0)


def _all_of(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Name networks' tensors as the original does, each under its prefix; round them."""
    return {
        prefix + name: tensor.half().float().contiguous()
        for prefix, network in networks.items()
        for name, tensor in layout_of_network(network).to_original(network.state_dict()).items()
    }


def sd1_state() -> dict[str, Tensor]:
    """As in Stable Diffusion 1.5's file, whose text tower has transformers' names."""
    torch.manual_seed(7)
    return _all_of(
        {
            "model.diffusion_model.": LdmUNet(PICTURE),
            "first_stage_model.": LdmAutoencoder(CODEC),
            "cond_stage_model.transformer.": NamedText(NAMED_TEXT),
        }
    )


def sd2_state() -> dict[str, Tensor]:
    """As in Stable Diffusion 2.1's file."""
    torch.manual_seed(8)
    return _all_of(
        {
            "model.diffusion_model.": LdmUNet(replace(DEPTH, in_channels=4)),
            "first_stage_model.": LdmAutoencoder(CODEC),
            "cond_stage_model.model.": ClipText(TEXT),
        }
    )


def mvdream_state() -> dict[str, Tensor]:
    """As in MVDream's file."""
    torch.manual_seed(9)
    unet = LdmUNet(replace(DEPTH, in_channels=4, camera=16))
    return sd2_state() | _all_of({"model.diffusion_model.": unet})


def imagedream_state() -> dict[str, Tensor]:
    """As in ImageDream's file, whose autoencoder and towers have prefixes of their own."""
    torch.manual_seed(10)
    shape = replace(DEPTH, in_channels=4, camera=16)
    tokens = ResamplerShape(features=64, width=64, depth=1, heads=1, tokens=4, context=64)
    return _all_of(
        {
            "model.diffusion_model.": ImageDreamUNet(shape, tokens),
            "vae_model.": LdmAutoencoder(CODEC),
            "clip_model.model.visual.": ClipTower(TOWER),
            "clip_model.model.": ClipText(TEXT),
        }
    )


def hi3d_second_state() -> dict[str, Tensor]:
    """As in Hi3D's second stage: 17 channels go into it, and its vector has two numbers."""
    torch.manual_seed(1)
    unet = VideoUNet(replace(VIDEO, in_channels=17, vector=512))
    named = unet.layout().to_original(unet.state_dict())
    rest = {n: t for n, t in hi3d_state().items() if not n.startswith("model.diffusion_model.")}
    return rest | {
        f"model.diffusion_model.{name}": tensor.half().float() for name, tensor in named.items()
    }


VIEWS = UNetShape(4, 4, 64, (1,), 1, (True,), (1,), 24, linear=True, camera=16)


def isotropic3d_state() -> dict[str, Tensor]:
    """As in Isotropic3D's file, whose text tower lost its blocks."""
    torch.manual_seed(4)
    unet, codec, tower = LdmUNet(VIEWS), LdmAutoencoder(CODEC), ClipTower(TOWER)
    named = {
        "model.diffusion_model.": unet.layout().to_original(unet.state_dict()),
        "first_stage_model.": codec.layout().to_original(codec.state_dict()),
        "cond_stage_model.model.visual.": tower.state_dict(),
        "cond_stage_model.model.": {
            "token_embedding.weight": torch.zeros(515, 24),
            "positional_embedding": torch.zeros(8, 24),
            "text_projection": torch.zeros(24, 24),
            "ln_final.weight": torch.ones(24),
            "ln_final.bias": torch.zeros(24),
            "logit_scale": torch.ones(()),
        },
        "": {"betas": torch.zeros(1000), "alphas_cumprod": torch.zeros(1000)},
    }
    return {
        prefix + name: tensor.half().float()
        for prefix, tensors in named.items()
        for name, tensor in tensors.items()
    }


MIDAS = DptShape(64, 4, 1, 128, (0, 1, 2, 3), 32, 32, (128, 128, 128), (1, 1, 1), 32)


def midas_state() -> dict[str, Tensor]:
    """As in MiDaS' file of DPT-hybrid."""
    pytest.importorskip("transformers")
    torch.manual_seed(6)
    network = DptHybrid(MIDAS)
    state = network.layout().to_original(network.state_dict())
    return {name: tensor.half().float().contiguous() for name, tensor in state.items()}


SHEET = UNetShape(4, 4, 64, (1,), 1, (True,), (1,), 24, linear=True)
# As Zero123++'s: the empty prompt has as many tokens as its ramp has numbers.
SHEET_TEXT = ClipTextShape(24, 1, 1, 515, 8, 0, 2.0, skipped=0)


def zero123plus_folder(folder: Path) -> Path:
    """As Zero123++'s folder of diffusers, written by diffusers and transformers themselves."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(5)
    LdmUNet(SHEET).unet.half().save_pretrained(folder / "unet")
    LdmAutoencoder(CODEC).net.half().save_pretrained(folder / "vae")
    tower = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1}
    tower |= {"num_attention_heads": 1, "patch_size": 14, "image_size": 28, "projection_dim": 24}
    vision = transformers.CLIPVisionConfig(**tower, hidden_act="gelu")
    transformers.CLIPVisionModelWithProjection(vision).half().save_pretrained(
        folder / "vision_encoder"
    )
    words = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1}
    words |= {"num_attention_heads": 1, "vocab_size": 515, "max_position_embeddings": 8}
    text = transformers.CLIPTextConfig(
        **words, hidden_act="gelu", bos_token_id=513, eos_token_id=514, pad_token_id=0
    )
    transformers.CLIPTextModel(text).half().save_pretrained(folder / "text_encoder")
    ramp = [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875]
    index = {"_class_name": "Zero123PlusPipeline", "ramping_coefficients": ramp}
    (folder / "model_index.json").write_text(json.dumps(index))
    prepared = {"image_mean": [0.5] * 3, "image_std": [0.8] * 3, "size": {"shortest_edge": 32}}
    (folder / "feature_extractor_vae").mkdir()
    (folder / "feature_extractor_vae" / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder
