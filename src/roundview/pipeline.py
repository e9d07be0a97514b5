"""From a photo to an asset in one call: models loaded, a recipe run, everything recorded."""

import hashlib
import json
import logging
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from . import __version__
from .export.files import read_json
from .image import Image, composite
from .loaders import Loaded, Wanted, tensor_bytes
from .mesh import Asset, mesh_health
from .methods import method_of
from .recipes.reconstruct import RECONSTRUCTIONS, Reconstruct, reconstruct
from .stages import FOLDER, Listener, Quiet, Stages, seeded
from .views import Views
from .weights import for_record

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that decides what comes out.

    Attributes:
        photo: The photograph.
        loaded: The models.
        settings: Of the recipe: the dataclass that its module defines.
        seed: Seeds the run's one generator.
        recipe: One of `recipes.RECIPES`.
    """

    photo: Image
    loaded: Loaded
    settings: Any
    seed: int = 0
    recipe: str = "im3d"

    def __post_init__(self) -> None:
        """Refuse unknown recipes."""
        method_of(self.recipe)

    def identity(self) -> str:
        """Give a hash that changes whenever the result would."""
        facts = [__version__, torch.__version__, self.recipe, asdict(self.settings), self.seed]
        digest = hashlib.sha256(json.dumps([*facts, self.loaded.identity]).encode())
        digest.update(tensor_bytes(self.photo.rgb))
        digest.update(b"" if self.photo.alpha is None else tensor_bytes(self.photo.alpha))
        return digest.hexdigest()


def make(  # noqa: PLR0913  each is something a caller may want
    photo: Image,
    *,
    recipe: str = "im3d",
    seed: int = 0,
    quality: str = "standard",
    settings: Any = None,  # noqa: ANN401  each recipe has its own dataclass
    weights: str | Path | None = None,
    device: str = "auto",
    prompt: str | None = None,
    stages: Stages | None = None,
) -> Asset:
    """Turn the subject of a photograph into a textured mesh and splats.

    The same photo, settings, seed and weights give the same asset on the same machine.

    Args:
        photo: From `load_image`; alpha, if it has some, is the matte.
        recipe: Which method; see `recipes.RECIPES`.
        seed: Of every random number.
        quality: draft, standard or high: time for detail.
        settings: Of the recipe, instead of those that `quality` stands for.
        weights: A card's name, a card's file or a folder of cards; None takes the shipped ones.
        device: Where the networks run: auto, cpu, cuda or mps.
        prompt: What the photograph shows, in words, for models that read them.
        stages: Runs the stages, if the caller wants to watch or to save them.

    Returns:
        The asset; its `record` says how it was made.

    Raises:
        ValueError: If the photo shows no subject, an argument names nothing, or there is a prompt
            that no model reads.
        WeightsMissing: If weights are not installed.
    """
    method = method_of(recipe)
    settings = settings or method.settings(quality)
    loaded = method.load(
        Wanted(
            None if weights is None else str(weights),
            photo_elevation_deg=settings.photo_elevation_deg,
            device=device,
            prompt=prompt,
        )
    )
    if prompt is not None and loaded.prompt is None:
        raise ValueError(f"prompt: no model of {recipe} reads words with these weights")
    fitting = adapted(settings, loaded.asks)
    job = Job(photo, loaded, fitting, seed=seed, recipe=recipe)
    return run(job, stages or Stages(seeded(seed)))


def run(job: Job, stages: Stages) -> Asset:
    """Run a job's recipe and write down how it went."""
    recipe = method_of(job.recipe).run
    with stages.counting(job.loaded.counted):
        asset = recipe(job.photo, job.loaded.models, stages.rng, job.settings, stages)
    return replace(asset, record=record_of(job, asset, stages))


def make_into(job: Job, directory: Path, *, resume: bool, listener: Listener | None = None) -> bool:
    """Make an asset and write it into a folder.

    Args:
        job: What to make.
        directory: Where to; no other job may write there at the time.
        resume: Keep an asset of this job that is there already, and go on after the stages that an
            interrupted run of it has left.
        listener: Hears how it goes.

    Returns:
        Whether the asset was there already.
    """
    from .export import save_asset  # noqa: PLC0415  videos and sheets are for those who write them

    identity = job.identity()
    if resume and is_finished(directory, identity):
        return True
    for left_over in directory.glob(".partial.*"):  # By a run that was killed while it wrote.
        shutil.rmtree(left_over, ignore_errors=True)
    heard = listener or Quiet()
    stages = Stages(
        seeded(job.seed),
        directory=directory / FOLDER,
        identity=identity,
        resume=resume,
        listener=heard,
    )
    if stages.started_over:
        _log.warning("starting over: %s since the interrupted run", stages.started_over)
    asset = run(job, stages)
    heard.began("save")
    begin = time.perf_counter()
    save_asset(asset, directory, photo=_over_white(job.photo))
    stages.discard()
    heard.finished("save", time.perf_counter() - begin, resumed=False)
    return False


def _over_white(photo: Image) -> Image:
    """Show a cut-out as its viewer would: what alpha hides is often black or garbage."""
    if photo.alpha is None:
        return photo
    return replace(photo, rgb=composite(photo.rgb, photo.alpha, (1.0, 1.0, 1.0)), alpha=None)


def with_surface(settings: Any, surface: str) -> Any:  # noqa: ANN401  as for `make`
    """Ask for the surface that a mesh shall come from.

    Raises:
        ValueError: If the recipe has one way only.
    """
    if not hasattr(settings, "surface"):
        raise ValueError(
            f"--fit {surface}: {type(settings).__name__} has its own way to a mesh; leave --fit out"
        )
    return replace(settings, surface=surface)


def adapted(settings: Any, asks: Mapping[str, Any]) -> Any:  # noqa: ANN401  as for `make`
    """Set what the loaded models ask for, as far as the recipe knows it."""
    known = {field.name for field in fields(settings)}
    return replace(settings, **{key: value for key, value in asks.items() if key in known})


def reconstruction_of(quality: str) -> Reconstruct:
    """Look up the settings of a reconstruction from posed views.

    Raises:
        ValueError: If there is none of that name.
    """
    if quality not in RECONSTRUCTIONS:
        known = ", ".join(RECONSTRUCTIONS)
        raise ValueError(f"quality {quality!r} is unknown; there are: {known}")
    return RECONSTRUCTIONS[quality]


def fit_views(views: Views, settings: Reconstruct, stages: Stages) -> Asset:
    """Turn posed views into an asset as `reconstruct` does, and write down how it went."""
    asset = reconstruct(views, stages.rng, settings, stages)
    record = {"roundview": __version__, "settings": asdict(settings), **facts_of(asset, stages)}
    return replace(asset, record=record)


def is_finished(directory: Path, identity: str) -> bool:
    """Tell whether a folder holds the asset of a job already."""
    record = directory / "record.json"
    if not (directory / "asset.glb").is_file() or not record.is_file():
        return False
    return read_json(record).get("identity") == identity


def record_of(job: Job, asset: Asset, stages: Stages) -> dict[str, Any]:
    """Say how an asset was made."""
    return {
        "roundview": __version__,
        "recipe": job.recipe,
        "settings": asdict(job.settings),
        "seed": job.seed,
        "identity": job.identity(),
        "prompt": job.loaded.prompt,
        "weights": [for_record(card) for card in job.loaded.cards],
        **facts_of(asset, stages),
    }


def facts_of(asset: Asset, stages: Stages) -> dict[str, Any]:
    """Give the part of a record that holds for any way to an asset."""
    return {
        "notes": stages.notes,
        "mesh": asdict(mesh_health(asset.mesh)),
        "gaussians": 0 if asset.gaussians is None else len(asset.gaussians),
        "seconds": {name: round(seconds, 3) for name, seconds in stages.seconds.items()},
        "seconds_total": round(sum(stages.seconds.values()), 3),
        "network_calls": stages.network_calls(),
        "peak_memory_mb": peak_memory_mb(),
        "platform": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
    }


def peak_memory_mb() -> float | None:
    """Give the largest resident size that this process has had; None where it cannot be asked."""
    try:
        import resource  # noqa: PLC0415  not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)  # bytes there, kB elsewhere
