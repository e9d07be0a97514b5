"""Sound files of every kind that is read: what the malformed ones are made from.

A kind is a folder's worth of files and the reader that a user reaches it through.
"""

import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from roundview.camera import Cameras
from roundview.export.colmap import load_colmap_views
from roundview.export.convert import load_any
from roundview.export.glb import glb_bytes
from roundview.export.obj import save_obj
from roundview.export.ply import save_ply, save_splats
from roundview.export.png16 import png16_bytes
from roundview.export.transforms import load_views, save_views
from roundview.gaussians import Gaussians
from roundview.importing import read_checkpoint
from roundview.mesh import Mesh, Texture
from roundview.photo import load_image, load_mask
from roundview.views import Views
from roundview.weights import digest_of, list_cards, load_tensors

from . import packed
from .packed import Folder

_SIDE = 48


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        folders: Makes sound folders; the first file of each is the one that is read.
        read: Reads it, as a command would.
        spoils: Names of the files that are spoiled, by their ends.
    """

    folders: Callable[[], list[Folder]]
    read: Callable[[Path], object]
    spoils: tuple[str, ...]


def picture(side: int = _SIDE, channels: int = 3) -> np.ndarray:
    """A picture of noise round a plain middle, which no coder can ignore."""
    levels = np.random.default_rng(side).integers(0, 256, (side, side, channels), dtype=np.uint8)
    levels[side // 4 : -side // 4, side // 4 : -side // 4] = 90
    return levels


def encoded(levels: np.ndarray, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(levels).save(out, kind, **options)
    return out.getvalue()


@cache
def images() -> list[Folder]:
    """Pictures in each format and in the odd modes of each."""
    rgb, rgba = picture(), picture(channels=4)
    grey = rgb[..., 0]
    exif = Image.Exif()
    exif[0x0112] = 6
    made = {
        "rgb.png": encoded(rgb, "PNG"),
        "alpha.png": encoded(rgba, "PNG"),
        "sixteen.png": png16_bytes(rgb.astype(np.uint16) * 257),
        "palette.png": _palette("PNG"),
        "photo.jpg": encoded(rgb, "JPEG", exif=exif.tobytes()),
        "progressive.jpg": encoded(rgb, "JPEG", progressive=True),
        "grey.jpg": encoded(grey, "JPEG"),
        "lossy.webp": encoded(rgb, "WEBP"),
        "lossless.webp": encoded(rgba, "WEBP", lossless=True),
        "plain.tif": encoded(rgb, "TIFF"),
        "deflated.tif": encoded(rgb, "TIFF", compression="tiff_adobe_deflate"),
        "lzw.tif": encoded(grey, "TIFF", compression="tiff_lzw"),
        "float.tif": encoded(grey.astype(np.float32) / 255, "TIFF"),
        "plain.bmp": encoded(rgb, "BMP"),
        "still.gif": _palette("GIF"),
    }
    return [{name: data} for name, data in made.items()]


def _palette(kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture()).quantize(32).save(out, kind)
    return out.getvalue()


def mesh(*, textured: bool) -> Mesh:
    """Twelve triangles of no beauty."""
    rng = torch.Generator().manual_seed(3)
    faces = torch.randint(0, 14, (12, 3), generator=rng)
    vertices = torch.randn(14, 3, generator=rng)
    if not textured:
        return Mesh(vertices, faces, vertex_rgb=torch.rand(14, 3, generator=rng))
    texture = Texture(torch.from_numpy(picture(16).astype(np.float32) / 255))
    return Mesh(vertices, faces, torch.rand(14, 2, generator=rng), texture)


@cache
def glbs() -> list[Folder]:
    """Textured, coloured and quantized GLB files."""
    return [
        {"a.glb": glb_bytes(mesh(textured=True))},
        {"a.glb": glb_bytes(mesh(textured=True), jpeg_quality=80)},
        {"a.glb": glb_bytes(mesh(textured=False))},
        {"a.glb": glb_bytes(mesh(textured=False), quantize=True)},
    ]


@cache
def objs() -> list[Folder]:
    """OBJ files with and without a material."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_obj(mesh(textured=True), folder / "a.obj")
        with_texture = {file: (folder / file).read_bytes() for file in ("a.obj", "a.mtl", "a.png")}
        save_obj(mesh(textured=False), folder / "b.obj")
        return [with_texture, {"b.obj": (folder / "b.obj").read_bytes()}]


@cache
def splats() -> Gaussians:
    """Five Gaussians with colour of degree 1."""
    rng = torch.Generator().manual_seed(5)
    return Gaussians(
        torch.randn(5, 3, generator=rng),
        torch.randn(5, 3, generator=rng),
        torch.randn(5, 4, generator=rng),
        torch.randn(5, generator=rng),
        torch.randn(5, 4, 3, generator=rng),
    )


@cache
def plys() -> list[Folder]:
    """Meshes and splats, in binary of both orders and in text, with even and uneven lists."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_ply(mesh(textured=False), folder / "mesh.ply")
        save_splats(splats(), folder / "splats.ply")
        made = [{"a.ply": (folder / file).read_bytes()} for file in ("mesh.ply", "splats.ply")]
    text = (
        b"ply\nformat ascii 1.0\ncomment made by hand\nelement vertex 4\nproperty float x\n"
        b"property float y\nproperty float z\nproperty uchar red\nproperty uchar green\n"
        b"property uchar blue\nelement face 2\nproperty list uchar int vertex_indices\n"
        b"property int material\nend_header\n0 0 0 1 2 3\n1 0 0 4 5 6\n0 1 0 7 8 9\n0 0 1 0 0 0\n"
        b"3 0 1 2 7\n4 0 1 2 3 8\n"
    )
    head = b"ply\nformat binary_big_endian 1.0\nelement vertex 3\nproperty double x\n"
    head += b"property double y\nproperty double z\nelement face 2\n"
    head += b"property list ushort uint vertex_index\nend_header\n"
    corners = np.array([0, 0, 0, 1, 0, 0, 0, 1, 0], ">f8").tobytes()
    lists = b"\x00\x03" + np.array([0, 1, 2], ">u4").tobytes()
    lists += b"\x00\x04" + np.array([0, 1, 2, 0], ">u4").tobytes()
    return [*made, {"a.ply": text}, {"a.ply": head + corners + lists}]


@cache
def posed() -> list[Folder]:
    """Posed pictures: ours with depth and normals, nerfstudio's manner, COLMAP's text."""
    cameras = Cameras.orbit(
        [0.0, 90.0], elevation_deg=20.0, radius=1.5, fov_deg=49.13, size_hw=(8, 8)
    )
    rng = torch.Generator().manual_seed(7)
    alpha = torch.ones(2, 8, 8)
    alpha[:, :2] = 0
    normal = torch.nn.functional.normalize(torch.randn(2, 8, 8, 3, generator=rng), dim=-1)
    depth = torch.rand(2, 8, 8, generator=rng) + 1
    views = Views(torch.rand(2, 8, 8, 3, generator=rng), alpha, cameras, depth, normal)
    with tempfile.TemporaryDirectory() as name:
        save_views(views, name)
        files = {p.name: p.read_bytes() for p in sorted(Path(name).iterdir())}
    ours = {"transforms.json": files["transforms.json"], **files}
    told = json.loads(ours["transforms.json"])
    for key in ("fl_x", "fl_y", "cx", "cy", "w", "h", "world_up"):
        told.pop(key)
    for frame in told["frames"]:
        frame.pop("depth_file_path")
        frame.pop("normal_file_path")
    told |= {"camera_angle_x": 0.8, "camera_model": "OPENCV", "k1": 0.0}
    nerfstudio = {"transforms.json": json.dumps(told).encode()}
    nerfstudio |= {file: data for file, data in files.items() if file in ("000.png", "001.png")}
    return [ours, nerfstudio]


@cache
def colmaps() -> list[Folder]:
    """COLMAP's text model with two pictures."""
    (files, *_) = posed()
    cameras = b"# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n1 SIMPLE_PINHOLE 8 8 9.0 4.0 4.0\n"
    cameras += b"2 PINHOLE 8 8 9.0 9.0 4.0 4.0\n"
    images_text = b"1 1 0 0 0 0 0 1.5 1 000.png\n\n2 0.7 0 0.7 0 0 0 1.5 2 001.png\n1 2 -1\n"
    folder = {"cameras.txt": cameras, "images.txt": images_text}
    return [folder | {f"images/{name}": files[name] for name in ("000.png", "001.png")}]


@cache
def tensors() -> list[Folder]:
    """Weights with their card."""
    held = {"a.weight": torch.ones(3, 4), "a.bias": torch.zeros(3), "steps": torch.tensor(7)}
    data = save({key: value.half() for key, value in held.items()}, metadata={"kind": "orbit"})
    facts = {
        "name": "w",
        "kind": "orbit",
        "file": "w.safetensors",
        "sha256": "",
        "licence": "MIT",
        "source": "a test",
        "settings": {"width": 4, "depths": [1, 2]},
        "steps": 7,
    }
    return [{"w.json": json.dumps(facts).encode(), "w.safetensors": data}]


def _reader(name: str) -> Callable[[Path], object]:
    return lambda folder: load_any(folder / name)


def _read_photo(folder: Path) -> object:
    (path,) = folder.iterdir()
    try:
        return load_image(path)
    finally:
        # A mask is another way in; what the first call raises is what counts.
        _let(lambda: load_mask(path, (_SIDE, _SIDE)))


def _let(read: Callable[[], object]) -> None:
    try:
        read()
    except ValueError:
        return


def _read_weights(folder: Path) -> object:
    """Read cards and tensors, the hash always right: whoever spoils weights can write a card."""
    _let(lambda: read_checkpoint(folder / "w.safetensors"))
    try:
        stated = json.loads((folder / "w.json").read_bytes())
        if isinstance(stated, dict) and stated.get("sha256") == "":
            stated["sha256"] = digest_of(folder / "w.safetensors")
            (folder / "w.json").write_text(json.dumps(stated))
    except (ValueError, RecursionError):
        pass
    return [load_tensors(card) for card in list_cards(folder)]


KINDS = {
    "image": Kind(images, _read_photo, (".png", ".jpg", ".webp", ".tif", ".bmp", ".gif")),
    "glb": Kind(glbs, _reader("a.glb"), (".glb",)),
    "obj": Kind(
        objs, lambda folder: load_any(next(folder.glob("*.obj"))), (".obj", ".mtl", ".png")
    ),
    "ply": Kind(plys, _reader("a.ply"), (".ply",)),
    "stl": Kind(lambda: packed.stls(mesh), _reader("a.stl"), (".stl",)),
    "3mf": Kind(lambda: packed.three_mfs(mesh), _reader("a.3mf"), (".3mf",)),
    "splat": Kind(lambda: packed.web_splats(splats()), _reader("a.splat"), (".splat",)),
    "spz": Kind(lambda: packed.spzs(splats()), _reader("a.spz"), (".spz",)),
    "transforms": Kind(posed, load_views, (".json", ".json", ".json", ".png")),
    "colmap": Kind(colmaps, load_colmap_views, (".txt", ".txt", ".txt", ".png")),
    "safetensors": Kind(tensors, _read_weights, (".safetensors", ".json")),
}
"""Every kind that a user can hand in, by name."""

if packed.has_usd():
    KINDS["usdz"] = Kind(lambda: packed.usdzs(mesh), _reader("a.usdz"), (".usdz",))
