"""Reconstruction from true views: `roundview eval reconstruct`, protocols `reconstruct-*`.

What is lost between views and asset, without any model that draws: an object's true views go
through what `roundview fit` does, and splats and mesh are compared with the object, in pictures
from where none of the views was taken, and as surfaces.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .. import __version__
from ..camera import Cameras
from ..data.objects import ObjectFile
from ..export.glb import glb_bytes
from ..export.glb_read import mesh_from_glb_bytes
from ..export.inspect import validate_glb
from ..gaussians import Gaussians
from ..mesh import Asset, Mesh, mesh_health
from ..metrics import psnr, ssim, surface_marks
from ..models import Report
from ..pipeline import fit_views
from ..recipes.reconstruct import Reconstruct
from ..recipes.surfacing import moved_gaussians
from ..splat.render import render_gaussians
from ..stages import Listener, Quiet, Stages, seeded
from ..surface.raster import render_mesh
from ..views import Views
from .jobs import Workers, measure_all
from .keeping import Measured
from .marks import mean_rows
from .protocol import as_written
from .shapes import visual_hull
from .strips import error_picture, strip_png
from .through_recipe import unmoved

ALIGNMENT = "none: moved back by the inverse of the record's world_from_views"

Fit = Callable[[Views, Reconstruct, Stages], Asset]
"""What `pipeline.fit_views` is; it must note `world_from_views`."""


@dataclass(frozen=True)
class ReconstructProtocol:
    """True views of an object all round, and other true views to judge by.

    Ours: unlit renders by this package's rasteriser, so numbers do not compare with those of other
    renderers. The judging ring is that of Liu et al., "SyncDreamer", 2023.

    Attributes:
        name: In the results.
        azimuths: Views on each ring, evenly, the first at azimuth 0.
        elevations_deg: The rings that are fitted.
        judged_from_deg: Azimuth of the first of 16 views that are judged.
        judged_elevation_deg: Their elevation.
        size_px: Side of all pictures.
        distance: Of the cameras from the middle of the object, whose longest side is 1.
        fov_deg: Vertical field of view.
        supersample: Samples along each pixel's side of the true views.
    """

    name: str = "reconstruct-three-rings"
    azimuths: int = 8
    elevations_deg: tuple[float, ...] = (-20.0, 10.0, 50.0)
    judged_from_deg: float = 0.0
    judged_elevation_deg: float = 30.0
    size_px: int = 256
    distance: float = 1.5
    fov_deg: float = 49.13
    supersample: int = 3

    def fitted(self) -> Cameras:
        """Place the cameras of the views that are fitted, ring by ring."""
        azimuth = [360.0 * k / self.azimuths for k in range(self.azimuths)]
        rings = self.elevations_deg
        return self._orbit(azimuth * len(rings), [e for e in rings for _ in azimuth])

    def judged(self) -> Cameras:
        """Place the 16 cameras of the views that are judged."""
        azimuth = [self.judged_from_deg + 22.5 * k for k in range(16)]
        return self._orbit(azimuth, [self.judged_elevation_deg] * len(azimuth))

    def _orbit(self, azimuth_deg: Sequence[float], elevation_deg: Sequence[float]) -> Cameras:
        return Cameras.orbit(
            azimuth_deg,
            elevation_deg=elevation_deg,
            radius=self.distance,
            fov_deg=self.fov_deg,
            size_hw=(self.size_px, self.size_px),
        )


THREE_RINGS = ReconstructProtocol()
"""24 views: 8 azimuths at elevations -20, 10 and 50; judged at 16 azimuths, elevation 30."""

ONE_RING = ReconstructProtocol(
    name="reconstruct-one-ring", azimuths=16, elevations_deg=(30.0,), judged_from_deg=11.25
)
"""16 views at elevation 30, as orbit models draw them; judged half-way between them."""

LABELS = {
    "mesh": "the textured mesh",
    "splats": "the Gaussians",
    "hull": "visual hull of the fitted views' silhouettes",
}


@dataclass(frozen=True, eq=False)
class ReconstructMeasure:
    """Fits objects and compares what comes out with them.

    Attributes:
        settings: Of the fit, as for `roundview fit`.
        protocol: Which views.
        seed: Every object starts from it.
        fit: Makes an asset of views.
        samples: Surface points, see `metrics.surface_marks`.
        hull_resolution: Of the grid that the visual hull is carved from.
    """

    settings: Reconstruct
    protocol: ReconstructProtocol = THREE_RINGS
    seed: int = 0
    fit: Fit = fit_views
    samples: int = 20_000
    hull_resolution: int = 96

    def facts(self) -> dict[str, Any]:
        """Say in plain values what is measured, and how."""
        return {
            "protocol": asdict(self.protocol),
            "fit": asdict(self.settings),
            "seed": self.seed,
            "samples": self.samples,
            "roundview": __version__,
            "torch": torch.__version__,
        }

    def __call__(self, name: str, mesh: Mesh, report: Report) -> Measured:
        """Fit one object and mark it."""
        del name
        seen, wanted = self._true_views(mesh, self.protocol.fitted()), self.truth(mesh)
        stages = Stages(seeded(self.seed), listener=_Fractions(report))
        asset = self.fit(seen, self.settings, stages)
        begin = time.perf_counter()
        data = glb_bytes(asset.mesh)
        stages.seconds["write"] = time.perf_counter() - begin
        back = stages.notes["world_from_views"]
        # What a user gets is judged: the mesh as the file holds it.
        written = mesh_from_glb_bytes(data)
        fitted = unmoved(written, back)
        pictures = {"mesh": self._draw(fitted, wanted.cameras)}
        if asset.gaussians is not None:
            cloud = _unmoved_gaussians(asset.gaussians, back)
            pictures["splats"] = as_written(render_gaussians(cloud, wanted.cameras).rgb)
        by_view = {key: _marks_by_view(rgb, wanted.rgb) for key, rgb in pictures.items()}
        rows: dict[str, dict[str, Any]] = {
            key: {mark: round(fmean(values), 5) for mark, values in marks.items()}
            for key, marks in by_view.items()
        }
        rows["hull"] = {}
        shapes = {"mesh": fitted, "hull": visual_hull(seen, resolution=self.hull_resolution)}
        for key, shape in shapes.items():
            surface = surface_marks(shape, mesh, seeded(self.seed), samples=self.samples)
            rows[key] |= {mark: round(value, 6) for mark, value in asdict(surface).items()}
        rows["mesh"] |= {"seconds": round(sum(stages.seconds.values()), 2)} | _health(written, data)
        errors = [error_picture(rgb, wanted.rgb) for rgb in pictures.values()]
        shown = [wanted.rgb, *pictures.values(), *errors]
        entry = {
            "rows": rows,
            "azimuth_deg": [round(float(a), 3) for a in wanted.cameras.azimuth_deg],
            "psnr_by_row": {key: marks["psnr"] for key, marks in by_view.items()},
            "seconds": {key: round(value, 3) for key, value in stages.seconds.items()},
            "strip": ["truth", *pictures, *(f"error of {key}" for key in pictures)],
        }
        return Measured(entry, strip_png(shown), {".glb": data})

    def truth(self, mesh: Mesh) -> Views:
        """Draw the views that are judged."""
        return self._true_views(mesh, self.protocol.judged())

    def _true_views(self, mesh: Mesh, cameras: Cameras) -> Views:
        """Draw an object in 8 bits, like the files that `roundview fit` reads."""
        drawn = render_mesh(mesh, cameras, supersample=self.protocol.supersample, geometry=False)
        return replace(drawn, rgb=as_written(drawn.rgb), alpha=as_written(drawn.alpha))

    def _draw(self, mesh: Mesh, cameras: Cameras) -> Float[Tensor, "n h w 3"]:
        return self._true_views(mesh, cameras).rgb


class _Fractions(Quiet):
    """Turns the progress of a fit's stages into one fraction."""

    # Shares of the time on two cores, about: carving, the fit, then mesh, unwrap and texture.
    SHARES = {  # noqa: RUF012  constant
        "carve": (0.0, 0.05),
        "fit": (0.05, 0.65),
        "mesh": (0.7, 0.15),
        "unwrap": (0.85, 0.05),
    }

    def __init__(self, report: Report) -> None:
        self._report = report

    def progressed(self, stage: str, fraction: float) -> None:
        """Pass it on."""
        first, share = self.SHARES.get(stage, (0.9, 0.1))
        self._report(first + share * fraction)


def evaluate_reconstruct(
    objects: Sequence[ObjectFile],
    measure: ReconstructMeasure,
    directory: Path,
    *,
    workers: Workers | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Measure reconstruction on objects; goes on where it stopped (see `keeping.measure_each`).

    Returns:
        What `results.json` holds.
    """
    entries = measure_all(objects, measure, directory, workers=workers, listener=listener)
    return {
        "protocol": measure.protocol.name,
        "recipe": "fit",
        "weights": [],
        "alignment": ALIGNMENT,
        "settings": measure.facts(),
        "main": "mesh",
        "uses_truth": [],
        "objects": entries,
        "mean": mean_rows(entries, LABELS),
    }


def _marks_by_view(
    drawn: Float[Tensor, "n h w 3"], wanted: Float[Tensor, "n h w 3"]
) -> dict[str, list[float]]:
    return {
        "psnr": [round(float(x), 4) for x in psnr(drawn, wanted)],
        "ssim": [round(float(x), 5) for x in ssim(drawn, wanted)],
    }


def _unmoved_gaussians(gaussians: Gaussians, moved: dict[str, Any]) -> Gaussians:
    """Undo the centring of a cloud: p_world = scale * p_views + shift."""
    scale, shift = float(moved["scale"]), torch.tensor(moved["shift"])
    return moved_gaussians(gaussians, 1 / scale, -shift / scale)


def _health(mesh: Mesh, data: bytes) -> dict[str, Any]:
    """Count what is wrong with a mesh, and with its file where the Khronos validator is there."""
    health = mesh_health(mesh)
    found: dict[str, Any] = {
        "faces": health.faces,
        "shells": health.shells,
        "watertight": float(health.watertight),
        "degenerate_faces": health.degenerate_faces,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "asset.glb"
        path.write_bytes(data)
        validator = validate_glb(path)
    if validator is not None:
        found["validator_errors"] = validator["errors"]
        found["validator_warnings"] = validator["warnings"]
    return found
