"""Isotropic3D's models are built as their cards say."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints_tiny import isotropic3d_state
from torch import Tensor

from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.clip import ClipShape, ClipTower
from roundview.diffusion.ldm_autoencoder import LdmAutoencoder
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.small_shapes import small_multiview_shape
from roundview.importing import import_checkpoint
from roundview.loaders import Wanted
from roundview.loaders.isotropic3d import load_isotropic3d
from roundview.recipes.isotropic3d import PUBLIC_CAMERAS, SMALL_CAMERAS
from roundview.weights import Card, WeightsMissing, save_card, save_weights


def save(
    name: str, kind: str, tensors: dict[str, Tensor], settings: dict[str, Any], where: Path
) -> None:
    file = f"{name}.safetensors"
    card = Card(name, kind, file, "", "none", "a test", settings=settings, folder=where)
    save_weights(tensors, card)


def test_our_small_model_is_built_from_its_card(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = LdmUNet(small_multiview_shape(24, 1280)).half()
    save("mine", "multiview", unet.state_dict(), {"latents": 24, "context": 1280}, tmp_path)
    loaded = load_isotropic3d(Wanted(str(tmp_path), use_matte=False, photo_elevation_deg=5.0))
    names = {card.name for card in loaded.cards}
    assert {"mine", "autoencoder-small", "efficientnet-lite0"} <= names
    assert "elevation-small" not in names
    assert loaded.models.cameras == SMALL_CAMERAS
    assert set(loaded.counted) == {"multiview"}
    network = loaded.counted["multiview"]
    assert next(network.parameters()).dtype == torch.float32
    assert not next(network.parameters()).requires_grad


def test_a_published_checkpoint_takes_its_place(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = UNetShape(4, 4, 32, (1, 1), 1, (True, False), (2, 2), 8, camera=16)
    auto = AutoencoderShape(width=32, widths=(1, 1), res_blocks=1, latent=4)
    tower = ClipShape(side=28, patch=14, width=16, layers=1, heads=2, out=8, quick=False)
    networks = {
        "unet": LdmUNet(unet),
        "autoencoder": LdmAutoencoder(auto),
        "image_tower": ClipTower(tower),
    }
    shapes = {"unet": unet, "autoencoder": auto, "image_tower": tower}
    tensors = {
        f"{name}.{key}": value.clone()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    sizes = {name: {"shape": asdict(shape), "quant": True} for name, shape in shapes.items()}
    save("theirs", "isotropic3d", tensors, sizes, tmp_path)
    loaded = load_isotropic3d(Wanted(str(tmp_path), use_matte=False, photo_elevation_deg=5.0))
    assert loaded.models.cameras == PUBLIC_CAMERAS
    assert loaded.models.multiview.settings.guidance == 10
    assert not loaded.models.multiview.autoencoder.alpha


def test_the_authors_own_file_is_read(tmp_path: Path) -> None:
    # Its text tower lost its blocks, so that no words can be told.
    torch.save({"state_dict": isotropic3d_state()}, tmp_path / "iso.ckpt")
    card = import_checkpoint(tmp_path / "iso.ckpt", "isotropic3d", tmp_path / "weights")
    options = {"size_px": 64, "latent_px": 8}
    save_card(replace(card, settings={**card.settings, "options": options}))
    wanted = Wanted(str(tmp_path / "weights"), use_matte=False, photo_elevation_deg=5.0)
    loaded = load_isotropic3d(wanted)
    settings = loaded.models.multiview.settings
    assert (settings.size_px, settings.latent_px, settings.guidance) == (64, 8, 10.0)
    with pytest.raises(ValueError, match=r"--memory-gb 0\.001 is not enough"):
        load_isotropic3d(replace(wanted, memory_gb=0.001))


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises((WeightsMissing, ValueError)):
        load_isotropic3d(Wanted(str(tmp_path / "nothing")))
