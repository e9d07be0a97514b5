from pathlib import Path

import pytest
import torch
from fakes import block, photo_of
from serve_asset import splats_on

from roundview.camera import Cameras
from roundview.image import Foreground
from roundview.mesh import Asset
from roundview.serve.pictures import newest_result, picture_of
from roundview.stages import FOLDER, Stages, seeded
from roundview.surface.raster import render_mesh
from roundview.views import Views


def views_of_block(count: int, size_px: int = 64) -> Views:
    ring = [360 * at / count for at in range(count)]
    cameras = Cameras.orbit(
        ring, elevation_deg=10.0, radius=2.0, fov_deg=40.0, size_hw=(size_px, size_px)
    )
    return render_mesh(block(), cameras)


def test_the_newest_result_is_that_of_the_last_stage_that_ended(tmp_path: Path) -> None:
    assert newest_result(tmp_path) is None
    run = Stages(seeded(0), directory=tmp_path / FOLDER, identity="this photo")
    run("matte", lambda _: 1.0)
    assert newest_result(tmp_path) == 1.0
    run("redraw 1", lambda _: views_of_block(4))
    found = newest_result(tmp_path)
    assert isinstance(found, Views)
    torch.testing.assert_close(found.rgb, views_of_block(4).rgb)


def test_reading_results_leaves_them_for_the_run_that_made_them(tmp_path: Path) -> None:
    run = Stages(seeded(0), directory=tmp_path / FOLDER, identity="this photo")
    run("matte", lambda _: 1.0)
    run("fit", lambda _: 2.0)
    (tmp_path / FOLDER / "00-matte.safetensors").unlink()  # The run is removing them.
    before = sorted(path.name for path in (tmp_path / FOLDER).iterdir())
    assert newest_result(tmp_path) is None
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == before


def test_a_damaged_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "00-matte.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="no saved stage"):
        newest_result(tmp_path)


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (3, 1), (4, 2), (8, 2), (9, 3), (40, 3)])
def test_views_are_laid_out_in_a_square_the_first_among_them(count: int, rows: int) -> None:
    views = views_of_block(count, size_px=32)
    drawn = picture_of(views)
    assert drawn is not None
    assert drawn.shape == (32 * rows, 32 * rows, 4)
    torch.testing.assert_close(drawn[:32, :32, 3], views.alpha[0])


def test_large_pictures_are_made_small() -> None:
    photo = photo_of(block(), size_px=700)
    assert photo.alpha is not None
    drawn = picture_of(Foreground(photo.rgb, photo.alpha))
    assert drawn is not None
    assert drawn.shape == (512, 512, 4)
    torch.testing.assert_close(drawn[256, 256], torch.tensor([0.9, 0.1, 0.1, 1.0]))


def test_splats_and_meshes_are_drawn_from_four_sides() -> None:
    for value in (block(), Asset(block()), splats_on(block()), {"mesh": block()}, (1.0, block())):
        drawn = picture_of(value)
        assert drawn is not None
        assert drawn.shape == (512, 512, 4)
        front, back = drawn[128, 128], drawn[384, 128]
        assert front[3] > 0.9
        assert front[0] > 2 * front[2], "the photographed side is red"
        assert back[2] > 2 * back[0], "the other side is blue"


@pytest.mark.parametrize("value", [None, 1.0, "text", {}, [], {"state": torch.zeros(3)}])
def test_what_is_nothing_to_look_at_is_not_drawn(value: object) -> None:
    assert picture_of(value) is None
