"""Posed pictures on disk: a `transforms.json` beside PNG files.

{"w", "h", "fl_x", "fl_y", "cx", "cy", "world_up", "frames": [{"file_path", "transform_matrix"}]}:
camera-to-world matrices with OpenGL camera axes (x right, y up, z back), lengths in world units,
focal lengths and centre in pixels. The world is ours (+Y up) unless the file says otherwise: by
`"world_up": "z"`, or by being nerfstudio's, instant-ngp's or NeRF's own (all z up).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..camera import Cameras
from ..frames import (
    opencv_from_opengl,
    opengl_from_opencv,
    yup_from_zup,
    yup_points_from_zup,
)
from ..image import composite
from ..views import Views
from .files import atomic_directory, read_json, read_png, write_json, write_png
from .posed_pictures import Lens, centred_pictures, picture_file, read_rgba

Json = dict[str, Any]
# What nerfstudio's files hold, and those of instant-ngp (aabb_scale); both turn their world to +Z.
_ZUP_KEYS = ("camera_model", "applied_transform", "orientation_override", "aabb_scale")
_LENSES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "perspective")
_BLENDER_FILES = ("transforms_train.json",)  # NeRF's synthetic scenes, always z up


def transforms_from_cameras(cameras: Cameras, file_paths: Sequence[str]) -> Json:
    """Describe cameras as `transforms.json` does.

    Raises:
        ValueError: If there is not one file path for each camera.
    """
    if len(file_paths) != len(cameras):
        raise ValueError(f"file_paths has {len(file_paths)} entries for {len(cameras)} cameras")
    h, w = cameras.size_hw
    poses = opengl_from_opencv(cameras.world_from_camera).double().tolist()
    focal = cameras.focal_px.double().tolist()
    shared = len(set(focal)) <= 1
    frames = [
        {"file_path": path, "transform_matrix": pose}
        | ({} if shared else {"fl_x": focal_px, "fl_y": focal_px})
        for path, pose, focal_px in zip(file_paths, poses, focal, strict=True)
    ]
    lens = {"fl_x": focal[0], "fl_y": focal[0]} if focal else {}
    return {"w": w, "h": h, **lens, "cx": w / 2, "cy": h / 2, "world_up": "y", "frames": frames}


def cameras_from_transforms(transforms: Json, *, size_hw: tuple[int, int] | None = None) -> Cameras:
    """Read the cameras of a `transforms.json`.

    Args:
        transforms: The file's content.
        size_hw: Size of the pictures, if known. Needed where the file has no "w" and "h"; where it
            has others, the cameras are scaled to the pictures.

    Raises:
        ValueError: If a key is missing or makes no sense, the lens distorts or is off centre by
            more than a pixel, pixels are not square, or the pictures have another shape.
    """
    frames = transforms.get("frames")
    if not isinstance(frames, list) or not frames:
        raise ValueError("transforms has no frames")
    if not all(isinstance(frame, dict) for frame in frames):
        raise ValueError("transforms has frames that are not JSON objects")
    lenses = [_plain(_lens({**transforms, **frame}, size_hw)) for frame in frames]
    sizes = {size for size, _ in lenses}
    if len(sizes) > 1:
        raise ValueError(f"all frames must share one size, got {sorted(sizes)} (height, width)")
    poses = torch.stack([_pose(frame, at) for at, frame in enumerate(frames)])
    if _world_up(transforms, poses) == "z":
        poses = yup_from_zup(poses)
    focal = torch.tensor([focal for _, focal in lenses], dtype=torch.float64)
    cameras = Cameras(opencv_from_opengl(poses).float(), focal.float(), sizes.pop())
    return cameras if size_hw is None else _fitted(cameras, size_hw)


def save_views(
    views: Views,
    directory: Path | str,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> None:
    """Write views as 000.png, 001.png, ... (RGBA, straight colour) and `transforms.json`.

    Depth and normals are written too where the views have them, as 16-bit PNG 000_depth.png and
    000_normal.png. Depth in world units is the pixel (0..65535) times "depth_scale" of the JSON.
    A normal is the pixel over 32767.5, less 1, in the world frame; black means none.

    Args:
        views: What to write.
        directory: Where to; its other files stay.
        background: The colour that `views.rgb` was composited over.
    """
    straight = views.straight_rgb(background)
    names = [f"{at:03d}" for at in range(len(views))]
    transforms = transforms_from_cameras(views.cameras, [f"{name}.png" for name in names])
    with atomic_directory(directory) as folder:
        for at, name in enumerate(names):
            rgba = torch.cat([straight[at], views.alpha[at, ..., None]], dim=-1)
            write_png(folder / f"{name}.png", rgba)
        if views.depth is not None:
            scale = max(float(views.depth.max()), 1e-6) / 65535 if len(views) else 1.0
            transforms["depth_scale"] = scale
            for at, name in enumerate(names):
                depth = views.depth[at, ..., None] / (scale * 65535)
                write_png(folder / f"{name}_depth.png", depth, bits=16)
                transforms["frames"][at]["depth_file_path"] = f"{name}_depth.png"
        if views.normal is not None:
            for at, name in enumerate(names):
                write_png(folder / f"{name}_normal.png", _packed(views.normal[at]), bits=16)
                transforms["frames"][at]["normal_file_path"] = f"{name}_normal.png"
        write_json(folder / "transforms.json", transforms)


def load_views(
    directory: Path | str, *, background: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> Views:
    """Read posed pictures, composited over `background`; the layout is recognised.

    Ours and nerfstudio's `transforms.json`, the `transforms_train.json` of NeRF's synthetic scenes
    (Blender), or COLMAP's text model (see `colmap`). The subject is what alpha or the mask of each
    picture says. Pictures that `Cameras` cannot describe are cut and resampled (`posed_pictures`).

    Args:
        directory: A folder, or its JSON file.
        background: The colour to composite over.

    Raises:
        ValueError: If a file is missing or broken, pictures have neither alpha nor masks, or a lens
            distorts by over a pixel.
    """
    path = Path(directory)
    file = _transforms_file(path)
    if file is None:
        from .colmap import find_model, load_colmap_views  # noqa: PLC0415  it may not be needed

        if find_model(path) is None:
            raise ValueError(
                f"{path} holds no posed pictures: neither transforms.json, transforms_train.json, "
                "nor COLMAP's cameras.txt and images.txt"
            )
        return load_colmap_views(path, background=background)
    transforms = read_json(file)
    if file.name in _BLENDER_FILES:
        transforms = {"world_up": "z"} | transforms
    try:
        return _views(file, transforms, background)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _views(file: Path, transforms: Json, background: tuple[float, float, float]) -> Views:
    frames = transforms.get("frames")
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError("it has no list of frames")
    if not frames:
        raise ValueError("transforms has no frames")
    pictures = [_rgba(file.parent, frame) for frame in frames]
    sizes = [(int(picture.shape[0]), int(picture.shape[1])) for picture in pictures]
    lenses = [
        _of_picture(_lens({**transforms, **frame}, size), size)
        for frame, size in zip(frames, sizes, strict=True)
    ]
    rgba, focal = centred_pictures(pictures, lenses)
    h, w = rgba.shape[1:3]
    fitted = {"w": w, "h": h, "cx": w / 2, "cy": h / 2}
    told = [
        frame | fitted | {"fl_x": focal_px, "fl_y": focal_px}
        for frame, focal_px in zip(frames, focal.tolist(), strict=True)
    ]
    cameras = cameras_from_transforms({**transforms, "frames": told})
    rgb = composite(rgba[..., :3], rgba[..., 3], background)
    if any(size != (h, w) for size in sizes):
        return Views(rgb, rgba[..., 3], cameras)
    return Views(rgb, rgba[..., 3], cameras, *_geometry(file.parent, transforms, frames))


def _geometry(
    folder: Path, transforms: Json, frames: list[Json]
) -> tuple[Tensor | None, Tensor | None]:
    """Read depth and normals, where every frame has them."""
    depth = normal = None
    if all("depth_file_path" in frame for frame in frames) and "depth_scale" in transforms:
        scale = _number(transforms, "depth_scale") * 65535
        depth = _planes(folder, frames, "depth_file_path", channels=1)[..., 0] * scale
    if all("normal_file_path" in frame for frame in frames):
        normal = _unpacked(_planes(folder, frames, "normal_file_path", channels=3))
        if transforms.get("world_up") == "z":
            normal = yup_points_from_zup(normal)
    return depth, normal


def _planes(folder: Path, frames: list[Json], key: str, *, channels: int) -> Tensor:
    """Read the pictures that hold depth or normals (n, h, w, channels)."""
    planes = [read_png(_named(folder, frame, key)) for frame in frames]
    for frame, plane in zip(frames, planes, strict=True):
        if plane.shape[:2] != planes[0].shape[:2] or plane.shape[2] < channels:
            h, w, held = plane.shape
            raise ValueError(
                f"{key} {frame[key]!r} is {w}x{h} with {held} channels, unlike the others or too "
                f"few; all must be of one size, with {channels}"
            )
    return torch.stack([plane[..., :channels] for plane in planes])


def _lens(frame: Json, size_hw: tuple[int, int] | None) -> Lens:
    """Read the lens of one frame, and refuse what is no pinhole."""
    h, w = (int(_number(frame, key)) if key in frame else 0 for key in ("h", "w"))
    if not (h and w):
        if size_hw is None:
            raise ValueError(
                'transforms has no "w" and "h", and the size of the pictures is unknown'
            )
        h, w = size_hw
    focal_xy = _focal(frame, h, w)
    centre = [_number(frame, k) if k in frame else n / 2 for k, n in (("cx", w), ("cy", h))]
    model = frame.get("camera_model", "OPENCV")
    if model not in _LENSES or frame.get("is_fisheye"):
        raise ValueError(f"camera_model {model!r} is not a pinhole camera; undistort the pictures")
    corner = math.hypot(w, h) / 2 / focal_xy[1]
    powers = {"k1": 3, "k2": 5, "k3": 7, "k4": 9, "p1": 2, "p2": 2}
    shift_px = focal_xy[1] * sum(
        abs(_number(frame, key)) * corner**power for key, power in powers.items() if key in frame
    )
    if shift_px > 1:
        raise ValueError(
            f"the lens distorts by {shift_px:.1f} px at the corners; undistort the pictures first"
        )
    return Lens((h, w), focal_xy, (centre[0], centre[1]))


def _of_picture(lens: Lens, size_hw: tuple[int, int]) -> Lens:
    """Scale a lens to a picture that was made smaller or larger."""
    (h, w), (new_h, new_w) = lens.size_hw, size_hw
    if abs(w * new_h / h - new_w) > 1:
        raise ValueError(f"the pictures are {new_w}x{new_h}, but transforms says {w}x{h}")
    return lens.resized(size_hw)


def _plain(lens: Lens) -> tuple[tuple[int, int], float]:
    """Give size and focal length, of a lens that needs no pictures to be cut."""
    if lens.off_centre_px > 1:
        (h, w), (x, y) = lens.size_hw, lens.centre_xy
        raise ValueError(
            f"cx is {x:g} and cy is {y:g}, over a pixel off the middle ({w / 2:g}, {h / 2:g}); "
            "crop the pictures so that the optical axis is in the middle"
        )
    if lens.off_square_px > 1:
        raise ValueError(
            f"pixels are not square (fl_x {lens.focal_xy[0]}, fl_y {lens.focal_xy[1]}); resize the "
            "pictures"
        )
    return lens.size_hw, lens.focal_xy[1]


def _focal(frame: Json, h: int, w: int) -> tuple[float, float]:
    """Find the focal lengths in pixels; a missing one is as the other."""
    found = {}
    for axis, size in (("x", w), ("y", h)):
        if f"fl_{axis}" in frame:
            found[axis] = _number(frame, f"fl_{axis}")
        elif f"camera_angle_{axis}" in frame and "fl_x" not in frame:
            angle = _number(frame, f"camera_angle_{axis}")
            if not 0 < angle < math.pi:
                raise ValueError(f"camera_angle_{axis} must lie in (0, pi) radians, got {angle}")
            found[axis] = size / 2 / math.tan(angle / 2)
    if not found:
        raise ValueError('transforms has neither "fl_x" nor "camera_angle_x"')
    if not all(focal > 0 and math.isfinite(focal) for focal in found.values()):
        raise ValueError(f"focal lengths must be positive, got {found}")
    return found.get("x", found.get("y", 0.0)), found.get("y", found.get("x", 0.0))


def _number(frame: Json, key: str) -> float:
    value = frame[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise ValueError(f"{key} must be a number, got {repr(value)[:80]}")
    return float(value)


def _pose(frame: Json, at: int) -> Tensor:
    try:
        pose = torch.tensor(frame.get("transform_matrix"), dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"transform_matrix of frame {at} is not a matrix of numbers") from error
    if tuple(pose.shape) == (3, 4):
        pose = torch.cat([pose, torch.tensor([[0.0, 0, 0, 1]], dtype=torch.float64)])
    if tuple(pose.shape) != (4, 4) or not bool(pose.isfinite().all()):
        raise ValueError(f"transform_matrix of frame {at} must be 4x4 and finite")
    rotation = pose[:3, :3]
    off = float((rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max())
    if off > 1e-3 or torch.linalg.det(rotation) < 0:
        raise ValueError(f"transform_matrix of frame {at} holds no rotation (it scales or mirrors)")
    return pose


def _world_up(transforms: Json, poses: Tensor) -> str:
    """Tell which axis of the file's world points up: "y" or "z"."""
    stated = transforms.get("world_up")
    if stated is not None:
        if stated not in ("y", "z"):
            raise ValueError(f'world_up must be "y" or "z", got {stated!r}')
        return stated
    if any(key in transforms for key in _ZUP_KEYS):
        return "z"
    if "camera_angle_x" in transforms and "fl_x" not in transforms:
        # NeRF's synthetic scenes have this key and z up; others copy the key alone. The cameras
        # stand upright, so the mean of their own up axes tells.
        up = poses[:, :3, 1].mean(dim=0)
        return "z" if up[2] > up[1] else "y"
    return "y"


def _fitted(cameras: Cameras, size_hw: tuple[int, int]) -> Cameras:
    """Scale cameras to pictures that were made smaller or larger."""
    (h, w), (new_h, new_w) = cameras.size_hw, size_hw
    if abs(w * new_h / h - new_w) > 1:
        raise ValueError(f"the pictures are {new_w}x{new_h}, but transforms says {w}x{h}")
    return cameras.resized(size_hw)


def _transforms_file(path: Path) -> Path | None:
    if path.is_file():
        return path
    files = [path / name for name in ("transforms.json", *_BLENDER_FILES)]
    return next((file for file in files if file.is_file()), None)


def _named(folder: Path, frame: Json, key: str) -> Path:
    name = frame.get(key)
    if not isinstance(name, str) or not name:
        raise ValueError(f"a frame has no {key}")
    return picture_file(folder, name, key)


def _rgba(folder: Path, frame: Json) -> Tensor:
    mask = _named(folder, frame, "mask_path") if frame.get("mask_path") else None
    return read_rgba(_named(folder, frame, "file_path"), mask)


def _packed(normal: Tensor) -> Tensor:
    # No unit vector packs to black, so black can say that there is none.
    seen = normal.norm(dim=-1, keepdim=True) > 1e-6
    return (normal * 0.5 + 0.5) * seen


def _unpacked(packed: Tensor) -> Tensor:
    seen = (packed > 0).any(dim=-1, keepdim=True)
    normal = torch.nn.functional.normalize(packed * 2 - 1, dim=-1)
    return normal * seen
