"""Novel-view synthesis: `roundview eval nvs`, protocol `nvs-syncdreamer`.

Each object is drawn from 16 sides (`protocol.NvsProtocol`). The first drawing, with its true alpha,
is the photograph; the orbit model draws all sides from it; the 15 others are marked by PSNR and
SSIM over white. A mark is the mean over an object's views, then over the objects. Baselines stand
in the same table, and so do, if asked for, the renders of a whole recipe after each of its fits.
"""

import hashlib
import json
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from .. import __version__
from ..data.objects import ObjectFile
from ..export.files import read_json, write_bytes, write_json
from ..image import Image
from ..loaders import Loaded, tensor_bytes
from ..mesh import Asset, Mesh
from ..models import Report, StageRunner
from ..recipes import RECIPES
from ..recipes.im3d import Im3d
from ..stages import Listener, Quiet, seeded
from ..weights import for_record
from .baselines import BASELINES
from .protocol import NvsProtocol, Truth, mark, render_truth
from .report import row_label, strip_png
from .through_recipe import recipe_pictures

_log = logging.getLogger(__name__)

Pictures = dict[str, Float[Tensor, "n h w 3"]]


@dataclass(frozen=True, eq=False)
class Candidate:
    """What is measured.

    Attributes:
        loaded: The models; only the orbit model is needed unless `with_recipe`.
        settings: Of the recipe: `draw_steps` for the drawing, `photo_elevation_deg` for both (None
            asks the elevation estimator), and all of them for the recipe.
        recipe: One of `RECIPES`.
        seed: Every object starts from it, so that none depends on those before it.
        with_recipe: Run the whole recipe on each object, too.
    """

    loaded: Loaded
    settings: Im3d
    recipe: str = "im3d"
    seed: int = 0
    with_recipe: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown recipes."""
        if self.recipe not in RECIPES:
            raise ValueError(f"recipe {self.recipe!r} is unknown; there are: {', '.join(RECIPES)}")

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


def choose_objects(objects: Sequence[ObjectFile], names: Sequence[str]) -> list[ObjectFile]:
    """Take objects by name (spaces around it do not count), in the order of the data.

    Raises:
        ValueError: If there is none of a name.
    """
    wanted = [name.strip() for name in names]
    have = {thing.name for thing in objects}
    unknown = [name for name in wanted if name not in have]
    if unknown:
        there = ", ".join(sorted(have)[:20]) + (", ..." if len(have) > 20 else "")
        raise ValueError(f"objects: none is called {unknown[0]!r}; there are: {there}")
    return [thing for thing in objects if thing.name in wanted]


def evaluate_nvs(
    objects: Sequence[ObjectFile],
    candidate: Candidate,
    directory: Path,
    *,
    protocol: NvsProtocol = NvsProtocol(),  # noqa: B008  frozen
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
    listener = listener or Quiet()
    entries = [_entry(thing, candidate, directory, protocol, listener) for thing in objects]
    return {
        "protocol": NvsProtocol.NAME,
        "recipe": candidate.recipe,
        "weights": [for_record(card) for card in candidate.loaded.cards],
        "settings": candidate.facts(protocol),
        "objects": entries,
        "mean": _mean(entries),
    }


def kept_strip(directory: Path, name: str) -> Path:
    """Say where the pictures of a measured object are kept."""
    return directory / "objects" / f"{_file_name(name)}.png"


def _entry(
    thing: ObjectFile,
    candidate: Candidate,
    directory: Path,
    protocol: NvsProtocol,
    listener: Listener,
) -> dict[str, Any]:
    """Measure one object, or read how it was measured."""
    strip = kept_strip(directory, thing.name)
    kept = strip.with_suffix(".json")
    listener.began(thing.name)
    begin = time.perf_counter()
    try:
        mesh = thing.read()
        identity = _identity(mesh, candidate, protocol)
        old = _read_kept(kept, strip)
        if old.get("identity") == identity:
            entry = old["entry"]
        else:
            entry, png = _measured(
                thing.name, mesh, candidate, protocol, lambda f: listener.progressed(thing.name, f)
            )
            write_bytes(strip, png)
            # The marks last: where they are, the pictures are theirs. What failed is tried again.
            if "recipe_error" not in entry:
                write_json(kept, {"identity": identity, "entry": entry})
    except Exception as error:  # One object must not cost the others.
        listener.finished(thing.name, time.perf_counter() - begin, resumed=False)
        return {"name": thing.name, "error": _told(thing.name, error)}
    resumed = old.get("identity") == identity
    listener.finished(thing.name, time.perf_counter() - begin, resumed=resumed)
    return entry


def _measured(
    name: str, mesh: Mesh, candidate: Candidate, protocol: NvsProtocol, report: Report
) -> tuple[dict[str, Any], bytes]:
    """Measure one object; give its entry and its pictures."""
    begin = time.perf_counter()
    truth = render_truth(mesh, protocol)
    share = 0.1 if candidate.with_recipe else 1.0
    drawn, elevation_deg = _drawn(truth, candidate, protocol, lambda f: report(share * f))
    shown: Pictures = {"orbit": drawn}
    failure = {}
    if candidate.with_recipe:
        try:
            shown |= _through_recipe(
                truth, candidate, protocol, lambda f: report(share + (1 - share) * f)
            )
        except Exception as error:  # The drawings are measured all the same.
            failure = {"recipe_error": _told(name, error)}
    marks = {key: mark(rgb, truth) for key, rgb in shown.items()}
    marks |= {row.key: mark(row.draw(truth), truth) for row in BASELINES}
    rows = {
        key: {m: round(fmean(v), 5) for m, v in values.items()} for key, values in marks.items()
    }
    entry = {
        "name": name,
        **rows["orbit"],
        "psnr_by_view": marks["orbit"]["psnr"],
        "photo_elevation_deg": round(elevation_deg, 3),
        "rows": rows,
        "strip": ["truth", *shown],
        "seconds": round(time.perf_counter() - begin, 2),
        **failure,
    }
    return entry, strip_png([truth.views.rgb, *shown.values()])


def _told(name: str, error: Exception) -> str:
    """Log a failure, and say it in a line."""
    message = f"{type(error).__name__}: {error}"
    _log.warning("%s failed: %s", name, message)
    return message


def _drawn(
    truth: Truth, candidate: Candidate, protocol: NvsProtocol, report: Report
) -> tuple[Float[Tensor, "n h w 3"], float]:
    """Let the orbit model draw the ring; give the elevation that it was told, too.

    The ring lies at the photograph's elevation. If that is estimated, the model is asked for the
    ring at the estimate, as `roundview views` does: a wrong estimate then bends the views.
    """
    models, settings = candidate.loaded.models, candidate.settings
    elevation_deg = settings.photo_elevation_deg
    if elevation_deg is None:
        elevation_deg = float(models.elevation(truth.photo.over()[None]))
    views = models.orbit.draw(
        truth.photo,
        protocol.cameras(elevation_deg),
        seeded(candidate.seed),
        photo_elevation_deg=elevation_deg,
        steps=settings.draw_steps,
        report=report,
    )
    return views.rgb.float().cpu(), elevation_deg


def _through_recipe(
    truth: Truth, candidate: Candidate, protocol: NvsProtocol, report: Report
) -> Pictures:
    settings = candidate.settings

    def recipe(photo: Image, rng: Generator, stages: StageRunner) -> Asset:
        models = candidate.loaded.models
        return RECIPES[candidate.recipe](photo, models, rng, settings, stages)

    pictures = recipe_pictures(
        recipe,
        truth.photo,
        protocol.cameras,
        seeded(candidate.seed),
        supersample=protocol.supersample,
        # matte, elevation, draw, fit; redraw and fit by turns; mesh, unwrap, texture.
        expected_stages=7 + 2 * len(settings.redraw_after),
        report=report,
    )
    return {f"recipe {name}": rgb for name, rgb in pictures.items()}


def _mean(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average each row over the objects that have it."""
    measured = [entry for entry in entries if "error" not in entry]
    keys = list(dict.fromkeys(key for entry in measured for key in entry["rows"]))
    rows = {}
    for key in keys:
        marks = [entry["rows"][key] for entry in measured if key in entry["rows"]]
        means = {name: round(fmean(mark[name] for mark in marks), 4) for name in ("psnr", "ssim")}
        rows[key] = {"label": row_label(key), **means, "objects": len(marks)}
    best = {name: rows["orbit"][name] if rows else None for name in ("psnr", "ssim")}
    return {**best, "objects": len(measured), "of": len(entries), "rows": rows}


def _identity(mesh: Mesh, candidate: Candidate, protocol: NvsProtocol) -> str:
    """Give a hash that changes whenever the marks would."""
    facts = [candidate.facts(protocol), candidate.recipe, candidate.loaded.identity]
    digest = hashlib.sha256(json.dumps(facts).encode())
    texture = None if mesh.texture is None else mesh.texture.rgb
    for part in (mesh.vertices, mesh.faces, mesh.uv, texture, mesh.vertex_rgb):
        digest.update(b"none" if part is None else tensor_bytes(part))
    return digest.hexdigest()


def _read_kept(kept: Path, strip: Path) -> dict[str, Any]:
    if not kept.is_file() or not strip.is_file():
        return {}
    try:
        return read_json(kept)
    except ValueError:
        return {}  # Of another program, or damaged: measured anew.


def _file_name(name: str) -> str:
    """Make a file name of an object's: names in a zip may hold anything."""
    plain = re.sub(r"[^\w+-]+", "_", name)
    if plain == name:
        return plain
    return f"{plain[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
