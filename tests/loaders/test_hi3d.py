from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import hi3d_second_state, hi3d_state
from torch import Tensor

from roundview.camera import Cameras
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.video_orbit import VideoOrbit
from roundview.diffusion.video_refine import SmallVideoRefiner, VideoRefiner
from roundview.image import Foreground
from roundview.importing import import_checkpoint
from roundview.loaders import Wanted
from roundview.loaders.hi3d import load_hi3d, load_video_refiner
from roundview.recipes.hi3d import OrbitRefiner
from roundview.views import Views
from roundview.weights import Card, save_card, save_weights


class Flat:
    """No depth, no normals, and features of nothing."""

    def __call__(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(rgb.shape[:3]), torch.zeros_like(rgb)

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.movedim(-1, 1)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2)).repeat(1, 2)


def refined_by(refiner: VideoRefiner) -> Views:
    count = refiner.use.frames
    cameras = Cameras.orbit(
        [360.0 * k / count for k in range(count)],
        elevation_deg=0.0,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(16, 16),
    )
    views = Views(torch.full((count, 16, 16, 3), 0.5), torch.ones(count, 16, 16), cameras)
    subject = Foreground(torch.full((16, 16, 3), 0.5), torch.ones(16, 16))
    rng = torch.Generator().manual_seed(0)
    return refiner.refine(views, subject, rng, photo_elevation_deg=0.0, steps=1)


def second_stage(folder: Path) -> Card:
    """Hi3D's second stage at reduced width, imported."""
    held = {f"module.{name}": tensor for name, tensor in hi3d_second_state().items()}
    torch.save({"module": held}, folder / "second.pt")
    card = import_checkpoint(folder / "second.pt", "hi3d", folder / "weights")
    use = {"frames": 4, "size_px": 64, "steps": 2}
    return save_card(replace(card, settings={**card.settings, "refining": use}))


def test_shipped_models_come_with_their_cards() -> None:
    loaded = load_hi3d(Wanted(use_matte=False, photo_elevation_deg=10.0))
    names = {card.name for card in loaded.cards}
    assert {"orbit-small", "autoencoder-small", "video-refiner-small", "depth-small"} <= names
    assert set(loaded.counted) == {"orbit", "refiner"}
    assert loaded.asks == {"elevation_frames": 0}
    assert isinstance(loaded.models.refiner, OrbitRefiner)


def test_a_published_second_stage_refines_what_our_first_one_draws(tmp_path: Path) -> None:
    second_stage(tmp_path)
    wanted = Wanted(str(tmp_path / "weights"), use_matte=False, photo_elevation_deg=10.0)
    loaded = load_hi3d(wanted)
    names = [card.name for card in loaded.cards]
    assert "second" in names
    assert "orbit-small" in names
    assert "video-refiner-small" not in names
    refiner = loaded.models.refiner
    assert isinstance(refiner, VideoRefiner)
    ours = {"elevation_frames": 0}
    assert loaded.asks == ours | {"size_px": 64, "photo_px": 64, "refine_steps": 2}
    # What the card does not state is as published.
    assert (refiner.use.frames, refiner.use.guidance, refiner.use.mixing) == (4, (1.0, 2.0), 40.0)
    assert refined_by(refiner).rgb.shape == (4, 64, 64, 3)


@pytest.mark.parametrize("photo_beside", [True, False])
def test_our_own_refiner_is_built_as_its_card_says(tmp_path: Path, photo_beside: bool) -> None:
    shape = UNetShape(57, 24, 32, (1,), 1, (False,), (1,), 6, linear=True, vector=512)
    torch.manual_seed(0)
    network = SmallVideoRefiner(shape, photo_beside=photo_beside)
    stated = {
        "shape": {**shape.__dict__},
        "photo_beside": photo_beside,
        "told_depth": True,
        "refining": {"frames": 4, "size_px": 32, "guidance": [1.0, 1.0]},
    }
    card = Card(
        *("tiny", "video_refiner", "tiny.safetensors", "", "CC0-1.0", "made here"),
        settings=stated,
        folder=tmp_path,
    )
    save_weights({name: t.half() for name, t in network.state_dict().items()}, card)
    cards: list[Card] = []
    refiner = load_video_refiner(Wanted(str(tmp_path)), cards, Flat(), Flat())
    assert [card.name for card in cards] == ["tiny"]
    assert refiner.use.guidance == (1.0, 1.0)
    assert refined_by(refiner).rgb.shape == (4, 32, 32, 3)


def both_stages(folder: Path) -> str:
    second_stage(folder)
    torch.save(hi3d_state(), folder / "first.pt")
    card = import_checkpoint(folder / "first.pt", "hi3d", folder / "weights")
    ring = {"frames": 4, "size_px": 64, "steps": 2}
    save_card(replace(card, settings={**card.settings, "ring": ring}))
    return str(folder / "weights")


def test_published_stages_share_the_memory(tmp_path: Path) -> None:
    weights = both_stages(tmp_path)
    wanted = Wanted(weights, use_matte=False, photo_elevation_deg=10.0)
    loaded = load_hi3d(wanted)
    assert isinstance(loaded.models.orbit, VideoOrbit)
    # Both come to about 0.03 GB; each alone would do with 0.02.
    with pytest.raises(ValueError, match=r"-gb 0\.02 is not enough: .* by (first|second): "):
        load_hi3d(replace(wanted, memory_gb=0.02))
