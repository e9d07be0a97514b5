"""Any views can be enhanced; the photograph is remembered once."""

from dataclasses import replace

import torch
from hifi_tiny import RGNV, SIDE, tiny_enhancer

from roundview.camera import Cameras
from roundview.image import Foreground
from roundview.recipes.enhancing import ENHANCEMENTS, enhanced_views, remembered
from roundview.views import Views


def subject() -> Foreground:
    rgb = torch.rand(SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    alpha = torch.zeros(SIDE, SIDE)
    alpha[4:28, 4:28] = 1
    return Foreground(rgb, alpha)


def views(count: int = 2) -> Views:
    cameras = Cameras.orbit(
        [40.0 * k for k in range(count)],
        elevation_deg=0.0,
        radius=1.5,
        fov_deg=49.0,
        size_hw=(24, 24),
    )
    alpha = torch.zeros(count, 24, 24)
    alpha[:, 6:18, 6:18] = 1
    grey = torch.full((count, 24, 24, 3), 0.4)
    return Views(grey * alpha[..., None] + 1 - alpha[..., None], alpha, cameras)


def test_paper_and_released_program_can_both_be_had() -> None:
    assert ENHANCEMENTS["paper"].kept_steps == ENHANCEMENTS["released_code"].kept_steps == 30
    assert ENHANCEMENTS["released_code"].from_reference_noise
    assert not ENHANCEMENTS["paper"].from_reference_noise


def test_the_models_own_guidance_counts() -> None:
    enhancer = tiny_enhancer()
    wanted = ENHANCEMENTS["released_code"]
    assert enhancer.settings(wanted) == replace(wanted, guidance=1.0)
    assert replace(enhancer, guidance=None).settings(wanted) is wanted


def test_outlines_and_cameras_stay_and_colours_change() -> None:
    coarse = views()
    better = enhanced_views(subject(), coarse, tiny_enhancer(), settings=RGNV)
    assert better.cameras is coarse.cameras
    assert torch.equal(better.alpha, coarse.alpha)
    inside = coarse.alpha == 1
    assert bool((better.rgb[~inside] == 1).all())
    assert float((better.rgb - coarse.rgb)[inside].abs().mean()) > 1e-3


def test_a_remembered_photograph_gives_the_same_views() -> None:
    enhancer = tiny_enhancer()
    known = remembered(subject(), enhancer, RGNV)
    asked: list[int] = []
    enhancer.models.denoiser.register_forward_pre_hook(lambda *_: asked.append(1))  # pyright: ignore[reportAttributeAccessIssue]  it is a module
    again = enhanced_views(subject(), views(), enhancer, known=known)
    calls = len(asked)
    fresh = enhanced_views(subject(), views(), enhancer, settings=RGNV)
    assert torch.equal(again.rgb, fresh.rgb)
    # Two steps of inversion and two of drawing; the photograph's own come on top.
    assert calls == 4
    assert len(asked) - calls == 8
