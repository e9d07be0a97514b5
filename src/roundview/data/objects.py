"""Read 3D objects for training from a folder or a zip of GLB files, without unpacking it."""

import functools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..export.glb import mesh_from_glb_bytes
from ..mesh import Mesh, centred


@dataclass(frozen=True)
class ObjectFile:
    """One object that can be read when it is needed.

    Attributes:
        name: Path inside the folder or zip, without the extension.
        read: Reads the mesh, centred, longest side 1.
    """

    name: str
    read: Callable[[], Mesh]


def find_objects(source: Path) -> list[ObjectFile]:
    """List the GLB files under a folder or inside a zip, sorted by name.

    Raises:
        ValueError: If the source is neither, or holds no GLB file.
    """
    if source.is_dir():
        found = [_in_folder(source, path) for path in sorted(source.rglob("*.glb"))]
    elif source.is_file() and zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".glb"))
        found = [_in_zip(source, name) for name in names]
    else:
        raise ValueError(f"{source} is neither a folder nor a zip of GLB files")
    if not found:
        raise ValueError(f"{source} holds no .glb file")
    return found


def is_scan(name: str) -> bool:
    """Tell scans in the training archive (Google Scanned Objects, YCB) from what people drew."""
    return name.startswith(("gso/", "ycb/"))


def _in_folder(source: Path, path: Path) -> ObjectFile:
    name = str(path.relative_to(source).with_suffix(""))
    return ObjectFile(name, functools.partial(_read_file, path))


def _in_zip(source: Path, name: str) -> ObjectFile:
    return ObjectFile(name.removesuffix(".glb"), functools.partial(_read_member, source, name))


# Not closures: rendering processes are sent the objects they are to read.
def _read_file(path: Path) -> Mesh:
    return centred(mesh_from_glb_bytes(path.read_bytes()))[0]


def _read_member(source: Path, name: str) -> Mesh:
    with zipfile.ZipFile(source) as archive:
        return centred(mesh_from_glb_bytes(archive.read(name)))[0]
