from pathlib import Path

import pytest
import torch
from torch import Tensor

from roundview.evaluate.judges import Judges, load_judges
from roundview.features import EfficientNetLite0


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
