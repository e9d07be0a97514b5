import torch

from roundview.evaluate.strips import error_picture, strip_png
from roundview.export.files import picture_from_bytes


def test_a_strip_shows_every_second_view_a_row_a_set() -> None:
    greys = torch.tensor([0.0, 0.2, 0.4, 0.6])[:, None, None, None].expand(4, 112, 112, 3)
    picture = picture_from_bytes(strip_png([greys, torch.ones(4, 112, 112, 3)]), "strip")
    assert picture.shape == (224, 224, 3)
    assert [round(255 * float(picture[50, x, 0])) for x in (50, 150)] == [0, 102]
    assert float(picture[150, 50, 0]) == 1.0


def test_errors_go_from_black_to_bright() -> None:
    truth = torch.zeros(1, 1, 4, 3)
    off = torch.tensor([0.0, 0.2, 0.5, 0.9])[None, None, :, None].expand(1, 1, 4, 3)
    heat = error_picture(off, truth)[0, 0]
    brightness = heat.mean(dim=-1)
    assert float(brightness[0]) < 0.01
    assert float(brightness[1]) > float(brightness[0])
    torch.testing.assert_close(heat[2], torch.tensor([0.99, 1.0, 0.64]))
    torch.testing.assert_close(heat[3], heat[2])  # All beyond `most` look alike.


def test_an_error_between_two_colours_is_between_them() -> None:
    # A sixth of the way along three steps is half of the first one.
    heat = error_picture(torch.full((1, 1, 1, 3), 0.25 / 3), torch.zeros(1, 1, 1, 3))[0, 0, 0]
    torch.testing.assert_close(heat, torch.tensor([0.225, 0.055, 0.225]))
