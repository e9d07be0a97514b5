import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import KnownElevation, block

from roundview.camera import Cameras
from roundview.data.objects import ObjectFile
from roundview.evaluate.nvs import Candidate
from roundview.evaluate.pairs import PairMeasure, PairProtocol, evaluate_pairs, turned
from roundview.image import Foreground
from roundview.loaders import Loaded
from roundview.mesh import Mesh
from roundview.models import Report, silent
from roundview.recipes.im3d import DRAFT, Im3dModels
from roundview.segment import matte_from_alpha
from roundview.surface.raster import render_mesh
from roundview.views import Views

PROTOCOL = PairProtocol(size_px=32)


class Draws:
    """Draws one mesh, and keeps what it was asked for."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.asked: list[tuple[Cameras, float]] = []

    def draw(
        self,
        subject: Foreground,
        cameras: Cameras,
        rng: torch.Generator,
        *,
        photo_elevation_deg: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        self.asked.append((cameras, photo_elevation_deg))
        return render_mesh(self.mesh, cameras, supersample=3, geometry=False)

    def redraw(
        self,
        subject: Foreground,
        views: Views,
        rng: torch.Generator,
        *,
        photo_elevation_deg: float,
        noise_level: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        raise AssertionError("the protocol draws once")


def measure(orbit: Draws, elevation_deg: float | None) -> PairMeasure:
    models = Im3dModels(matte_from_alpha, orbit, KnownElevation(12.0))
    settings = replace(DRAFT, photo_elevation_deg=elevation_deg)
    return PairMeasure(Candidate(Loaded(models, (), "weights"), settings), PROTOCOL)


def test_views_are_drawn_evenly_from_the_sphere_and_stay_the_same() -> None:
    pairs = [PROTOCOL.directions_deg(f"object {k}") for k in range(400)]
    assert PROTOCOL.directions_deg("object 7") == pairs[7]
    assert replace(PROTOCOL, seed=1).directions_deg("object 7") != pairs[7]
    azimuth = torch.tensor([view[0] for pair in pairs for view in pair])
    elevation = torch.tensor([view[1] for pair in pairs for view in pair])
    assert 0 <= float(azimuth.min()) < 5
    assert 355 < float(azimuth.max()) < 360
    assert float(elevation.abs().max()) <= 75
    # Even on the sphere is even in height: half lie within a height of half of sin 75.
    within = math.degrees(math.asin(math.sin(math.radians(75)) / 2))
    assert float((elevation.abs() < within).float().mean()) == pytest.approx(0.5, abs=0.06)


def test_turned_brings_the_front_to_the_azimuth() -> None:
    front = Mesh(torch.tensor([[0.0, 0.2, 1.0]]), torch.zeros(0, 3, dtype=torch.int64))
    to = turned(front, 90.0).vertices[0]
    torch.testing.assert_close(to, torch.tensor([1.0, 0.2, 0.0]), rtol=0, atol=1e-6)


def test_true_drawings_of_the_turned_object_score_all_there_is(tmp_path: Path) -> None:
    (azimuth, elevation), (target, _) = PROTOCOL.directions_deg("block")
    orbit = Draws(turned(block(), -azimuth))
    results = evaluate_pairs([ObjectFile("block", block)], measure(orbit, 0.0), tmp_path)
    assert results["protocol"] == "nvs-zero123"
    rows = results["mean"]["rows"]
    assert rows["orbit"]["psnr"] == 100.0
    assert rows["copy"]["psnr"] < 40
    assert "mean_of_truth" not in rows
    ((cameras, told),) = orbit.asked
    assert told == pytest.approx(elevation)
    assert float(cameras.azimuth_deg[1]) == pytest.approx((target - azimuth) % 360, abs=1e-3)
    assert results["objects"][0]["strip"] == ["the input", "truth", "orbit", "error of orbit"]


def test_an_estimated_elevation_moves_the_photographer() -> None:
    orbit = Draws(block())
    measure(orbit, None)("block", block(), silent)
    assert orbit.asked[0][1] == 12.0
    assert float(orbit.asked[0][0].elevation_deg[0]) == pytest.approx(12.0, abs=1e-4)
