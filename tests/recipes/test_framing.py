import pytest
import torch
from fakes import block, photo_of
from jaxtyping import Float
from recipes_tiny import TINY
from torch import Tensor

from roundview.image import Foreground, Image
from roundview.models import PlainStages
from roundview.recipes.framing import (
    asked_cameras,
    framed_subject,
    photo_view,
    plausible_deg,
    ring_cameras,
    seen_subject,
    with_photo,
)
from roundview.recipes.im3d import orbit_cameras
from roundview.segment import matte_from_alpha
from roundview.views import Views


def test_the_photograph_replaces_the_first_view_only() -> None:
    cameras = orbit_cameras(TINY, 10.0)
    drawn = Views(torch.rand(13, 48, 48, 3), torch.rand(13, 48, 48), cameras)
    subject = matte_from_alpha(photo_of(block()))
    mixed = with_photo(drawn, subject)
    assert torch.equal(mixed.rgb[1:], drawn.rgb[1:])
    torch.testing.assert_close(mixed.rgb[0], subject.resized((48, 48)).over())


def test_a_prepared_picture_keeps_its_framing_and_a_photograph_does_not() -> None:
    photo = photo_of(block())
    assert photo.alpha is not None
    kept_alpha = photo.alpha
    kept = framed_subject(photo, matte_from_alpha, photo_px=64)
    assert kept.size_hw == (64, 64)
    opaque = Image(photo.rgb)
    framed = framed_subject(opaque, lambda photo: Foreground(photo.rgb, kept_alpha), photo_px=64)
    assert float((kept.alpha - framed.alpha).abs().max()) > 0.1


def test_the_photograph_is_a_view_from_azimuth_0() -> None:
    subject = matte_from_alpha(photo_of(block()))
    view = photo_view(subject, elevation_deg=20.0, distance=1.5, fov_deg=49.13)
    assert torch.equal(view.rgb[0], subject.over())
    assert float(view.cameras.elevation_deg[0]) == pytest.approx(20.0, abs=1e-3)
    assert float(view.cameras.origin[0].norm()) == pytest.approx(1.5, abs=1e-5)


def test_every_method_begins_with_the_subject_and_its_elevation() -> None:
    photo = photo_of(block())
    stage = PlainStages()
    asked: list[tuple[int, ...]] = []

    def elevation(frames: Float[Tensor, "n h w 3"]) -> float:
        asked.append(tuple(frames.shape))
        return 75.0

    def seen(known_deg: float | None) -> float:
        subject, elevation_deg = seen_subject(
            photo, matte_from_alpha, elevation, photo_px=64, known_deg=known_deg, stage=stage
        )
        assert subject.size_hw == (64, 64)
        assert stage.notes["photo_elevation_deg"] == elevation_deg
        return elevation_deg

    assert seen(None) == 60.0
    assert asked == [(1, 64, 64, 3)]
    assert seen(-12.0) == -12.0
    assert len(asked) == 1


def test_rings_begin_where_the_photographer_stood() -> None:
    cameras = ring_cameras([(10.0, 4), (-30.0, 2)], distance=2.0, fov_deg=40.0, size_px=8)
    torch.testing.assert_close(
        cameras.elevation_deg, torch.tensor([10.0] * 4 + [-30.0] * 2), atol=1e-3, rtol=0
    )
    turns = torch.tensor([0.0, 90.0, 180.0, 270.0, 0.0, 180.0])
    off = (cameras.azimuth_deg - turns + 180.0) % 360.0 - 180.0
    assert float(off.abs().max()) < 1e-3
    torch.testing.assert_close(cameras.origin.norm(dim=-1), torch.full((6,), 2.0))


def test_views_are_asked_for_by_azimuth_or_else_a_ring_is() -> None:
    def azimuths(asked: list[float] | None) -> list[int]:
        cameras = asked_cameras(asked, 20.0, ring_views=3, distance=1.5, fov_deg=49.13, size_px=16)
        assert cameras.size_hw == (16, 16)
        torch.testing.assert_close(
            cameras.elevation_deg, torch.full((len(cameras),), 20.0), atol=1e-3, rtol=0
        )
        return [round(float(a)) % 360 for a in cameras.azimuth_deg]

    assert azimuths(None) == [0, 120, 240]
    assert azimuths([30.0, -30.0]) == [30, 330]


def test_wild_estimates_are_brought_back() -> None:
    assert [plausible_deg(d) for d in (-80.0, 15.0, 85.0)] == [-30.0, 15.0, 60.0]
