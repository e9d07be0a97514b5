"""What Hi3D's parts are worth: tables 3 and 4 of its paper.

Yang et al., "Hi3D: Pursuing High-Resolution Image-to-3D Generation with Video Diffusion Models",
2024: the second stage against the first alone, the number M of views rendered between neighbours,
and a surface fitted to them against the Gaussians' own.
"""

from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Generator

from ..camera import Cameras
from ..data.render_set import MultiViewSet
from ..diffusion.orbit import DISTANCE, FOV_DEG
from ..image import Image
from ..mesh import Mesh
from ..metrics import deep_feature_distance, surface_marks
from ..models import FeatureModel, Report
from ..recipes.framing import with_photo
from ..recipes.hi3d import Hi3d, Hi3dModels, hi3d, orbit_cameras
from ..stages import seeded
from ..surface.raster import render_mesh
from ..views import Views
from .keeping import Measured
from .nvs import Candidate
from .protocol import NvsProtocol, Truth, mark, render_truth, truth_from_views
from .strips import strip_png
from .through_recipe import WatchedStages, unmoved

_TO_REFINED = ("matte", "elevation", "draw")
_TO_FITTED = (*_TO_REFINED, "refine", "fit")


@dataclass(frozen=True)
class Variant:
    """A row of the tables.

    Attributes:
        settings: Of the recipe.
        shared: Stages whose results are the whole method's, so that what follows is compared on the
            same views.
    """

    settings: Hi3d
    shared: tuple[str, ...]


def hi3d_variants(full: Hi3d) -> dict[str, Variant]:
    """Give the rows that are settings; the first is the whole method, with stage 2 if it has it."""
    ring = full.ring_views
    rows = {"full": Variant(full, ())}
    if full.refine_steps:
        rows["without stage 2"] = Variant(replace(full, refine_steps=0), _TO_REFINED)
    for count in (0, ring, 2 * ring, 3 * ring):
        if count != full.between:
            rows[f"M = {count}"] = Variant(replace(full, between=count), _TO_FITTED)
    rows["Gaussians alone"] = Variant(replace(full, surface="splat"), _TO_FITTED)
    return rows


@dataclass(frozen=True, eq=False)
class Hi3dMeasure:
    """Makes objects' meshes with every variant, and marks pictures and surfaces.

    Attributes:
        candidate: Models, seed, and settings of the whole method.
        variants: Rows by name; the first shares nothing.
        protocol: Views; the first is the photograph.
        samples: Surface points, see `metrics.surface_marks`.
    """

    candidate: Candidate
    variants: dict[str, Variant]
    protocol: NvsProtocol = NvsProtocol()  # noqa: RUF009  a frozen value
    samples: int = 20_000

    def facts(self) -> dict[str, Any]:
        """Say in plain values what is measured, and how."""
        return self.candidate.facts(self.protocol) | {
            "variants": {name: asdict(row) for name, row in self.variants.items()},
            "models": self.candidate.loaded.identity,
            "samples": self.samples,
        }

    def __call__(self, name: str, mesh: Mesh, report: Report) -> Measured:
        """Run every variant on one object."""
        del name
        truth = render_truth(mesh, self.protocol)
        whole: dict[str, Any] = {}
        rows, by_row, drawn = {}, {}, []
        for at, (row, variant) in enumerate(self.variants.items()):
            given = {"matte": truth.photo}
            given |= {key: whole[key] for key in variant.shared if key in whole}
            stages = WatchedStages(
                given,
                report=lambda f, at=at: report((at + f) / len(self.variants)),
                expected=8,
            )
            made = self._mesh(truth, variant.settings, stages)
            whole = whole or stages.results
            views = render_mesh(
                made, truth.views.cameras, supersample=self.protocol.supersample, geometry=False
            )
            marks = mark(views.rgb, truth)
            surface = surface_marks(made, mesh, seeded(0), samples=self.samples)
            rows[row] = {m: round(fmean(values), 5) for m, values in marks.items()}
            rows[row] |= {m: round(value, 6) for m, value in asdict(surface).items()}
            by_row[row] = marks["psnr"]
            drawn.append(views.rgb)
        entry = {
            "rows": rows,
            "azimuth_deg": [round(float(a), 3) for a in truth.views.cameras.azimuth_deg[1:]],
            "psnr_by_row": by_row,
            "strip": ["truth", *self.variants],
        }
        return Measured(entry, strip_png([truth.views.rgb, *drawn]))

    def _mesh(self, truth: Truth, settings: Hi3d, stages: WatchedStages) -> Mesh:
        photo = Image(truth.photo.rgb, truth.photo.alpha)
        rng = seeded(self.candidate.seed)
        asset = hi3d(photo, self.candidate.loaded.models, rng, settings, stages)
        return unmoved(asset.mesh, stages.notes["world_from_fitted"])


def true_ring(rings: MultiViewSet, row: int) -> Truth:
    """Give one object's first ring out of a rendered set; its first view is the photograph."""
    made, elevation_deg = rings.settings, float(rings.elevation_deg[row, 0])
    rgba = torch.from_numpy(rings.rgba[row, : made.ring_views].astype(np.float32) / 255)
    cameras = Cameras.orbit(
        [360 / made.ring_views * k for k in range(made.ring_views)],
        elevation_deg=elevation_deg,
        radius=DISTANCE,
        fov_deg=FOV_DEG,
        size_hw=(made.size_px, made.size_px),
    )
    return truth_from_views(Views(rgba[..., :3].contiguous(), rgba[..., 3].contiguous(), cameras))


@torch.no_grad()
def two_stages(
    truth: Truth, models: Hi3dModels, settings: Hi3d, rng: Generator
) -> tuple[Views, Views]:
    """Draw one object's ring by the first stage, enlarged, and by the second; the photo first.

    Args:
        truth: True views of a ring of `settings.ring_views` at `settings.size_px`.
        models: Of the recipe.
        settings: Sizes and steps; a `photo_elevation_deg` is not asked for, the truth knows it.
        rng: Seeds both stages.
    """
    elevation_deg = float(truth.views.cameras.elevation_deg[0].round(decimals=3))
    cameras = orbit_cameras(replace(settings, more_rings=()), elevation_deg)
    drawn = models.orbit.draw(
        truth.photo,
        cameras,
        rng,
        photo_elevation_deg=elevation_deg,
        steps=settings.draw_steps,
    )
    refined = models.refiner.refine(
        drawn, truth.photo, rng, photo_elevation_deg=elevation_deg, steps=settings.refine_steps
    )
    side = truth.views.cameras.size_hw
    enlarged, sharp = (with_photo(v.resized(side), truth.photo) for v in (drawn, refined))
    return enlarged, sharp


@torch.no_grad()
def stage_two_marks(
    truth: Truth, enlarged: Views, refined: Views, features: FeatureModel
) -> dict[str, tuple[float, float]]:
    """Mark both stages' novel views.

    Returns:
        `psnr` and `deep_feature_distance`, each (enlarged, refined), means over the views.
    """
    both, wanted = (enlarged.rgb, refined.rgb), truth.views.rgb
    far = [deep_feature_distance(features, rgb[1:], wanted[1:]) for rgb in both]
    near = [fmean(mark(rgb, truth)["psnr"]) for rgb in both]
    return {
        "psnr": (near[0], near[1]),
        "deep_feature_distance": (float(far[0].mean()), float(far[1].mean())),
    }
