"""The copy agrees with its guide at first, then learns what is rendered."""

from dataclasses import replace

import torch
from torch import Generator, Tensor

from roundview.camera import Cameras
from roundview.diffusion.guide_copy import LearningGuide
from roundview.diffusion.guide_vsd import Lora
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.multiview import (
    SMALL,
    Autoencoder,
    MultiviewModel,
    Told,
    ViewsTold,
    camera_vectors,
    ldm_views,
)
from roundview.diffusion.multiview_guide import MultiviewGuide
from roundview.diffusion.small_shapes import small_multiview_shape
from roundview.diffusion.view_guide import ViewGuide
from roundview.image import Foreground


def tell(subject: Foreground) -> Told:
    token = subject.rgb.mean().reshape(1, 1, 1).expand(1, 1, 2)

    def told(cameras: Cameras) -> tuple[ViewsTold, ViewsTold]:
        views = ViewsTold(token.expand(len(cameras), -1, -1), camera_vectors(cameras, "once"))
        return views, views.without_picture()

    return told


def learning() -> LearningGuide:
    torch.manual_seed(0)
    shape = replace(small_multiview_shape(3, 2), width=32, heads=(1, 2))
    unet = LdmUNet(shape).eval().requires_grad_(False)
    lora = Lora(unet, Generator().manual_seed(1))
    keep = Autoencoder(lambda picture: picture, lambda latents: latents)
    model = MultiviewModel(ldm_views(unet), keep, tell, replace(SMALL, guidance=1.0))
    subject = Foreground(torch.full((8, 8, 3), 0.4), torch.ones(8, 8))
    return LearningGuide(MultiviewGuide(model, subject), lora)


def four() -> Cameras:
    return Cameras.orbit(
        [90.0 * k for k in range(4)],
        elevation_deg=10.0,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(8, 8),
    )


def asked(guide: LearningGuide, seed: int) -> Tensor:
    rng = Generator().manual_seed(seed)
    clean, noise = torch.full((4, 3, 8, 8), 0.7), torch.randn(4, 3, 8, 8, generator=rng)
    return guide.gradient(clean, torch.full((4,), 500), noise, four(), rng)


def test_it_is_a_guide_and_learns_with_what_is_rendered() -> None:
    guide = learning()
    assert isinstance(guide, ViewGuide)
    # Additions start at zero; the camera's embedding alone tells the two apart.
    before = asked(guide, 5)
    rising = [p for p in guide.lora.parameters() if p.grad is not None]
    assert sum(float(p.grad.abs().sum()) for p in rising if p.grad is not None) > 0
    optimiser = torch.optim.Adam(guide.lora.parameters(), lr=0.01)
    optimiser.step()
    assert not torch.allclose(asked(guide, 5), before)


def test_the_guide_itself_stays_as_it_is() -> None:
    guide = learning()
    x, t = torch.randn(4, 3, 8, 8), torch.full((4,), 300)
    before = guide.told(four())(x, t)
    asked(guide, 1)
    torch.testing.assert_close(guide.told(four())(x, t), before)
