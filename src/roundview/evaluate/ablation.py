"""What each part of a recipe is worth: protocol `ablation`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator

from ..data.objects import ObjectFile
from ..image import Image
from ..mesh import Asset, Mesh
from ..models import Report, StageRunner
from ..recipes.im3d import Im3d
from ..stages import Listener, seeded
from ..weights import for_record
from .jobs import Workers, measure_all
from .keeping import Measured
from .marks import mean_rows
from .nvs import ALIGNMENT, Candidate, NvsMeasure
from .protocol import NvsProtocol, mark, render_truth
from .strips import strip_png
from .through_recipe import Recipe, recipe_pictures

NAME = "ablation"


def im3d_variants(full: Im3d) -> dict[str, Im3d]:
    """Give the settings that IM-3D's ablation compares, as far as they are settings here.

    Melas-Kyriazi et al., "IM-3D: Iterative Multiview Diffusion and Reconstruction for High-Quality
    3D Generation", 2024, table 3 (16, 8 or 4 frames) and section 5.4 (without redrawing). Their
    marks are CLIP similarities of generated objects; ours compare with the true views.
    """
    return {
        "full": full,
        "8 views on the ring": replace(full, ring_views=8),
        "4 views on the ring": replace(full, ring_views=4),
        "no further rings": replace(full, more_rings=()),
        "no redrawing": replace(full, redraw_after=(), redraw_noise=()),
    }


@dataclass(frozen=True, eq=False)
class AblationMeasure:
    """Runs a recipe with several settings on each photograph; one row for each.

    Attributes:
        candidate: Models, recipe and seed; its own settings are the first variant's.
        variants: Settings by name, in the order of the table; the first is what is measured.
        protocol: Views; the first is the photograph.
    """

    candidate: Candidate
    variants: dict[str, Im3d]
    protocol: NvsProtocol = NvsProtocol()  # noqa: RUF009  a frozen value

    def facts(self) -> dict[str, Any]:
        """Say in plain values what is measured, and how."""
        return {
            "protocol": asdict(self.protocol),
            "variants": {name: asdict(settings) for name, settings in self.variants.items()},
            "seed": self.candidate.seed,
            "models": self.candidate.loaded.identity,
            "torch": torch.__version__,
        }

    def __call__(self, name: str, mesh: Mesh, report: Report) -> Measured:
        """Run every variant on one object."""
        del name
        truth = render_truth(mesh, self.protocol)
        rows, by_row, drawn = {}, {}, []
        for at, (variant, settings) in enumerate(self.variants.items()):
            pictures = recipe_pictures(
                self._recipe(settings),
                truth.photo,
                self.protocol.cameras,
                seeded(self.candidate.seed),
                supersample=self.protocol.supersample,
                expected_stages=7 + 2 * len(settings.redraw_after),
                report=lambda f, at=at: report((at + f) / len(self.variants)),
            )
            marks = mark(pictures["mesh"], truth)
            rows[variant] = {m: round(fmean(values), 5) for m, values in marks.items()}
            by_row[variant] = marks["psnr"]
            drawn.append(pictures["mesh"])
        entry = {
            "rows": rows,
            "azimuth_deg": [round(float(a), 3) for a in truth.views.cameras.azimuth_deg[1:]],
            "psnr_by_row": by_row,
            "strip": ["truth", *self.variants],
        }
        return Measured(entry, strip_png([truth.views.rgb, *drawn]))

    def _recipe(self, settings: Im3d) -> Recipe:
        models = self.candidate.loaded.models

        def run(photo: Image, rng: Generator, stages: StageRunner) -> Asset:
            return self.candidate.method.run(photo, models, rng, settings, stages)

        return run


@runtime_checkable
class Ablation(Protocol):
    """Measures objects in several ways; the first variant is the whole method."""

    @property
    def candidate(self) -> Candidate:
        """Models, recipe and seed."""
        ...

    @property
    def variants(self) -> Mapping[str, Any]:
        """Settings by the names of the rows."""
        ...

    def facts(self) -> dict[str, Any]:
        """Say in plain values what is measured, and how."""
        ...

    def __call__(self, name: str, mesh: Mesh, report: Report) -> Measured:
        """Measure one object."""
        ...


ABLATIONS = ("im3d", "hi3d", "cascade-zero123", "isotropic3d")
"""Recipes whose papers take them apart, and that can be taken apart here by settings alone."""


def load_measure(load: Callable[[], NvsMeasure]) -> Ablation:
    """Build the measure from what loads the models, so that other processes can do it, too.

    Raises:
        ValueError: If the recipe is none of `ABLATIONS`.
    """
    loaded = load()
    candidate, protocol = loaded.candidate, loaded.protocol
    if candidate.recipe == "im3d":
        return AblationMeasure(candidate, im3d_variants(candidate.settings), protocol)
    if candidate.recipe == "hi3d":
        from .hi3d import Hi3dMeasure, hi3d_variants  # noqa: PLC0415  each recipe when needed

        # Settings may leave the second stage out; what it is worth is asked here.
        full = replace(candidate.settings, refine_steps=candidate.settings.refine_steps or 1)
        return Hi3dMeasure(candidate, hi3d_variants(full), protocol)
    if candidate.recipe == "cascade-zero123":
        from .cascade import CascadeMeasure, cascade_variants  # noqa: PLC0415

        return CascadeMeasure(candidate, cascade_variants(candidate.settings), protocol=protocol)
    if candidate.recipe == "isotropic3d":
        from .isotropic import load_settings_measure  # noqa: PLC0415

        return load_settings_measure(candidate, protocol)
    raise ValueError(f"recipe {candidate.recipe}: ablations are of {', '.join(ABLATIONS)}")


def evaluate_ablation(
    objects: Sequence[ObjectFile],
    measure: Ablation,
    directory: Path,
    *,
    workers: Workers | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Compare settings of a recipe by what it makes; goes on where it stopped.

    Returns:
        What `results.json` holds; `roundview eval compare` does not pair rows of one file, so the
        intervals are of each row by itself.
    """
    entries = measure_all(objects, measure, directory, workers=workers, listener=listener)
    return {
        "protocol": NAME,
        "recipe": measure.candidate.recipe,
        "weights": [for_record(card) for card in measure.candidate.loaded.cards],
        "alignment": ALIGNMENT,
        "settings": measure.facts(),
        "main": next(iter(measure.variants)),
        "uses_truth": [],
        "objects": entries,
        "mean": mean_rows(entries, {}),
    }
