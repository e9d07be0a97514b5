"""What is handed to a worker, what comes back, and what an engine is."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class Task:
    """One photo to be made into an asset.

    Attributes:
        photo: The file.
        folder: Where its asset goes; no other photo's goes there.
    """

    photo: Path
    folder: Path


@dataclass(frozen=True)
class Ended:
    """How a try at a task ended.

    Attributes:
        task: What was tried: a `Task`, or whatever else was given; engines do not look into it.
        error: One line on what went wrong; empty when it was done.
        seconds: How long it took.
        value: What came of it, where that is more than files.
        kept: The asset was there from an earlier run already.
        final: Trying again would end the same: the photo itself is at fault.
    """

    task: Any
    error: str = ""
    seconds: float = 0.0
    value: Any = None
    kept: bool = False
    final: bool = False


Work = Callable[[Any], Ended]
"""Does a task; it answers for everything but the death of its process."""

Build = Callable[[], Work]
"""Makes a worker's work, once: loads models. It travels: a function of a module, or a partial."""


@runtime_checkable
class Engine(Protocol):
    """Workers, wherever they are."""

    def give(self, task: Any) -> None:  # noqa: ANN401  what its work can do
        """Put a task at the end of the queue."""
        ...

    def wait(self) -> list[Ended]:
        """Wait until at least one task has ended; an empty list when there are none left.

        Raises:
            BuildError: If a worker cannot build its work: no other would do better.
        """
        ...

    def close(self) -> None:
        """Stop the workers at once; tasks in progress are given up, what they saved stays."""
        ...


Start = Callable[..., Engine]
"""Starts workers, given what each builds and, by name, `count` of them and `threads` of each."""

MOST_TASKS = 50
"""Of one worker, then another takes its place: large files leave memory behind. Chosen by us."""


class BuildError(RuntimeError):
    """Work that cannot be built, such as models that are not installed.

    Attributes:
        missing: Whether weights are missing, which have an exit code of their own.
    """

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing

    def __reduce__(self) -> tuple[Callable[..., "BuildError"], tuple[str, bool]]:
        """Travel between processes with all that it knows."""
        return _build_error, (str(self), self.missing)


def _build_error(message: str, missing: bool) -> BuildError:
    return BuildError(message, missing=missing)


def unbuilt(error: BaseException) -> BuildError:
    """Say why work could not be built."""
    # By name: the class lives beside code that a worker without models does not import.
    return BuildError(one_line(error), missing=type(error).__name__ == "WeightsMissing")


def use_threads(threads: int) -> None:
    """Run networks and kernels of this process on so many threads."""
    os.environ["ROUNDVIEW_THREADS"] = str(threads)  # Read by the kernels at every call.
    os.environ["OMP_NUM_THREADS"] = str(threads)  # Read by torch when it is imported.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def one_line(error: BaseException) -> str:
    """Say an error in one line; the name of its class where it is no message for users."""
    said = " ".join(str(error).split())
    if said and (isinstance(error, ValueError) or type(error).__name__ == "WeightsMissing"):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
