"""Claims about the protocols: plain functions and classes meet them, others do not."""

import pytest
import torch
from torch import Tensor

from roundview.image import Foreground, Image
from roundview.models import Elevation, FeatureModel, Matte, PlainStages, StageRunner, silent


class Threshold:
    """A matte in one line."""

    def __call__(self, photo: Image) -> Foreground:
        return Foreground(photo.rgb, (photo.rgb.mean(dim=-1) < 0.5).float())


class Means:
    """Features: the picture itself, and its mean colour."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.permute(0, 3, 1, 2)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


def test_anything_with_the_methods_is_a_model() -> None:
    assert isinstance(Threshold(), Matte)
    assert isinstance(Means(), FeatureModel)
    assert isinstance(Threshold().__call__, Elevation)  # any callable; types are for checkers
    assert not isinstance(Threshold(), FeatureModel)
    assert not isinstance(3, Matte)


def test_a_matte_of_ones_own_works() -> None:
    photo = Image(torch.tensor([[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]]))
    assert Threshold()(photo).alpha.tolist() == [[1.0, 0.0]]


def test_plain_stages_run_everything_and_keep_the_notes() -> None:
    stages = PlainStages()
    assert isinstance(stages, StageRunner)
    heard: list[float] = []

    def work(report: object) -> str:
        assert callable(report)
        report(0.5)
        heard.append(0.5)
        return "done"

    assert stages("fit", work) == "done"
    assert heard == [0.5]
    stages.note("elevation_deg", 12.0)
    assert stages.notes == {"elevation_deg": 12.0}
    assert PlainStages().notes == {}


def test_reporting_to_nobody_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent(0.3)
    assert capsys.readouterr() == ("", "")
