"""Claims about pictures: compositing by hand, and resizing that neither shifts nor bleeds."""

import pytest
import torch

from roundview.image import Foreground, Image, composite, resize


def test_half_covered_red_over_white_is_pink() -> None:
    rgb, alpha = torch.tensor([[[1.0, 0.0, 0.0]]]), torch.tensor([[0.5]])
    got = composite(rgb, alpha, (1.0, 1.0, 1.0))
    torch.testing.assert_close(got, torch.tensor([[[1.0, 0.5, 0.5]]]))


def test_coverage_decides_between_subject_and_background() -> None:
    rgb = torch.rand(2, 3, 4, 3)
    background = (0.1, 0.2, 0.3)
    torch.testing.assert_close(composite(rgb, torch.ones(2, 3, 4), background), rgb)
    nothing = composite(rgb, torch.zeros(2, 3, 4), background)
    torch.testing.assert_close(nothing, torch.tensor(background).expand(2, 3, 4, 3))


def test_sizes_are_height_then_width() -> None:
    assert Image(torch.zeros(3, 5, 3)).size_hw == (3, 5)
    assert Foreground(torch.zeros(3, 5, 3), torch.zeros(3, 5)).size_hw == (3, 5)


def test_halving_averages_neighbours() -> None:
    """Antialiased bilinear at scale 2 weighs four pixels 1/8, 3/8, 3/8, 1/8 in each direction."""
    row = torch.tensor([0.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    got = resize(row.expand(8, 8)[..., None], (4, 4))[2, :, 0]
    # At the border the weights that fall outside are shared among the rest: 1/7 of 8 in place of 1.
    torch.testing.assert_close(got, torch.tensor([8 / 7, 3.0, 0.0, 0.0]))


@pytest.mark.parametrize("size_hw", [(3, 5), (12, 20), (7, 31), (1, 1)])
def test_a_plain_picture_stays_plain(size_hw: tuple[int, int]) -> None:
    picture = torch.tensor([0.2, 0.5, 0.9]).expand(2, 6, 10, 3)
    got = resize(picture, size_hw)
    torch.testing.assert_close(got, torch.tensor([0.2, 0.5, 0.9]).expand(2, *size_hw, 3))


def test_resizing_does_not_shift() -> None:
    """A mirrored picture gives the mirrored result."""
    picture = torch.rand(6, 9, 2, generator=torch.Generator().manual_seed(0))
    for size_hw in ((3, 4), (13, 20)):
        mirrored = resize(picture.flip(1), size_hw).flip(1)
        torch.testing.assert_close(mirrored, resize(picture, size_hw), rtol=1e-5, atol=1e-6)


def test_the_same_size_is_the_same_picture() -> None:
    picture = torch.rand(4, 5, 3)
    assert resize(picture, (4, 5)) is picture
    subject = Foreground(picture, torch.ones(4, 5))
    assert subject.resized((4, 5)) is subject


def test_hidden_colours_do_not_bleed_into_the_subject() -> None:
    """Red beside invisible green: made smaller it stays red, where it is seen at all."""
    rgb = torch.zeros(4, 8, 3)
    rgb[:, :3, 0], rgb[:, 3:, 1] = 1.0, 1.0
    alpha = torch.zeros(4, 8)
    alpha[:, :3] = 1.0
    small = Foreground(rgb, alpha).resized((2, 4))
    seen = small.alpha > 0
    assert bool(seen[:, 1].all())
    torch.testing.assert_close(
        small.rgb[seen], torch.tensor([1.0, 0.0, 0.0]).expand(int(seen.sum()), 3)
    )
    assert float(small.alpha[0, 1]) == pytest.approx(0.5, abs=0.1)
    assert bool((small.rgb[~seen] == 0).all())


def test_a_subject_lies_over_a_colour() -> None:
    subject = Foreground(torch.zeros(1, 1, 3), torch.tensor([[0.25]]))
    torch.testing.assert_close(subject.over(), torch.full((1, 1, 3), 0.75))
    torch.testing.assert_close(subject.over((0.0, 0.0, 1.0))[0, 0], torch.tensor([0, 0, 0.75]))
