import math

import pytest
import torch

from roundview.camera import Cameras
from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.clip import ClipShape, ClipTower
from roundview.diffusion.ldm_autoencoder import LdmAutoencoder
from roundview.diffusion.video_orbit import (
    Numbers,
    VideoNetworks,
    VideoOrbit,
    VideoRing,
    alpha_over_white,
    hi3d_numbers,
    hi3d_paper_numbers,
    sv3d_p_numbers,
    sv3d_u_numbers,
    svd_numbers,
)
from roundview.diffusion.video_unet import VideoUNet
from roundview.image import Foreground
from roundview.models import OrbitModel
from roundview.views import Views

UNET = UNetShape(8, 4, 32, (1,), 1, (True,), (2,), 24, linear=True, vector=768)
# Three halvings: latents are an eighth of the pictures.
CODEC = AutoencoderShape(width=32, widths=(1, 1, 1, 1), res_blocks=1)
TOWER = ClipShape(width=32, layers=1, heads=2, patch=14, side=28, out=24)
RING = VideoRing(frames=4, size_px=64, guidance=(1.0, 2.0), decoded_at_once=3)


def orbit(ring: VideoRing = RING, numbers: Numbers = hi3d_numbers) -> VideoOrbit:
    torch.manual_seed(0)
    codec = LdmAutoencoder(CODEC)
    return VideoOrbit(VideoNetworks(VideoUNet(UNET), codec, codec, ClipTower(TOWER)), ring, numbers)


def ring_cameras(count: int = 4, elevation_deg: float = 20.0, first: float = 0.0) -> Cameras:
    return Cameras.orbit(
        [first + 360.0 * k / count for k in range(count)],
        elevation_deg=elevation_deg,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(64, 64),
    )


def subject() -> Foreground:
    alpha = torch.zeros(64, 64)
    alpha[16:48, 16:48] = 1.0
    return Foreground(torch.full((64, 64, 3), 0.4), alpha)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_a_ring_is_drawn_and_is_the_same_for_the_same_seed() -> None:
    model = orbit()
    assert isinstance(model, OrbitModel)
    heard: list[float] = []
    drawn = [
        model.draw(
            subject(), ring_cameras(), rng(), photo_elevation_deg=20.0, steps=2, report=heard.append
        )
        for _ in range(2)
    ]
    assert drawn[0].rgb.shape == (4, 64, 64, 3)
    assert torch.equal(drawn[0].rgb, drawn[1].rgb)
    assert heard[:2] == [0.5, 1.0]


def test_redrawing_with_little_noise_keeps_what_the_codec_keeps() -> None:
    model = orbit()
    cameras = ring_cameras()
    pictures = torch.rand(4, 64, 64, 3, generator=rng())
    views = Views(pictures, torch.ones(4, 64, 64), cameras)
    little, much = (
        model.redraw(
            subject(), views, rng(), photo_elevation_deg=20.0, noise_level=level, steps=2
        ).rgb
        for level in (0.01, 0.9)
    )
    codec = LdmAutoencoder(CODEC)
    codec.load_state_dict(model._networks.decode.state_dict())  # pyright: ignore[reportPrivateUsage]
    with torch.no_grad():
        kept = codec.decode(codec.encode(pictures.movedim(-1, 1) * 2 - 1)).movedim(1, -1)
    kept = ((kept + 1) / 2).clamp(0, 1)
    # The codec's latents are faint, its weights being random, so little noise is not nothing.
    assert float((little - kept).abs().mean()) < 0.7 * float((much - kept).abs().mean())


def test_other_cameras_than_the_ring_are_refused() -> None:
    for cameras in (ring_cameras(5), ring_cameras(elevation_deg=0.0), ring_cameras(first=10.0)):
        with pytest.raises(ValueError, match="one ring of 4 views"):
            orbit().draw(subject(), cameras, rng(), photo_elevation_deg=20.0, steps=1)


def test_frames_whose_last_is_the_photographs_are_put_in_our_order() -> None:
    last = VideoRing(frames=4, size_px=64, photo_last=True)
    frames = torch.arange(4.0).reshape(4, 1, 1, 1)
    ordered = orbit(last)._in_order(frames)  # pyright: ignore[reportPrivateUsage]
    assert ordered.flatten().tolist() == [3.0, 0.0, 1.0, 2.0]


def test_the_numbers_beside_the_time_are_as_long_as_published() -> None:
    assert hi3d_numbers(16, 10.0, 0.02).shape == (16, 768)
    told, paper = hi3d_numbers(2, 10.0, 0.02, aesthetic=6.0), hi3d_paper_numbers(2, 10.0, 0.02)
    assert float(told[0, 0]) == 6.0
    # In the paper there is no score; the rest is the same.
    assert torch.equal(told[:, 256:], paper)
    assert svd_numbers(14, 0.0, 0.02).shape == (14, 768)
    assert sv3d_u_numbers(21, 0.0, 1e-5).shape == (21, 256)
    assert sv3d_p_numbers(21, 10.0, 1e-5).shape == (21, 1280)
    # Whole degrees.
    assert torch.equal(hi3d_numbers(1, 10.2, 0.02), hi3d_numbers(1, 10.9, 0.02))
    # The last frame is the photograph's, at azimuth 0, and its polar angle is 80 degrees.
    pose = sv3d_p_numbers(21, 10.0, 1e-5)[-1]
    assert float(pose[256]) == pytest.approx(math.cos(math.radians(80)), abs=1e-6)
    assert float(pose[768]) == pytest.approx(1.0)


def test_what_is_not_white_is_the_subject_with_what_it_encloses() -> None:
    rgb = torch.ones(20, 20, 3)
    rgb[5:15, 5:15] = 0.2
    rgb[8:12, 8:12] = 1.0  # A white spot on the subject.
    rgb[5, 10] = 0.95  # A pixel of the rim, hardly covered.
    alpha = alpha_over_white(rgb)
    assert float(alpha[10, 10]) == 1.0
    assert float(alpha[2, 2]) == 0.0
    assert 0.3 < float(alpha[5, 10]) < 0.5
