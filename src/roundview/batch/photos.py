"""From a folder, a pattern or a list to tasks, each with a folder of its own."""

import glob
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from .tasks import Task

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")
"""What counts as a photo in a folder; a pattern or a list may name anything."""

_LONGEST_NAME = 40


def find_photos(source: str) -> list[Path]:
    """Find photos.

    Args:
        source: A folder (all pictures in it and below), one picture, a pattern with `*`, `?`, `[`
            or `**`, or a text file with one path a line, relative to the file's own folder; lines
            that are empty or begin with `#` are passed over.

    Returns:
        Each file once, in the order of their names, or of the list.

    Raises:
        ValueError: If there is no photo.
    """
    path = Path(source)
    if path.is_dir():
        files: Iterable[Path] = sorted(p for p in path.rglob("*") if _is_photo(p))
    elif path.suffix.lower() in SUFFIXES and path.is_file():
        files = [path]
    elif path.is_file():
        files = _listed(path)
    else:
        # Path.glob takes no absolute patterns.
        matches = sorted(glob.glob(source, recursive=True))  # noqa: PTH207  see above
        files = (Path(match) for match in matches if Path(match).is_file())
    found = list({file.resolve(): file for file in files}.values())
    if not found:
        raise ValueError(
            f"{source} names no photo: give a folder, a pattern in quotes such as 'photos/*.jpg', "
            "or a text file with one path a line"
        )
    return found


def tasks_for(photos: Iterable[Path], output: Path) -> list[Task]:
    """Give each photo a folder: its name, and a hash of its place, so that no two can collide."""
    # Absolute, since workers elsewhere stand in other folders.
    return [Task(photo.absolute(), output.absolute() / folder_name(photo)) for photo in photos]


def folder_name(photo: Path) -> str:
    """Name the folder of a photo's asset; the same place of the photo gives the same name."""
    stem = re.sub(r"[^\w.-]+", "-", photo.stem, flags=re.ASCII).strip(".-")[:_LONGEST_NAME]
    # Bytes, since names of files need not be text.
    place = hashlib.sha256(str(photo.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{stem or 'photo'}-{place[:12]}"


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _listed(path: Path) -> list[Path]:
    """Read a list of paths; a file of it that is not there fails later, by itself."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is neither a picture nor a text file of paths") from error
    named = [line.strip() for line in lines]
    return [path.parent / line for line in named if line and not line.startswith("#")]
