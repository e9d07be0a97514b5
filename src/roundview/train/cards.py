"""`roundview train CARD`: from objects to finished weights with their card."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.objects import ObjectFile, find_objects
from ..data.procedural import procedural_object, textures_to_crop
from ..data.render_set import MultiViewSet, RenderSettings, render_set
from ..data.solid_set import SolidSet
from ..mesh import Mesh
from ..models import Report, silent
from ..weights import DEFAULTS, Card, save_weights
from .batch import ViewSampler
from .depth import DepthSet, rendered_depth_set
from .families import FAMILIES, Order, Parts, Trained, train_family
from .orbit import object_weights
from .shape import rendered_solid_sets

CARDS = tuple(FAMILIES)
"""What the command trains."""

PROCEDURAL_PER_OBJECT = 1.5
"""Procedural objects made for each object read. Chosen by us: about as many pictures of each."""
PROCEDURAL_SHARE = 0.35
"""Share of the orbit model's training samples that are procedural. Chosen by us."""
SCANS_TIMES = 8.0
"""How much oftener a scanned object is drawn than a drawn one. Chosen by us."""


@dataclass(frozen=True)
class TrainingRun:
    """What a user asks of a training run.

    Attributes:
        data: Folder or zip of GLB files.
        directory: Where pictures, checkpoints and the finished weights go.
        steps: Optimiser steps; None takes the family's own.
        batch: Objects (views, for the autoencoder) a step; None takes the family's own.
        seed: Seed of views, initial weights and batches.
        resume: Go on from the last checkpoint.
        start: Weights to begin from, of any family: those that fit are taken.
    """

    data: Path
    directory: Path
    steps: int | None = None
    batch: int | None = None
    seed: int = 0
    resume: bool = False
    start: Mapping[str, Tensor] | None = None


def begun(trained: Trained) -> str | None:
    """Say how many tensors of the weights to begin from were taken; None if there were none."""
    if trained.taken is None:
        return None
    return f"began with {trained.taken} of {len(trained.network.state_dict())} tensors"


def train_card(
    name: str,
    run: TrainingRun,
    parts: Parts,
    *,
    report: Callable[[str], Report] = lambda stage: silent,  # noqa: ARG005
    say: Callable[[str], None] = lambda line: None,  # noqa: ARG005
) -> Card:
    """Train one family of models and save its weights with their card.

    Args:
        name: One of `CARDS`.
        run: What to train on, where, and for how long.
        parts: What the family may build on.
        report: Gives the progress callback of a named stage.
        say: Told what else the user should know.

    Raises:
        ValueError: If the name is not known or the data hold no objects.
    """
    if name not in CARDS:
        raise ValueError(f"CARD must be one of {', '.join(CARDS)}, got {name!r}")
    objects = find_objects(run.data)
    started = time.monotonic()

    def depth_set() -> DepthSet:
        folder = run.directory / "pictures" / "geometry"
        return rendered_depth_set(objects, folder, seed=run.seed, report=report("render"))

    def solids() -> list[SolidSet]:
        folder = run.directory / "pictures" / "solids"
        return rendered_solid_sets(objects, folder, seed=run.seed, report=report("render"))

    @functools.cache
    def sets() -> list[MultiViewSet]:
        return list(rendered_sets(objects, run, FAMILIES[name].picture_px, report("render")))

    training = functools.cache(lambda: report("train"))

    def progressed(fraction: float) -> None:
        training()(fraction)  # The stage begins with its first step: rendering comes before.

    order = Order(
        run.directory / name,
        lambda: _sampler(*sets()),
        sets,
        depth_set,
        solids,
        loop=lambda own: replace(own, steps=run.steps or own.steps, seed=run.seed),
        batch=run.batch,
        start=run.start,
        resume=run.resume,
        report=progressed,
    )
    trained = train_family(name, order, parts)
    if (line := begun(trained)) is not None:
        say(line)
    card = _card(name, run, trained, len(objects), time.monotonic() - started)
    return save_weights(dict(trained.network.state_dict()), card)


def rendered_sets(
    objects: list[ObjectFile], run: TrainingRun, size_px: int, report: Report
) -> tuple[MultiViewSet, MultiViewSet]:
    """Render the objects and as many procedural ones as belong to them, or read both back.

    At 64 px as the shipped models saw them; larger pictures of one ring and 4 free views only.
    """
    small = size_px <= RenderSettings().size_px
    settings = RenderSettings() if small else RenderSettings(size_px, rings=1, free_views=4)
    pictures = run.directory / ("pictures" if small else f"pictures-{size_px}")
    count = max(1, round(PROCEDURAL_PER_OBJECT * len(objects)))
    share = len(objects) / (len(objects) + count)
    real = render_set(
        ((item.name, item.read()) for item in objects),
        len(objects),
        pictures / "objects",
        seed=run.seed + 1,
        settings=settings,
        report=lambda done: report(share * done),
    )
    procedural = render_set(
        procedural_objects(objects, run.seed + 2),
        count,
        pictures / "procedural",
        seed=run.seed + 2,
        settings=settings,
        report=lambda done: report(share + (1 - share) * done),
    )
    return real, procedural


def _sampler(real: MultiViewSet, procedural: MultiViewSet) -> ViewSampler:
    weights = object_weights(
        real, procedural, scans_times=SCANS_TIMES, procedural_share=PROCEDURAL_SHARE
    )
    return ViewSampler([real, procedural], weights)


def procedural_objects(objects: list[ObjectFile], seed: int) -> Iterator[tuple[str, Mesh]]:
    """Give procedural objects for ever, textured in part with crops of the objects' textures."""
    crops = textures_to_crop(objects[:: max(1, len(objects) // 200)])
    rng = np.random.default_rng(seed)
    while True:
        yield "procedural", procedural_object(rng, crops)


def _card(name: str, run: TrainingRun, trained: Trained, objects: int, seconds: float) -> Card:
    return Card(
        name=name,
        kind=kind_of(name),
        file=f"{name}.safetensors",
        sha256="",
        licence="Apache-2.0",
        source="trained with `roundview train`",
        commercial_use=True,
        trained_on=f"{objects} objects of {run.data.name} and procedural objects",
        settings=trained.settings,
        facts={
            "steps": trained.loop.steps,
            "learning_rate": trained.loop.learning_rate,
            "seed": run.seed,
            "hours": round(seconds / 3600, 3),
            "torch": torch.__version__,
        },
        folder=run.directory,
    )


def kind_of(name: str) -> str:
    """Give the kind of weights that a card of this name holds."""
    shipped = {card: kind for kind, card in DEFAULTS.items()}
    return shipped.get(name, name.removesuffix("-small"))
