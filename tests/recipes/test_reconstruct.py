from dataclasses import replace
from typing import Literal

import pytest
import torch
from fakes import block
from recipes_tiny import RECONSTRUCT_TINY

from roundview.camera import Cameras, concatenate_cameras
from roundview.mesh import Mesh, mesh_health
from roundview.metrics import psnr
from roundview.models import PlainStages
from roundview.recipes.reconstruct import RECONSTRUCTIONS, reconstruct
from roundview.surface.raster import render_mesh


def rings(shift: float = 0.0, side: int = 96) -> Cameras:
    return concatenate_cameras(
        [
            Cameras.orbit(
                [shift + 45.0 * k for k in range(8)],
                elevation_deg=elevation,
                radius=3.0,
                fov_deg=49.13,
                size_hw=(side, side),
            )
            for elevation in (-20.0, 10.0, 50.0)
        ]
    )


def test_posed_views_become_an_asset_and_the_note_leads_back() -> None:
    # Twice the size of an asset, and off the middle.
    offset = torch.tensor([0.1, -0.05, 0.1])
    truth = block(1.2, 2.0, 1.0)
    truth = Mesh(truth.vertices + offset, truth.faces, vertex_rgb=truth.vertex_rgb)
    stages = PlainStages()
    views = render_mesh(truth, rings())
    asset = reconstruct(views, torch.Generator().manual_seed(0), RECONSTRUCT_TINY, stages)
    health = mesh_health(asset.mesh)
    assert health.faces <= 600
    assert health.degenerate_faces == 0
    extent = asset.mesh.vertices.amax(0) - asset.mesh.vertices.amin(0)
    assert float(extent.max()) == pytest.approx(1.0, abs=1e-4)
    back = stages.notes["world_from_views"]
    placed = (asset.mesh.vertices - torch.tensor(back["shift"])) / back["scale"]
    unseen = rings(22.5)
    drawn = render_mesh(replace(asset.mesh, vertices=placed), unseen)
    quality = float(psnr(drawn.rgb, render_mesh(truth, unseen).rgb).mean())
    white = float(psnr(torch.ones_like(drawn.rgb), render_mesh(truth, unseen).rgb).mean())
    assert quality > white + 6  # Sixty steps at 48 pixels take it from 7.5 dB to 15.5.


def test_every_quality_takes_more_steps_than_the_one_below() -> None:
    steps = [RECONSTRUCTIONS[name].fit_steps for name in ("draft", "standard", "high")]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("kind", ["sdf", "radiance"])
def test_a_field_gives_a_mesh_too(kind: Literal["sdf", "radiance"]) -> None:
    settings = replace(
        RECONSTRUCT_TINY, surface=kind, field_px=32, field_steps=40 if kind == "sdf" else 120
    )
    settings = replace(settings, meshing=replace(settings.meshing, resolution=32))
    views = render_mesh(block(0.6, 1.0, 0.5), rings())
    asset = reconstruct(views, torch.Generator().manual_seed(0), settings)
    extent = asset.mesh.vertices.amax(0) - asset.mesh.vertices.amin(0)
    assert float(extent[1]) == pytest.approx(1.0, abs=1e-4)
    assert float(extent[0]) < 0.95
    assert asset.gaussians is not None


def test_posed_views_half_of_them_without_an_outline_still_say_what_is_wrong() -> None:
    views = render_mesh(block(0.6, 1.0, 0.5), rings())
    alpha = views.alpha.clone()
    alpha[::2] = 0.0
    with pytest.warns(UserWarning, match="nothing in common"):
        asset = reconstruct(
            replace(views, alpha=alpha), torch.Generator().manual_seed(0), RECONSTRUCT_TINY
        )
    assert len(asset.mesh.faces) > 0
