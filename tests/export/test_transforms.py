"""Claims about transforms.json: ours, and what other programs write into theirs."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pillow

from roundview.camera import Cameras
from roundview.export.files import write_json, write_png
from roundview.export.transforms import (
    cameras_from_transforms,
    load_views,
    save_views,
    transforms_from_cameras,
)
from roundview.image import composite
from roundview.views import Views

IN_FRONT = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]]  # at +Z, looking at -Z


def cameras() -> Cameras:
    return Cameras.orbit(
        [0.0, 90.0, 200.0],
        elevation_deg=[0.0, 30.0, -20.0],
        radius=1.5,
        fov_deg=49.13,
        size_hw=(4, 6),
    )


def transforms(**extra: object) -> dict[str, Any]:
    frames = [{"file_path": "000.png", "transform_matrix": IN_FRONT}]
    lens = {"w": 6, "h": 4, "fl_x": 5.0, "fl_y": 5.0, "cx": 3.0, "cy": 2.0}
    return {**lens, "frames": frames, **extra}


def random_views(*, geometry: bool = False) -> Views:
    rng = torch.Generator().manual_seed(3)
    alpha = torch.rand(3, 4, 6, generator=rng)
    alpha[:, 0], alpha[:, 1] = 0.0, 1.0
    rgb = composite(torch.rand(3, 4, 6, 3, generator=rng), alpha, (1.0, 1.0, 1.0))
    if not geometry:
        return Views(rgb, alpha, cameras())
    normal = torch.nn.functional.normalize(torch.randn(3, 4, 6, 3, generator=rng), dim=-1)
    seen = alpha > 0
    depth = (1 + torch.rand(3, 4, 6, generator=rng)) * seen
    return Views(rgb, alpha, cameras(), depth, normal * seen[..., None])


def test_the_camera_in_front_is_this_matrix() -> None:
    front = Cameras.orbit([0.0], elevation_deg=0.0, radius=2.0, fov_deg=90.0, size_hw=(4, 6))
    got = transforms_from_cameras(front, ["000.png"])
    assert {key: got[key] for key in ("w", "h", "fl_x", "fl_y", "cx", "cy")} == {
        "w": 6,
        "h": 4,
        "fl_x": pytest.approx(2.0),
        "fl_y": pytest.approx(2.0),
        "cx": 3.0,
        "cy": 2.0,
    }
    torch.testing.assert_close(
        torch.tensor(got["frames"][0]["transform_matrix"]), torch.tensor(IN_FRONT).float()
    )
    assert got["frames"][0]["file_path"] == "000.png"


def test_cameras_return_through_json() -> None:
    text = json.dumps(transforms_from_cameras(cameras(), ["0", "1", "2"]))
    got = cameras_from_transforms(json.loads(text))
    assert torch.equal(got.world_from_camera, cameras().world_from_camera)
    assert torch.equal(got.focal_px, cameras().focal_px)
    assert got.size_hw == (4, 6)


def test_cameras_with_their_own_lenses_return() -> None:
    mixed = Cameras(cameras().world_from_camera, torch.tensor([3.0, 4.0, 5.0]), (4, 6))
    got = cameras_from_transforms(transforms_from_cameras(mixed, ["0", "1", "2"]))
    assert got.focal_px.tolist() == [3.0, 4.0, 5.0]


def test_a_world_with_z_up_is_turned() -> None:
    """Blender's front camera stands at -Y with its up axis along +Z: our camera at +Z."""
    theirs = [[1, 0, 0, 0], [0, 0, -1, -2], [0, 1, 0, 0], [0, 0, 0, 1]]
    frames = [{"file_path": "0", "transform_matrix": theirs}]
    wanted = Cameras.orbit([0.0], elevation_deg=0.0, radius=2.0, fov_deg=90.0, size_hw=(4, 6))
    for extra in (
        {"world_up": "z"},
        {"camera_model": "OPENCV"},
        {"applied_transform": []},
        {"aabb_scale": 4},
    ):
        got = cameras_from_transforms(transforms(frames=frames, **extra))
        torch.testing.assert_close(got.world_from_camera, wanted.world_from_camera)
    as_is = cameras_from_transforms(transforms(frames=frames, world_up="y", camera_model="OPENCV"))
    torch.testing.assert_close(as_is.origin, torch.tensor([[0.0, -2.0, 0.0]]))


def test_nerf_files_have_an_angle_and_z_up() -> None:
    theirs = [[1, 0, 0, 0], [0, 0, -1, -2], [0, 1, 0, 0], [0, 0, 0, 1]]
    file = {
        "camera_angle_x": 2 * math.atan(3 / 5),
        "frames": [{"file_path": "./train/r_0", "transform_matrix": theirs}],
    }
    got = cameras_from_transforms(file, size_hw=(4, 6))
    torch.testing.assert_close(got.focal_px, torch.tensor([5.0]))
    torch.testing.assert_close(got.origin, torch.tensor([[0.0, 0.0, 2.0]]))
    # The same key in a world of ours: its cameras stand upright along +Y.
    file["frames"] = transforms()["frames"]
    torch.testing.assert_close(
        cameras_from_transforms(file, size_hw=(4, 6)).origin, torch.tensor([[0.0, 0.0, 2.0]])
    )


def test_smaller_pictures_have_smaller_focal_lengths() -> None:
    got = cameras_from_transforms(transforms(), size_hw=(2, 3))
    assert (got.size_hw, got.focal_px.tolist()) == ((2, 3), [2.5])
    with pytest.raises(ValueError, match="the pictures are 4x4"):
        cameras_from_transforms(transforms(), size_hw=(4, 4))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"frames": []}, "no frames"),
        ({"frames": "x"}, "no frames"),
        ({"frames": [1]}, "not JSON objects"),
        ({"frames": [{"file_path": "0"}]}, "transform_matrix of frame 0"),
        ({"frames": [{"transform_matrix": [[1, 2], [3, 4]]}]}, "4x4"),
        ({"frames": [{"transform_matrix": [["a"] * 4] * 4}]}, "matrix of numbers"),
        ({"frames": [{"transform_matrix": [[float("nan")] * 4] * 4}]}, "finite"),
        ({"frames": [{"transform_matrix": torch.diag(torch.ones(4) * 2).tolist()}]}, "no rotation"),
        ({"cx": 4.5}, r"cx is 4\.5"),
        ({"cy": 0.5}, r"cy is 0\.5"),
        ({"cx": 6.5}, r"axis at \(6\.5, 2\) lies outside of 6x4"),
        ({"fl_y": 9.0}, "not square"),
        ({"fl_x": -5.0, "fl_y": -5.0}, "positive"),
        ({"fl_x": "5"}, "must be a number"),
        ({"k1": 2.0}, "distorts by"),
        ({"camera_model": "OPENCV_FISHEYE"}, "not a pinhole"),
        ({"world_up": "x"}, "world_up"),
    ],
)
def test_cameras_that_we_cannot_hold_are_refused(extra: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cameras_from_transforms(transforms(**extra))


def test_a_size_is_needed_from_somewhere() -> None:
    file = transforms()
    del file["w"]
    with pytest.raises(ValueError, match='no "w" and "h"'):
        cameras_from_transforms(file)
    assert cameras_from_transforms(file, size_hw=(4, 6)).size_hw == (4, 6)
    del file["fl_x"], file["fl_y"]
    with pytest.raises(ValueError, match="camera_angle_x"):
        cameras_from_transforms(file, size_hw=(4, 6))


def test_a_little_distortion_and_a_half_pixel_are_let_pass() -> None:
    """K1 moves the corner by f k1 r^3 with r = hypot(6, 4) / 2 / 5, here 0.19 pixels."""
    assert len(cameras_from_transforms(transforms(k1=0.1, cx=3.5, cy=2.5, p1=0.0))) == 1


@pytest.mark.parametrize("background", [(1.0, 1.0, 1.0), (0.2, 0.4, 0.6)])
def test_views_return(background: tuple[float, float, float], tmp_path: Path) -> None:
    views = random_views()
    straight = views.straight_rgb()
    views = Views(composite(straight, views.alpha, background), views.alpha, views.cameras)
    save_views(views, tmp_path / "views", background=background)
    got = load_views(tmp_path / "views", background=background)
    # Eight bits of colour and of alpha, each half a level off at most.
    torch.testing.assert_close(got.rgb, views.rgb, rtol=0, atol=1.01 / 255)
    torch.testing.assert_close(got.alpha, views.alpha, rtol=0, atol=0.51 / 255)
    assert torch.equal(got.cameras.world_from_camera, views.cameras.world_from_camera)
    assert sorted(path.name for path in (tmp_path / "views").iterdir()) == [
        "000.png",
        "001.png",
        "002.png",
        "transforms.json",
    ]


def test_files_hold_straight_colour(tmp_path: Path) -> None:
    """Half-covered red over white is pink in the views and red in the file."""
    rgb, alpha = torch.tensor([1.0, 0.5, 0.5]).expand(1, 4, 6, 3), torch.full((1, 4, 6), 0.5)
    save_views(Views(rgb, alpha, cameras()[0]), tmp_path)
    with Pillow.open(tmp_path / "000.png") as opened:
        assert opened.mode == "RGBA"
        assert opened.getpixel((0, 0)) == (255, 0, 0, 128)


def test_depth_and_normals_return_with_sixteen_bits(tmp_path: Path) -> None:
    views = random_views(geometry=True)
    assert views.depth is not None
    assert views.normal is not None
    save_views(views, tmp_path)
    got = load_views(tmp_path)
    assert got.depth is not None
    assert got.normal is not None
    torch.testing.assert_close(got.depth, views.depth, rtol=0, atol=2 / 65535)
    torch.testing.assert_close(got.normal, views.normal, rtol=0, atol=4 / 65535)
    unseen = views.alpha == 0
    assert bool((got.normal[unseen] == 0).all())
    assert bool((got.depth[unseen] == 0).all())
    scale = json.loads((tmp_path / "transforms.json").read_text())["depth_scale"]
    with Pillow.open(tmp_path / "001_depth.png") as opened:
        assert opened.getpixel((2, 3)) * scale == pytest.approx(float(views.depth[1, 3, 2]), 1e-4)


@pytest.mark.parametrize("shape", [(3, 4, 1), (5, 4, 3)])
def test_normals_of_another_make_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    save_views(random_views(geometry=True), tmp_path)
    write_png(tmp_path / "001_normal.png", torch.zeros(shape), bits=16)
    with pytest.raises(ValueError, match=r"001_normal\.png.* must be of one size, with 3"):
        load_views(tmp_path)


def test_names_may_lack_their_suffix(tmp_path: Path) -> None:
    Pillow.new("RGBA", (6, 4), (255, 0, 0, 255)).save(tmp_path / "r_0.png")
    frames = [{"file_path": "./r_0", "transform_matrix": IN_FRONT}]
    (tmp_path / "transforms_train.json").write_text(json.dumps(transforms(frames=frames)))
    views = load_views(tmp_path)
    assert bool((views.alpha == 1).all())
    torch.testing.assert_close(views.rgb[0, 0, 0], torch.tensor([1.0, 0.0, 0.0]))
    assert len(load_views(tmp_path / "transforms_train.json")) == 1


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([{"file_path": "gone.png", "transform_matrix": IN_FRONT}], r"'gone\.png' is missing"),
        ([{"file_path": "../x.png", "transform_matrix": IN_FRONT}], "outside"),
        ([{"file_path": "/etc/passwd", "transform_matrix": IN_FRONT}], "outside"),
        ([{"transform_matrix": IN_FRONT}], "no file_path"),
        ([{"file_path": "text.png", "transform_matrix": IN_FRONT}], r"text\.png"),
        ([{"file_path": f, "transform_matrix": IN_FRONT} for f in ("a.png", "b.png")], "are 8x4"),
        ("none", "no list of frames"),
        ([], "no frames"),
    ],
)
def test_broken_folders_are_refused(frames: Any, message: str, tmp_path: Path) -> None:  # noqa: ANN401
    Pillow.new("RGBA", (6, 4)).save(tmp_path / "a.png")
    Pillow.new("RGBA", (8, 4)).save(tmp_path / "b.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "transforms.json").write_text(json.dumps(transforms(frames=frames)))
    with pytest.raises(ValueError, match=message):
        load_views(tmp_path)


def test_a_folder_without_cameras_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no posed pictures: neither transforms\.json"):
        load_views(tmp_path)


def write_pictures(views: Views, folder: Path, names: list[str], *, alpha: bool = True) -> None:
    rgba = torch.cat([views.straight_rgb(), views.alpha[..., None]], dim=-1)
    for name, picture in zip(names, rgba, strict=True):
        write_png(folder / name, picture if alpha else picture[..., :3])


def assert_same_views(got: Views, wanted: Views) -> None:
    torch.testing.assert_close(got.alpha, wanted.alpha, rtol=0, atol=0.51 / 255)
    torch.testing.assert_close(got.rgb, wanted.rgb, rtol=0, atol=1.51 / 255)
    torch.testing.assert_close(got.cameras.world_from_camera, wanted.cameras.world_from_camera)
    torch.testing.assert_close(got.cameras.focal_px, wanted.cameras.focal_px)
    assert got.cameras.size_hw == wanted.cameras.size_hw


def zup_frames(views: Views, names: list[str]) -> list[dict[str, Any]]:
    """Poses as Blender and nerfstudio have them: +Z up, worked here with (x, y, z) = (x, -z, y)."""
    frames = transforms_from_cameras(views.cameras, names)["frames"]
    for frame in frames:
        x, y, z, w = frame["transform_matrix"]
        frame["transform_matrix"] = [x, [-value for value in z], y, w]
    return frames


def test_a_scene_of_nerfstudio_gives_the_same_views(tmp_path: Path) -> None:
    """Its world is +Z up, the lens stands in each frame, the masks are pictures of their own."""
    views = random_views()
    names = [f"images/frame_{at:05d}.png" for at in range(3)]
    write_pictures(views, tmp_path, names, alpha=False)
    frames = zup_frames(views, names)
    focal = float(views.cameras.focal_px[0])
    for at, frame in enumerate(frames):
        frame["mask_path"] = f"masks/{at}.png"
        frame |= {"fl_x": focal, "fl_y": focal, "cx": 3.0, "cy": 2.0, "w": 6, "h": 4}
        write_png(tmp_path / "masks" / f"{at}.png", views.alpha[at, ..., None].expand(-1, -1, 3))
    extra = {"applied_transform": [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]}
    file = {"camera_model": "OPENCV", "k1": 0.0, "k2": 0.0, **extra, "frames": frames}
    write_json(tmp_path / "transforms.json", file)
    assert_same_views(load_views(tmp_path), views)


def test_a_scene_of_blender_gives_the_same_views(tmp_path: Path) -> None:
    views = random_views()
    write_pictures(views, tmp_path, [f"train/r_{at}.png" for at in range(3)])
    frames = zup_frames(views, [f"./train/r_{at}" for at in range(3)])
    angle = 2 * math.atan(6 / 2 / float(views.cameras.focal_px[0]))
    write_json(tmp_path / "transforms_train.json", {"camera_angle_x": angle, "frames": frames})
    assert_same_views(load_views(tmp_path), views)
    # Cameras from below, whose own up axes would not tell: the layout itself has +Z up.
    below = [frame | {"rotation": 0.1} for frame in frames[2:]]
    write_json(tmp_path / "transforms_train.json", {"camera_angle_x": angle, "frames": below})
    assert_same_views(load_views(tmp_path), views[2])


def test_an_axis_off_the_middle_cuts_the_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A camera that saw columns 0 to 3 of 6 has its axis at 3 of 4: two columns round it stay."""
    views = random_views()
    write_pictures(views, tmp_path, ["0.png", "1.png", "2.png"])
    for name in ("0.png", "1.png", "2.png"):
        with Pillow.open(tmp_path / name) as opened:
            cut = opened.crop((0, 0, 4, 4))
        cut.save(tmp_path / name)
    file = transforms_from_cameras(views.cameras, ["0.png", "1.png", "2.png"]) | {"w": 4}
    write_json(tmp_path / "transforms.json", file)
    got = load_views(tmp_path)
    assert got.cameras.size_hw == (4, 2)
    torch.testing.assert_close(got.cameras.focal_px, views.cameras.focal_px)
    torch.testing.assert_close(got.alpha, views.alpha[:, :, 2:4], rtol=0, atol=0.51 / 255)
    assert "cut to 2x4" in caplog.text


def test_pictures_without_a_subject_are_refused(tmp_path: Path) -> None:
    views = random_views()
    write_pictures(views, tmp_path, ["0.png", "1.png", "2.png"], alpha=False)
    file = transforms_from_cameras(views.cameras, ["0.png", "1.png", "2.png"])
    write_json(tmp_path / "transforms.json", file)
    with pytest.raises(ValueError, match=r"0\.png has neither alpha nor a mask.*cut it out"):
        load_views(tmp_path)


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    views = random_views()
    broken = Views(views.rgb * float("nan"), views.alpha, views.cameras)
    with pytest.raises(ValueError, match="NaN"):
        save_views(broken, tmp_path / "views")
    assert list(tmp_path.iterdir()) == []
