from dataclasses import replace
from pathlib import Path

import torch
from fakes import KnowingOrbit, KnownElevation, block
from render_tiny import tiny_set
from torch import Generator, Tensor

from roundview.data.objects import ObjectFile
from roundview.evaluate.ablation import evaluate_ablation
from roundview.evaluate.hi3d import (
    Hi3dMeasure,
    hi3d_variants,
    stage_two_marks,
    true_ring,
    two_stages,
)
from roundview.evaluate.nvs import Candidate
from roundview.evaluate.protocol import NvsProtocol, render_truth
from roundview.image import Foreground
from roundview.loaders import Loaded
from roundview.mesh import Mesh
from roundview.models import Report, silent
from roundview.recipes.hi3d import DRAFT, STANDARD, Hi3dModels
from roundview.segment import matte_from_alpha
from roundview.stages import seeded
from roundview.surface.raster import render_mesh
from roundview.views import Views

TINY = replace(
    DRAFT,
    ring_views=4,
    more_rings=((60.0, 2),),
    draw_px=24,
    size_px=48,
    photo_px=48,
    refine_steps=2,
    fit_steps=15,
    between=4,
    field_px=24,
    field_steps=4,
    mesh_resolution=24,
    faces=300,
    texture_size=64,
)
PROTOCOL = NvsProtocol(size_px=48, views=4, elevation_deg=10.0, supersample=1)


class KnowingRefiner:
    """Draws the truth, and counts how often."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.calls = mesh, 0

    def refine(
        self,
        views: Views,
        subject: Foreground,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        del subject, rng, photo_elevation_deg, steps, report
        self.calls += 1
        truth = render_mesh(self.mesh, views.cameras.resized((48, 48)))
        return replace(truth, depth=None, normal=None)


class Colours:
    """Features that are the colours."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.movedim(-1, 1)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


def knowing() -> tuple[Hi3dModels, KnowingOrbit, KnowingRefiner]:
    orbit, refiner = KnowingOrbit(block()), KnowingRefiner(block())
    return Hi3dModels(matte_from_alpha, orbit, refiner, KnownElevation(10.0)), orbit, refiner


def test_the_rows_are_those_of_the_papers_tables() -> None:
    rows = hi3d_variants(replace(STANDARD, refine_steps=25))
    assert list(rows) == [
        *("full", "without stage 2", "M = 0", "M = 32", "M = 48", "Gaussians alone"),
    ]
    assert rows["without stage 2"].settings.refine_steps == 0
    assert rows["without stage 2"].shared == ("matte", "elevation", "draw")
    assert [rows[f"M = {m}"].settings.between for m in (0, 32, 48)] == [0, 32, 48]
    assert "fit" in rows["M = 0"].shared
    assert rows["Gaussians alone"].settings.surface == "splat"
    assert "M = 16" in hi3d_variants(replace(STANDARD, between=0))
    assert "without stage 2" not in hi3d_variants(replace(STANDARD, refine_steps=0))


def test_rows_share_what_they_have_in_common_and_are_marked(tmp_path: Path) -> None:
    models, orbit, refiner = knowing()
    candidate = Candidate(Loaded(models, (), "fakes"), TINY)
    rows = hi3d_variants(TINY)
    kept = {name: rows[name] for name in ("full", "M = 0", "Gaussians alone")}
    measure = Hi3dMeasure(candidate, kept, PROTOCOL, samples=500)
    found = evaluate_ablation([ObjectFile("block", block)], measure, tmp_path)
    assert orbit.calls == [("draw", 6)]
    assert refiner.calls == 1
    marks = found["objects"][0]["rows"]
    assert list(marks) == list(kept)
    for row in marks.values():
        assert row["psnr"] > 5
        assert 0 < row["chamfer"] < 0.5
    assert marks["full"]["chamfer"] != marks["M = 0"]["chamfer"]
    assert found["main"] == "full"


def test_the_second_stage_is_compared_with_the_first_enlarged() -> None:
    models, _, _ = knowing()
    truth = render_truth(block(), PROTOCOL)
    stages = two_stages(truth, models, TINY, seeded(0))
    for views in stages:
        torch.testing.assert_close(views.rgb[0], truth.photo.over())
    marks = stage_two_marks(truth, *stages, Colours())
    (enlarged, refined), (far, near) = marks["psnr"], marks["deep_feature_distance"]
    # The refiner knows the truth, up to the samples of a pixel.
    assert refined > enlarged
    assert near < far
    assert torch.isfinite(torch.tensor([enlarged, refined])).all()


def test_a_ring_of_a_rendered_set_is_a_truth(tmp_path: Path) -> None:
    rings = tiny_set(tmp_path, objects=2, size_px=16)
    truth = true_ring(rings, 1)
    assert len(truth.views) == rings.settings.ring_views == 4
    wanted = torch.from_numpy(rings.rgba[1, :4].copy()).float() / 255
    torch.testing.assert_close(truth.views.rgb, wanted[..., :3])
    torch.testing.assert_close(truth.photo.alpha, wanted[0, ..., 3])
    elevation = truth.views.cameras.elevation_deg
    torch.testing.assert_close(elevation, torch.full((4,), float(rings.elevation_deg[1, 0])))
    torch.testing.assert_close(
        truth.views.cameras.azimuth_deg % 360,
        torch.tensor([0.0, 90.0, 180.0, 270.0]),
        atol=1e-3,
        rtol=0,
    )
