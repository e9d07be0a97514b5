"""Running the stages of a recipe: progress, timings, and results that survive an interruption.

The result of each stage is saved with the state of the random generator, so a run that goes on
after an interruption ends in the same bytes as one that was not interrupted.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from .camera import Cameras
from .export.files import atomic_path, write_png
from .gaussians import Gaussians
from .image import Foreground, Image
from .mesh import Mesh, Texture
from .models import Kept, NothingKept, Report
from .train.checkpoints import load_checkpoint, save_checkpoint
from .views import Views

Value = TypeVar("Value")

FOLDER = ".stages"
"""Where the results wait, inside the output folder, until the asset is written."""

# By name, so that a file can only bring back values, never run code.
_NOUNS = {
    noun.__name__: noun for noun in (Cameras, Foreground, Gaussians, Image, Mesh, Texture, Views)
}
_RNG = "rng"
PROGRESS = "progress.png"
"""Picture of the work in progress, in the output folder until the asset is written."""
_SHOW_SECONDS = 2.0
_KEEP_SECONDS = 15.0
"""A stage in progress loses about so much work when it is killed."""


@runtime_checkable
class Listener(Protocol):
    """Is told how a run goes on: a progress bar, a log, a file."""

    def began(self, stage: str) -> None:
        """Hear that a stage began."""
        ...

    def progressed(self, stage: str, fraction: float) -> None:
        """Hear how much of it is done, 0 to 1."""
        ...

    def finished(self, stage: str, seconds: float, *, resumed: bool) -> None:
        """Hear that it ended; `resumed` if its result came from an earlier run."""
        ...


class Quiet:
    """Listens and says nothing."""

    def began(self, stage: str) -> None:
        """Ignore it."""

    def progressed(self, stage: str, fraction: float) -> None:
        """Ignore it."""

    def finished(self, stage: str, seconds: float, *, resumed: bool) -> None:
        """Ignore it."""


class Stages:
    """A `StageRunner` that times stages and tells a listener; with a folder, it saves results too.

    Args:
        rng: The generator that the stages draw from; its state is saved and restored.
        directory: Where results are kept; nothing is saved without it. It is made by the first
            stage that ends, so a run that fails in its first stage leaves no trace.
        identity: Changes whenever the results would: results of another identity are discarded.
        resume: Take the results that are there; otherwise they are discarded.
        listener: Hears how it goes.

    Attributes:
        rng: As given.
        seconds: How long each stage took, in the run that did it.
        notes: Facts for the record.
        calls: How often networks were called in each stage, in the run that did it.
        started_over: Why earlier results were not used, if there were some and they were not.
    """

    def __init__(
        self,
        rng: Generator,
        *,
        directory: Path | None = None,
        identity: str = "",
        resume: bool = False,
        listener: Listener | None = None,
    ) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, dict[str, int]] = {}
        self.notes: dict[str, Any] = {}
        self._counted: dict[str, int] = {}
        self._shown_at = float("-inf")
        self.started_over: str | None = None
        self.rng = rng
        self._directory = directory
        self._identity = identity
        self._listener = listener or Quiet()
        self._resuming = resume and self._belongs_to_this_run()

    def __call__(self, name: str, work: Callable[[Report], Value]) -> Value:
        """Run `work`, or give its saved result back."""
        path = self._path(name)
        self._listener.began(name)
        if self._resuming and path is not None and path.is_file():
            packed, text = _read(path)
            self.rng.set_state(packed.pop(_RNG))
            seconds = float(text["seconds"])
            calls = json.loads(text.get("calls", "{}"))
            value = _unpack(json.loads(text["value"]), packed)
        else:
            # What follows a stage that was run again must be run again, too.
            self._resuming = False
            begin, before = time.perf_counter(), dict(self._counted)
            fresh = work(lambda fraction: self._listener.progressed(name, fraction))
            calls = {
                key: count - before.get(key, 0)
                for key, count in self._counted.items()
                if count > before.get(key, 0)
            }
            seconds = time.perf_counter() - begin
            packed = {}
            shape = _pack(fresh, packed)
            # Both kinds of run go on with the same memory layout: sums may depend on it.
            value = _unpack(shape, packed)
            if path is not None:
                text = {"value": json.dumps(shape), "seconds": repr(seconds)}
                self._save(path, packed, text | {"calls": json.dumps(calls)})
        self.seconds[name] = seconds
        if calls:
            self.calls[name] = calls
        self._listener.finished(name, seconds, resumed=self._resuming)
        return cast(Value, value)

    def long(self, name: str, work: Callable[[Report, Kept], Value]) -> Value:
        """Run work that can go on from the middle; its state is kept beside the results."""
        path = self._path(name)
        if path is None:
            return self(name, lambda report: work(report, NothingKept()))
        state_path = path.with_suffix(".part")
        if not self._resuming:
            state_path.unlink(missing_ok=True)
        value = self(name, lambda report: work(report, _KeptFile(state_path, self._identity)))
        state_path.unlink(missing_ok=True)
        return value

    def show(self, rgb: Float[Tensor, "h w 3"]) -> None:
        """Write a picture of the work in progress, not oftener than every other second."""
        if self._directory is None or time.monotonic() - self._shown_at < _SHOW_SECONDS:
            return
        self._shown_at = time.monotonic()
        write_png(self._directory.parent / PROGRESS, rgb.detach().cpu().clamp(0, 1))

    @contextmanager
    def counting(self, networks: Mapping[str, nn.Module]) -> Iterator[None]:
        """Count how often networks are called."""
        with counted_calls(networks) as self._counted:
            yield

    def network_calls(self) -> dict[str, int]:
        """Sum the calls of each network over all stages."""
        total: dict[str, int] = {}
        for calls in self.calls.values():
            for name, count in calls.items():
                total[name] = total.get(name, 0) + count
        return total

    def note(self, key: str, value: Any) -> None:  # noqa: ANN401  anything JSON can hold
        """Keep a fact for the record."""
        self.notes[key] = value

    def discard(self) -> None:
        """Remove the saved results, once what they were for is written."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            (self._directory.parent / PROGRESS).unlink(missing_ok=True)

    def _belongs_to_this_run(self) -> bool:
        saved = sorted(self._directory.glob("*.safetensors")) if self._directory else []
        if not saved:
            return False
        try:
            same = _read(saved[0])[1].get("identity") == self._identity
        except ValueError:
            same = False
        if not same:
            self.started_over = "the photo, the settings, the weights or the version changed"
        return same

    def _path(self, name: str) -> Path | None:
        if self._directory is None:
            return None
        return self._directory / f"{len(self.seconds):02d}-{name}.safetensors"

    def _save(self, path: Path, packed: dict[str, Tensor], text: dict[str, str]) -> None:
        from safetensors.torch import save_file  # noqa: PLC0415  only runs that save need it

        if not self.seconds:
            self.discard()  # Results of another run must not mix with these.
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {**packed, _RNG: self.rng.get_state()}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={**text, "identity": self._identity})


@contextmanager
def counted_calls(networks: Mapping[str, nn.Module]) -> Iterator[dict[str, int]]:
    """Count how often networks are called inside the block, by their names."""
    calls: dict[str, int] = {}

    def counter(name: str) -> Callable[..., None]:
        def called(*_: object) -> None:
            calls[name] = calls.get(name, 0) + 1

        return called

    hooks = [net.register_forward_pre_hook(counter(name)) for name, net in networks.items()]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


class _KeptFile:
    """Keeps the state of a stage in progress in a file, not oftener than is worth its writing."""

    def __init__(self, path: Path, identity: str) -> None:
        self.found: dict[str, Any] | None = None
        self._path, self._identity = path, identity
        self._kept_at = time.monotonic()
        if path.is_file():
            state = load_checkpoint(path)
            if state.get("identity") == identity:
                self.found = state["state"]

    def keep(self, state: dict[str, Any]) -> None:
        """Write the state, unless one was written a moment ago."""
        if time.monotonic() - self._kept_at < _KEEP_SECONDS:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint({"identity": self._identity, "state": state}, self._path)
        self._kept_at = time.monotonic()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415  only resumed runs need it

    try:
        with safe_open(path, framework="pt") as stream:
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118  no dict
            return tensors, dict(stream.metadata())
    except SafetensorError as error:
        raise ValueError(f"{path} is no saved stage: {error}") from error


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401  a tree of values
    """Move the tensors of a value into `tensors` and describe the rest in what JSON can hold."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        key = f"t{len(tensors):03d}"
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {"tensor": key}
    if isinstance(value, dict):
        return {"dict": {key: _pack(part, tensors) for key, part in value.items()}}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [_pack(part, tensors) for part in value]}
    if type(value).__name__ in _NOUNS:
        fields = {key: _pack(getattr(value, key), tensors) for key in value.__dataclass_fields__}
        return {"noun": type(value).__name__, "fields": fields}
    raise TypeError(f"a stage cannot save a {type(value).__name__}; give tensors, nouns or numbers")


def _unpack(shape: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401  a tree of values
    if not isinstance(shape, dict):
        return shape
    if "tensor" in shape:
        return tensors[shape["tensor"]]
    if "noun" in shape:
        fields = {key: _unpack(part, tensors) for key, part in shape["fields"].items()}
        return _NOUNS[shape["noun"]](**fields)
    if "dict" in shape:
        return {key: _unpack(part, tensors) for key, part in shape["dict"].items()}
    if "tuple" in shape:
        return tuple(_unpack(part, tensors) for part in shape["tuple"])
    return [_unpack(part, tensors) for part in shape["list"]]


def seeded(seed: int) -> Generator:
    """Give a fresh generator on the CPU, from which every random number of a run is drawn."""
    return torch.Generator().manual_seed(seed)
