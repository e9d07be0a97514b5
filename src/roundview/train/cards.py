"""`roundview train CARD`: from objects to finished weights with their card."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..data.objects import ObjectFile, find_objects
from ..data.procedural import procedural_object, textures_to_crop
from ..data.render_set import MultiViewSet, RenderSettings, render_set
from ..diffusion.encoders import AutoencoderSize, LatentAutoencoder
from ..diffusion.view_transformer import ViewTransformerSize
from ..mesh import Mesh
from ..models import FeatureModel, Report, silent
from ..weights import Card, save_weights
from .autoencoder import train_autoencoder
from .batch import ViewSampler
from .elevation import train_elevation
from .families import FAMILIES, Order, train_family
from .loop import LoopSettings
from .orbit import OrbitTraining, object_weights, train_orbit

CARDS = ("autoencoder-small", "orbit-small", "elevation-small", *FAMILIES)
"""What the command trains. The orbit model needs the autoencoder, the elevation head the features,
and the families both."""

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
    """

    data: Path
    directory: Path
    steps: int | None = None
    batch: int | None = None
    seed: int = 0
    resume: bool = False


def train_card(
    name: str,
    run: TrainingRun,
    *,
    load_autoencoder: Callable[[], LatentAutoencoder],
    load_features: Callable[[], FeatureModel],
    report: Callable[[str], Report] = lambda stage: silent,  # noqa: ARG005
) -> Card:
    """Train one family of models and save its weights with their card.

    Args:
        name: One of `CARDS`.
        run: What to train on, where, and for how long.
        load_autoencoder: Called if the family builds on the autoencoder.
        load_features: Called if the family builds on deep features.
        report: Gives the progress callback of a named stage.

    Raises:
        ValueError: If the name is not known or the data hold no objects.
    """
    known = CARDS
    if name not in known:
        raise ValueError(f"CARD must be one of {', '.join(known)}, got {name!r}")
    objects = find_objects(run.data)
    started = time.monotonic()
    real, procedural = rendered_sets(objects, run, report("render"))
    work = run.directory / name
    if name == "autoencoder-small":
        settings = _loop(run, LoopSettings(steps=900, learning_rate=1e-3))
        network: nn.Module = train_autoencoder(
            [real, procedural], work, batch=run.batch or 64, settings=settings,
            resume=run.resume, report=report("train"),
        )  # fmt: skip
        sizes = asdict(AutoencoderSize())
    elif name == "orbit-small":
        settings = _loop(run, LoopSettings(steps=6000, learning_rate=7e-4, warmup=200))
        weights = object_weights(
            real, procedural, scans_times=SCANS_TIMES, procedural_share=PROCEDURAL_SHARE
        )
        training = OrbitTraining()
        network = train_orbit(
            ViewSampler([real, procedural], weights),
            load_autoencoder(),
            work,
            training=replace(training, batch=run.batch or training.batch),
            settings=settings,
            resume=run.resume,
            report=report("train"),
        )
        sizes = asdict(ViewTransformerSize())
    elif name in FAMILIES:
        order = Order(
            name, [real, procedural], run.directory, run.steps, run.batch, run.seed, run.resume
        )
        network, settings, sizes = train_family(
            order, load_autoencoder(), load_features(), report("train")
        )
    else:
        settings = _loop(run, LoopSettings(steps=3000, learning_rate=5e-4, ema=0.995))
        network = train_elevation(
            [real, procedural], load_features(), work, batch=run.batch or 128, settings=settings,
            resume=run.resume, report=report("train"),
        )  # fmt: skip
        sizes = {}
    card = _card(name, run, settings, sizes, len(objects), time.monotonic() - started)
    return save_weights(dict(network.state_dict()), card)


def rendered_sets(
    objects: list[ObjectFile], run: TrainingRun, report: Report
) -> tuple[MultiViewSet, MultiViewSet]:
    """Render the objects and as many procedural ones as belong to them, or read both back."""
    pictures = run.directory / "pictures"
    count = max(1, round(PROCEDURAL_PER_OBJECT * len(objects)))
    share = len(objects) / (len(objects) + count)
    real = render_set(
        ((item.name, item.read()) for item in objects),
        len(objects),
        pictures / "objects",
        seed=run.seed + 1,
        settings=RenderSettings(),
        report=lambda done: report(share * done),
    )
    procedural = render_set(
        procedural_objects(objects, run.seed + 2),
        count,
        pictures / "procedural",
        seed=run.seed + 2,
        settings=RenderSettings(),
        report=lambda done: report(share + (1 - share) * done),
    )
    return real, procedural


def procedural_objects(objects: list[ObjectFile], seed: int) -> Iterator[tuple[str, Mesh]]:
    """Give procedural objects for ever, textured in part with crops of the objects' textures."""
    crops = textures_to_crop(objects[:: max(1, len(objects) // 200)])
    rng = np.random.default_rng(seed)
    while True:
        yield "procedural", procedural_object(rng, crops)


def _loop(run: TrainingRun, own: LoopSettings) -> LoopSettings:
    return replace(own, steps=run.steps or own.steps, seed=run.seed)


def _card(
    name: str,
    run: TrainingRun,
    settings: LoopSettings,
    sizes: dict[str, object],
    objects: int,
    seconds: float,
) -> Card:
    return Card(
        name=name,
        kind=name.removesuffix("-small"),
        file=f"{name}.safetensors",
        sha256="",
        licence="Apache-2.0",
        source="trained with `roundview train`",
        commercial_use=True,
        trained_on=f"{objects} objects of {run.data.name} and procedural objects",
        settings=sizes,
        facts={
            "steps": settings.steps,
            "learning_rate": settings.learning_rate,
            "seed": settings.seed,
            "hours": round(seconds / 3600, 3),
            "torch": torch.__version__,
        },
        folder=run.directory,
    )
