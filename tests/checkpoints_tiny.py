"""Checkpoints in original layouts at reduced width, with random weights."""

import torch
from torch import Tensor

from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.checkpoints.families import FirstStage
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.clip import ClipShape, ClipTower
from roundview.diffusion.clip_text import ClipText, ClipTextShape
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
