"""What Isotropic3D's choices are worth: figure 8 of its paper, and its second stage of training.

Liu et al., "Isotropic3D: Image-to-3D Generation Based on a Single CLIP Embedding", 2024. Figure 8
distils one photograph with the guidance of Zero-1-to-3, whose network sees the photograph's latents
beside the noisy ones, and without them; with the pixel loss on the photograph, and without it. The
paper shows pictures; ours are marked against the true views.
"""

from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.distill_cameras import RandomCameras
from ..diffusion.multiview_guide import MultiviewGuide
from ..field.radiance import RadianceField
from ..loaders import Loaded, Wanted
from ..loaders.cascade_zero123 import load_cascade_zero123
from ..mesh import Mesh
from ..metrics import psnr
from ..models import FeatureModel, OrbitModel, Report
from ..recipes.distilling_presets import Preset, settings_ablation, zero123_sds
from ..recipes.framing import photo_view
from ..stages import seeded
from .keeping import Measured
from .nvs import Candidate
from .protocol import NvsProtocol, Truth, as_written, mark, render_truth
from .strips import strip_png
from .through_recipe import WatchedStages

FIGURE_8 = {
    "full": "beside the noise, and pixels compared",
    "no concat": "embedding only, pixels compared",
    "no pixels": "beside the noise, no pixel compared",
    "neither": "embedding only, no pixel compared",
}
"""How the photograph is known in each row."""
_TOGETHER = 4


def small_preset(steps: int, cameras: RandomCameras) -> Preset:
    """Give threestudio's way from Zero-1-to-3 to a field, smaller, for views four at a time.

    Both guides of the ablation are shown the same cameras, and a guide with an embedding alone
    looks at four views at equal turns together.
    """
    preset = zero123_sds(steps).at_cameras(replace(cameras, views=_TOGETHER))
    sizes = ((0, 32, _TOGETHER), (steps // 3, 64, _TOGETHER))
    photo = replace(preset.distilling.photo, size_px=64)
    return replace(preset, distilling=replace(preset.distilling, sizes=sizes, photo=photo))


@dataclass(frozen=True, eq=False)
class SettingsMeasure:
    """Distils each photograph in the four ways of figure 8, and marks what the fields look like.

    "No concat" is another network here, not the same without an input: the shipped view model was
    never trained without the photograph's latents, and the shipped multi-view model, told of an
    embedding alone, stands for it.

    Attributes:
        candidate: Isotropic3D's models: the guide that knows an embedding alone.
        views: Cascade-Zero123's models, whose base is the guide that sees the photograph.
        preset: The whole method: both kinds of knowledge.
        protocol: Views; the first is the photograph.
    """

    candidate: Candidate
    views: Loaded
    preset: Preset
    protocol: NvsProtocol = NvsProtocol()  # noqa: RUF009  a frozen value

    @property
    def variants(self) -> dict[str, str]:
        """Say what the rows are; the first is Zero-1-to-3's way."""
        return FIGURE_8

    def facts(self) -> dict[str, Any]:
        """Say in plain values what is measured, and how."""
        return self.candidate.facts(self.protocol) | {
            "variants": FIGURE_8,
            "preset": asdict(self.preset),
            "models": self.candidate.loaded.identity,
            "views": self.views.identity,
        }

    def __call__(self, name: str, mesh: Mesh, report: Report) -> Measured:
        """Distil one object four times."""
        del name
        truth = render_truth(mesh, self.protocol)
        fields = self.fields(truth, report)
        rows, by_row, drawn = {}, {}, []
        for row, field in fields.items():
            rgb = pictures(field, truth)
            marks = mark(rgb, truth)
            rows[row] = {m: round(fmean(values), 5) for m, values in marks.items()}
            front = psnr(as_written(rgb[:1]), truth.views.rgb[:1])
            rows[row]["reference_psnr"] = round(float(front), 4)
            by_row[row] = marks["psnr"]
            drawn.append(rgb)
        entry = {
            "rows": rows,
            "azimuth_deg": [round(float(a), 3) for a in truth.views.cameras.azimuth_deg[1:]],
            "psnr_by_row": by_row,
            "strip": ["truth", *fields],
        }
        return Measured(entry, strip_png([truth.views.rgb, *drawn]))

    def fields(self, truth: Truth, report: Report) -> dict[str, RadianceField]:
        """Distil the four fields of one object."""
        protocol, models = self.protocol, self.views.models
        front = photo_view(
            truth.photo,
            elevation_deg=protocol.elevation_deg,
            distance=protocol.distance,
            fov_deg=protocol.fov_deg,
        )
        guides = {
            True: models.guide(models.base, front),
            False: MultiviewGuide(self.candidate.loaded.models.multiview, truth.photo),
        }
        stages = WatchedStages({}, report=report, expected=len(FIGURE_8))
        return settings_ablation(front, guides, self.candidate.seed, self.preset, stage=stages)


def load_settings_measure(candidate: Candidate, protocol: NvsProtocol) -> SettingsMeasure:
    """Load the guide that sees the photograph beside Isotropic3D's models.

    Each distillation has a quarter of the recipe's steps: 625 at "standard", where threestudio has
    600 from Zero-1-to-3, and 100 in a draft.

    Args:
        candidate: Isotropic3D's models and settings.
        protocol: Views.

    Raises:
        WeightsMissing: If the view model is not installed.
    """
    views = load_cascade_zero123(
        Wanted(use_matte=False, photo_elevation_deg=protocol.elevation_deg)
    )
    preset = small_preset(candidate.settings.steps // 4, candidate.loaded.models.cameras)
    return SettingsMeasure(candidate, views, preset, protocol)


def likeness_marks(
    truth: Truth,
    models: tuple[OrbitModel, OrbitModel],
    rng_seed: int,
    features: FeatureModel,
    *,
    steps: int,
) -> dict[str, tuple[float, float]]:
    """Compare what the models of the first and the second stage of training draw of a photograph.

    Section 3.2 of the paper: the second stage, in which the clean photograph takes part as one more
    view, is said to bring the views nearer to it. Bring objects together with
    `evaluate.hifi.compared`.

    Args:
        truth: True views at equal turns, the photograph first.
        models: Of the first stage, and of the second.
        rng_seed: Both draw from the same noise.
        features: Whose embeddings are compared.
        steps: Of the sampler.

    Returns:
        For each of both: `likeness`, the mean cosine between the embeddings of the views drawn and
        of the photograph; `reference_psnr` of the photograph's own view; `psnr` of the others.
    """
    photo = truth.views.rgb[:1]
    elevation_deg = float(truth.views.cameras.elevation_deg[0])
    found: list[dict[str, float]] = []
    for model in models:
        views = model.draw(
            truth.photo,
            truth.views.cameras,
            seeded(rng_seed),
            photo_elevation_deg=elevation_deg,
            steps=steps,
        )
        rgb = as_written(views.rgb.cpu())
        found.append(
            {
                "likeness": _likeness(features, rgb, photo),
                "reference_psnr": float(psnr(rgb[:1], photo)),
                "psnr": fmean(mark(rgb, truth)["psnr"]),
            }
        )
    first, second = found
    return {key: (first[key], second[key]) for key in first}


def pictures(field: RadianceField, truth: Truth) -> Float[Tensor, "n h w 3"]:
    """Draw a field from where the true views are seen."""
    with torch.no_grad():
        views = field.render(truth.views.cameras.to(field.occupancy.held.device), normals=False)
    return views.rgb.clamp(0, 1).cpu()


@torch.no_grad()
def _likeness(
    features: FeatureModel, rgb: Float[Tensor, "n h w 3"], photo: Float[Tensor, "1 h w 3"]
) -> float:
    cosine = torch.nn.functional.cosine_similarity(
        features.embedding(rgb), features.embedding(photo), dim=-1
    )
    return float(cosine.mean())
