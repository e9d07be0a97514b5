"""HiFi-123's models are built as their cards say."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import midas_state, sd1_state, sd2_depth_state
from safetensors.torch import save_file
from torch import Tensor, nn

from roundview.diffusion.depth_head import DepthDecoder, DepthSize
from roundview.diffusion.known_views import SmallViewModel
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.public_depth_image import PlacedDepthUNet
from roundview.diffusion.small_depth_image import small_depth_image_shape
from roundview.diffusion.text_guide import TextGuide
from roundview.image import Foreground
from roundview.importing import import_checkpoint
from roundview.loaders import Wanted, hifi123
from roundview.loaders.hifi123 import load_enhancer, load_hifi123
from roundview.memory import MemoryPlan, Room
from roundview.recipes.hifi123 import Hifi123Models
from roundview.weights import Card, save_card, save_weights

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


def published(folder: Path, *, prompt: str | None = None) -> str:
    """Stable Diffusion 2 that knows depth, and MiDaS, at reduced width, imported."""
    folder.mkdir()
    save_file(sd2_depth_state(), folder / "sd2.safetensors")
    save_file(midas_state(), folder / "midas.safetensors")
    card = import_checkpoint(folder / "sd2.safetensors", "sd2-depth", folder / "weights")
    options = {"size_px": 32} | ({} if prompt is None else {"prompt": prompt})
    save_card(replace(card, settings={**card.settings, "options": options}))
    import_checkpoint(folder / "midas.safetensors", "dpt", folder / "weights")
    return str(folder / "weights")


def test_stable_diffusion_enhances_by_midas_depth(tmp_path: Path) -> None:
    cards: list[Card] = []
    enhancer = load_enhancer(Wanted(published(tmp_path / "a")), cards)
    assert {"sd2", "midas"} <= {card.name for card in cards}
    assert (enhancer.models.size_px, enhancer.guidance) == (32, None)
    subject = Foreground(torch.rand(32, 32, 3), torch.ones(32, 32))
    prompts = enhancer.prompts(subject)
    # Without words all prompts are the empty one.
    assert torch.equal(prompts.target, prompts.source)
    depth = enhancer.models.depth(subject.over()[None], subject.alpha[None])
    assert float(depth.max()) == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"--memory-gb 0\.01 is not enough: .* by (sd2|midas): "):
        load_enhancer(Wanted(published(tmp_path / "b"), memory_gb=0.01), [])


def test_a_prompt_needs_the_merges_of_its_tokenizer(tmp_path: Path) -> None:
    weights = published(tmp_path / "a", prompt="ab")
    with pytest.raises(ValueError, match=r"merges\.txt is missing: copy merges\.txt"):
        load_enhancer(Wanted(weights), [])
    (Path(weights) / "sd2.merges.txt").write_text("#version\na b</w>\n")
    prompts = load_enhancer(Wanted(weights), []).prompts(
        Foreground(torch.rand(8, 8, 3), torch.ones(8, 8))
    )
    assert not torch.equal(prompts.target, prompts.source)
    assert torch.equal(prompts.negative, prompts.source)


def test_a_prompt_of_the_user_goes_before_the_card_s(tmp_path: Path) -> None:
    weights = published(tmp_path / "a", prompt="b")
    (Path(weights) / "sd2.merges.txt").write_text("#version\na b</w>\n")
    subject = Foreground(torch.rand(8, 8, 3), torch.ones(8, 8))
    cards: list[Card] = []
    wanted = Wanted(weights, use_matte=False, photo_elevation_deg=5.0)
    own, said = (
        load_enhancer(replace(wanted, prompt=prompt), cards).prompts(subject).target
        for prompt in (None, "ab")
    )
    assert not torch.equal(own, said)
    loaded = load_hifi123(replace(wanted, prompt="ab"))
    assert loaded.prompt == "ab"
    assert torch.equal(loaded.models.enhancer.prompts(subject).target, said)
    assert loaded.identity != load_hifi123(wanted).identity
    # The stages are drawn at the size of the model.
    assert loaded.asks == {"size_px": 32, "refine_px": 32}


def test_stable_diffusion_is_the_2d_prior_where_it_is_told_something(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_file(sd1_state(), tmp_path / "sd1.safetensors")
    card = import_checkpoint(tmp_path / "sd1.safetensors", "sd1", tmp_path / "weights")
    save_card(replace(card, settings={**card.settings, "options": {"size_px": 32}}))
    (tmp_path / "weights" / "sd1.merges.txt").write_text("#version\na b</w>\n")
    wanted = Wanted(str(tmp_path / "weights"), use_matte=False, photo_elevation_deg=5.0)
    loaded = load_hifi123(replace(wanted, prompt="ab"))
    prior = loaded.models.image_prior
    assert isinstance(prior, TextGuide)
    # The paper's for a model that reads text.
    assert (prior.scale, prior.size_px) == (20.0, 32)
    assert "sd1" in {card.name for card in loaded.cards}
    with caplog.at_level(logging.WARNING):
        assert load_hifi123(wanted).models.image_prior is None
    assert "sd1 is not asked: it judges by words" in caplog.text
    assert load_hifi123(replace(wanted, weights=None)).prompt is None


@torch.no_grad()
def test_one_network_at_a_time_predicts_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = published(tmp_path / "a")
    x, t = torch.randn(1, 4, 4, 4), torch.tensor([300])
    found: list[Tensor] = []
    for plan in (MemoryPlan(), MemoryPlan(offload=True)):
        room = Room(plan, torch.device("cpu"))
        monkeypatch.setattr(hifi123, "room_for", lambda *_, room=room: room)
        denoiser = load_enhancer(Wanted(weights), []).models.denoiser
        assert isinstance(denoiser, PlacedDepthUNet)
        inside = denoiser.network.unet
        home = inside.conv_in.weight
        seen: list[bool] = []

        def look(layer: nn.Module, _: object, seen: list[bool] = seen, home: Tensor = home) -> None:
            seen.append(layer.weight is home)

        inside.conv_in.register_forward_pre_hook(look)
        found.append(denoiser(x, t, torch.zeros(1, 1, 4, 4), torch.zeros(1, 8, 64)))
        # Only copies go to the device.
        assert seen == [not plan.offload]
    assert torch.equal(*found)
