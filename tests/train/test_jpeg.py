import io

import numpy as np
import pytest
import torch
from PIL import Image

from roundview.train.jpeg import cosines, jpeg


def smooth(h: int, w: int) -> torch.Tensor:
    """Coloured waves, which JPEG likes, as 8-bit values."""
    y, x = torch.meshgrid(torch.arange(h) / 9, torch.arange(w) / 7, indexing="ij")
    waves = torch.stack([x.sin() + y.cos(), (x + y).sin(), (x - 2 * y).cos()])[None]
    return ((waves / 4 + 0.5) * 255).round() / 255


def test_the_transform_is_orthonormal_and_its_first_row_the_mean() -> None:
    torch.testing.assert_close(cosines() @ cosines().T, torch.eye(8), atol=1e-6, rtol=0)
    torch.testing.assert_close(cosines()[0], torch.full((8,), 8**-0.5))


def test_even_pictures_of_any_size_stay() -> None:
    for h, w in ((16, 16), (5, 9), (1, 1)):
        grey = torch.full((2, 3, h, w), 0.5)
        # A step of the mean of an 8 x 8 square at quality 90 is 3 / 8 of a level.
        torch.testing.assert_close(jpeg(grey, 90.0), grey, atol=2 / 255, rtol=0)


def read_back(rgb: torch.Tensor, quality: int) -> torch.Tensor:
    """What a JPEG file of the picture holds."""
    eight_bit = (rgb[0].movedim(0, -1) * 255).round().to(torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(eight_bit).save(file, "jpeg", quality=quality, subsampling="4:2:0")
    read = np.asarray(Image.open(file)).astype(np.float32) / 255
    return torch.from_numpy(read).movedim(-1, 0)[None]


@pytest.mark.parametrize("quality", [10, 30, 80])
def test_grey_pictures_come_out_as_from_a_file(quality: int) -> None:
    rgb = smooth(32, 48)[:, :1].expand(-1, 3, -1, -1).contiguous()
    difference = (jpeg(rgb, float(quality)) - read_back(rgb, quality)).abs()
    # The file's pixels are rounded to 1 / 255; ours are not.
    assert float(difference.mean()) < 0.4 / 255


@pytest.mark.parametrize("quality", [10, 30, 60, 80, 95])
def test_coloured_pictures_are_nearer_to_the_file_than_to_what_it_lost(quality: int) -> None:
    rgb = smooth(32, 48)
    read = read_back(rgb, quality)
    difference = float((jpeg(rgb, float(quality)) - read).abs().mean())
    # Rounding of the colours to whole levels before and after may tip a coefficient.
    assert difference < 0.55 * float((rgb - read).abs().mean())


def test_less_quality_is_farther_from_the_picture() -> None:
    rgb = smooth(32, 48)
    errors = [
        float((jpeg(rgb, quality) - rgb).abs().mean()) for quality in (95.0, 60.0, 30.0, 10.0)
    ]
    assert errors == sorted(errors)
    assert errors[0] < 0.5 * errors[-1]
