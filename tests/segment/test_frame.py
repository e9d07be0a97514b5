"""The subject comes to stand where, and as large as, the models expect."""

import pytest
import torch

from roundview.image import Foreground
from roundview.segment import FRAMING, NoObjectError, frame_subject, is_framed
from roundview.segment.found import bounds


def block(box: tuple[int, int, int, int], *, size_hw: tuple[int, int] = (100, 100)) -> Foreground:
    """A red block on hidden green."""
    top, left, bottom, right = box
    alpha = torch.zeros(size_hw)
    alpha[top:bottom, left:right] = 1.0
    rgb = torch.tensor([0.0, 1.0, 0.0]).repeat(*size_hw, 1)
    rgb[top:bottom, left:right] = torch.tensor([1.0, 0.0, 0.0])
    return Foreground(rgb, alpha)


@pytest.mark.parametrize(
    ("box", "size_hw"),
    [
        ((10, 20, 60, 40), (100, 100)),
        ((0, 0, 100, 100), (100, 100)),
        ((5, 130, 45, 190), (60, 200)),
        ((200, 300, 900, 800), (1000, 1200)),
    ],
)
def test_the_box_is_centred_and_its_longest_side_is_the_framing(
    box: tuple[int, int, int, int], size_hw: tuple[int, int]
) -> None:
    framed = frame_subject(block(box, size_hw=size_hw), size_px=200)
    assert framed.size_hw == (200, 200)
    found = bounds(framed.alpha)
    assert found is not None
    top, left, bottom, right = found
    # The box is read off whole pixels of the result: half a pixel either way.
    assert abs(top + bottom - 200) <= 1
    assert abs(left + right - 200) <= 1
    assert abs(max(bottom - top, right - left) - FRAMING * 200) <= 1
    wanted = (box[2] - box[0]) / (box[3] - box[1])
    assert (bottom - top) / (right - left) == pytest.approx(wanted, rel=0.05)


def test_coverage_is_kept_by_the_filter() -> None:
    source = block((10, 20, 60, 40))
    framed = frame_subject(source, size_px=128)
    step = 50 / FRAMING / 128  # source pixels a pixel
    assert float(framed.alpha.sum()) * step**2 == pytest.approx(1000, rel=1e-3)


def test_colours_neither_ring_nor_mix_with_hidden_ones() -> None:
    for size_px in (32, 64, 500):  # smaller and larger than the source
        framed = frame_subject(block((30, 30, 70, 70)), size_px=size_px)
        shown = framed.rgb[framed.alpha > 0]
        torch.testing.assert_close(
            shown, torch.tensor([1.0, 0.0, 0.0]).expand_as(shown), atol=1e-4, rtol=0
        )
        assert float(framed.alpha.max()) <= 1
        # Behind alpha 0 the subject's colour goes on.
        torch.testing.assert_close(framed.rgb[0, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_a_ramp_is_resampled_exactly_between_its_pixels() -> None:
    ramp = (torch.arange(100) + 0.5)[None, :, None].repeat(100, 1, 3) / 100
    framed = frame_subject(Foreground(ramp, torch.ones(100, 100)), size_px=288)
    # Column 144 + k looks at 50 + (k + 0.5) * side / 288 of 100, with side = 100 / FRAMING.
    k = torch.arange(-80, 80)
    wanted = 0.5 + (k + 0.5) / (FRAMING * 288)
    torch.testing.assert_close(framed.rgb[144, 144 + k, 0], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("box", "size_hw", "framed"),
    [
        ((20, 20, 80, 80), (100, 100), True),
        ((10, 25, 90, 75), (100, 100), True),
        ((30, 20, 95, 80), (100, 100), True),  # 12.5 percent off the middle
        ((34, 20, 98, 80), (100, 100), False),  # 16 percent off
        ((35, 35, 65, 65), (100, 100), False),  # too small
        ((1, 1, 99, 99), (100, 100), False),  # too large
        ((20, 40, 80, 100), (100, 100), False),  # touches the border
        ((20, 20, 80, 80), (100, 120), False),  # no square
    ],
)
def test_framed_pictures_are_recognised(
    box: tuple[int, int, int, int], size_hw: tuple[int, int], framed: bool
) -> None:
    assert is_framed(block(box, size_hw=size_hw)) is framed


def test_framed_pictures_keep_their_scale_only_if_asked() -> None:
    source = block((30, 20, 70, 80))
    kept = frame_subject(source, size_px=100, keep_if_framed=True)
    torch.testing.assert_close(kept.alpha, source.alpha)
    scaled = bounds(frame_subject(source, size_px=100).alpha)
    assert scaled is not None
    assert scaled[3] - scaled[1] == pytest.approx(100 * FRAMING, abs=1)


def test_nothing_cannot_be_framed() -> None:
    with pytest.raises(NoObjectError, match=r"below 0\.5"):
        frame_subject(Foreground(torch.zeros(50, 50, 3), torch.zeros(50, 50)))
