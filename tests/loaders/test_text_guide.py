"""Stable Diffusion 1.5 and 2.1 as guides: loaded, told, asked by the presets that want them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import sd1_state, sd2_state
from safetensors.torch import save_file
from torch import Tensor

from roundview.camera import Cameras
from roundview.diffusion.guide import Guided
from roundview.diffusion.text_guide import GUIDANCE
from roundview.field.grid import GridSettings
from roundview.field.radiance import RadianceSettings
from roundview.image import Foreground
from roundview.importing import import_checkpoint
from roundview.loaders import Wanted
from roundview.loaders.text_guide import load_text_guide
from roundview.recipes.distilling_presets import Preset, distilled_by, dreamfusion, magic123
from roundview.recipes.framing import photo_view
from roundview.weights import Card, WeightsMissing, save_card

STATES = {"sd1": sd1_state, "sd2": sd2_state, "sd2-v": sd2_state}


def published(folder: Path, kind: str = "sd1", *, merges: bool = True, **options: object) -> str:
    folder.mkdir(exist_ok=True)
    save_file(STATES[kind](), folder / "picture.safetensors")
    card = import_checkpoint(folder / "picture.safetensors", kind, folder / "weights")
    told = {"size_px": 32, **options}
    save_card(replace(card, settings={**card.settings, "options": told}))
    if merges:
        (folder / "weights" / "picture.merges.txt").write_text("#version\na b</w>\n")
    return str(folder / "weights")


@pytest.mark.parametrize("kind", STATES)
def test_each_kind_is_a_guide(tmp_path: Path, kind: str) -> None:
    cards: list[Card] = []
    guide = load_text_guide(Wanted(published(tmp_path, kind), prompt="ab"), cards)
    assert [card.kind for card in cards] == [kind]
    assert (guide.size_px, guide.velocity, guide.scale) == (32, kind == "sd2-v", GUIDANCE)
    camera = Cameras.orbit(
        [0.0, 180.0], elevation_deg=0.0, radius=2.0, fov_deg=40.0, size_hw=(8, 8)
    )
    told = guide.told(camera)
    assert not torch.equal(told.given[0], told.given[1])
    noise = told(torch.randn(2, 4, 4, 4), torch.tensor([10, 900]))
    assert bool(torch.isfinite(noise).all())


def test_what_it_lacks_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs weights of kind sd1, sd2, sd2-v"):
        load_text_guide(Wanted(prompt="ab"), [])
    weights = published(tmp_path / "a", merges=False)
    with pytest.raises(ValueError, match="judges by words: say with --prompt"):
        load_text_guide(Wanted(weights), [])
    with pytest.raises((ValueError, WeightsMissing), match=r"merges\.txt is missing"):
        load_text_guide(Wanted(weights, prompt="ab"), [])
    with pytest.raises(ValueError, match=r"--memory-gb 0\.001 is not enough"):
        load_text_guide(Wanted(weights, prompt="ab", memory_gb=0.001), [])


class Nothing:
    """A 3D prior that has nothing to say."""

    together = 1
    size_px = 16

    def __init__(self, like: Tensor) -> None:
        self.shares = like

    def encode(self, rgba: Tensor) -> Tensor:
        return rgba

    def told(self, cameras: Cameras) -> Guided[Tensor]:
        nothing = torch.zeros(len(cameras))
        return Guided(lambda x, t, given: 0 * x * (t + given)[0], nothing, nothing, 1.0)


@pytest.mark.parametrize("method", [dreamfusion, magic123])
def test_earlier_methods_are_guided_by_it(tmp_path: Path, method: Callable[[int], Preset]) -> None:
    guide = load_text_guide(Wanted(published(tmp_path, scale=2.0), prompt="ab"), [])
    preset = method(2)
    tiny = RadianceSettings(grid=GridSettings(2, 2, 8, 4, 8), hidden=8, samples=16)
    small = replace(preset.distilling, sizes=((0, 12, 1),), field=tiny, shading=None, keep_every=1)
    small = replace(small, photo=replace(small.photo, size_px=12))
    subject = Foreground(torch.full((32, 32, 3), 0.6), torch.ones(32, 32))
    photo = photo_view(subject, elevation_deg=10.0, distance=1.5, fov_deg=49.13)
    field = distilled_by(
        replace(preset, distilling=small),
        photo,
        torch.Generator().manual_seed(0),
        guide_2d=guide,
        guide_3d=None if preset.asked_3d is None else Nothing(guide.shares),
    )
    fresh = tiny.build(torch.Generator().manual_seed(0))
    assert bool(torch.isfinite(field.grid.table).all())
    assert not torch.equal(field.last, fresh.last)
