import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from job_measures import DeadlyOnce, Death

from roundview.data.objects import ObjectFile, find_objects
from roundview.data.procedural import procedural_object
from roundview.data.shards import (
    DEPTH_UNIT,
    ShardSettings,
    orbit_cameras,
    read_shard,
    render_shards,
    syncdreamer_cameras,
    zero123_cameras,
)
from roundview.export.glb import glb_bytes
from roundview.mesh import Mesh
from roundview.surface.raster import render_mesh

SMALL = ShardSettings(size_px=16, shard_objects=2, lit_share=0.0, seed=3)


def folder(directory: Path, count: int) -> list[ObjectFile]:
    directory.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        (directory / f"{i}.glb").write_bytes(glb_bytes(procedural_object(rng)))
    return find_objects(directory)


def test_zero123_stands_on_a_random_sphere() -> None:
    cameras = zero123_cameras(np.random.default_rng(0), 8)
    distance = cameras.origin.norm(dim=-1)
    assert len(cameras) == 12
    assert 1.5 <= float(distance.min()) < float(distance.max()) <= 2.2
    assert float(cameras.elevation_deg.min()) < -20 < 20 < float(cameras.elevation_deg.max())


def test_syncdreamer_has_targets_on_a_ring_and_inputs_at_random_heights() -> None:
    cameras = syncdreamer_cameras(np.random.default_rng(0), 8)
    torch.testing.assert_close(cameras.elevation_deg[:16], torch.full((16,), 30.0))
    turns = cameras.azimuth_deg[:16].diff() % 360
    torch.testing.assert_close(turns, torch.full((15,), 22.5), rtol=1e-4, atol=1e-3)
    inputs = cameras.elevation_deg[16:]
    assert len(inputs) == 16
    assert -10 <= float(inputs.min()) < float(inputs.max()) <= 40


def test_what_is_rendered_is_read_back(tmp_path: Path) -> None:
    found = folder(tmp_path / "objects", 1)
    (path,) = render_shards(found, tmp_path / "set", cameras=orbit_cameras, settings=SMALL)
    (item,) = read_shard(path)
    assert item.name == "0"
    views = item.views
    truth = render_mesh(found[0].read(), views.cameras, supersample=2)
    assert truth.depth is not None
    assert truth.normal is not None
    assert views.depth is not None
    assert views.normal is not None
    # Half a grey level of straight colour and of alpha each.
    torch.testing.assert_close(views.rgb, truth.rgb, rtol=0, atol=1.1 / 255)
    torch.testing.assert_close(views.alpha, truth.alpha, rtol=0, atol=0.51 / 255)
    torch.testing.assert_close(views.depth, truth.depth, rtol=0, atol=2 * DEPTH_UNIT)
    seen = truth.alpha > 0
    cosine = (views.normal * truth.normal).sum(dim=-1)[seen]
    assert float(cosine.min()) > 0.999
    assert not bool(views.normal[~seen].any())


def test_a_stopped_run_renders_only_what_is_missing(tmp_path: Path) -> None:
    whole = render_shards(5, tmp_path / "whole", settings=SMALL)
    assert [path.name for path in whole] == [f"shard-{i:06d}.tar" for i in range(3)]
    halves = [render_shards(5, tmp_path / "set", settings=SMALL, part=(i, 2)) for i in (0, 1)]
    assert [len(half) for half in halves] == [2, 1]
    halves[0][1].unlink()
    kept = halves[0][0].stat().st_mtime_ns
    again = render_shards(5, tmp_path / "set", settings=SMALL)
    assert again[0].stat().st_mtime_ns == kept
    for a, b in zip(whole, again, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_two_workers_write_the_bytes_of_one_though_one_of_them_is_killed(tmp_path: Path) -> None:
    found = folder(tmp_path / "objects", 3)
    alone = render_shards(found, tmp_path / "alone", settings=SMALL)
    cameras = DeadlyOnce(Death(tmp_path / "died"))
    shared = render_shards(found, tmp_path / "shared", cameras=cameras, settings=SMALL, workers=2)
    assert (tmp_path / "died").exists()
    assert [path.name for path in shared] == ["shard-000000.tar", "shard-000001.tar"]
    assert [path.read_bytes() for path in shared] == [path.read_bytes() for path in alone]


def test_shards_that_cannot_be_written_are_told_and_the_others_are_there(tmp_path: Path) -> None:
    (tmp_path / "shard-000000.tar").mkdir()  # Nothing can be renamed to a folder.
    with pytest.raises(ValueError, match=r"1 of 2 shards.*shard 0: IsADirectoryError"):
        render_shards(4, tmp_path, settings=SMALL, workers=2)
    assert len(list(read_shard(tmp_path / "shard-000001.tar"))) == 2


def test_the_files_of_an_object_stand_together_under_one_key(tmp_path: Path) -> None:
    (path,) = render_shards(2, tmp_path, cameras=zero123_cameras, settings=SMALL)
    with tarfile.open(path) as archive:
        keys = [name.split(".")[0] for name in archive.getnames()]
    assert keys == ["000000000"] * 37 + ["000000001"] * 37  # 12 views of 3 pictures, and a list.


def test_an_object_that_cannot_be_read_is_left_out_and_listed(tmp_path: Path) -> None:
    def broken() -> Mesh:
        raise ValueError("no GLB")

    found = [*folder(tmp_path / "objects", 1), ObjectFile("broken", broken)]
    (path,) = render_shards(found, tmp_path / "set", settings=SMALL)
    assert [item.name for item in read_shard(path)] == ["0"]
    failed = json.loads((tmp_path / "set" / "failed.jsonl").read_text())
    assert failed == {"object": 1, "error": "no GLB"}


def test_other_settings_want_another_folder(tmp_path: Path) -> None:
    render_shards(1, tmp_path, settings=SMALL)
    with pytest.raises(ValueError, match="another objects"):
        render_shards(2, tmp_path, settings=SMALL)
    with pytest.raises(ValueError, match="part"):
        render_shards(1, tmp_path, settings=SMALL, part=(1, 1))
