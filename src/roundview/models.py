"""What recipes ask of models, and of the one who runs them: protocols only, no weights."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float
from torch import Generator, Tensor

from .camera import Cameras
from .image import Foreground, Image
from .views import Views

Report = Callable[[float], None]
"""Called with the fraction done, 0 to 1, from inside long functions."""

Value = TypeVar("Value")


def silent(fraction: float) -> None:
    """Report to nobody."""
    del fraction


@runtime_checkable
class Matte(Protocol):
    """Cuts the subject out of a photograph."""

    def __call__(self, photo: Image) -> Foreground:
        """Give the subject at the photograph's own size; raise ValueError if there is none."""
        ...


@runtime_checkable
class OrbitModel(Protocol):
    """Draws many views of a subject at once from one framed picture of it.

    The subject is square and was seen from azimuth 0 at `photo_elevation_deg`, at the distance and
    field of view the model was trained on. Views come back over white at the size of the cameras.
    """

    def draw(
        self,
        subject: Foreground,
        cameras: Cameras,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        """Draw the views from noise."""
        ...

    def redraw(
        self,
        subject: Foreground,
        views: Views,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        noise_level: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        """Add noise to `views` up to `noise_level` (0 none, 1 all) and denoise them again."""
        ...


@runtime_checkable
class ViewModel(Protocol):
    """Draws views of a subject one by one, each from views of it that are known: Zero123's kind."""

    def draw(
        self,
        known: Views,
        cameras: Cameras,
        rng: Generator,
        *,
        steps: int,
        report: Report = silent,
    ) -> Views:
        """Draw a view for each camera, from noise.

        Args:
            known: Square views of one subject over white; the photograph comes first, at azimuth 0
                and its own elevation. Zero123 takes one, a cascade's refiner more.
            cameras: Where to look from, at the distance and field of view the model was trained on.
            rng: CPU generator of the noise.
            steps: Sampler steps of each view.
            report: Called with the fraction done.
        """
        ...


@runtime_checkable
class DepthModel(Protocol):
    """Estimates how near each pixel is, and which way its surface faces."""

    def __call__(
        self, rgb: Float[Tensor, "n h w 3"]
    ) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w 3"]]:
        """Give inverse depth (near is large, any unit) and unit normals in the camera's frame.

        Normals are as `Views.normal` has them, turned into the camera; pictures are over white.
        """
        ...


@runtime_checkable
class FeatureModel(Protocol):
    """Turns pictures into deep features, for perceptual distances and small heads on top."""

    def maps(self, rgb: Float[Tensor, "n h w 3"]) -> list[Tensor]:
        """Give channel-first feature maps, finest first; differentiable."""
        ...

    def embedding(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n c"]:
        """Give one vector a picture."""
        ...


@runtime_checkable
class Elevation(Protocol):
    """Estimates the elevation that frames of an orbit were seen from."""

    def __call__(self, frames: Float[Tensor, "n h w 3"]) -> float:
        """Give degrees; the frames are over white and of one subject at one elevation."""
        ...


@runtime_checkable
class StageRunner(Protocol):
    """Runs the named stages of a recipe: shows progress, times them, and can skip finished ones.

    `roundview make` hands one in that saves each result, so that `--resume` goes on after it.
    """

    def __call__(self, name: str, work: Callable[[Report], Value]) -> Value:
        """Run `work`, or give its saved result back."""
        ...

    def long(self, name: str, work: Callable[[Report, "Kept"], Value]) -> Value:
        """Run work that keeps where it is, so that it can go on from the middle."""
        ...

    def show(self, rgb: Float[Tensor, "h w 3"]) -> None:
        """Show a picture of how far the work in progress has come."""
        ...

    def note(self, key: str, value: Any) -> None:  # noqa: ANN401  anything JSON can hold
        """Put a fact into the record."""
        ...


@runtime_checkable
class Kept(Protocol):
    """Where a long stage puts its state now and then, and finds it again after an interruption.

    Attributes:
        found: The state to go on from, or None at the start.
    """

    found: dict[str, Any] | None

    def keep(self, state: dict[str, Any]) -> None:
        """Keep a state: a tree of dicts, lists, numbers, strings and tensors."""
        ...


class NothingKept:
    """Keeps no state, for work that need not survive an interruption."""

    found: dict[str, Any] | None = None

    def keep(self, state: dict[str, Any]) -> None:
        """Forget it."""
        del state


class PlainStages:
    """Runs every stage and keeps the notes; for library users and tests."""

    def __init__(self) -> None:
        self.notes: dict[str, Any] = {}

    def __call__(self, name: str, work: Callable[[Report], Value]) -> Value:
        """Run the stage."""
        del name
        return work(silent)

    def long(self, name: str, work: Callable[[Report, Kept], Value]) -> Value:
        """Run the stage from its start."""
        del name
        return work(silent, NothingKept())

    def show(self, rgb: Float[Tensor, "h w 3"]) -> None:
        """Show nobody."""

    def note(self, key: str, value: Any) -> None:  # noqa: ANN401  anything JSON can hold
        """Keep the fact."""
        self.notes[key] = value
