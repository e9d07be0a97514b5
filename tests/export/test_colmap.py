"""Claims about COLMAP's text model: the same scene gives the same views; the rest is refused."""

from pathlib import Path

import pytest
import torch
from fakes import block

from roundview.camera import Cameras
from roundview.export.colmap import find_model, load_colmap_views
from roundview.export.files import write_png
from roundview.export.transforms import load_views, save_views
from roundview.frames import colmap_from_cameras
from roundview.surface.raster import render_mesh
from roundview.views import Views

NAMES = ["a/front.jpg.png", "left.png", "right one.png"]


@pytest.fixture(scope="module")
def views() -> Views:
    cameras = Cameras.orbit(
        [10.0, 130.0, 250.0], elevation_deg=20.0, radius=2.0, fov_deg=40.0, size_hw=(24, 32)
    )
    return render_mesh(block(), cameras)


def write_model(
    views: Views, folder: Path, *, camera: str | None = None, place: str = "sparse/0"
) -> None:
    """Write a folder as COLMAP leaves it after undistortion, pictures last name first."""
    model = folder / place
    model.mkdir(parents=True, exist_ok=True)
    h, w = views.cameras.size_hw
    focal = float(views.cameras.focal_px[0])
    camera = camera or f"PINHOLE {w} {h} {focal!r} {focal!r} {w / 2} {h / 2}"
    (model / "cameras.txt").write_text(f"# Camera list\n# Number of cameras: 1\n7 {camera}\n")
    quat, shift = colmap_from_cameras(views.cameras)
    lines = ["# Image list with two lines of data per image:"]
    for at in reversed(range(len(NAMES))):
        numbers = [*quat[at].tolist(), *shift[at].tolist()]
        lines.append(f"{at + 5} {' '.join(map(repr, numbers))} 7 {NAMES[at]}")
        lines.append("" if at else "12.5 3.0 -1 4 5 6")  # points, or none
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    (model / "points3D.txt").write_text("# 3D point list\n")
    rgba = torch.cat([views.straight_rgb(), views.alpha[..., None]], dim=-1)
    for name, picture in zip(NAMES, rgba, strict=True):
        write_png(folder / "images" / name, picture)


def assert_same_views(got: Views, wanted: Views) -> None:
    torch.testing.assert_close(got.rgb, wanted.rgb, rtol=0, atol=1.51 / 255)
    torch.testing.assert_close(got.alpha, wanted.alpha, rtol=0, atol=0.51 / 255)
    torch.testing.assert_close(
        got.cameras.world_from_camera, wanted.cameras.world_from_camera, rtol=0, atol=1e-5
    )
    torch.testing.assert_close(got.cameras.focal_px, wanted.cameras.focal_px)


@pytest.mark.parametrize("place", [".", "sparse/0", "sparse", "colmap/sparse/0"])
def test_the_same_scene_gives_the_same_views(place: str, views: Views, tmp_path: Path) -> None:
    write_model(views, tmp_path, place=place)
    assert_same_views(load_views(tmp_path), views)


def test_it_agrees_with_our_own_layout(views: Views, tmp_path: Path) -> None:
    write_model(views, tmp_path / "theirs")
    save_views(views, tmp_path / "ours")
    assert_same_views(load_views(tmp_path / "theirs"), load_views(tmp_path / "ours"))


def test_a_simple_pinhole_of_a_larger_picture_is_scaled(views: Views, tmp_path: Path) -> None:
    focal = 2 * float(views.cameras.focal_px[0])
    write_model(views, tmp_path, camera=f"SIMPLE_PINHOLE 64 48 {focal!r} 32 24")
    assert_same_views(load_colmap_views(tmp_path), views)


@pytest.mark.parametrize("name", ["{}.png", "{}"])
def test_masks_stand_beside_the_pictures(name: str, views: Views, tmp_path: Path) -> None:
    write_model(views, tmp_path)
    for at, picture in enumerate(NAMES):
        write_png(tmp_path / "images" / picture, views.straight_rgb()[at])
        write_png(tmp_path / "masks" / name.format(picture), views.alpha[at, ..., None])
    assert_same_views(load_colmap_views(tmp_path), views)


def test_a_world_upside_down_is_kept_loudly(
    views: Views, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_model(views, tmp_path / "upright")
    load_colmap_views(tmp_path / "upright")
    assert not caplog.text
    turn = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    pose = turn @ views.cameras.world_from_camera
    cameras = Cameras(pose, views.cameras.focal_px, views.cameras.size_hw)
    write_model(Views(views.rgb, views.alpha, cameras), tmp_path / "turned")
    got = load_colmap_views(tmp_path / "turned")
    torch.testing.assert_close(got.cameras.world_from_camera, pose, rtol=0, atol=1e-5)
    assert "not +Y up" in caplog.text


@pytest.mark.parametrize(
    ("camera", "wrong"),
    [
        ("OPENCV 32 24 30 30 16 12 0 0 0 0", "OPENCV, which distorts: run colmap image_undist"),
        ("SIMPLE_RADIAL 32 24 30 16 12 0.1", "SIMPLE_RADIAL, which distorts"),
        ("PINHOLE 32 24 30 30 16", "makes no sense"),
        ("PINHOLE 32 24 30 x 16 12", "'x' is no number"),
        ("PINHOLE 32 24 nan 30 16 12", "'nan' makes no sense"),
        ("PINHOLE 32 32 30 30 16 16", "is 32x24, but its camera 32x32"),
        ("PINHOLE 32 24 30 30 99 12", "outside of 32x24"),
    ],
)
def test_cameras_that_are_no_pinholes_are_refused(
    camera: str, wrong: str, views: Views, tmp_path: Path
) -> None:
    write_model(views, tmp_path, camera=camera)
    with pytest.raises(ValueError, match=wrong):
        load_views(tmp_path)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "lists no pictures"),
        ("1 1 0 0 0 0 0 0 9 left.png\n\n", "names camera 9"),
        ("1 1 0 0 0 0 0 0 7 gone.png\n\n", r"'gone\.png' is missing"),
        ("1 1 0 0 0 0 0 0 7 ../../x.png\n\n", "outside"),
        ("1 0 0 0 0 0 0 0 7 left.png\n\n", "rotation of 0, 0, 0, 0"),
        ("1 1 0 0 0 0 0 7 left.png\n\n", "makes no sense"),
        ("1 a 0 0 0 0 0 0 7 left.png\n\n", "'a' is no number"),
    ],
)
def test_broken_lists_are_refused(text: str, wrong: str, views: Views, tmp_path: Path) -> None:
    write_model(views, tmp_path)
    (tmp_path / "sparse/0/images.txt").write_text(text)
    with pytest.raises(ValueError, match=wrong):
        load_views(tmp_path)


def test_binary_models_are_told_from_none(tmp_path: Path) -> None:
    assert find_model(tmp_path) is None
    with pytest.raises(ValueError, match=r"holds no cameras\.txt"):
        load_colmap_views(tmp_path)
    for name in ("cameras.bin", "images.bin"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match="colmap model_converter"):
        load_views(tmp_path)
