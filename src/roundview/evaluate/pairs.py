"""One random view from another random one: protocol `nvs-zero123`."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Generator

from ..camera import Cameras
from ..data.objects import ObjectFile
from ..mesh import Mesh
from ..models import Report
from ..stages import Listener, seeded
from ..surface.raster import render_mesh
from ..weights import for_record
from .baselines import BASELINES
from .jobs import Workers, measure_all
from .keeping import Measured
from .marks import mean_rows
from .nvs import ALIGNMENT, Candidate, NvsMeasure, row_label
from .protocol import Truth, as_written, mark, truth_from_views
from .strips import error_picture, strip_png


@dataclass(frozen=True)
class PairProtocol:
    """A random input view and a random target view of each object.

    The test of Liu et al., "Zero-1-to-3: Zero-shot One Image to 3D Object", 2023, as table 1 of
    Chen et al., "Cascade-Zero123", 2024, uses it: directions drawn evenly from the sphere. They
    draw the distance, too, from 1.5 to 2.2, which models like ours do not take: here it is 1.5.
    Directions steeper than `steepest_deg` are drawn again, for a camera there has no upright. Which
    views an object gets depends on its name and the seed only.

    Attributes:
        size_px: Side of the pictures that are compared.
        steepest_deg: Of both views, up or down.
        seed: Of the views.
        distance: Of the cameras from the middle of the object, whose longest side is 1.
        fov_deg: Vertical field of view.
        supersample: Samples along each pixel's side.
    """

    size_px: int = 256
    steepest_deg: float = 75.0
    seed: int = 0
    distance: float = 1.5
    fov_deg: float = 49.13
    supersample: int = 3

    NAME = "nvs-zero123"

    def directions_deg(self, name: str) -> tuple[tuple[float, float], tuple[float, float]]:
        """Draw azimuth and elevation of the input and of the target."""
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        rng = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
        return self._direction(rng), self._direction(rng)

    def _direction(self, rng: Generator) -> tuple[float, float]:
        while True:
            along, height = torch.rand(2, generator=rng, dtype=torch.float64).tolist()
            elevation = float(torch.rad2deg(torch.asin(torch.tensor(2 * height - 1))))
            if abs(elevation) <= self.steepest_deg:
                return 360 * along, elevation


@dataclass(frozen=True, eq=False)
class PairMeasure:
    """Lets a candidate draw the target from the input, and marks it."""

    candidate: Candidate
    protocol: PairProtocol

    def facts(self) -> dict[str, Any]:
        """Say in plain values what is measured, and how."""
        candidate = self.candidate
        return {
            "protocol": asdict(self.protocol),
            "recipe": asdict(candidate.settings),
            "seed": candidate.seed,
            "models": candidate.loaded.identity,
            "torch": torch.__version__,
        }

    def __call__(self, name: str, mesh: Mesh, report: Report) -> Measured:
        """Measure one object."""
        (photo_at, photo_up), (target_at, target_up) = self.protocol.directions_deg(name)
        # The object is turned, so that its photographed side faces +Z.
        truth = self.truth(turned(mesh, -photo_at), photo_up, target_at - photo_at, target_up)
        candidate = self.candidate
        models, elevation_deg = candidate.loaded.models, candidate.settings.photo_elevation_deg
        told = (
            photo_up
            if elevation_deg is not None
            else float(models.elevation(truth.photo.over()[None]))
        )
        cameras = self._cameras(told, target_at - photo_at, target_up)
        drawn = (
            models.orbit.draw(
                truth.photo,
                cameras,
                seeded(candidate.seed),
                photo_elevation_deg=told,
                steps=candidate.settings.draw_steps,
                report=report,
            )
            .rgb.float()
            .cpu()
        )
        pictures = {"orbit": drawn}
        # The mean of an input and a target is no baseline.
        pictures |= {row.key: row.draw(truth) for row in BASELINES if row.key != "mean_of_truth"}
        marks = {key: mark(rgb, truth) for key, rgb in pictures.items()}
        error = error_picture(as_written(drawn), truth.views.rgb)
        target = [truth.views.rgb[:1], *(rgb[1:] for rgb in (truth.views.rgb, drawn, error))]
        entry = {
            "rows": {
                key: {m: round(fmean(v), 5) for m, v in values.items()}
                for key, values in marks.items()
            },
            "input_deg": [round(photo_at, 3), round(photo_up, 3)],
            "target_deg": [round(target_at, 3), round(target_up, 3)],
            "strip": ["the input", "truth", "orbit", "error of orbit"],
        }
        return Measured(entry, strip_png(target))

    def truth(self, mesh: Mesh, photo_up: float, across: float, target_up: float) -> Truth:
        """Draw the input and the target."""
        cameras = self._cameras(photo_up, across, target_up)
        sampling = self.protocol.supersample
        return truth_from_views(render_mesh(mesh, cameras, supersample=sampling, geometry=False))

    def _cameras(self, photo_up: float, across: float, target_up: float) -> Cameras:
        protocol = self.protocol
        return Cameras.orbit(
            [0.0, across],
            elevation_deg=[photo_up, target_up],
            radius=protocol.distance,
            fov_deg=protocol.fov_deg,
            size_hw=(protocol.size_px, protocol.size_px),
        )


def load_measure(load: Callable[[], NvsMeasure], protocol: PairProtocol) -> PairMeasure:
    """Build the measure from what loads the models, so that other processes can do it, too."""
    return PairMeasure(load().candidate, protocol)


def evaluate_pairs(
    objects: Sequence[ObjectFile],
    measure: PairMeasure,
    directory: Path,
    *,
    workers: Workers | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Measure a candidate by `PairProtocol`; goes on where it stopped.

    Returns:
        What `results.json` holds.
    """
    entries = measure_all(objects, measure, directory, workers=workers, listener=listener)
    candidate = measure.candidate
    keys = {key for entry in entries for key in entry.get("rows", {})}
    return {
        "protocol": PairProtocol.NAME,
        "recipe": candidate.recipe,
        "weights": [for_record(card) for card in candidate.loaded.cards],
        "alignment": ALIGNMENT,
        "settings": measure.facts(),
        "main": "orbit",
        "uses_truth": ["true_silhouette"],
        "objects": entries,
        "mean": mean_rows(entries, {key: row_label(key) for key in keys}),
    }


def turned(mesh: Mesh, azimuth_deg: float) -> Mesh:
    """Turn a mesh about +Y, as azimuths grow: what faces +Z then faces the azimuth."""
    angle = torch.deg2rad(torch.tensor(azimuth_deg, dtype=torch.float64))
    c, s = float(angle.cos()), float(angle.sin())
    about_y = torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    return replace(mesh, vertices=mesh.vertices @ about_y.to(mesh.vertices).T)
