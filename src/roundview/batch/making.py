"""The work of a batch: one photo into one asset, with models that were loaded once."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from .. import __version__
from ..loaders import Loaded, Wanted
from ..methods import method_of
from ..photo import load_image
from ..pipeline import Job, adapted, make_into
from ..weights import list_cards, named
from .tasks import Ended, Task, Work, one_line


@dataclass(frozen=True)
class Wish:
    """What is to be made of every photo.

    Attributes:
        recipe: One of `recipes.RECIPES`.
        quality: Names the recipe's settings.
        seed: Of each photo's run.
        weights: See `weights.find`; None takes the shipped ones.
        device: Where the networks run: auto, cpu, cuda or mps.
        use_matte: Cut out the subject; otherwise pictures are used as they are.
        changes: Fields of the settings that differ from the quality's.
    """

    recipe: str = "im3d"
    quality: str = "standard"
    seed: int = 0
    weights: str | None = None
    device: str = "auto"
    use_matte: bool = True
    changes: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> Any:  # noqa: ANN401  each recipe has its own dataclass
        """Give the settings that are asked for.

        Raises:
            ValueError: If the recipe, the quality or a field is unknown, or a value makes no sense.
        """
        try:
            return replace(method_of(self.recipe).settings(self.quality), **self.changes)
        except TypeError as error:
            raise ValueError(f"recipe {self.recipe} has no such setting: {error}") from error

    def identity(self) -> str:
        """Give a hash that changes when assets made earlier would be others now.

        It is known without loading a model: it takes all cards, used or not.
        """
        cards = list_cards() if self.weights is None else [*list_cards(), *named(self.weights)]
        facts = [__version__, torch.__version__, asdict(self), asdict(self.settings())]
        text = json.dumps([*facts, [card.sha256 for card in cards]], default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def __call__(self) -> Work:
        """Load the models; so a wish is itself what a worker builds its work with.

        Raises:
            WeightsMissing: If weights are not installed.
            ValueError: If the weights, the device or the settings name nothing.
        """
        settings = self.settings()
        wanted = Wanted(
            self.weights,
            use_matte=self.use_matte,
            photo_elevation_deg=settings.photo_elevation_deg,
            device=self.device,
        )
        loaded = method_of(self.recipe).load(wanted)
        return Making(loaded, adapted(settings, loaded.asks), self)


@dataclass(frozen=True, eq=False)
class Making:
    """Makes assets, one photo after another.

    Attributes:
        loaded: The models.
        settings: Of the recipe.
        wish: The recipe's name and the seed.
    """

    loaded: Loaded
    settings: Any
    wish: Wish

    def __call__(self, task: Task) -> Ended:
        """Make one photo's asset, going on where an earlier try left off."""
        begin = time.perf_counter()
        try:
            photo = load_image(task.photo)
            job = Job(photo, self.loaded, self.settings, self.wish.seed, self.wish.recipe)
            kept = make_into(job, task.folder, resume=True)
        except Exception as error:  # One photo must not take the others with it.
            seconds = time.perf_counter() - begin
            # The same photo is refused for the same reason again; anything else may pass.
            final = isinstance(error, ValueError)
            # Reasons stand beside the photo's path and need not say it again.
            reason = one_line(error).removeprefix(f"{task.photo}: ")
            return Ended(task, reason, seconds, final=final)
        return Ended(task, seconds=time.perf_counter() - begin, kept=kept)
