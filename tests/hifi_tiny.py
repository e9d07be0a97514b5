"""HiFi-123's models, so small that the whole recipe runs in seconds; nothing of them is trained."""

from dataclasses import replace

import torch
from fakes import KnownElevation
from torch import Tensor

from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.depth2image import Prompts, Rgnv
from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.diffusion.guide_models import SmallViewGuide
from roundview.diffusion.known_views import SmallViewModel
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.small_depth_image import small_enhancing_models
from roundview.diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from roundview.image import Foreground
from roundview.recipes.enhancing import Enhancer
from roundview.recipes.hifi123 import DRAFT, Hifi123Models
from roundview.recipes.hifi123_refine import Refining
from roundview.segment import whole_picture

SIDE, CONTEXT = 32, 6
RGNV = Rgnv(steps=4, kept_steps=2, guidance=1.0)
TINY = replace(
    DRAFT,
    size_px=32,
    photo_px=64,
    photo_elevation_deg=10.0,
    ring_views=2,
    draw_steps=1,
    coarse_steps=4,
    coarse_px=(12, 16),
    rgnv=RGNV,
    rgsd=RGNV,
    tet_cells=16,
    refining=Refining(steps=4, size_px=32, supersample=1, keep_every=2, show_every=2),
    view_px=32,
    fit_steps=5,
    faces=400,
    texture_size=64,
)


class Dome:
    """Finds every picture nearest in its middle, and facing the camera."""

    def __call__(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        h, w = rgb.shape[1:3]
        v, u = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        inverse = (1 - 0.3 * (u.square() + v.square())).expand(len(rgb), -1, -1)
        return inverse, torch.tensor([0.0, 0.0, -1.0]).expand(len(rgb), h, w, 3)


def tiny_autoencoder() -> LatentAutoencoder:
    torch.manual_seed(0)
    size = AutoencoderSize(4, width=8, encoder_blocks=(0, 0, 1), decoder_blocks=(1, 0, 0))
    return LatentAutoencoder(size)


def tiny_network() -> LdmUNet:
    torch.manual_seed(1)
    return LdmUNet(UNetShape(5, 4, 32, (1,), 1, (True,), (2,), CONTEXT, linear=True))


def tiny_enhancer() -> Enhancer:
    token = torch.ones(1, 1, CONTEXT)

    def prompts(subject: Foreground) -> Prompts:
        return Prompts(0 * token, token * subject.rgb.mean(), 0 * token)

    models = small_enhancing_models(tiny_network(), tiny_autoencoder(), Dome(), size_px=SIDE)
    return Enhancer(models, prompts, guidance=1.0)


def tiny_models() -> Hifi123Models:
    torch.manual_seed(2)
    size = ViewTransformerSize(4, latent_px=2, width=16, blocks=1, heads=2)
    views = SmallViewModel(ViewTransformer(size), tiny_autoencoder())
    return Hifi123Models(
        whole_picture,
        KnownElevation(10.0),
        views,
        lambda photo: SmallViewGuide(views, photo),
        tiny_enhancer(),
        Dome(),
    )
