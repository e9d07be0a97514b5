"""Work small enough to be killed hundreds of times: make, train and eval at their real code paths.

Each is a function of a folder that goes on where it was stopped and can be called by name in a
fresh process; `results` names the files that must not depend on the stops.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from batch_work import Copying, photos_in
from fakes import KnowingOrbit, KnownElevation, block, photo_of
from recipes_tiny import TINY
from torch import Generator, Tensor, nn

from roundview.batch.local import LocalEngine
from roundview.batch.manifest import Manifest
from roundview.batch.run import run_batch
from roundview.data.objects import ObjectFile
from roundview.evaluate.keeping import Measured, measure_each
from roundview.evaluate.strips import strip_png
from roundview.loaders import Loaded
from roundview.mesh import Mesh
from roundview.models import Report
from roundview.pipeline import Job, make_into
from roundview.recipes.im3d import Im3dModels
from roundview.segment import PhotoMatte
from roundview.train.loop import LoopSettings, train

# What `make` imports on its way; the server of forks does it once, not every run that is killed.
for _late in (
    *("numba", "PIL.PngImagePlugin", "imageio_ffmpeg", "safetensors.torch", "scipy.sparse.csgraph"),
    *("skimage.measure", "torch._dynamo", "roundview.splat.step_numba"),
    *("roundview.splat.adam_numba", "roundview.splat.render_numba"),
    *("roundview.surface.charts_numba", "roundview.surface.decimate_numba"),
    *("roundview.surface.isosurface_numba", "roundview.surface.packing_numba"),
    *("roundview.surface.raster_numba", "roundview.surface.texture_numba"),
):
    import_module(_late)

TINIEST = replace(
    TINY, fit_steps=30, redraw_after=(15,), mesh_resolution=32, faces=300, texture_size=64
)


@dataclass(frozen=True)
class Victim:
    """What is killed.

    Attributes:
        run: Does the work in a folder, or goes on with it.
        results: Patterns of the files that are compared.
    """

    run: Callable[[Path], object]
    results: tuple[str, ...]


def make(folder: Path) -> None:
    """Make an asset of a block, as `roundview make --resume` and `roundview batch` do."""
    block_ = block()
    models = Im3dModels(PhotoMatte(), KnowingOrbit(block_), KnownElevation(10.0))
    job = Job(photo_of(block_), Loaded(models, (), "fakes"), TINIEST)
    # At its size the turntable took two thirds of the time, and most kills.
    with (
        patch("roundview.export.asset._TURNTABLE_FRAMES", 6),
        patch("roundview.export.asset._TURNTABLE_PX", 64),
    ):
        make_into(job, folder / "asset", resume=True)


def learn(folder: Path) -> None:
    """Learn a line, with checkpoints."""
    torch.manual_seed(0)  # Of the first weights only.
    settings = LoopSettings(steps=120, learning_rate=0.05, warmup=2, save_every=5, ema=0.5)
    made = train(nn.Linear(1, 1), _fit_line, folder / "run", settings=settings, resume=True)
    values = torch.cat([p.detach().reshape(-1) for p in made.parameters()])
    (folder / "weights.bin").write_bytes(values.numpy().tobytes())


def _fit_line(module: nn.Module, rng: Generator) -> Tensor:
    x = torch.rand(8, 1, generator=rng)
    time.sleep(0.004)
    return (module(x) - (2 * x + 1)).square().mean()


def evaluate(folder: Path) -> None:
    """Measure forty objects, keeping each."""
    objects = [ObjectFile(f"o{at:02d}", lambda at=at: block(0.1 + 0.02 * at)) for at in range(40)]
    entries = measure_each(objects, _Widths(), folder / "kept")
    rows = [(entry["name"], entry["rows"]) for entry in entries]
    (folder / "results.txt").write_text(repr(rows))


class _Widths:
    """Measures how wide an object is."""

    def facts(self) -> dict[str, Any]:
        return {}

    def __call__(self, name: str, mesh: Mesh, report: Report) -> Measured:
        del name
        time.sleep(0.01)
        report(1.0)
        width = float(mesh.vertices[:, 0].max() - mesh.vertices[:, 0].min())
        return Measured({"rows": {"it": {"psnr": width}}}, strip_png([torch.ones(2, 8, 8, 3)]))


def batch(folder: Path) -> None:
    """Do thirty photos in a worker process of its own."""
    os.environ["PYTHONWARNINGS"] = "ignore"
    tasks = photos_in(folder, **{f"p{at:02d}": "fine" for at in range(30)})
    for task in tasks:
        os.utime(task.photo, (0, 0))  # Written again above; the manifest goes by the time.
    manifest = Manifest(folder / "out", "asked")
    summary = run_batch(
        tasks,
        manifest,
        lambda: LocalEngine(Copying(folder / "log", seconds=0.02), count=1, threads=1),
    )
    states = [(entry.folder, entry.state) for entry in summary.entries]
    (folder / "states.txt").write_text(repr(states))


VICTIMS = {
    "make": Victim(make, ("asset/asset.glb", "asset/splats.ply", "asset/views/*")),
    "train": Victim(learn, ("weights.bin",)),
    "eval": Victim(evaluate, ("results.txt", "kept/**/*.png")),
    "batch": Victim(batch, ("states.txt", "out/*/asset.glb")),
}
"""By the commands that they stand for."""


def go(name: str, folder: Path) -> None:
    """Run a victim in this process; what `killing` starts."""
    torch.set_num_threads(1)
    VICTIMS[name].run(folder)
