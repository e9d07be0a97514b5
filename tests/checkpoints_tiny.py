"""Checkpoints in original layouts at reduced width, with random weights."""

import torch
from torch import Tensor

from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.clip import ClipShape, ClipTower
from roundview.diffusion.ldm_autoencoder import LdmAutoencoder
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
