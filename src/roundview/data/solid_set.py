"""Pictures of objects together with what they fill, to train shape estimators on."""

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Generator

from ..models import Report, silent
from .objects import ObjectFile
from .render_set import RenderSettings, object_views
from .solids import CELLS, COLOUR_CELLS, solid_of
from .stream import one_thread_each

SEEN = RenderSettings(
    size_px=128, rings=4, ring_views=3, free_views=4, lit_share=0.5, supersample=2
)
"""Three pictures of 128 px from each of four elevations and four from all round; chosen by us."""


@dataclass(frozen=True, eq=False)
class SolidSet:
    """Objects, on disk until they are read.

    Attributes:
        rgba: o n h w 4 uint8 pictures, colour over white.
        azimuth_deg: o n.
        elevation_deg: o n.
        fill: o c c c uint8 (`Solid.fill`).
        rgb: o k k k 3 uint8 (`Solid.rgb`).
        ready: Which objects are there.
        names: One name an object.
    """

    rgba: np.ndarray
    azimuth_deg: np.ndarray
    elevation_deg: np.ndarray
    fill: np.ndarray
    rgb: np.ndarray
    ready: np.ndarray
    names: list[str]


def render_solid_set(
    objects: Sequence[ObjectFile],
    folder: Path,
    *,
    seed: int = 0,
    workers: int = 1,
    report: Report = silent,
) -> SolidSet:
    """Render objects and fill them, leaving alone those that are there.

    Objects that cannot be read stay out (`SolidSet.ready`).

    Args:
        objects: What to render; the same ones if the folder has been begun.
        folder: Where the arrays go: 1.5 MB an object.
        seed: Of poses, lamps and points.
        workers: Processes.
        report: Called with the fraction done.

    Raises:
        ValueError: If the folder holds another set.
    """
    about = {"names": [item.name for item in objects], "seed": seed, "seen": asdict(SEEN)}
    about = json.loads(json.dumps(about))
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "set.json"
    if note.is_file() and json.loads(note.read_text()) != about:
        raise ValueError(f"{folder} holds a set of other objects: name another folder")
    if not note.is_file():
        for name, (shape, kind) in _arrays(len(objects)).items():
            np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, shape)
        note.write_text(json.dumps(about))
    missing = np.flatnonzero(~load_solid_set(folder).ready).tolist()
    # Started anew, not forked: torch's threads do not survive a fork.
    with (
        one_thread_each(),
        ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool,
    ):
        work = [pool.submit(_fill_row, objects[row], folder, row, seed) for row in missing]
        for done, each in enumerate(as_completed(work), 1):
            each.result()
            report(done / len(missing))
    return load_solid_set(folder)


def load_solid_set(folder: Path) -> SolidSet:
    """Open a set, finished or not."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _arrays(1)}
    return SolidSet(**arrays, names=json.loads((folder / "set.json").read_text())["names"])


def _arrays(count: int) -> dict[str, tuple[tuple[int, ...], type]]:
    n, px = SEEN.views, SEEN.size_px
    return {
        "rgba": ((count, n, px, px, 4), np.uint8),
        "azimuth_deg": ((count, n), np.float32),
        "elevation_deg": ((count, n), np.float32),
        "fill": ((count, CELLS, CELLS, CELLS), np.uint8),
        "rgb": ((count, COLOUR_CELLS, COLOUR_CELLS, COLOUR_CELLS, 3), np.uint8),
        "ready": ((count,), np.bool_),
    }


def _fill_row(item: ObjectFile, folder: Path, row: int, seed: int) -> None:
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in _arrays(1)}
    try:
        mesh = item.read()
    except ValueError:
        return
    rng = np.random.default_rng([seed, row])
    views = object_views(mesh, rng, SEEN)
    for name, value in zip(("rgba", "azimuth_deg", "elevation_deg"), views, strict=True):
        arrays[name][row] = value
    solid = solid_of(mesh, Generator().manual_seed(int(rng.integers(2**31))))
    arrays["fill"][row], arrays["rgb"][row] = solid.fill, solid.rgb
    arrays["ready"][row] = True
