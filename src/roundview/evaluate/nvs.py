"""Novel-view synthesis: `roundview eval nvs`, protocol `nvs-syncdreamer`.

Each object is drawn from 16 sides (`protocol.NvsProtocol`). The first drawing, with its true alpha,
is the photograph; the orbit model draws all sides from it; the 15 others are marked by PSNR and
SSIM over white. A mark is the mean over an object's views, then over the objects. Baselines stand
in the same table, and so do, if asked for, the renders of a whole recipe after each of its fits.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from .. import __version__
from ..data.objects import ObjectFile
from ..image import Image
from ..loaders import Loaded, Wanted
from ..mesh import Asset, Mesh
from ..methods import Method, method_of
from ..metrics import matte_iou
from ..models import Report, StageRunner
from ..pipeline import adapted
from ..stages import Listener, seeded
from ..views import Views
from ..weights import for_record
from .baselines import BASELINES
from .jobs import Workers, measure_all
from .judges import Judges
from .keeping import Measured, failure_of
from .marks import Entry, mean_rows
from .protocol import NvsProtocol, Truth, as_written, mark, render_truth
from .strips import error_picture, strip_png
from .through_recipe import WatchedStages, recipe_pictures

ALIGNMENT = "none"

Pictures = dict[str, Float[Tensor, "n h w 3"]]


@dataclass(frozen=True, eq=False)
class Candidate:
    """What is measured.

    Attributes:
        loaded: The models of the recipe.
        settings: Of the recipe; without a `photo_elevation_deg` the elevation is estimated.
        recipe: One of `recipes.RECIPES`.
        seed: Every object starts from it, so that none depends on those before it.
        with_recipe: Run the whole recipe on each object, too.
    """

    loaded: Loaded
    settings: Any
    recipe: str = "im3d"
    seed: int = 0
    with_recipe: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown recipes."""
        method_of(self.recipe)

    @property
    def method(self) -> Method:
        """The recipe, and how it draws views."""
        return method_of(self.recipe)

    def facts(self, protocol: NvsProtocol) -> dict[str, Any]:
        """Say in plain values what is measured, and how."""
        return {
            "protocol": asdict(protocol),
            "recipe": asdict(self.settings),
            "seed": self.seed,
            "with_recipe": self.with_recipe,
            "roundview": __version__,
            "torch": torch.__version__,
        }


def evaluate_nvs(
    objects: Sequence[ObjectFile],
    candidate: Candidate,
    directory: Path,
    *,
    protocol: NvsProtocol = NvsProtocol(),  # noqa: B008  frozen
    judges: Judges = Judges(),  # noqa: B008  frozen
    workers: Workers | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Measure a candidate on objects.

    Marks of each object are kept in `directory/objects`; those that were made with the same object,
    weights, settings and version are not made again. An object that fails is logged and listed with
    its `error`, is left out of the means, which say how many objects they are of, and is tried
    again in the next run. If only the recipe fails (`recipe_error`), the drawings still count.

    Returns:
        What `results.json` holds.
    """
    measure = NvsMeasure(candidate, protocol, judges)
    entries = measure_all(objects, measure, directory, workers=workers, listener=listener)
    return {
        "protocol": NvsProtocol.NAME,
        "recipe": candidate.recipe,
        "weights": [for_record(card) for card in candidate.loaded.cards],
        "alignment": ALIGNMENT,
        "settings": candidate.facts(protocol) | {"judges": list(judges.names)},
        "main": "orbit",
        "uses_truth": [row.key for row in BASELINES if row.uses_truth],
        "objects": entries,
        "mean": _mean(entries),
    }


def load_measure(
    weights: str | None,
    device: str,
    settings: Any,  # noqa: ANN401  each recipe has its own dataclass
    protocol: NvsProtocol,
    *,
    recipe: str = "im3d",
    seed: int = 0,
    with_recipe: bool = False,
    judges: Callable[[], Judges] = Judges,
) -> "NvsMeasure":
    """Load the models of a candidate; plain arguments, so that other processes can do it, too."""
    # The photographs come with their true alpha, so there is nothing to cut out.
    wanted = Wanted(
        weights, use_matte=False, photo_elevation_deg=settings.photo_elevation_deg, device=device
    )
    loaded = method_of(recipe).load(wanted)
    fitting = adapted(settings, loaded.asks)
    candidate = Candidate(loaded, fitting, recipe=recipe, seed=seed, with_recipe=with_recipe)
    return NvsMeasure(candidate, protocol, judges())


@dataclass(frozen=True, eq=False)
class NvsMeasure:
    """Lets a candidate draw the views of objects, and marks them."""

    candidate: Candidate
    protocol: NvsProtocol
    judges: Judges = Judges()  # noqa: RUF009  a frozen value

    def facts(self) -> dict[str, Any]:
        """Say in plain values what is measured, and how."""
        candidate = self.candidate
        return candidate.facts(self.protocol) | {
            "method": candidate.recipe,
            "models": candidate.loaded.identity,
            "judges": list(self.judges.names),
        }

    def __call__(self, name: str, mesh: Mesh, report: Report) -> Measured:
        """Measure one object."""
        candidate, protocol = self.candidate, self.protocol
        begin = time.perf_counter()
        truth = render_truth(mesh, protocol)
        share = 0.1 if candidate.with_recipe else 1.0
        views, elevation_deg = _drawn(truth, candidate, protocol, lambda f: report(share * f))
        drawn = views.rgb.float().cpu()
        shown: Pictures = {"orbit": drawn}
        failure = {}
        if candidate.with_recipe:
            try:
                shown |= _through_recipe(
                    truth, candidate, protocol, lambda f: report(share + (1 - share) * f)
                )
            except Exception as error:  # The drawings are measured all the same.
                failure = {"recipe_error": failure_of(name, error)}
        pictures = shown | {row.key: row.draw(truth) for row in BASELINES}
        marks = {key: self._marked(rgb, truth) for key, rgb in pictures.items()}
        rows = {
            key: {m: round(fmean(v), 5) for m, v in values.items()} for key, values in marks.items()
        }
        overlap = matte_iou(views.alpha[1:].float().cpu(), truth.views.alpha[1:])
        rows["orbit"]["matte_iou"] = round(float(overlap.mean()), 5)
        if candidate.settings.photo_elevation_deg is None:
            off = abs(elevation_deg - protocol.elevation_deg)
            rows["orbit"]["elevation_error_deg"] = round(off, 3)
        entry = {
            "psnr": rows["orbit"]["psnr"],
            "ssim": rows["orbit"]["ssim"],
            "psnr_by_view": marks["orbit"]["psnr"],
            "azimuth_deg": [round(float(a), 3) for a in truth.views.cameras.azimuth_deg[1:]],
            "psnr_by_row": {key: values["psnr"] for key, values in marks.items()},
            "photo_elevation_deg": round(elevation_deg, 3),
            "rows": rows,
            "strip": ["truth", *shown, "error of orbit"],
            "seconds": {"all": round(time.perf_counter() - begin, 2)},
            **failure,
        }
        error = error_picture(as_written(drawn), truth.views.rgb)
        strip = strip_png([truth.views.rgb, *shown.values(), error])
        return Measured(entry, strip, complete=not failure)

    def _marked(self, rgb: Float[Tensor, "n h w 3"], truth: Truth) -> dict[str, list[float]]:
        return mark(rgb, truth) | self.judges.of_pairs(
            as_written(rgb)[1:].cpu(), truth.views.rgb[1:]
        )


def _drawn(
    truth: Truth, candidate: Candidate, protocol: NvsProtocol, report: Report
) -> tuple[Views, float]:
    """Let the method draw the ring; give the elevation that it was told, too.

    The ring lies at the photograph's elevation. If that is estimated, the method is asked for the
    ring at the estimate, as `roundview views` does: a wrong estimate then bends the views.
    """
    stages = WatchedStages({"matte": truth.photo}, report=report, expected=3)
    views = candidate.method.views(
        Image(truth.photo.rgb, truth.photo.alpha),
        candidate.loaded.models,
        seeded(candidate.seed),
        replace(
            candidate.settings,
            size_px=protocol.size_px,
            distance=protocol.distance,
            fov_deg=protocol.fov_deg,
        ),
        stages,
        azimuth_deg=[360.0 * k / protocol.views for k in range(protocol.views)],
    )
    return views, float(stages.results["elevation"])


def _through_recipe(
    truth: Truth, candidate: Candidate, protocol: NvsProtocol, report: Report
) -> Pictures:
    settings = candidate.settings

    def recipe(photo: Image, rng: Generator, stages: StageRunner) -> Asset:
        models = candidate.loaded.models
        return candidate.method.run(photo, models, rng, settings, stages)

    pictures = recipe_pictures(
        recipe,
        truth.photo,
        protocol.cameras,
        seeded(candidate.seed),
        supersample=protocol.supersample,
        # matte, elevation, draw, fit; redraw and fit by turns; mesh, unwrap, texture.
        expected_stages=7 + 2 * len(getattr(settings, "redraw_after", ())),
        report=report,
    )
    return {f"recipe {name}": rgb for name, rgb in pictures.items()}


def _mean(entries: Sequence[Entry]) -> dict[str, Any]:
    """Average each row; the drawings' marks stand above the rows, too."""
    keys = {key for entry in entries for key in entry.get("rows", {})}
    mean = mean_rows(entries, {key: row_label(key) for key in keys})
    drawn = mean["rows"].get("orbit", {"psnr": None, "ssim": None})
    return {"psnr": drawn["psnr"], "ssim": drawn["ssim"], **mean}


def row_label(key: str) -> str:
    """Say in words what a row of the table is."""
    labels = {row.key: row.label for row in BASELINES}
    if key in labels:
        return labels[key]
    if key == "orbit":
        return "the method's drawings"
    stage = key.removeprefix("recipe ")
    return "the recipe's mesh" if stage == "mesh" else f"the recipe's Gaussians after '{stage}'"
