"""What counts as an object, and what is refused."""

import pytest
import torch

from roundview.image import Foreground
from roundview.segment import NoObjectError
from roundview.segment.found import bounds, require_background, require_contrast, require_object


def block(height: int, width: int, *, size: int = 100) -> Foreground:
    alpha = torch.zeros(size, size)
    alpha[10 : 10 + height, 20 : 20 + width] = 1.0
    return Foreground(torch.full((size, size, 3), 0.5), alpha)


def test_bounds_are_top_left_bottom_right() -> None:
    assert bounds(block(30, 40).alpha) == (10, 20, 40, 60)
    assert bounds(torch.full((8, 8), 0.5)) is None


def test_the_longer_side_decides_what_is_too_small() -> None:
    pencil = block(3, 32)
    assert require_object(pencil) is pencil
    with pytest.raises(NoObjectError, match="31x3 pixels"):
        require_object(block(3, 31))
    with pytest.raises(NoObjectError, match="no object found"):
        require_object(Foreground(torch.zeros(64, 64, 3), torch.zeros(64, 64)))


def test_blank_pictures_have_no_contrast_even_with_noise() -> None:
    noise = torch.randn(64, 64, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(NoObjectError, match="blank"):
        require_contrast(0.5 + noise / 255)
    require_contrast(0.5 + 5 * noise / 255)


def test_a_matte_of_everything_asks_for_no_matte() -> None:
    everything = Foreground(torch.zeros(64, 64, 3), torch.ones(64, 64))
    with pytest.raises(NoObjectError, match="--no-matte"):
        require_background(everything)
    require_background(block(90, 80))
