import math

import pytest
import torch
from fakes import block

from roundview.camera import Cameras
from roundview.evaluate.protocol import (
    NvsProtocol,
    as_written,
    mark,
    render_truth,
    truth_from_views,
)
from roundview.views import Views


def flat_views(*values: float, size_px: int = 4) -> Views:
    """Opaque pictures of one grey each, on a ring."""
    cameras = NvsProtocol(size_px=size_px, views=len(values)).cameras()
    rgb = torch.tensor(values)[:, None, None, None].expand(-1, size_px, size_px, 3)
    return Views(rgb.clone(), torch.ones(len(values), size_px, size_px), cameras)


def test_the_ring_is_syncdreamers() -> None:
    cameras = NvsProtocol().cameras()
    assert cameras.size_hw == (256, 256)
    torch.testing.assert_close(cameras.azimuth_deg[:3], torch.tensor([0.0, 22.5, 45.0]))
    torch.testing.assert_close(cameras.elevation_deg, torch.full((16,), 30.0))
    torch.testing.assert_close(cameras.origin.norm(dim=-1), torch.full((16,), 1.5))
    # A lens of 49.13 degrees spans 2 * 1.5 * tan(24.565 deg) = 1.371 world units at the middle.
    assert 1.5 * 256 / float(cameras.focal_px[0]) == pytest.approx(1.371, abs=1e-3)


def test_a_ring_of_the_photo_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="views must be 2"):
        NvsProtocol(views=1)


def test_marks_of_one_grey_for_another_can_be_worked_by_hand() -> None:
    truth = truth_from_views(flat_views(0.0, 0.8, 0.6))
    marks = mark(torch.ones(3, 4, 4, 3), truth)
    # 0.8 and 0.6 are 204 and 153 of 255: errors of 0.2 and 0.4. The photo's 1.0 does not count.
    assert marks["psnr"] == pytest.approx([-20 * math.log10(0.2), -20 * math.log10(0.4)], abs=1e-4)
    # Without variance only luminance is left: (2 a b + C1) / (a^2 + b^2 + C1), C1 = 0.01^2.
    expected = [(2 * b + 1e-4) / (1 + b * b + 1e-4) for b in (0.8, 0.6)]
    assert marks["ssim"] == pytest.approx(expected, abs=1e-4)


def test_what_a_png_cannot_hold_is_not_marked() -> None:
    truth = truth_from_views(flat_views(0.5, 0.8))
    assert mark(torch.full((2, 4, 4, 3), 0.8 + 0.001), truth)["psnr"] == [100.0]
    torch.testing.assert_close(
        as_written(torch.tensor([-1.0, 0.5, 2.0])), torch.tensor([0.0, 128 / 255, 1.0])
    )


def test_the_photo_is_the_first_view_with_its_alpha() -> None:
    truth = render_truth(block(), NvsProtocol(size_px=32, views=4))
    assert truth.photo.size_hw == (32, 32)
    assert len(truth.views) == 4
    torch.testing.assert_close(truth.photo.alpha, truth.views.alpha[0], rtol=0, atol=1 / 255)
    # Straight colour and alpha are rounded each: laid over white again they are off by one step.
    torch.testing.assert_close(truth.photo.over(), truth.views.rgb[0], rtol=0, atol=2.1 / 255)
    # The red side faces the photographer, who looks down by 30 degrees.
    assert float(truth.photo.rgb[17, 16, 0]) > 0.85
    assert float(truth.photo.rgb[17, 16, 1]) < 0.15


def test_cameras_can_stand_at_an_estimated_elevation() -> None:
    cameras: Cameras = NvsProtocol(size_px=8, views=4).cameras(12.0)
    torch.testing.assert_close(cameras.elevation_deg, torch.full((4,), 12.0))
