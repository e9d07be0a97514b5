"""Earlier methods of score distillation as presets of the shared stage, for comparison.

Values are those of threestudio (Guo et al., 2023) and the authors' code; runs may be shorter, with
all steps as shares of them. Any guide may stand for their models: guidance scales and prompts are
its own affair.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Generator

from ..diffusion.distill_cameras import THREESTUDIO_CAMERAS, RandomCameras, Range
from ..diffusion.guide import DREAMFUSION_TIMES, Ramp, TimeRange, constant
from ..diffusion.small_depth_image import ImageGuide
from ..diffusion.view_guide import ViewGuide
from ..field.radiance import RadianceField, RadianceSettings
from ..image import Image
from ..mesh import Asset
from ..models import PlainStages, StageRunner
from ..views import Views
from .distilling import Asking, Distilling, Shading, distilled_field
from .distilling_asset import FieldMeshing, asset_of_field
from .distilling_losses import Order, PhotoLosses
from .framing import photo_view, seen_subject
from .hifi123 import DRAFT, Hifi123, Hifi123Models

_MAGIC123_TIMES = TimeRange(constant(0.2), constant(0.6))
_MESHING = FieldMeshing()


@dataclass(frozen=True)
class Preset:
    """A method of score distillation.

    Attributes:
        distilling: Cameras, losses and rates.
        asked_2d: What a model of single pictures is asked, if there is one.
        asked_3d: What a model that knows the photograph and cameras is asked, if there is one.
    """

    distilling: Distilling
    asked_2d: Asking | None = None
    asked_3d: Asking | None = None

    def at_cameras(self, cameras: RandomCameras) -> "Preset":
        """The same method with other cameras, such as those that a guide was trained with."""
        return replace(self, distilling=replace(self.distilling, cameras=cameras))


def dreamfusion(steps: int = 10_000) -> Preset:
    """Give DreamFusion's way (Poole et al. 2023): one picture a step, SDS of a 2D prior alone.

    Orientation rises to its weight over half of the run, and lamps are lit from the first tenth on.
    """
    distilling = Distilling(
        THREESTUDIO_CAMERAS,
        steps=steps,
        sizes=((0, 64, 1),),
        field=RadianceSettings(blob="dreamfusion"),
        network_rate=0.01,
        order=Order(orientation=Ramp(10.0, 1000.0, steps // 2), sparsity=constant(1.0)),
        shading=Shading(steps // 10),
    )
    return Preset(distilling, asked_2d=Asking(times=DREAMFUSION_TIMES))


def zero123_sds(steps: int = 600) -> Preset:
    """Give threestudio's way from Zero-1-to-3 to a field (its `zero123` configuration).

    Liu et al., "Zero-1-to-3: Zero-shot One Image to 3D Object", 2023. Renderings grow at a third
    and half of the run; noise levels sink over the first third.
    """
    third, half = steps // 3, steps // 2
    times = TimeRange(Ramp(0.4, 0.2, third), Ramp(0.85, 0.5, third))
    distilling = Distilling(
        RandomCameras(
            64,
            elevation_deg=Range(-10.0, 80.0),
            distance=Range(3.8, 3.8),
            fov_deg=Range(20.0, 20.0),
        ),
        steps=steps,
        sizes=((0, 64, 12), (third, 128, 4), (half, 256, 2)),
        network_rate=0.01,
        photo=PhotoLosses(rgb=500.0, mask=50.0, size_px=128),
        order=Order(
            orientation=constant(1.0),
            sparsity=constant(0.1),
            opaque=constant(0.1),
            normal_map=constant(8.0),
            normal_field=constant(8.0),
        ),
    )
    return Preset(distilling, asked_3d=Asking(0.1, times=times))


def magic123(steps: int = 5000) -> Preset:
    """Give Magic123's coarse stage: a 2D and a 3D prior together, and the photograph.

    Qian et al., "Magic123: One Image to High-Quality 3D Object Generation Using Both 2D and 3D
    Diffusion Priors", 2023: the 3D prior counts 40 times as much as the 2D one. The photograph is
    looked at in the first 100 of 5,000 steps and in every fourth after that. Not theirs: density is
    not smoothed by pictures' own edges, and opacity's entropy stands for their own form of it.
    """
    distilling = Distilling(
        RandomCameras(
            128,
            elevation_deg=Range(-45.0, 45.0),
            distance=Range(1.8, 1.8),
            fov_deg=Range(40.0, 40.0),
        ),
        steps=steps,
        sizes=((0, 128, 1),),
        grid_rate=0.01,
        network_rate=0.001,
        photo=PhotoLosses(rgb=5.0, mask=0.5, size_px=128, every=4, only_until=steps // 50),
        order=Order(orientation=constant(0.01), opaque=constant(1e-3), normal_map=constant(0.5)),
    )
    return Preset(
        distilling,
        asked_2d=Asking(1.0, times=_MAGIC123_TIMES),
        asked_3d=Asking(40.0, times=_MAGIC123_TIMES),
    )


PRESETS = {"dreamfusion": dreamfusion, "zero123-sds": zero123_sds, "magic123": magic123}
"""Presets by name; each takes its number of steps."""


def distilled_by(
    preset: Preset,
    photo: Views,
    rng: Generator,
    *,
    guide_2d: ViewGuide | None = None,
    guide_3d: ViewGuide | None = None,
    stage: StageRunner | None = None,
    name: str = "distil",
) -> RadianceField:
    """Run a preset; arguments as for `distilled_field`.

    Args:
        preset: The method.
        photo: The photograph as one view over white.
        rng: CPU generator.
        guide_2d: A model of single pictures, for methods that ask one.
        guide_3d: A model that knows photograph and cameras, for methods that ask one.
        stage: Runs the work.
        name: Of the stage.

    Raises:
        ValueError: If the method asks a guide that was not given.
    """
    guides = []
    for kind, guide, asked in (
        ("guide_2d", guide_2d, preset.asked_2d),
        ("guide_3d", guide_3d, preset.asked_3d),
    ):
        if asked is None:
            continue
        if guide is None:
            raise ValueError(f"this preset asks a {kind}: give one")
        guides.append((guide, asked))
    return distilled_field(photo, guides, rng, preset.distilling, stage=stage, name=name)


def asset_by_preset(
    photo: Image,
    models: Hifi123Models,
    rng: Generator,
    preset: Preset,
    settings: Hifi123 = DRAFT,
    *,
    meshing: FieldMeshing = _MESHING,
    stage: StageRunner | None = None,
) -> Asset:
    """Make an asset of one photograph by an earlier method, with HiFi-123's models.

    Its priors stand for those of the method: the image model for Stable Diffusion, the view model
    for Zero-1-to-3. Cameras keep the method's elevations, at the distance and through the lens that
    the models were trained with. A method that compares with the photograph gets its colours too.

    Args:
        photo: The photograph.
        models: HiFi-123's.
        rng: CPU generator.
        preset: One of `PRESETS`, made for its number of steps.
        settings: `photo_px`, `distance`, `fov_deg`, `photo_elevation_deg` and `scale_2d` count.
        meshing: How the field becomes an asset.
        stage: Runs the stages.

    Raises:
        ValueError: If the photograph shows no subject, or nothing solid comes of it.
    """
    stage = stage or PlainStages()
    subject, elevation_deg = seen_subject(
        photo,
        models.matte,
        models.elevation,
        photo_px=settings.photo_px,
        known_deg=settings.photo_elevation_deg,
        stage=stage,
    )
    distance, fov_deg = settings.distance, settings.fov_deg
    front = photo_view(subject, elevation_deg=elevation_deg, distance=distance, fov_deg=fov_deg)
    prompts = models.enhancer.prompts(subject)
    image_prior = models.image_prior or ImageGuide(
        models.enhancer.models, prompts, scale=settings.scale_2d
    )
    theirs = replace(
        preset.distilling.cameras,
        distance=Range(distance, distance),
        fov_deg=Range(fov_deg, fov_deg),
    )
    field = distilled_by(
        preset.at_cameras(theirs),
        front,
        rng,
        guide_2d=image_prior,
        guide_3d=models.prior(front),
        stage=stage,
    )
    seen = front if preset.distilling.photo.rgb > 0 else None
    return asset_of_field(field, front.cameras, rng, meshing, photo=seen, stage=stage)


def settings_ablation(
    photo: Views,
    guides: Mapping[bool, ViewGuide],
    seed: int,
    preset: Preset,
    *,
    stage: StageRunner | None = None,
) -> dict[str, RadianceField]:
    """Distil one photograph in the four ways of Isotropic3D's figure 8.

    Liu et al., "Isotropic3D", 2024: Zero123's guidance with and without the photograph's latents
    beside the noisy ones, and with and without the pixel loss on the photograph.

    Args:
        photo: The photograph as one view over white.
        guides: With (True) and without (False) the photograph in the network's input; both know it
            by its embedding.
        seed: Of each run: they differ in nothing but what is compared.
        preset: The method with both, such as `zero123_sds`.
        stage: Runs the four stages.

    Returns:
        The fields "full", "no concat", "no pixels" and "neither".

    Raises:
        ValueError: If a guide is missing.
    """
    if set(guides) != {True, False}:
        raise ValueError(f"guides must be with (True) and without (False), got {list(guides)}")
    stage = stage or PlainStages()
    blind = replace(preset, distilling=replace(preset.distilling, photo=PhotoLosses()))
    ways = {
        "full": (True, preset),
        "no concat": (False, preset),
        "no pixels": (True, blind),
        "neither": (False, blind),
    }
    return {
        name: distilled_by(
            way,
            photo,
            Generator().manual_seed(seed),
            guide_3d=guides[concat],
            stage=stage,
            name=f"distil {name}",
        )
        for name, (concat, way) in ways.items()
    }
