from collections.abc import Callable
from typing import Literal

import pytest
import torch
from fakes import block
from recipes_tiny import RECONSTRUCT_TINY

from roundview.models import Kept, PlainStages, Report, Value
from roundview.recipes.fields import SurfaceFit, asset_by_surface
from roundview.recipes.surfacing import all_round
from roundview.splat.fit import FitSettings, fit_gaussians
from roundview.surface.raster import render_mesh


class Named(PlainStages):
    """Keeps the names of the stages."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __call__(self, name: str, work: Callable[[Report], Value]) -> Value:
        self.names.append(name)
        return super().__call__(name, work)

    def long(self, name: str, work: Callable[[Report, Kept], Value]) -> Value:
        self.names.append(name)
        return super().long(name, work)


@pytest.mark.parametrize(
    ("surface", "through"), [("splat", "mesh"), ("sdf", "field"), ("discs", "field")]
)
def test_a_cloud_becomes_a_mesh_by_the_surface_asked_for(
    surface: Literal["splat", "sdf", "discs"], through: str
) -> None:
    rng = torch.Generator().manual_seed(0)
    views = render_mesh(block(0.6, 1.0, 0.5), all_round(48, count=24))
    cloud = fit_gaussians(
        views, steps=120, rng=rng, settings=FitSettings(points=1500, perceptual_weight=0.0)
    )
    stage = Named()
    asset, scale, shift = asset_by_surface(
        cloud,
        views,
        by=SurfaceFit(surface, px=32, steps=40),
        meshing=RECONSTRUCT_TINY.meshing,
        rng=rng,
        stage=stage,
    )
    assert stage.names[0] == through
    extent = (asset.mesh.vertices.amax(0) - asset.mesh.vertices.amin(0)) / scale
    torch.testing.assert_close(extent, torch.tensor([0.6, 1.0, 0.5]), atol=0.25, rtol=0)
    assert int(extent.argmax()) == 1
    assert float(shift.abs().max()) < 0.15
    assert asset.mesh.texture is not None
