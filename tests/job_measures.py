"""Work that other processes can build: it must be importable there by name."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roundview.camera import Cameras
from roundview.data.shards import orbit_cameras
from roundview.evaluate.keeping import Measured
from roundview.evaluate.strips import strip_png
from roundview.mesh import Mesh
from roundview.models import Report


@dataclass(frozen=True)
class Death:
    """Ends the first process that calls it; the file says that it has."""

    file: Path

    def __call__(self) -> None:
        try:
            self.file.touch(exist_ok=False)
        except FileExistsError:
            return
        os._exit(7)


@dataclass(frozen=True)
class DeadlyOnce:
    """Places cameras as `orbit_cameras` does; the first process that asks dies."""

    death: Death
    __name__ = "orbit_cameras"

    def __call__(self, rng: np.random.Generator, size_px: int) -> Cameras:
        self.death()
        return orbit_cameras(rng, size_px)


@dataclass(frozen=True)
class Heights:
    """Measures heights; the process dies of an object called as given, or of the first of all."""

    deadly: str = ""
    dies_once: Death | None = None

    def facts(self) -> dict[str, Any]:
        return {"measure": "heights"}

    def __call__(self, name: str, mesh: Mesh, report: Report) -> Measured:
        if name == self.deadly:
            os._exit(7)
        if self.dies_once is not None:
            self.dies_once()
        report(1.0)
        height = float(mesh.vertices[:, 1].max() - mesh.vertices[:, 1].min())
        return Measured({"rows": {"it": {"psnr": height}}}, strip_png([torch.ones(2, 8, 8, 3)]))


def no_measure() -> Heights:
    raise ValueError("there is none")
