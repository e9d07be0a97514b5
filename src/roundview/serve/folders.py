"""Where the files of jobs lie, which of them a client may have, and what goes when space is short.

No name in here comes from a client: ids are ours, and the file that is asked for is looked up in
the table of those that there are.
"""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from .jobs import Job, JobStore

_WRITTEN = ("asset.glb", "splats.ply", "turntable.mp4", "turntable.webp", "preview.png")
_RECORD = "record.json"
_FROM_MESH = ("asset.obj.zip", "asset.ply", "asset.stl", "asset.3mf", "asset.usdz")
_FROM_SPLATS = ("splats.splat", "splats.spz")
_VIEWS = "views.zip"

MEDIA = {
    ".glb": "model/gltf-binary",
    ".ply": "application/octet-stream",
    ".splat": "application/octet-stream",
    ".spz": "application/octet-stream",
    ".stl": "model/stl",
    ".3mf": "model/3mf",
    ".usdz": "model/vnd.usdz+zip",
    ".mp4": "video/mp4",
    ".webp": "image/webp",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".zip": "application/zip",
}
"""What the files are, for a Content-Type."""


@dataclass(frozen=True)
class JobFolder:
    """The files of one job."""

    path: Path

    @property
    def photo(self) -> Path:
        """The photograph, as it came."""
        return self.path / "photo"

    @property
    def mask(self) -> Path:
        """The painted matte, if one came."""
        return self.path / "mask"

    @property
    def thumbnail(self) -> Path:
        """The photograph, small, in a format that every browser shows."""
        return self.path / "photo.jpg"

    @property
    def output(self) -> Path:
        """What `roundview make` writes to."""
        return self.path / "out"

    @property
    def log(self) -> Path:
        """What it said on stderr."""
        return self.path / "log.txt"

    @property
    def stage_picture(self) -> Path:
        """What the last stage gave, drawn."""
        return self.path / "stage.png"

    def live_picture(self) -> Path | None:
        """Find the newest picture of the result: the preview, or how far the work has come."""
        preview = self.output / "preview.png"
        if preview.is_file():
            return preview
        dated = {path: _moment(path) for path in (self.output / "progress.png", self.stage_picture)}
        newest = max(dated, key=lambda path: dated[path])
        return newest if dated[newest] else None

    def names(self) -> list[str]:
        """List the files that can be had: those written, and those that can be made of them."""
        there = {path.name for path in self.output.iterdir()} if self.output.is_dir() else set()
        names = [name for name in _WRITTEN if name in there]
        if "asset.glb" in there:
            usd = importlib.util.find_spec("pxr") is not None
            names += [name for name in _FROM_MESH if usd or not name.endswith(".usdz")]
        if "splats.ply" in there:
            names += _FROM_SPLATS
        if "views" in there:
            names.append(_VIEWS)
        return [*names, _RECORD] if _RECORD in there else names

    def file(self, name: str) -> Path:
        """Say where a file lies, or will when it is made; `name` must be one of `names()`."""
        if name in _WRITTEN or name == _RECORD:
            return self.output / name
        return self.path / "exports" / name

    def source(self, name: str) -> Path:
        """Say what a file is made of that `make` does not write."""
        if name == _VIEWS:
            return self.output / "views"
        return self.output / ("splats.ply" if name in _FROM_SPLATS else "asset.glb")

    def size_bytes(self) -> int:
        """Add up the files."""
        return sum(_size(path) for path in self.path.rglob("*"))


class Folders:
    """All the folders of a server.

    Args:
        root: Where they lie, beside the database.
    """

    def __init__(self, root: Path) -> None:
        self._jobs = root / "jobs"
        self._incoming = root / "incoming"
        shutil.rmtree(self._incoming, ignore_errors=True)  # Of a server that died.
        self._jobs.mkdir(parents=True, exist_ok=True)
        self._incoming.mkdir(exist_ok=True)

    def of(self, id: str) -> JobFolder:
        """Give the folder of a job; `id` must come from the store."""
        return JobFolder(self._jobs / id)

    def incoming(self, id: str) -> JobFolder:
        """Make a folder for files that are not accepted yet."""
        folder = JobFolder(self._incoming / id)
        folder.path.mkdir()
        return folder

    def accept(self, id: str) -> None:
        """Make an incoming folder that of a job; nothing of it is there before all of it is."""
        (self._incoming / id).rename(self._jobs / id)

    def remove(self, folder: JobFolder) -> None:
        """Remove a folder and all in it."""
        shutil.rmtree(folder.path, ignore_errors=True)

    def free_bytes(self) -> int:
        """Ask how much the disk has left."""
        return shutil.disk_usage(self._jobs).free

    def used_bytes(self) -> int:
        """Add up the files of all jobs."""
        return sum(_size(path) for path in self._jobs.rglob("*"))

    def tidy(self, store: JobStore, *, disk_bytes: int) -> list[Job]:
        """Remove the oldest jobs that are over until the rest fits; give those removed.

        Folders without a job, which a server leaves that dies at the wrong moment, go as well.
        """
        for path in self._jobs.iterdir():
            if store.get(path.name) is None:
                shutil.rmtree(path, ignore_errors=True)
        used, gone = self.used_bytes(), []
        for job in store.ended():
            if used <= disk_bytes:
                break
            folder = self.of(job.id)
            used -= folder.size_bytes()
            if store.forget(job.id):
                self.remove(folder)
                gone.append(job)
        return gone


def _moment(path: Path) -> int:
    """When a file was written, nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # It went meanwhile.
        return 0
