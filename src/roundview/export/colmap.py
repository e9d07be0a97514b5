"""COLMAP's text model as posed pictures: `cameras.txt`, `images.txt` and the pictures beside them.

Schoenberger and Frahm, "Structure-from-Motion Revisited", 2016; the layout is that of COLMAP's
documentation, "Output Format". The folder holds `images/` with the pictures, and the model itself
or in `sparse/0/` or `sparse/`; `masks/` may hold masks, as NAME.png or NAME with .png for its own
suffix. Points are not read. Pixel centres are at .5 and camera axes are ours; the world is whatever
COLMAP found, and is kept.
"""

import logging
from pathlib import Path

import torch

from ..camera import Cameras
from ..frames import cameras_from_colmap
from ..image import composite
from ..views import Views
from .posed_pictures import Lens, centred_pictures, picture_file, read_rgba

_LOG = logging.getLogger(__name__)
_PLACES = (".", "sparse/0", "sparse", "colmap/sparse/0")


def load_colmap_views(
    directory: Path | str, *, background: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> Views:
    """Read a COLMAP folder, pictures in the order of their names, composited over `background`.

    Raises:
        ValueError: If there is no text model, a file is missing or broken, a camera is no pinhole,
            or pictures have neither alpha nor masks.
    """
    directory = Path(directory)
    model = find_model(directory)
    if model is None:
        raise ValueError(f"{directory} holds no cameras.txt and images.txt of COLMAP")
    if not (model / "cameras.txt").is_file():
        raise ValueError(
            f"{model} holds COLMAP's binary model: colmap model_converter --input_path {model} "
            f"--output_path {model} --output_type TXT"
        )
    try:
        lenses = _lenses(model / "cameras.txt")
        images = _images(model / "images.txt")
    except ValueError as error:
        raise ValueError(f"{model}: {error}") from error
    folder = directory / "images"
    pictures, seen_by = [], []
    for name, _, camera in images:
        if camera not in lenses:
            raise ValueError(f"{model}: images.txt names camera {camera}, which cameras.txt lacks")
        picture = read_rgba(picture_file(folder, name, "NAME"), _mask(directory, name))
        pictures.append(picture)
        seen_by.append(_of_picture(lenses[camera], picture, name))
    rgba, focal = centred_pictures(pictures, seen_by)
    pose = torch.tensor([numbers for _, numbers, _ in images], dtype=torch.float64)
    cameras = cameras_from_colmap(
        pose[:, :4],
        pose[:, 4:],
        focal_px=focal,
        size_hw=(int(rgba.shape[1]), int(rgba.shape[2])),
    )
    cameras = Cameras(cameras.world_from_camera.float(), cameras.focal_px, cameras.size_hw)
    up = -cameras.world_from_camera[:, 1, 1].mean()
    if float(up) < 0.5:
        _LOG.warning(
            "the world of this COLMAP model is not +Y up, so neither will the asset be: turn it "
            "first (colmap model_orientation_aligner)"
        )
    return Views(composite(rgba[..., :3], rgba[..., 3], background), rgba[..., 3], cameras)


def find_model(directory: Path) -> Path | None:
    """Find the folder with the model, in text or binary; None if there is none."""
    places = [directory / place for place in _PLACES]
    for suffix in (".txt", ".bin"):
        for place in places:
            if all((place / f"{name}{suffix}").is_file() for name in ("cameras", "images")):
                return place
    return None


def _lenses(file: Path) -> dict[int, Lens]:
    """Read `cameras.txt`: CAMERA_ID MODEL WIDTH HEIGHT PARAMS."""
    lenses = {}
    for line in _text(file).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match line.split():
            case [camera, "SIMPLE_PINHOLE", w, h, f, x, y]:
                numbers = [w, h, f, f, x, y]
            case [camera, "PINHOLE", w, h, fx, fy, x, y]:
                numbers = [w, h, fx, fy, x, y]
            case [camera, model, *_] if model not in ("SIMPLE_PINHOLE", "PINHOLE"):
                raise ValueError(
                    f"camera {camera} is {model}, which distorts: run colmap image_undistorter "
                    "(SIMPLE_PINHOLE and PINHOLE are read)"
                )
            case _:
                raise ValueError(f"cameras.txt has a line that makes no sense: {line[:80]}")
        w, h, fx, fy, x, y = (_finite(word, line) for word in numbers)
        lenses[int(_finite(camera, line))] = Lens((int(h), int(w)), (fx, fy), (x, y))
    return lenses


def _images(file: Path) -> list[tuple[str, list[float], int]]:
    """Read `images.txt`: names, quaternions and translations, cameras; every second line is points.

    A line of points may be empty, so empty lines count.
    """
    lines = [line for line in _text(file).splitlines() if not line.startswith("#")]
    images = []
    for line in lines[::2]:
        if not line.strip():
            continue
        words = line.split(maxsplit=9)
        if len(words) != 10:
            raise ValueError(f"images.txt has a line that makes no sense: {line[:80]}")
        pose = [_finite(word, line) for word in words[1:8]]
        if not any(pose[:4]):
            raise ValueError(f"images.txt has a rotation of 0, 0, 0, 0: {line[:80]}")
        images.append((words[9].strip(), pose, int(_finite(words[8], line))))
    if not images:
        raise ValueError("images.txt lists no pictures")
    return sorted(images)


def _of_picture(lens: Lens, picture: torch.Tensor, name: str) -> Lens:
    (h, w), (new_h, new_w) = lens.size_hw, picture.shape[:2]
    if abs(w * new_h / h - new_w) > 1:
        raise ValueError(f"the picture {name} is {new_w}x{new_h}, but its camera {w}x{h}")
    return lens.resized((int(new_h), int(new_w)))


def _mask(directory: Path, name: str) -> Path | None:
    named = directory / "masks" / name
    places = [named.with_name(named.name + ".png"), named.with_suffix(".png"), named]
    inside = (directory / "masks").resolve()
    found = [p for p in places if p.is_file() and p.resolve().is_relative_to(inside)]
    return found[0] if found else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file.name} cannot be read: {error}") from error


def _finite(word: str, line: str) -> float:
    try:
        value = float(word)
    except ValueError as error:
        raise ValueError(f"{word!r} is no number in the line: {line[:80]}") from error
    if not abs(value) < 1e9:
        raise ValueError(f"{word!r} makes no sense in the line: {line[:80]}")
    return value
