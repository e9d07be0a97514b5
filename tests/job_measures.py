"""Measures that other processes can build: they must be importable there by name."""

import os
from dataclasses import dataclass
from typing import Any

import torch

from roundview.evaluate.keeping import Measured
from roundview.evaluate.strips import strip_png
from roundview.mesh import Mesh
from roundview.models import Report


@dataclass(frozen=True)
class Heights:
    """Measures heights; the process dies of an object called as given."""

    deadly: str = ""

    def facts(self) -> dict[str, Any]:
        return {"measure": "heights"}

    def __call__(self, name: str, mesh: Mesh, report: Report) -> Measured:
        if name == self.deadly:
            os._exit(7)
        report(1.0)
        height = float(mesh.vertices[:, 1].max() - mesh.vertices[:, 1].min())
        return Measured({"rows": {"it": {"psnr": height}}}, strip_png([torch.ones(2, 8, 8, 3)]))
