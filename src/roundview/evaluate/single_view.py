"""Photographs without a truth: protocol `single-view`.

Nobody knows the other sides of a photographed thing. What can be asked: does the asset look like
the photograph from where it was taken, and do its other sides look as if of the same thing?
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..image import Image, composite
from ..metrics import psnr, ssim
from ..models import Report
from ..photo import load_image
from ..stages import Listener, seeded
from ..surface.raster import render_mesh
from ..weights import for_record
from .judges import Judges
from .keeping import Measured, measure_each
from .marks import mean_rows
from .nvs import Candidate
from .protocol import NvsProtocol, as_written
from .strips import strip_png
from .through_recipe import WatchedStages, costs, unmoved

NAME = "single-view"
LABELS = {
    "reference": "the asset from where the photo was taken",
    "novel": "its 15 other sides, against the photo",
    "copy": "the photo itself",
}
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}


@dataclass(frozen=True)
class PhotoFile:
    """One photograph that can be read when it is needed."""

    name: str
    read: Callable[[], Image]


def find_photos(folder: Path) -> list[PhotoFile]:
    """List the pictures in a folder, sorted by name.

    Raises:
        ValueError: If the folder is none or holds no picture.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise ValueError(f"{folder} is no folder with pictures ({', '.join(sorted(_SUFFIXES))})")
    return [PhotoFile(path.name, lambda path=path: load_image(path)) for path in paths]


@dataclass(frozen=True, eq=False)
class SingleViewMeasure:
    """Makes an asset of each photograph, and lets the judges compare it with the photograph."""

    candidate: Candidate
    judges: Judges
    protocol: NvsProtocol = NvsProtocol()  # noqa: RUF009  a frozen value

    def facts(self) -> dict[str, Any]:
        """Say in plain values what is measured, and how."""
        candidate = self.candidate
        return {
            "protocol": asdict(self.protocol),
            "recipe": asdict(candidate.settings),
            "judges": list(self.judges.names),
            "seed": candidate.seed,
            "models": candidate.loaded.identity,
            "torch": torch.__version__,
        }

    def __call__(self, name: str, photo: Image, report: Report) -> Measured:
        """Measure one photograph."""
        del name
        candidate, protocol = self.candidate, self.protocol
        stages = WatchedStages({}, report=report, expected=7)
        with costs(candidate.loaded.counted) as spent:
            asset = candidate.method.run(
                photo, candidate.loaded.models, seeded(candidate.seed), candidate.settings, stages
            )
        elevation_deg = stages.notes["photo_elevation_deg"]
        subject = stages.results["matte"].resized((protocol.size_px, protocol.size_px))
        wanted = as_written(composite(subject.rgb, subject.alpha, (1.0, 1.0, 1.0)))[None]
        mesh = unmoved(asset.mesh, stages.notes["world_from_fitted"])
        drawn = as_written(
            render_mesh(
                mesh,
                protocol.cameras(elevation_deg),
                supersample=protocol.supersample,
                geometry=False,
            ).rgb
        )
        rows = {
            "reference": self._reference(drawn[:1], wanted) | spent,
            "novel": self._novel(drawn[1:], wanted),
            "copy": self._novel(wanted, wanted),
        }
        entry = {
            "rows": {
                key: {mark: round(value, 5) for mark, value in marks.items()}
                for key, marks in rows.items()
            },
            "photo_elevation_deg": round(float(elevation_deg), 3),
            "strip": ["the photo, and the mesh from its other sides"],
        }
        return Measured(entry, strip_png([torch.cat([wanted, drawn[1:]])]))

    def _reference(
        self, drawn: Float[Tensor, "1 h w 3"], wanted: Float[Tensor, "1 h w 3"]
    ) -> dict[str, float]:
        marks = {"psnr": float(psnr(drawn, wanted)), "ssim": float(ssim(drawn, wanted))}
        paired = self.judges.of_pairs(drawn, wanted)
        return (
            marks
            | {key: fmean(values) for key, values in paired.items()}
            | self._novel(drawn, wanted)
        )

    def _novel(
        self, drawn: Float[Tensor, "n h w 3"], wanted: Float[Tensor, "1 h w 3"]
    ) -> dict[str, float]:
        found = self.judges.of_likeness(drawn, wanted)
        return {key: fmean(values) for key, values in found.items()}


def evaluate_single_view(
    photos: Sequence[PhotoFile],
    measure: SingleViewMeasure,
    directory: Path,
    *,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Measure assets by their photographs; goes on where it stopped.

    The marks of Sun et al., "HiFi-123: Towards High-fidelity One Image to 3D Content Generation",
    2024, table 2, and of Qian et al., "Magic123", 2024: LPIPS of the reference view; contextual
    distance and CLIP similarity of the other views against the photograph. Neither paper states its
    CLIP model; ours are named by the user. Without the user's weights only PSNR, SSIM and the
    shipped deep-feature distance remain. Photographs are matted by the recipe.

    Returns:
        What `results.json` holds.
    """
    entries = measure_each(photos, measure, directory, listener)
    return {
        "protocol": NAME,
        "recipe": measure.candidate.recipe,
        "weights": [for_record(card) for card in measure.candidate.loaded.cards],
        "alignment": "none",
        "settings": measure.facts(),
        "main": "reference",
        "uses_truth": ["copy"],
        "objects": entries,
        "mean": mean_rows(entries, LABELS),
    }
