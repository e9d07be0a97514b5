"""Views of any generator are enhanced; outlines and cameras stay."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.diffusion.attention import Memory
from roundview.diffusion.depth2image import Prompts, Reference, Rgnv
from roundview.diffusion.multiview import Autoencoder
from roundview.diffusion.rgnv_views import (
    GREY,
    EnhancingModels,
    enhance_views,
    over_grey,
    prepared,
    reference_of_photo,
    spread_depth,
)
from roundview.image import Foreground
from roundview.views import Views

EMPTY = torch.zeros(1, 1, 2)
PROMPTS = Prompts(EMPTY, EMPTY, EMPTY)
SMALL = Rgnv(steps=4, kept_steps=3)


class Lender:
    """Says that a sample is what the photograph was, once it may look; remembers what it sees."""

    def __init__(self) -> None:
        self.depths: list[Tensor] = []

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        depth: Tensor,
        tokens: Tensor,
        *,
        record: Memory | None = None,
        borrow: Memory | None = None,
    ) -> Tensor:
        del tokens
        self.depths.append(depth)
        if record is not None:
            record.held[0] = x
        if borrow is None:
            return torch.zeros_like(x)
        # The noise by which the sample differs from the photograph's at this level.
        return (x - borrow.held[0]) * (1 + 0 * t.reshape(-1, 1, 1, 1))


def models(depth_of: float = 1.0) -> tuple[EnhancingModels, Lender]:
    lender = Lender()
    encode, decode = over_grey(
        Autoencoder(
            lambda picture: torch.nn.functional.avg_pool2d(picture, 2),
            lambda latents: torch.nn.functional.interpolate(latents, scale_factor=2),
        )
    )
    made = EnhancingModels(
        lender, encode, decode, lambda rgb, _: torch.full_like(rgb[..., 0], depth_of), size_px=8
    )
    return made, lender


def subject(red: float) -> Foreground:
    alpha = torch.zeros(8, 8)
    alpha[2:6, 2:6] = 1
    rgb = torch.zeros(8, 8, 3)
    rgb[..., 0] = red
    return Foreground(rgb, alpha)


def views(count: int) -> Views:
    cameras = Cameras.orbit(
        [30.0 * k for k in range(count)],
        elevation_deg=0.0,
        radius=2.0,
        fov_deg=40.0,
        size_hw=(16, 16),
    )
    alpha = torch.zeros(count, 16, 16)
    alpha[:, 4:12, 4:12] = 1
    return Views(torch.full((count, 16, 16, 3), 0.5), alpha, cameras)


def test_outlines_sizes_and_cameras_stay() -> None:
    made, _ = models()
    reference = reference_of_photo(made, subject(0.9), PROMPTS, SMALL)
    coarse = views(3)
    told: list[float] = []
    better = enhance_views(made, reference, coarse, PROMPTS, together=2, report=told.append)
    assert better.rgb.shape == coarse.rgb.shape
    assert torch.equal(better.alpha, coarse.alpha)
    assert better.cameras is coarse.cameras
    torch.testing.assert_close(better.rgb[coarse.alpha == 0], torch.ones(3 * 192, 3))
    assert told == [0.5, 1.0]


def test_views_drawn_apart_are_those_drawn_together() -> None:
    made, _ = models()
    reference = reference_of_photo(made, subject(0.9), PROMPTS, SMALL)
    one, two = (
        enhance_views(made, reference, views(2), PROMPTS, together=count) for count in (1, 2)
    )
    torch.testing.assert_close(one.rgb, two.rgb)


def test_colour_comes_from_the_photograph() -> None:
    made, _ = models()

    def redness(red: float) -> float:
        reference = reference_of_photo(made, subject(red), PROMPTS, SMALL)
        rgb = enhance_views(made, reference, views(1), PROMPTS).rgb[0, 7, 7]
        return float(rgb[0] - rgb[1:].mean())

    assert redness(1.0) > redness(0.3) + 0.02


def test_the_depth_of_the_background_does_not_count() -> None:
    made, lender = models(depth_of=5.0)
    reference_of_photo(made, subject(0.5), PROMPTS, SMALL)
    inside, outside = lender.depths[0][0, 0, 2, 2], lender.depths[0][0, 0, 0, 0]
    assert float(outside) == pytest.approx(-1, abs=0.3)  # Cubic interpolation overshoots.
    assert float(inside) > 0.9
    # The released code leaves the photograph's whole.
    lender.depths.clear()
    settings = replace(SMALL, from_reference_noise=True)
    reference = reference_of_photo(made, subject(0.5), PROMPTS, settings)
    assert isinstance(reference, Reference)
    assert float(lender.depths[0].std()) == 0


def test_photographs_lie_on_the_released_codes_grey() -> None:
    made, _ = models()
    reference = reference_of_photo(made, subject(0.5), PROMPTS, SMALL)
    corner = reference.inverted[0, 0, :, 0, 0]
    torch.testing.assert_close((corner + 1) / 2, torch.tensor(GREY), rtol=1e-5, atol=1e-5)


def test_depth_counts_up_to_scale_and_shift() -> None:
    alpha = torch.tensor([[[1.0, 1.0, 0.0]]])
    inverse = torch.tensor([[[2.0, 4.0, 9.0]]])
    wanted = torch.tensor([[[0.25, 1.0, 0.0]]])
    torch.testing.assert_close(spread_depth(inverse, alpha), wanted)
    torch.testing.assert_close(spread_depth(3 * inverse + 5, alpha), wanted)
    flat = spread_depth(torch.ones(1, 1, 3), alpha)
    torch.testing.assert_close(flat, torch.tensor([[[0.25, 0.25, 0.0]]]))


def test_depth_of_renderings_is_not_estimated() -> None:
    made, lender = models(depth_of=float("nan"))
    reference = reference_of_photo(replace_depth(made), subject(0.9), PROMPTS, SMALL)
    lender.depths.clear()
    coarse = views(1)
    depth = torch.where(coarse.alpha > 0, 2.0, 0.0)
    depth[:, 8:] /= 1.5
    enhance_views(made, reference, replace(coarse, depth=depth), PROMPTS)
    # Above lies the far half of the subject, below the near one, each two latents high.
    column = lender.depths[0][0, 0, :, 2]
    assert bool(torch.isfinite(column).all())
    assert float(column[2]) > float(column[1]) + 0.5


def replace_depth(made: EnhancingModels) -> EnhancingModels:
    return replace(made, depth=lambda rgb, _: torch.ones_like(rgb[..., 0]))


def test_latents_have_a_slope_and_depth_has_none() -> None:
    made, _ = models()
    rgb = torch.full((1, 8, 8, 3), 0.5, requires_grad=True)
    latents, depth = prepared(made, rgb, torch.ones(1, 8, 8))
    assert latents.requires_grad
    assert not depth.requires_grad
