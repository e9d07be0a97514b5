"""HiFi-123's models are built as their cards say."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from roundview.diffusion.depth_head import DepthDecoder, DepthSize
from roundview.diffusion.known_views import SmallViewModel
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.small_depth_image import small_depth_image_shape
from roundview.image import Foreground
from roundview.loaders import Wanted
from roundview.loaders.hifi123 import load_enhancer, load_hifi123
from roundview.recipes.hifi123 import Hifi123Models
from roundview.weights import Card, save_weights

CARD = Card("", "", "", "", "Apache-2.0", "a test")
SIDE = 64


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two networks that the recipe shares with no other, untrained."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    size = DepthSize(widths=(8, 8, 16, 16), blocks=(0, 0, 0, 1))
    _keep(folder, "depth", DepthDecoder(size), {"widths": size.widths, "blocks": size.blocks})
    shape = {"latents": 24, "context": 1280}
    network = LdmUNet(small_depth_image_shape(**shape))
    _keep(folder, "depth_image", network, {**shape, "size_px": SIDE, "guidance": 1.5})
    return folder


def _keep(folder: Path, kind: str, network: nn.Module, settings: dict[str, object]) -> None:
    about = replace(
        CARD, name=kind, kind=kind, file=f"{kind}.safetensors", settings=settings, folder=folder
    )
    save_weights({key: value.half() for key, value in network.state_dict().items()}, about)


def test_models_come_with_their_cards(weights: Path) -> None:
    wanted = Wanted(str(weights), use_matte=False, photo_elevation_deg=5.0)
    loaded = load_hifi123(wanted)
    assert isinstance(loaded.models, Hifi123Models)
    assert isinstance(loaded.models.views, SmallViewModel)
    kinds = {card.kind for card in loaded.cards}
    assert kinds == {"features", "depth", "depth_image", "autoencoder", "orbit"}
    assert set(loaded.counted) == {"views", "depth_image"}


def test_the_enhancer_is_told_the_photograph(weights: Path) -> None:
    cards: list[Card] = []
    enhancer = load_enhancer(Wanted(str(weights)), cards)
    assert [card.kind for card in cards] == ["depth", "features", "depth_image", "autoencoder"]
    assert (enhancer.models.size_px, enhancer.guidance) == (SIDE, 1.5)
    rgb = torch.rand(SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    subject = Foreground(rgb, torch.ones(SIDE, SIDE))
    prompts = enhancer.prompts(subject)
    assert bool(prompts.target.any())
    assert not bool(prompts.negative.any())
    latents = enhancer.models.encode(subject.over()[None], subject.alpha[None])
    depth = enhancer.models.depth(subject.over()[None], subject.alpha[None])
    assert depth.shape == (1, SIDE, SIDE)
    noise = enhancer.models.denoiser(
        latents, torch.tensor([500]), torch.zeros_like(latents[:, :1]), prompts.target
    )
    assert noise.shape == latents.shape
