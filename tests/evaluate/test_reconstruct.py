from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import block

from roundview.data.objects import ObjectFile
from roundview.evaluate.keeping import kept_file
from roundview.evaluate.protocol import as_written
from roundview.evaluate.reconstruct import (
    ONE_RING,
    THREE_RINGS,
    ReconstructMeasure,
    evaluate_reconstruct,
)
from roundview.export.glb import load_glb
from roundview.gaussians import Gaussians
from roundview.mesh import Asset, Mesh, centred
from roundview.metrics import psnr
from roundview.models import silent
from roundview.recipes.reconstruct import Reconstruct
from roundview.splat.render import render_gaussians
from roundview.stages import Stages
from roundview.views import Views

SMALL = replace(THREE_RINGS, size_px=32)


def cloud() -> Gaussians:
    """One small red Gaussian at the origin."""
    return Gaussians(
        torch.zeros(1, 3),
        torch.full((1, 3), -2.0),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        torch.tensor([4.0]),
        torch.tensor([[[1.4, -1.4, -1.4]]]),
    )


class Maker:
    """Makes a known mesh of whatever views, twice as large and moved, as a fit might."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.seen: list[Views] = []

    def __call__(self, views: Views, settings: Reconstruct, stages: Stages) -> Asset:
        assert settings.fit_steps == 7
        self.seen.append(views)
        stages("fit", lambda report: report(1.0))
        stages.note("world_from_views", {"scale": 2.0, "shift": [0.5, 0.0, 0.0]})
        shift = torch.tensor([0.5, 0.0, 0.0])
        moved = cloud()
        moved = replace(moved, centre=moved.centre * 2 + shift, log_scale=moved.log_scale + 0.6931)
        return Asset(replace(self.mesh, vertices=self.mesh.vertices * 2 + shift), moved)


def measure(maker: Maker, **changes: object) -> ReconstructMeasure:
    settings = Reconstruct(fit_steps=7)
    what = ReconstructMeasure(settings, SMALL, fit=maker, samples=500, hull_resolution=32)
    return replace(what, **changes)


def test_rings_stand_where_the_protocol_says() -> None:
    fitted, judged = THREE_RINGS.fitted(), THREE_RINGS.judged()
    assert (len(fitted), len(judged)) == (24, 16)
    assert fitted.elevation_deg[::8].tolist() == pytest.approx([-20, 10, 50], abs=1e-4)
    assert fitted.azimuth_deg[:3].tolist() == pytest.approx([0, 45, 90], abs=1e-4)
    assert judged.elevation_deg.tolist() == pytest.approx([30] * 16, abs=1e-4)
    fitted, judged = ONE_RING.fitted(), ONE_RING.judged()
    assert (len(fitted), len(judged)) == (16, 16)
    assert judged.azimuth_deg[:2].tolist() == pytest.approx([11.25, 33.75], abs=1e-4)
    assert fitted.elevation_deg.tolist() == judged.elevation_deg.tolist()


def test_no_view_that_is_judged_was_fitted() -> None:
    for protocol in (THREE_RINGS, ONE_RING):
        apart = torch.cdist(protocol.fitted().origin, protocol.judged().origin)
        assert float(apart.min()) > 0.1


def test_the_true_mesh_scores_all_there_is_though_it_was_moved(tmp_path: Path) -> None:
    maker = Maker(block())
    found = measure(maker)("block", block(), silent)
    mesh = found.entry["rows"]["mesh"]
    # The 8-bit colours of a GLB and the float32 of its vertices are all that is lost.
    assert mesh["psnr"] > 45
    assert mesh["chamfer"] == pytest.approx(0.0, abs=1e-5)
    assert mesh["f_score_001"] == 1.0
    assert mesh["volume_iou"] > 0.99
    assert mesh["faces"] == 12
    assert mesh["watertight"] == 1.0
    assert mesh["degenerate_faces"] == 0
    # Outlines of 24 views at 32 px leave little room round a block.
    assert 0.6 < found.entry["rows"]["hull"]["volume_iou"] < 1
    assert set(found.entry["seconds"]) == {"fit", "write"}
    seen = maker.seen[0]
    assert len(seen) == 24
    # In 8 bits, as files would hold them.
    torch.testing.assert_close(seen.alpha, (seen.alpha * 255).round() / 255)
    path = tmp_path / "asset.glb"
    path.write_bytes(found.files[".glb"])
    assert len(load_glb(path).faces) == 12


def test_the_cloud_is_moved_back_as_well() -> None:
    what = measure(Maker(block()))
    found = what("block", block(), silent)
    truth = what.truth(block())
    drawn = as_written(render_gaussians(cloud(), truth.cameras).rgb)
    expected = float(psnr(drawn, truth.rgb).mean())
    assert found.entry["rows"]["splats"]["psnr"] == pytest.approx(expected, abs=0.02)
    assert found.entry["strip"] == ["truth", "mesh", "splats", "error of mesh", "error of splats"]


def test_another_mesh_scores_less() -> None:
    thin = centred(block(0.3))[0]
    found = measure(Maker(thin))("block", block(), silent)
    mesh = found.entry["rows"]["mesh"]
    assert mesh["psnr"] < 20
    # Half as wide: half of the volume.
    assert mesh["volume_iou"] == pytest.approx(0.5, abs=0.05)
    # Two sides of 1 x 0.5 moved in by 0.15; the others' halves lie on the truth.
    assert 0.02 < mesh["chamfer"] < 0.1


def test_objects_are_measured_kept_and_averaged(tmp_path: Path) -> None:
    def broken() -> Mesh:
        raise ValueError("no GLB")

    maker = Maker(block())
    things = [ObjectFile("block", block), ObjectFile("broken", broken)]
    results = evaluate_reconstruct(things, measure(maker), tmp_path)
    assert results["protocol"] == "reconstruct-three-rings"
    assert "world_from_views" in results["alignment"]
    assert results["objects"][1] == {"name": "broken", "error": "ValueError: no GLB"}
    mean = results["mean"]
    assert (mean["objects"], mean["of"]) == (1, 2)
    assert mean["rows"]["mesh"]["psnr"] == results["objects"][0]["rows"]["mesh"]["psnr"]
    assert kept_file(tmp_path, "block", ".glb").is_file()
    again = evaluate_reconstruct(things, measure(maker), tmp_path)
    assert again == results
    assert len(maker.seen) == 1
    evaluate_reconstruct(things, measure(maker, seed=1), tmp_path)
    assert len(maker.seen) == 2


def test_an_asset_without_gaussians_has_no_row_of_them() -> None:
    maker = Maker(block())

    def fit(views: Views, settings: Reconstruct, stages: Stages) -> Asset:
        return replace(maker(views, settings, stages), gaussians=None)

    found = measure(maker, fit=fit)("block", block(), silent)
    assert list(found.entry["rows"]) == ["mesh", "hull"]
