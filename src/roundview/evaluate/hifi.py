"""What HiFi-123's parts are worth: enhancing on and off, RGSD against SDS, inversion with depth.

The comparisons of Yu et al., "HiFi-123: Towards High-fidelity One Image to 3D Content Generation",
2024: tables 1 and 3, and table 2 of the supplement. Each function takes one object; `compared`
brings the objects together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Generator, Tensor

from ..camera import Cameras
from ..diffusion.ddim import Predictor, ddim
from ..diffusion.depth2image import Prompts, Rgnv, source_predictor
from ..diffusion.guide_loop import Guide, Rendered
from ..diffusion.guide_rgsd import FIXED_AZIMUTHS_DEG
from ..diffusion.invert import invert, plan_from_zero
from ..diffusion.rgnv_views import EnhancingModels, inverse_depth, prepared
from ..diffusion.small_depth_image import ImageGuide, no_depth
from ..field.radiance import RadianceField
from ..metrics import psnr
from ..models import PlainStages
from ..recipes.distilling import Asking, guide_gradient
from ..recipes.enhancing import Enhancer, enhanced_views
from ..recipes.hifi123 import TIMES_2D, Hifi123, rgsd_colours
from ..recipes.hifi123_refine import Shot, Surface, fixed_cameras, refine_colours
from ..views import Views
from .marks import bootstrap_interval
from .protocol import Truth, as_written, mark


@dataclass(frozen=True)
class Compared:
    """Two ways, marked on the same objects.

    Attributes:
        before: Mean mark of the first way.
        after: Of the second.
        gain: Their mean difference.
        interval: Within which that mean lies nine times of ten; None for one object.
        objects: How many there were.
    """

    before: float
    after: float
    gain: float
    interval: list[float] | None
    objects: int


def compared(marks: Sequence[tuple[float, float]]) -> Compared:
    """Bring (first way, second way) of several objects together.

    Raises:
        ValueError: If there is none.
    """
    if not marks:
        raise ValueError("there is no object to compare on")
    before, after = (list(part) for part in zip(*marks, strict=True))
    gains = [b - a for a, b in marks]
    return Compared(
        fmean(before), fmean(after), fmean(gains), bootstrap_interval(gains), len(marks)
    )


def enhancement_marks(
    truth: Truth, drawn: Views, enhancer: Enhancer, settings: Rgnv
) -> tuple[float, float]:
    """Give the mean PSNR of an object's novel views as they were drawn, and enhanced by RGNV.

    Args:
        truth: True views, the photograph first.
        drawn: The same views as a generator draws them.
        enhancer: The image model.
        settings: Of RGNV.
    """
    enhanced = enhanced_views(truth.photo, drawn, enhancer, settings=settings)
    before, after = (fmean(mark(views.rgb, truth)["psnr"]) for views in (drawn, enhanced))
    return before, after


@torch.no_grad()
def inversion_marks(
    pictures: Views, prompts: Prompts, enhancer: Enhancer, settings: Rgnv
) -> tuple[float, float]:
    """Give the mean PSNR of pictures that were inverted and drawn again, without depth and with.

    All steps of the plan are gone. What the autoencoder alone loses is not counted: the pictures
    are compared with their own latents, decoded.

    Args:
        pictures: Over white, with depth if it is known; else it is estimated.
        prompts: The source one is used for both ways.
        enhancer: The image model.
        settings: Their number of steps counts.
    """
    models, plan = enhancer.models, plan_from_zero(settings.steps)
    side = (models.size_px, models.size_px)
    small = pictures.resized(side)
    latents, depth = prepared(models, small.rgb, small.alpha, known=inverse_depth(pictures, side))
    truth = _pictures(models, latents, small.alpha)

    def again(told: Tensor) -> float:
        predict: Predictor = source_predictor(
            models.denoiser, told, prompts, enhancer.settings(settings)
        )
        noise = invert(predict, latents, plan)[-1]
        drawn = _pictures(models, ddim(predict, noise, plan), small.alpha)
        return float(psnr(drawn, truth).mean())

    return again(no_depth(latents)), again(depth)


@dataclass(frozen=True)
class RefinementMarks:
    """Mean PSNR of an object's novel views, in dB.

    Attributes:
        coarse: As the refine stage finds them.
        sds: After it, with SDS.
        rgsd: After it, with RGSD.
    """

    coarse: float
    sds: float
    rgsd: float


def refinement_marks(
    surface: Surface, truth: Truth, enhancer: Enhancer, settings: Hifi123, *, seed: int = 0
) -> RefinementMarks:
    """Refine one surface's colours by SDS and by RGSD, with all else alike.

    Both see the same views, fixed ones by turns, in as many steps, and the photograph. SDS is asked
    as the recipe's 2D prior is; its loss has the weight that it has there.

    Args:
        surface: Of the coarse stage, or any other in its own frame.
        truth: True views in that frame, the photograph first.
        enhancer: The image model.
        settings: `refining`, `rgsd`, `weight_2d` and `scale_2d` count.
        seed: Of both runs.
    """
    photo, stage = truth.views[0], PlainStages()
    prompts = enhancer.prompts(truth.photo)
    guide = ImageGuide(enhancer.models, prompts, scale=settings.scale_2d)
    elevation_deg = float(photo.cameras.elevation_deg[0])
    fixed = fixed_cameras(FIXED_AZIMUTHS_DEG, settings.refining, elevation_deg)
    by_sds = refine_colours(
        surface,
        photo,
        sds_of(guide, Asking(settings.weight_2d, times=TIMES_2D)),
        fixed,
        Generator().manual_seed(seed),
        settings.refining,
        stage=stage,
    )
    rng = Generator().manual_seed(seed)
    by_rgsd = rgsd_colours(surface, photo, truth.photo, enhancer, rng, settings, stage=stage)

    def marked(field: RadianceField) -> float:
        with torch.no_grad():
            views = Surface(field, surface.mesh).views(truth.views.cameras)
        return fmean(mark(views.rgb, truth)["psnr"])

    return RefinementMarks(marked(surface.field), marked(by_sds), marked(by_rgsd))


def sds_of(guide: ImageGuide, asking: Asking) -> Guide:
    """Let a refine stage follow SDS instead of RGSD."""

    def gradient(rendered: Rendered, step: int, rng: Generator) -> Tensor:
        shot = rendered.about
        assert isinstance(shot, Shot)
        cameras: Cameras = shot.views.cameras
        found = guide_gradient(guide, asking, rendered.picture, cameras, step, rng)
        return asking.weight * found

    return gradient


def _pictures(models: EnhancingModels, latents: Tensor, alpha: Tensor) -> Tensor:
    """Decode latents; outside the subject all is white."""
    solid = alpha[..., None]
    return as_written(models.decode(latents).cpu() * solid + 1 - solid)
