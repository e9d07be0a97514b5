import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.clip import ClipShape, ClipTower
from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.diffusion.ldm_autoencoder import LdmAutoencoder
from roundview.diffusion.video_refine import (
    RefinerParts,
    Refining,
    SmallVideoRefiner,
    VideoRefiner,
    depth_channels,
    mixing_weight,
    public_parts,
    refiner_numbers,
    small_parts,
    subject_depth,
)
from roundview.diffusion.video_unet import VideoUNet, sinusoids
from roundview.image import Foreground, resize
from roundview.views import Views

SHAPE = UNetShape(17, 4, 32, (1,), 1, (True,), (2,), 6, linear=True, vector=512)
USE = Refining(frames=4, size_px=16, highest=10.0)


class Watched(VideoUNet):
    """Keeps what it was shown, and predicts the velocity of the coarse clip itself."""

    def forward(
        self, x: Tensor, c_noise: Tensor, context: Tensor, vector: Tensor, *, still: bool = False
    ) -> Tensor:
        assert not still
        self.seen = getattr(self, "seen", [])
        self.seen.append((x, context, vector))
        sigma = (4 * c_noise).exp()[:, None, None, None, None]
        noisy = x[:, :, :4] * (sigma**2 + 1).sqrt()
        clean = x[:, :, 13:]
        return (noisy / (sigma**2 + 1) - clean) * (sigma**2 + 1).sqrt() / sigma


def parts(depth: bool = True) -> RefinerParts:
    """Every other pixel of RGBA is the latent."""

    def height(rgba: Tensor) -> Tensor:
        return torch.linspace(0, 1, rgba.shape[2])[None, :, None] + rgba[:, 3]

    return RefinerParts(
        Watched(SHAPE),
        lambda rgba: rgba[:, :, ::2, ::2] * 2 - 1,
        lambda latents: (latents / 2 + 0.5).repeat_interleave(2, 2).repeat_interleave(2, 3),
        lambda rgba: rgba[:, :, :6, 0].mean(dim=1),
        height if depth else None,
        1.0,
    )


def ring(size: int = 8, count: int = 4, elevation_deg: float = 20.0) -> Views:
    cameras = Cameras.orbit(
        [360.0 * k / count for k in range(count)],
        elevation_deg=elevation_deg,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(size, size),
    )
    rgb = torch.rand(count, size, size, 3, generator=rng())
    return Views(rgb, torch.full((count, size, size), 0.8), cameras)


def subject(size: int = 32) -> Foreground:
    return Foreground(torch.full((size, size, 3), 0.4), torch.ones(size, size))


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_weight_of_the_coarse_clip_falls_as_in_the_published_code() -> None:
    found = [mixing_weight(i / 25) for i in (0, 1, 2, 4, 6, 8, 10, 12)]
    assert found == pytest.approx([1.0, 0.984, 0.938, 0.774, 0.561, 0.358, 0.200, 0.098], abs=6e-4)
    assert mixing_weight(24 / 25) == pytest.approx(7e-5, abs=1e-5)
    assert mixing_weight(1.0, 0.0) == 1.0


def test_a_network_that_repeats_the_coarse_clip_gives_it_back_larger_with_the_photo_first() -> None:
    views = ring()
    use = Refining(frames=4, size_px=16, guidance=(1.0, 1.0), cond_aug=0.0)
    refined = VideoRefiner(parts(), use).refine(
        views, subject(), rng(), photo_elevation_deg=20.0, steps=5
    )
    assert refined.cameras.size_hw == (16, 16)
    torch.testing.assert_close(refined.rgb[0], torch.full((16, 16, 3), 0.4), rtol=0, atol=1e-4)
    wanted = resize(views.rgb, (16, 16)).clamp(0, 1)[1:, ::2, ::2]
    torch.testing.assert_close(refined.rgb[1:, ::2, ::2], wanted, rtol=0, atol=1e-4)


def test_what_the_autoencoder_loses_is_not_lost_where_only_the_change_is_shown() -> None:
    made = replace(parts(), decode=lambda latents: torch.zeros(len(latents), 4, 16, 16))
    found = []
    for residual in (False, True):
        use = Refining(frames=4, size_px=16, guidance=(1.0, 1.0), residual=residual)
        refined = VideoRefiner(made, use).refine(
            ring(), subject(), rng(), photo_elevation_deg=20.0, steps=1
        )
        found.append(refined.rgb)
    assert not bool(found[0].any())
    # A decoder that is blind to what the network did leaves the coarse views.
    torch.testing.assert_close(found[1][1:], resize(ring().rgb, (16, 16)).clamp(0, 1)[1:])


def test_half_of_the_change_is_half_way() -> None:
    bright = replace(parts(), decode=lambda latents: latents.mean() + torch.ones(4, 4, 16, 16))
    shown = {}
    for believed in (0.0, 0.5, 1.0):
        use = Refining(4, 16, (1.0, 1.0), residual=True, believed=believed, highest=9.0)
        shown[believed] = VideoRefiner(bright, use).refine(
            ring(), subject(), rng(), photo_elevation_deg=20.0, steps=1
        )
    inside = (shown[1.0].rgb > 0) & (shown[1.0].rgb < 1)
    torch.testing.assert_close(
        shown[0.5].rgb[inside], ((shown[0.0].rgb + shown[1.0].rgb) / 2)[inside]
    )


def test_depth_and_coarse_latents_lie_beside_and_vanish_without_the_condition() -> None:
    made = parts()
    views = ring(elevation_deg=20.7)
    VideoRefiner(made, USE).refine(views, subject(), rng(), photo_elevation_deg=20.7, steps=1)
    assert isinstance(made.network, Watched)
    (told, tokens, vector), (untold, no_tokens, again) = made.network.seen
    assert told.shape == (1, 4, 17, 8, 8)
    assert bool(told[:, :, 4:13].any())
    assert bool(told[:, :, 13:].any())
    assert not bool(untold[:, :, 4:].any())
    assert bool(tokens.any())
    assert not bool(no_tokens.any())
    assert torch.equal(vector, again)
    assert torch.equal(vector[0], refiner_numbers(4, 20.7, 0.02))


def test_guidance_of_one_asks_the_network_once_and_no_depth_is_zero() -> None:
    made = parts(depth=False)
    use = Refining(frames=4, size_px=16, guidance=(1.0, 1.0))
    VideoRefiner(made, use).refine(ring(), subject(), rng(), photo_elevation_deg=20.0, steps=3)
    assert isinstance(made.network, Watched)
    assert len(made.network.seen) == 3
    assert not bool(made.network.seen[0][0][:, :, 4:13].any())


def test_sampling_begins_at_the_coarse_clip_under_noise() -> None:
    made, quiet = parts(), Refining(frames=4, size_px=16, highest=1e-3, cond_aug=0.0)
    views = ring()
    VideoRefiner(made, quiet).refine(views, subject(), rng(), photo_elevation_deg=20.0, steps=1)
    assert isinstance(made.network, Watched)
    shown = made.network.seen[0][0]
    # So little noise that the coarse clip itself is seen.
    torch.testing.assert_close(shown[:, :, :4], shown[:, :, 13:], rtol=0, atol=0.01)


def test_other_cameras_than_the_ring_are_refused() -> None:
    for views in (ring(count=5), ring(elevation_deg=0.0)):
        with pytest.raises(ValueError, match="one ring of 4 views"):
            VideoRefiner(parts(), USE).refine(
                views, subject(), rng(), photo_elevation_deg=20.0, steps=1
            )


def test_a_square_of_depth_becomes_channels_row_by_row() -> None:
    depth = torch.arange(36.0).reshape(1, 6, 6)
    channels = depth_channels(depth, (2, 2))
    # Pixel (row 4, column 2) lies in square (1, 0), at row 1 and column 2 of it.
    assert float(channels[0, 3 * 1 + 2, 1, 0]) == pytest.approx(26 / 35)
    assert channels.shape == (1, 9, 2, 2)
    assert (float(channels.min()), float(channels.max())) == (0.0, 1.0)


def test_flat_depth_is_zero_and_frames_have_their_own_range() -> None:
    depth = torch.stack([torch.full((4, 4), 7.0), torch.arange(16.0).reshape(4, 4) * 100])
    channels = depth_channels(depth, (4, 4))
    assert not bool(channels[0].any())
    assert float(channels[1].max()) == 1.0


def test_the_background_of_a_depth_map_is_farther_than_the_subject() -> None:
    inverse = torch.tensor([[[0.5, 1.0], [9.0, -3.0]]])
    alpha = torch.tensor([[[1.0, 0.9], [0.0, 0.2]]])
    level = subject_depth(inverse, alpha)
    torch.testing.assert_close(level, torch.tensor([[[0.25, 1.0], [0.0, 0.0]]]))
    assert not bool(subject_depth(inverse, torch.zeros(1, 2, 2)).any())


def test_the_vector_is_elevation_then_noise() -> None:
    told = refiner_numbers(2, 20.7, 0.02)
    assert told.shape == (2, 512)
    torch.testing.assert_close(told[1, :256], sinusoids(torch.tensor([[20.0]]), 256)[0])
    torch.testing.assert_close(told[1, 256:], sinusoids(torch.tensor([[0.02]]), 256)[0])


class Constant:
    """Depth that grows downwards, and features that are the mean colour."""

    def __call__(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.linspace(1, 2, rgb.shape[1])[None, :, None].expand(rgb.shape[:3])
        return rows.contiguous(), torch.zeros_like(rgb)

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.movedim(-1, 1)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2)).repeat(1, 2)


def test_our_own_network_begins_at_the_coarse_clip() -> None:
    torch.manual_seed(0)
    network = SmallVideoRefiner(SHAPE)
    x = torch.randn(1, 2, 17, 4, 4, generator=rng())
    told = torch.ones(1, 2, 512)
    predicted = network(x, torch.ones(1), torch.ones(1, 1, 6), told)
    # At a high sigma the velocity is minus what is clean.
    torch.testing.assert_close(predicted, -x[:, :, 13:])


@pytest.mark.parametrize("photo_beside", [True, False])
def test_the_photo_lies_beside_every_frame_of_our_own_network(photo_beside: bool) -> None:
    shown: list[Tensor] = []
    network = SmallVideoRefiner(SHAPE, photo_beside=photo_beside)
    network.unet.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    x = torch.randn(1, 3, 17, 4, 4, generator=rng())
    network(x, torch.ones(1), torch.ones(1, 1, 6), torch.ones(1, 3, 512))
    assert torch.equal(shown[0][:, :, :17], x)
    assert shown[0].shape[2] == (21 if photo_beside else 17)
    for frame in range(3 if photo_beside else 0):
        assert torch.equal(shown[0][:, frame, 17:], x[:, 0, 13:])


def test_our_own_parts_work_in_the_latents_of_our_autoencoder() -> None:
    torch.manual_seed(0)
    size = AutoencoderSize(
        latent_channels=4, width=32, encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
    )
    made = small_parts(SmallVideoRefiner(SHAPE), LatentAutoencoder(size), Constant(), Constant())
    refined = [
        VideoRefiner(made, USE).refine(ring(), subject(), rng(), photo_elevation_deg=20.0, steps=2)
        for _ in range(2)
    ]
    assert refined[0].rgb.shape == (4, 16, 16, 3)
    assert math.isfinite(float(refined[0].rgb.sum()))
    assert torch.equal(refined[0].rgb, refined[1].rgb)
    assert torch.equal(refined[0].alpha, refined[1].alpha)


def test_the_published_parts_take_alpha_from_the_white_background() -> None:
    torch.manual_seed(0)
    codec = LdmAutoencoder(AutoencoderShape(width=32, widths=(1, 1, 1, 1), res_blocks=1))
    tower = ClipTower(ClipShape(width=32, layers=1, heads=2, patch=14, side=28, out=6))
    made = public_parts(VideoUNet(SHAPE), codec, codec, tower, Constant(), decoded_at_once=3)
    use = Refining(frames=4, size_px=64)
    refined = VideoRefiner(made, use).refine(
        ring(32), subject(), rng(), photo_elevation_deg=20.0, steps=1
    )
    assert refined.rgb.shape == (4, 64, 64, 3)
    assert refined.alpha.shape == (4, 64, 64)
