"""Measure objects one by one: what is done is kept, what fails is told and costs nothing else."""

import functools
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ..data.objects import ObjectFile
from ..export.files import read_json, write_bytes, write_json
from ..loaders import tensor_bytes
from ..models import Report
from ..stages import Listener, Quiet
from .marks import Entry

_PACKAGE = Path(__file__).resolve().parents[1]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """What measuring one object gave.

    Attributes:
        entry: Its part of `results.json`, without `name`.
        strip: A PNG for the report.
        files: Other files to keep, by extension.
        complete: Whether the next run may take it as it is.
    """

    entry: Entry
    strip: bytes
    files: dict[str, bytes] = field(default_factory=dict)
    complete: bool = True


@runtime_checkable
class Thing(Protocol):
    """What can be measured: `data.objects.ObjectFile`, or a photograph."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    @property
    def read(self) -> Callable[[], Any]:
        """Gives a value of tensors."""
        ...


@runtime_checkable
class Measure(Protocol):
    """Measures an object in the way of one protocol."""

    def facts(self) -> dict[str, Any]:
        """Give all that the marks depend on but the object, in plain values."""
        ...

    def __call__(self, name: str, value: Any, report: Report, /) -> Measured:  # noqa: ANN401
        """Measure what a thing reads; whatever is raised is told as its failure."""
        ...


def measure_each(
    objects: Sequence[Thing],
    measure: Measure,
    directory: Path,
    listener: Listener | None = None,
) -> list[Entry]:
    """Measure objects, each unless `directory/objects` holds its marks already.

    Marks count as those of an object if it, the facts and the program are the same. An object that
    fails is logged, gets `error` instead of marks, and is tried again in the next run. An
    interruption is no failure.
    """
    listener = listener or Quiet()
    return [measure_one(thing, measure, directory, listener) for thing in objects]


def measure_one(thing: Thing, measure: Measure, directory: Path, listener: Listener) -> Entry:
    """Measure one object, or read how it was measured."""
    kept = kept_file(directory, thing.name, ".json")
    listener.began(thing.name)
    begin = time.perf_counter()
    resumed = False
    try:
        value = thing.read()
        identity = _identity(value, measure.facts())
        old = _read_kept(kept)
        resumed = old.get("identity") == identity
        if resumed:
            entry = old["entry"]
        else:
            found = measure(
                thing.name, value, lambda fraction: listener.progressed(thing.name, fraction)
            )
            entry = {"name": thing.name, **found.entry}
            for extension, data in ({".png": found.strip} | found.files).items():
                write_bytes(kept.with_suffix(extension), data)
            # The marks last: where they are, the pictures are theirs.
            if found.complete:
                write_json(kept, {"identity": identity, "entry": entry})
    except Exception as error:  # One object must not cost the others.
        entry = {"name": thing.name, "error": failure_of(thing.name, error)}
    listener.finished(thing.name, time.perf_counter() - begin, resumed=resumed)
    return entry


def kept_file(directory: Path, name: str, extension: str) -> Path:
    """Say where what is kept of an object lies: `.json` its marks, `.png` its pictures."""
    return directory / "objects" / f"{_file_name(name)}{extension}"


def kept_strip(directory: Path, name: str) -> Path:
    """Say where the pictures of a measured object are kept."""
    return kept_file(directory, name, ".png")


def failure_of(name: str, error: BaseException) -> str:
    """Log a failure, and say it in a line."""
    message = f"{type(error).__name__}: {error}"
    _log.warning("%s failed: %s", name, message)
    return message


def choose_objects(objects: Sequence[ObjectFile], names: Sequence[str]) -> list[ObjectFile]:
    """Take objects by name (spaces around it do not count), in the order of the data.

    Raises:
        ValueError: If there is none of a name.
    """
    wanted = [name.strip() for name in names]
    have = {thing.name for thing in objects}
    unknown = [name for name in wanted if name not in have]
    if unknown:
        there = ", ".join(sorted(have)[:20]) + (", ..." if len(have) > 20 else "")
        raise ValueError(f"objects: none is called {unknown[0]!r}; there are: {there}")
    return [thing for thing in objects if thing.name in wanted]


@functools.cache
def program_identity() -> str:
    """Hash the package's source, less the command line: marks of other code are not ours.

    A version number would not do while one works on a fit and measures it.
    """
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        if "cli" not in path.relative_to(_PACKAGE).parts and not path.stem.startswith("report"):
            digest.update(path.relative_to(_PACKAGE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _identity(value: Any, facts: dict[str, Any]) -> str:  # noqa: ANN401  a value of tensors
    """Give a hash that changes whenever the marks would."""
    digest = hashlib.sha256(json.dumps([facts, program_identity()]).encode())
    _hash_into(digest.update, value)
    return digest.hexdigest()


def _hash_into(update: Callable[[bytes], None], value: Any) -> None:  # noqa: ANN401
    if isinstance(value, Tensor):
        update(tensor_bytes(value))
    elif is_dataclass(value):
        for part in fields(value):
            _hash_into(update, getattr(value, part.name))
    else:
        update(repr(value).encode())


def _read_kept(kept: Path) -> dict[str, Any]:
    if not kept.is_file() or not kept.with_suffix(".png").is_file():
        return {}
    try:
        return read_json(kept)
    except ValueError:
        return {}  # Of another program, or damaged: measured anew.


def _file_name(name: str) -> str:
    """Make a file name of an object's: names in a zip may hold anything."""
    plain = re.sub(r"[^\w+-]+", "_", name)
    if plain == name:
        return plain
    return f"{plain[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
