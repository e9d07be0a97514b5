import json
from pathlib import Path

import pytest
import torch
from fakes import block
from recipes_tiny import RECONSTRUCT_TINY

from roundview.camera import Cameras
from roundview.cli import run
from roundview.export.glb import save_glb
from roundview.export.ply import save_splats
from roundview.export.transforms import load_views, save_views
from roundview.gaussians import Gaussians
from roundview.recipes.reconstruct import RECONSTRUCTIONS
from roundview.surface.raster import render_mesh


@pytest.fixture
def splats(tmp_path: Path) -> Path:
    red = Gaussians(
        centre=torch.zeros(1, 3),
        log_scale=torch.full((1, 3), -2.0),
        quat_wxyz=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        opacity_logit=torch.tensor([4.0]),
        sh=torch.tensor([[[1.5, -1.5, -1.5]]]),
    )
    save_splats(red, tmp_path / "red.ply")
    return tmp_path / "red.ply"


def test_a_mesh_is_drawn_from_where_it_was_asked(tmp_path: Path) -> None:
    save_glb(block(), tmp_path / "block.glb")
    out = tmp_path / "out"
    where = ["--azimuth-deg", "0,180", "--elevation-deg", "0", "--size", "32"]
    assert run(["render", str(tmp_path / "block.glb"), "-o", str(out), *where, "--depth"]) == 0
    views = load_views(out)
    middle = views.rgb[:, 16, 16]
    assert [int(rgb.argmax()) for rgb in middle] == [0, 2]  # Red faces +Z, blue -Z.
    assert views.normal is None
    assert views.depth is not None
    # The front of the block is 0.25 before the middle, the camera 1.5.
    assert float(views.depth[0, 16, 16]) == pytest.approx(1.25, abs=1e-3)


def test_splats_are_drawn_by_the_cameras_of_a_file(tmp_path: Path, splats: Path) -> None:
    cameras = Cameras.orbit(
        [10.0, 20.0, 30.0], elevation_deg=5.0, radius=2.0, fov_deg=30.0, size_hw=(16, 24)
    )
    save_views(render_mesh(block(), cameras), tmp_path / "seen")
    out = tmp_path / "out"
    file = str(tmp_path / "seen" / "transforms.json")
    assert run(["render", str(splats), "-o", str(out), "--cameras", file]) == 0
    views = load_views(out)
    torch.testing.assert_close(views.cameras.world_from_camera, cameras.world_from_camera)
    assert views.cameras.size_hw == (16, 24)
    assert float(views.rgb[0, 8, 12, 0]) > 0.8


def test_splats_have_no_normals(
    tmp_path: Path, splats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["render", str(splats), "-o", str(tmp_path / "out"), "--normal"]) == 2
    assert "no normals" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_inspect_tells_what_is_in_a_file(
    tmp_path: Path, splats: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_glb(block(), tmp_path / "block.glb")
    assert run(["inspect", str(tmp_path / "block.glb"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["faces"], found["watertight"], found["shells"]) == (12, True, 1)
    assert run(["inspect", str(splats)]) == 0
    assert "gaussians" in capsys.readouterr().out


def test_fit_keeps_the_axes_of_the_views_and_records_the_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECONSTRUCTIONS, "draft", RECONSTRUCT_TINY)
    cameras = Cameras.orbit(
        [0.0, 45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0] * 2,
        elevation_deg=[10.0] * 8 + [50.0] * 8,
        radius=4.0,
        fov_deg=40.0,
        size_hw=(64, 64),
    )
    mesh = block(1.2, 2.0, 1.0)
    save_views(render_mesh(mesh, cameras), tmp_path / "views")
    out = tmp_path / "out"
    sizes = ["--faces", "1200", "--texture-size", "64", "--quality", "draft", "--quiet"]
    assert run(["fit", str(tmp_path / "views"), "-o", str(out), *sizes]) == 0
    assert run(["render", str(out / "asset.glb"), "-o", str(tmp_path / "again")]) == 0
    record = json.loads((out / "record.json").read_text())
    moved = record["notes"]["world_from_views"]
    # Truth: 0.5 and 0. No view is from below, and where views do not tell, a fit is too large.
    assert moved["scale"] == pytest.approx(0.5, abs=0.12)
    assert max(abs(x) for x in moved["shift"]) < 0.1
    front = load_views(tmp_path / "again").straight_rgb()[0]
    assert int(front[128, 128].argmax()) == 0  # Red, as the block is towards +Z.
