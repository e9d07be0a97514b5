"""Shape from one photograph: `roundview eval mesh`, protocol `mesh-syncdreamer`.

Each object's photograph is the first of the true views of `protocol.NvsProtocol`; a method makes a
mesh of it, or a folder holds meshes that some program made. The mesh is compared with the object as
a surface (`metrics.surface_marks`) and in the 15 other views. Two shapes stand in the same table:
the silhouette inflated, which takes no knowledge, and the visual hull of the true silhouettes,
which takes the answer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Generator, nn

from .. import __version__
from ..data.objects import ObjectFile
from ..export.glb import load_glb
from ..image import Image
from ..mesh import Asset, Mesh, centred
from ..metrics import surface_marks
from ..models import Report, StageRunner
from ..stages import Listener, seeded
from ..surface.raster import render_mesh
from ..weights import for_record
from .align import ALIGNMENTS, Alignment, align
from .jobs import Workers, measure_all
from .keeping import Measured
from .marks import mean_rows
from .nvs import Candidate, load_measure
from .protocol import NvsProtocol, Truth, mark, render_truth
from .shapes import inflated_silhouette, visual_hull
from .strips import strip_png
from .through_recipe import WatchedStages, costs, unmoved

NAME = "mesh-syncdreamer"

LABELS = {
    "measured": "the measured meshes",
    "hull": "visual hull of the true silhouettes",
    "inflated": "the photo's silhouette, inflated",
}
USES_TRUTH = ["hull"]

MakeMesh = Callable[[str, Truth, Report], Mesh]
"""Gives the mesh of an object, by its name or from its photograph, in the frame of the photo."""


@dataclass(frozen=True, eq=False)
class RecipeMeshes:
    """Runs a recipe on each photograph; its mesh is moved back to where it was fitted."""

    candidate: Candidate

    def __call__(self, name: str, truth: Truth, report: Report) -> Mesh:
        """Make the mesh of one photograph."""
        del name
        candidate = self.candidate
        stages = WatchedStages({"matte": truth.photo}, report=report, expected=7)
        asset = self._run(Image(truth.photo.rgb, truth.photo.alpha), seeded(candidate.seed), stages)
        return unmoved(asset.mesh, stages.notes["world_from_fitted"])

    def _run(self, photo: Image, rng: Generator, stages: StageRunner) -> Asset:
        candidate = self.candidate
        return candidate.method.run(photo, candidate.loaded.models, rng, candidate.settings, stages)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Those whose calls are counted."""
        return self.candidate.loaded.counted

    def facts(self) -> dict[str, Any]:
        """Say what makes the meshes."""
        candidate = self.candidate
        return {
            "recipe": candidate.recipe,
            "settings": asdict(candidate.settings),
            "seed": candidate.seed,
            "models": candidate.loaded.identity,
        }


@dataclass(frozen=True)
class FileMeshes:
    """Takes meshes that any program made: `NAME.glb`, +Y up, the photographed side towards +Z.

    They are centred and scaled to longest side 1 first, as the truth is.
    """

    folder: Path

    def __call__(self, name: str, truth: Truth, report: Report) -> Mesh:
        """Read the mesh of one object."""
        del truth
        mesh = centred(load_glb(self.folder / f"{name}.glb"))[0]
        report(1.0)
        return mesh

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """None that is known of."""
        return {}

    def facts(self) -> dict[str, Any]:
        """Say where the meshes come from, and when each was written."""
        written = {
            str(path.relative_to(self.folder)): path.stat().st_mtime_ns
            for path in sorted(self.folder.rglob("*.glb"))
        }
        return {"folder": str(self.folder), "written": written}


@dataclass(frozen=True, eq=False)
class MeshMeasure:
    """Marks the meshes that something makes of objects' photographs.

    Attributes:
        source: What makes them.
        protocol: Views, the first of which is the photograph.
        alignment: What is forgiven; SyncDreamer's protocol forgives nothing.
        seed: Of the surface points.
        samples: Surface points, see `metrics.surface_marks`.
        resolution: Of the grids that the two shapes beside it are drawn from.
    """

    source: RecipeMeshes | FileMeshes
    protocol: NvsProtocol = NvsProtocol()  # noqa: RUF009  a frozen value
    alignment: Alignment = "none"
    seed: int = 0
    samples: int = 20_000
    resolution: int = 96

    def facts(self) -> dict[str, Any]:
        """Say in plain values what is measured, and how."""
        return {
            "protocol": asdict(self.protocol),
            "alignment": self.alignment,
            "samples": self.samples,
            "source": self.source.facts(),
            "roundview": __version__,
            "torch": torch.__version__,
        }

    def __call__(self, name: str, mesh: Mesh, report: Report) -> Measured:
        """Measure one object."""
        truth = render_truth(mesh, self.protocol)
        camera, grid = self.protocol.cameras()[0], self.resolution
        with costs(self.source.networks) as spent:
            made = self.source(name, truth, report)
        aligned = align(made, mesh, self.alignment, seeded(self.seed))
        shapes = {
            "measured": aligned.mesh,
            "hull": _coloured(visual_hull(truth.views, resolution=grid), truth),
            "inflated": _coloured(inflated_silhouette(truth.photo, camera, resolution=grid), truth),
        }
        drawn, rows, by_row = [], {}, {}
        for key, shape in shapes.items():
            views = render_mesh(
                shape,
                truth.views.cameras,
                supersample=self.protocol.supersample,
                geometry=False,
            )
            marks = mark(views.rgb, truth)
            surface = asdict(surface_marks(shape, mesh, seeded(self.seed), samples=self.samples))
            rows[key] = {m: round(fmean(values), 5) for m, values in marks.items()}
            rows[key] |= {m: round(value, 6) for m, value in surface.items()}
            by_row[key] = marks["psnr"]
            drawn.append(views.rgb)
        rows["measured"] |= spent
        entry = {
            "rows": rows,
            "azimuth_deg": [round(float(a), 3) for a in truth.views.cameras.azimuth_deg[1:]],
            "psnr_by_row": by_row,
            "aligned_by": {
                "scale": round(aligned.scale, 5),
                "turn_deg": round(aligned.turn_deg, 3),
                "shift": [round(float(x), 5) for x in aligned.shift],
            },
            "strip": ["truth", *shapes],
        }
        return Measured(entry, strip_png([truth.views.rgb, *drawn]))


def load_recipe_measure(
    weights: str | None,
    device: str,
    settings: Any,  # noqa: ANN401  each recipe has its own dataclass
    protocol: NvsProtocol,
    alignment: Alignment,
    seed: int,
    *,
    recipe: str = "im3d",
) -> MeshMeasure:
    """Load a recipe's models; plain arguments, so that other processes can do it, too."""
    loaded = load_measure(weights, device, settings, protocol, recipe=recipe, seed=seed)
    return MeshMeasure(RecipeMeshes(loaded.candidate), protocol, alignment, seed)


def evaluate_meshes(
    objects: Sequence[ObjectFile],
    measure: MeshMeasure,
    directory: Path,
    *,
    workers: Workers | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Measure shapes from one photograph, protocol `mesh-syncdreamer`.

    Liu et al., "SyncDreamer: Generating Multiview-consistent Images from a Single-view Image",
    2023, section 5.1: 30 Google Scanned Objects, Chamfer distance and volume IoU. Theirs draws the
    photograph with lights and turns the truth by an angle chosen by hand for each object; ours
    takes an unlit photograph of the side that the file calls front. So numbers do not compare with
    published ones.

    Returns:
        What `results.json` holds; goes on where it stopped (see `keeping.measure_each`).
    """
    entries = measure_all(objects, measure, directory, workers=workers, listener=listener)
    source = measure.source
    cards = source.candidate.loaded.cards if isinstance(source, RecipeMeshes) else ()
    recipe = source.candidate.recipe if isinstance(source, RecipeMeshes) else "files"
    return {
        "protocol": NAME,
        "recipe": recipe,
        "weights": [for_record(card) for card in cards],
        "alignment": ALIGNMENTS[measure.alignment],
        "settings": measure.facts(),
        "main": "measured",
        "uses_truth": USES_TRUTH,
        "objects": entries,
        "mean": mean_rows(entries, LABELS),
    }


def _coloured(shape: Mesh, truth: Truth) -> Mesh:
    """Paint a shape in the mean colour of the photographed subject."""
    weight = truth.photo.alpha[..., None]
    colour = (truth.photo.rgb * weight).sum(dim=(0, 1)) / weight.sum().clamp(min=1e-6)
    return replace(shape, vertex_rgb=colour.expand(len(shape.vertices), 3).clone())
