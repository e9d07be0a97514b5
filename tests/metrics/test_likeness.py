import math

import pytest
import torch
from torch import Tensor

from roundview.metrics.likeness import (
    clip_similarity,
    contextual_distance,
    contextual_distance_of_maps,
)


def mean_colour(rgb: Tensor) -> Tensor:
    """An image tower that can be worked by hand."""
    return rgb.mean(dim=(1, 2))


def itself(rgb: Tensor) -> Tensor:
    return rgb.permute(0, 3, 1, 2)


def flat(*rgb: float) -> Tensor:
    return torch.tensor(rgb).expand(1, 4, 4, 3)


def row(*vectors: tuple[float, ...]) -> Tensor:
    """A map of one row of feature vectors."""
    return torch.tensor(vectors).T[None, :, None, :]


def test_clip_similarity_is_the_cosine_of_embeddings() -> None:
    pictures = torch.cat([flat(1.0, 0.0, 0.0), flat(0.0, 1.0, 0.0), flat(0.5, 0.5, 0.0)])
    expected = torch.tensor([1.0, 0.0, math.sqrt(0.5)])
    torch.testing.assert_close(clip_similarity(mean_colour, pictures, flat(0.2, 0, 0)), expected)
    torch.testing.assert_close(clip_similarity(mean_colour, pictures, pictures), torch.ones(3))
    with pytest.raises(ValueError, match="1 or 3"):
        clip_similarity(mean_colour, pictures, pictures[:2])


def test_contextual_distance_of_equal_maps_is_zero() -> None:
    y = row((1.0, 0.0), (0.0, 1.0))
    assert float(contextual_distance_of_maps(y, y)) == pytest.approx(0.0, abs=1e-4)
    # Nor does the place matter.
    assert float(contextual_distance_of_maps(y.flip(3), y)) == pytest.approx(0.0, abs=1e-4)


def test_contextual_distance_of_features_that_favour_nothing_is_the_log_of_their_number() -> None:
    # Less the mean (0.5, 0.5, 0), y is +-(0.5, -0.5, 0) and x points along the third axis: all four
    # distances are 1, all affinities a half.
    y = row((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    x = row((0.5, 0.5, 2.0), (0.5, 0.5, -1.0))
    assert float(contextual_distance_of_maps(x, y)) == pytest.approx(math.log(2), abs=1e-4)


def test_contextual_distance_by_the_definition() -> None:
    # Both features of x sit on y's first: the second of y is found nowhere.
    y = row((1.0, 0.0), (0.0, 1.0))
    x = row((1.0, 0.0), (1.0, 0.0))
    # d = (0, 2) for both; w = (e^2, 0); so CX = (1 + 0) / 2.
    assert float(contextual_distance_of_maps(x, y)) == pytest.approx(math.log(2), abs=1e-4)
    # One feature 60 degrees off: d = (0.5, 1.5), relative (1, 3), w ratio exp(-2 / 0.5) = e^-4.
    angle = math.radians(-45 + 60)
    x = row((0.5 + math.cos(angle), 0.5 + math.sin(angle)))
    near = 1 / (1 + math.exp(-4))
    expected = -math.log((near + (1 - near)) / 2)
    assert float(contextual_distance_of_maps(x, y)) == pytest.approx(expected, abs=1e-4)


def test_contextual_distance_of_pictures_takes_each_by_itself() -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 6, 6, 3, generator=rng), torch.rand(2, 6, 6, 3, generator=rng)
    both = contextual_distance(itself, a, b)
    torch.testing.assert_close(both[1:], contextual_distance(itself, a[1:], b[1:]))
    assert float(both.min()) > float(contextual_distance(itself, a, a).max())
