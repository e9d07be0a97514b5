"""Sound files of the formats for printers, AR and web viewers; those in archives also unpacked."""

import gzip
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from roundview.export.spz import save_spz
from roundview.export.stl import save_stl
from roundview.export.three_mf import save_3mf
from roundview.export.usdz import load_pxr, save_usdz
from roundview.export.web_splat import save_splat
from roundview.gaussians import Gaussians
from roundview.mesh import Mesh

Folder = dict[str, bytes]


def has_usd() -> bool:
    """Whether Pixar's library is installed; it is not loaded, since it takes 90 MB."""
    return find_spec("pxr") is not None


@cache
def stls(mesh: Callable[..., Mesh]) -> list[Folder]:
    """STL in binary and in text."""
    text = "solid made by hand\n"
    for corners in (((0, 0, 0), (1, 0, 0), (0, 1, 0)), ((0, 0, 0), (0, 1, 0), (0, 0, 1.5))):
        rows = "".join(f"vertex {x} {y} {z}\n" for x, y, z in corners)
        text += f"facet normal 0 0 1\nouter loop\n{rows}endloop\nendfacet\n"
    made = _written(lambda path: save_stl(mesh(textured=False), path), "a.stl")
    return [{"a.stl": made}, {"a.stl": f"{text}endsolid made by hand\n".encode()}]


@cache
def three_mfs(mesh: Callable[..., Mesh]) -> list[Folder]:
    """3MF with a picture and with colours."""
    made = [
        _written(lambda path, kind=kind: save_3mf(mesh(textured=kind), path), "a.3mf")
        for kind in (True, False)
    ]
    return [{"a.3mf": data} for data in made]


@cache
def usdzs(mesh: Callable[..., Mesh]) -> list[Folder]:
    """USDZ as we write it, in binary, and the same stages as text."""
    pxr = load_pxr()
    made = []
    for textured in (True, False):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            save_usdz(mesh(textured=textured), folder / "a.usdz")
            made.append({"a.usdz": (folder / "a.usdz").read_bytes()})
            with zipfile.ZipFile(folder / "a.usdz") as package:
                package.extractall(folder)
            layer = pxr.Sdf.Layer.FindOrOpen(str(next(folder.glob("*.usdc"))))
            layer.Export(str(folder / "text.usda"))
            layer = pxr.Sdf.AssetPath(str(folder / "text.usda"))
            assert pxr.UsdUtils.CreateNewUsdzPackage(layer, str(folder / "text.usdz"))
            made.append({"a.usdz": (folder / "text.usdz").read_bytes()})
    return made


@cache
def web_splats(splats: Gaussians) -> list[Folder]:
    """Splats as web viewers stream them."""
    return [{"a.splat": _written(lambda path: save_splat(splats[:0], path), "a.splat")}] + [
        {"a.splat": _written(lambda path: save_splat(splats, path), "a.splat")}
    ] * 3


@cache
def spzs(splats: Gaussians) -> list[Folder]:
    """SPZ of version 2, and of version 3, whose rotations take a byte more."""
    second = _written(lambda path: save_spz(splats, path), "a.spz")
    body = bytearray(gzip.decompress(second))
    count = len(splats)
    body[4] = 3
    # Behind the header: positions (9 bytes a splat), opacity (1), colour and size (3 each).
    at = 16 + count * (9 + 1 + 3 + 3)
    body[at : at + 3 * count] = bytes(range(200, 200 + 4 * count))
    return [{"a.spz": second}, {"a.spz": gzip.compress(bytes(body), mtime=0)}]


def _written(save: Callable[[Path], object], name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / name)
        return (Path(folder) / name).read_bytes()
