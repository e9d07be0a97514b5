"""Claims about a saved asset: the files a user looks for, whole or not there."""

import json
from pathlib import Path

import pytest
import torch

from roundview.camera import Cameras, project
from roundview.export import asset as asset_module
from roundview.export import save_asset
from roundview.export.asset import orbit_round
from roundview.export.files import read_png
from roundview.export.glb import load_glb
from roundview.export.ply import load_splats
from roundview.export.transforms import load_views
from roundview.gaussians import Gaussians
from roundview.image import Foreground, Image
from roundview.mesh import Asset, Mesh, Texture
from roundview.views import Views


@pytest.fixture(autouse=True)
def short_turntable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asset_module, "_TURNTABLE_FRAMES", 3)
    monkeypatch.setattr(asset_module, "_TURNTABLE_PX", 32)


def box() -> Mesh:
    """A cuboid 1 x 0.5 x 0.25, a red texture on it."""
    corners = torch.tensor(
        [[x, y, z] for x in (-0.5, 0.5) for y in (-0.25, 0.25) for z in (-0.125, 0.125)]
    )
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = [[q[0], q[i], q[i + 1]] for q in quads for i in (1, 2)]
    texture = Texture(torch.tensor([1.0, 0.0, 0.0]).expand(4, 4, 3).contiguous())
    return Mesh(corners, torch.tensor(faces), torch.rand(8, 2), texture)


def whole_asset() -> Asset:
    cameras = Cameras.orbit(
        [0.0, 90.0], elevation_deg=0.0, radius=1.5, fov_deg=50.0, size_hw=(8, 8)
    )
    views = Views(torch.full((2, 8, 8, 3), 0.5), torch.ones(2, 8, 8), cameras)
    gaussians = Gaussians(
        torch.zeros(1, 3), torch.zeros(1, 3), torch.ones(1, 4), torch.zeros(1), torch.zeros(1, 1, 3)
    )
    return Asset(box(), gaussians, views, {"recipe": "by hand", "seed": 0})


def test_every_file_is_there_and_readable(tmp_path: Path) -> None:
    photo = Image(torch.rand(20, 30, 3))
    subject = Foreground(torch.rand(10, 10, 3), torch.ones(10, 10))
    save_asset(whole_asset(), tmp_path / "out", photo=photo, subject=subject)
    names = {path.name.split(".")[0] for path in (tmp_path / "out").iterdir()}
    assert names == {"asset", "splats", "turntable", "preview", "views", "record"}
    assert torch.equal(load_glb(tmp_path / "out" / "asset.glb").faces, box().faces)
    assert len(load_splats(tmp_path / "out" / "splats.ply")) == 1
    assert len(load_views(tmp_path / "out" / "views")) == 2
    assert read_png(tmp_path / "out" / "preview.png").shape[2] == 3
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record == {"recipe": "by hand", "seed": 0}


def test_the_same_asset_gives_the_same_bytes(tmp_path: Path) -> None:
    asset = whole_asset()
    for name in ("a", "b"):
        save_asset(asset, tmp_path / name)
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            assert (
                path.read_bytes()
                == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
            )


def test_a_mesh_alone_is_an_asset(tmp_path: Path) -> None:
    save_asset(Asset(box()), tmp_path)
    names = {path.name.split(".")[0] for path in tmp_path.iterdir()}
    assert names == {"asset", "turntable", "preview", "record"}


def test_an_asset_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    nothing = Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="without faces"):
        save_asset(Asset(nothing), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_whole_mesh_is_in_every_frame() -> None:
    cameras = orbit_round(box(), count=12, size_px=100)
    uv, depth = project(box().vertices, cameras)
    assert bool((depth > 0).all())
    assert uv.min() >= 0
    assert uv.max() <= 100
    assert float(cameras.azimuth_deg[0]) == 0.0
