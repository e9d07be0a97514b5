import pytest
import torch
from torch import Tensor

from roundview.diffusion.tuned import TunedFeatures
from roundview.features import EfficientNetLite0
from roundview.loaders import load_features
from roundview.models import FeatureModel


@pytest.fixture(scope="module")
def whole() -> EfficientNetLite0:
    found = load_features()
    assert isinstance(found, EfficientNetLite0)
    return found


@pytest.mark.parametrize(("stages", "sides"), [(5, (32, 16, 8, 4)), (6, (32, 16, 8, 4, 2))])
def test_maps_halve_and_have_the_channels_that_are_told(
    whole: EfficientNetLite0, stages: int, sides: tuple[int, ...]
) -> None:
    features = TunedFeatures(whole, stages)
    assert isinstance(features, FeatureModel)
    maps = features.maps(torch.rand(2, 64, 64, 3))
    assert tuple(m.shape[1] for m in maps) == features.channels
    assert tuple(m.shape[-1] for m in maps) == sides
    assert features.embedding(torch.rand(2, 64, 64, 3)).shape == (2, features.channels[-1])


def test_it_begins_with_what_the_features_say(whole: EfficientNetLite0) -> None:
    rgb = torch.rand(1, 64, 64, 3)
    for mine, theirs in zip(TunedFeatures(whole, 5).maps(rgb)[:3], whole.maps(rgb), strict=False):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_training_it_leaves_the_features_and_the_first_stages_alone(
    whole: EfficientNetLite0,
) -> None:
    features = TunedFeatures(whole, 5)
    before = {name: value.clone() for name, value in features.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in features.parameters() if p.requires_grad], lr=0.1)
    features(torch.rand(1, 32, 32, 3))[-1].square().mean().backward()
    optimiser.step()
    changed = {n for n, v in features.state_dict().items() if not torch.equal(v, before[n])}
    assert changed
    assert all(
        name.startswith(("net.stages.2", "net.stages.3", "net.stages.4")) for name in changed
    )
    assert not any(parameter.requires_grad for parameter in whole.parameters())


def test_other_features_and_stages_are_refused(whole: EfficientNetLite0) -> None:
    class Other:
        def maps(self, rgb: Tensor) -> list[Tensor]:
            return [rgb]

        def embedding(self, rgb: Tensor) -> Tensor:
            return rgb.mean(dim=(1, 2))

    with pytest.raises(ValueError, match="must be EfficientNet-lite0, got Other"):
        TunedFeatures(Other(), 5)
    with pytest.raises(ValueError, match="must be 5 or 6, got 4"):
        TunedFeatures(whole, 4)
