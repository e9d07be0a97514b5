import pytest
import torch
from torch import Tensor

from roundview.evaluate.baselines import (
    BASELINES,
    all_white,
    mean_of_truth,
    photo_everywhere,
    photo_mirrored_behind,
    true_silhouette,
)
from roundview.evaluate.protocol import NvsProtocol, Truth
from roundview.image import Foreground
from roundview.views import Views

RED, GREEN = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])


def two_by_two(alpha_right: float = 1.0) -> Truth:
    """Four views of 2x2 px; the photo is red at the left and green at the right."""
    left_right = torch.stack([RED, GREEN]).expand(2, 2, 3)
    alpha = torch.tensor([1.0, alpha_right]).expand(2, 2)
    rgb = torch.tensor([0.0, 0.2, 0.4, 0.6])[:, None, None, None].expand(4, 2, 2, 3)
    alphas = torch.tensor([1.0, 0.0, 0.5, 1.0])[:, None, None].expand(4, 2, 2)
    views = Views(rgb, alphas, NvsProtocol(size_px=2, views=4).cameras())
    return Truth(views, Foreground(left_right, alpha))


def test_white_is_white() -> None:
    torch.testing.assert_close(all_white(two_by_two()), torch.ones(4, 2, 2, 3))


def test_the_photo_is_shown_over_white() -> None:
    shown = photo_everywhere(two_by_two(alpha_right=0.5))
    expected = torch.stack([RED, torch.tensor([0.5, 1.0, 0.5])]).expand(4, 2, 2, 3)
    torch.testing.assert_close(shown, expected)


def test_the_photo_is_mirrored_behind_and_nowhere_else() -> None:
    shown = photo_mirrored_behind(two_by_two())
    for at, (left, right) in enumerate([(RED, GREEN), (RED, GREEN), (GREEN, RED), (RED, GREEN)]):
        torch.testing.assert_close(shown[at, 0], torch.stack([left, right]))


def test_the_mean_of_the_truth_is_over_all_views() -> None:
    torch.testing.assert_close(mean_of_truth(two_by_two()), torch.full((4, 2, 2, 3), 0.3))


@pytest.mark.parametrize(
    ("alpha_right", "colour"),
    [(0.0, RED), (1.0, torch.tensor([0.5, 0.5, 0.0])), (0.5, torch.tensor([2 / 3, 1 / 3, 0.0]))],
)
def test_true_silhouettes_get_the_photos_mean_colour(alpha_right: float, colour: Tensor) -> None:
    shown = true_silhouette(two_by_two(alpha_right))
    torch.testing.assert_close(shown[0, 0, 0], colour)
    torch.testing.assert_close(shown[1, 0, 0], torch.ones(3))
    torch.testing.assert_close(shown[2, 0, 0], 0.5 * colour + 0.5)


def test_rows_that_use_the_truth_say_so() -> None:
    # Changing every view but the photo must change a row exactly if it uses the truth.
    truth = two_by_two()
    other = Truth(
        Views(1 - truth.views.rgb, 1 - truth.views.alpha, truth.views.cameras), truth.photo
    )
    for row in BASELINES:
        assert (not torch.equal(row.draw(truth), row.draw(other))) == row.uses_truth
