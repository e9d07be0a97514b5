from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from roundview.diffusion.clip import ClipShape, ClipTower
from roundview.evaluate.judges import Judges, load_judges
from roundview.features import EfficientNetLite0
from roundview.importing import import_checkpoint


class Heads:
    """Features that can be worked by hand, with heads: only red counts."""

    channel_weights = [torch.tensor([1.0, 0.0, 0.0])]  # noqa: RUF012  a fixed value

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.permute(0, 3, 1, 2)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


def flat(*rgb: float) -> Tensor:
    return torch.tensor(rgb).expand(1, 4, 4, 3)


def test_only_who_is_there_judges() -> None:
    red, green = flat(1.0, 0.0, 0.0), flat(0.0, 1.0, 0.0)
    assert Judges().of_pairs(red, green) == {}
    assert Judges().of_likeness(red, green) == {}
    found = Judges(lpips_vgg=Heads(), lpips_alex=Heads()).of_pairs(red, green)
    # Unit vectors along two axes differ by 1 in red.
    assert found == {"lpips_alex": [pytest.approx(1.0)], "lpips_vgg": [pytest.approx(1.0)]}


def test_likeness_is_of_each_picture_to_the_one_reference() -> None:
    heads = Heads()
    judges = Judges(clip=heads.embedding, contextual=lambda rgb: heads.maps(rgb)[0])
    pictures = torch.cat([flat(1.0, 0.0, 0.0), flat(0.0, 1.0, 0.0)])
    found = judges.of_likeness(pictures, flat(0.5, 0.0, 0.0))
    assert found["clip"] == pytest.approx([1.0, 0.0])
    assert len(found["contextual"]) == 2


def test_judges_are_loaded_when_asked_for_and_say_what_they_are(tmp_path: Path) -> None:
    assert load_judges().names == ()
    loaded = load_judges(deep_features=True)
    assert isinstance(loaded.features, EfficientNetLite0)
    assert loaded.names == ("deep features: EfficientNet-lite0",)
    with pytest.raises(FileNotFoundError):
        load_judges(lpips_vgg=tmp_path / "vgg16.safetensors")


def test_an_imported_tower_judges_likeness_and_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tower = ClipTower(ClipShape(width=64, layers=1, heads=1, patch=14, side=28, out=12))
    save_file({f"visual.{n}": t for n, t in tower.state_dict().items()}, tmp_path / "t.safetensors")
    import_checkpoint(tmp_path / "t.safetensors", "clip", tmp_path / "clip")
    judges = load_judges(clip=str(tmp_path / "clip"))
    assert judges.names[0].startswith("CLIP: t (1 layers of 64, patch 14)")
    assert "clip" in judges.of_likeness(flat(1.0, 0.0, 0.0), flat(1.0, 0.0, 0.0))
