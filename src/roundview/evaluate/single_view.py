"""Photographs without a truth: protocol `single-view`.

Nobody knows the other sides of a photographed thing. What can be asked: does the asset look like
the photograph from where it was taken, and do its other sides look as if of the same thing?
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..export.files import read_json
from ..export.glb import load_glb
from ..image import Foreground, Image, composite
from ..mesh import Mesh
from ..metrics import psnr, ssim
from ..models import Matte, Report
from ..photo import load_image
from ..recipes.framing import framed_subject
from ..stages import Listener, seeded
from ..surface.raster import render_mesh
from ..weights import Card, for_record
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
class Made:
    """An asset as the judges need it.

    Attributes:
        subject: The photograph, cut out and framed.
        mesh: In the frame that the photograph was seen in.
        elevation_deg: What the photograph was taken to be from.
        spent: What it cost.
    """

    subject: Foreground
    mesh: Mesh
    elevation_deg: float
    spent: dict[str, float]


@dataclass(frozen=True, eq=False)
class RecipeAssets:
    """Runs a recipe on each photograph."""

    candidate: Candidate

    @property
    def recipe(self) -> str:
        """The method."""
        return self.candidate.recipe

    @property
    def cards(self) -> Sequence[Card]:
        """Those of the recipe's networks."""
        return self.candidate.loaded.cards

    def __call__(self, name: str, photo: Image, report: Report) -> Made:
        """Make the asset of one photograph."""
        del name
        candidate = self.candidate
        stages = WatchedStages({}, report=report, expected=7)
        with costs(candidate.loaded.counted) as spent:
            asset = candidate.method.run(
                photo, candidate.loaded.models, seeded(candidate.seed), candidate.settings, stages
            )
        return Made(
            stages.results["matte"],
            unmoved(asset.mesh, stages.notes["world_from_fitted"]),
            float(stages.notes["photo_elevation_deg"]),
            dict(spent),
        )

    def facts(self) -> dict[str, Any]:
        """Say what makes the assets."""
        candidate = self.candidate
        return {
            "recipe": asdict(candidate.settings),
            "seed": candidate.seed,
            "models": candidate.loaded.identity,
        }


@dataclass(frozen=True, eq=False)
class SavedAssets:
    """Takes what `roundview make` or `roundview batch` has written: `FOLDER/PHOTO/asset.glb`.

    What an asset cost is what its record says. The photograph is cut out as the recipe did it,
    which a mask painted by the user (`--mask`) is not.

    Attributes:
        folder: Of folders named like the photographs, without their suffix.
        matte: Cuts out the subject.
    """

    folder: Path
    matte: Matte
    cards: Sequence[Card] = field(default=())

    @property
    def recipe(self) -> str:
        """The method, if all assets are of one."""
        found = {read_json(path).get("recipe") for path in self._records()}
        return str(found.pop()) if len(found) == 1 else "folders"

    def __call__(self, name: str, photo: Image, report: Report) -> Made:
        """Read the asset of one photograph.

        Raises:
            ValueError: If there is none, or its record does not say where the photograph was seen
                from.
        """
        made = self.folder / PurePath(name).stem
        record = read_json(made / "record.json")
        try:
            notes, settings = record["notes"], record["settings"]
            moved, elevation_deg = notes["world_from_fitted"], float(notes["photo_elevation_deg"])
            photo_px = int(settings["photo_px"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{made / 'record.json'} is no record of `roundview make`") from error
        subject = framed_subject(photo, self.matte, photo_px=photo_px)
        mesh = unmoved(load_glb(made / "asset.glb"), moved)
        report(1.0)
        return Made(subject, mesh, elevation_deg, _spent(record))

    def facts(self) -> dict[str, Any]:
        """Say where the assets come from, and what made each."""
        made = {path.parent.name: read_json(path).get("identity") for path in self._records()}
        return {"folder": str(self.folder), "made": made}

    def _records(self) -> list[Path]:
        return sorted(self.folder.glob("*/record.json"))


@dataclass(frozen=True, eq=False)
class SingleViewMeasure:
    """Lets the judges compare an asset of each photograph with the photograph."""

    source: RecipeAssets | SavedAssets
    judges: Judges
    protocol: NvsProtocol = NvsProtocol()  # noqa: RUF009  a frozen value

    def facts(self) -> dict[str, Any]:
        """Say in plain values what is measured, and how."""
        return {
            "protocol": asdict(self.protocol),
            "judges": list(self.judges.names),
            "torch": torch.__version__,
            **self.source.facts(),
        }

    def __call__(self, name: str, photo: Image, report: Report) -> Measured:
        """Measure one photograph."""
        protocol = self.protocol
        made = self.source(name, photo, report)
        subject = made.subject.resized((protocol.size_px, protocol.size_px))
        wanted = as_written(composite(subject.rgb, subject.alpha, (1.0, 1.0, 1.0)))[None]
        drawn = as_written(
            render_mesh(
                made.mesh,
                protocol.cameras(made.elevation_deg),
                supersample=protocol.supersample,
                geometry=False,
            ).rgb
        )
        rows = {
            "reference": self._reference(drawn[:1], wanted) | made.spent,
            "novel": self._novel(drawn[1:], wanted),
            "copy": self._novel(wanted, wanted),
        }
        entry = {
            "rows": {
                key: {mark: round(value, 5) for mark, value in marks.items()}
                for key, marks in rows.items()
            },
            "photo_elevation_deg": round(made.elevation_deg, 3),
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
        "recipe": measure.source.recipe,
        "weights": [for_record(card) for card in measure.source.cards],
        "alignment": "none",
        "settings": measure.facts(),
        "main": "reference",
        "uses_truth": ["copy"],
        "objects": entries,
        "mean": mean_rows(entries, LABELS),
    }


def _spent(record: dict[str, Any]) -> dict[str, float]:
    """Take from a record what `costs` measures."""
    spent = {"seconds": float(record.get("seconds_total", 0.0))}
    calls = record.get("network_calls")
    if isinstance(calls, dict):
        spent["network_calls"] = float(sum(calls.values()))
    if record.get("peak_memory_mb"):
        spent["peak_memory_mb"] = float(record["peak_memory_mb"])
    return spent
