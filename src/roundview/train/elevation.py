"""Train the elevation head on rendered rings."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..data.render_set import MultiViewSet
from ..diffusion.elevation import ElevationHead, frame_features
from ..models import FeatureModel, Report, silent
from .loop import LoopSettings, train
from .surgery import begin_with

FRAMES = 4
"""Frames of a ring whose features are kept: uniformly spaced, as the paper takes them."""


def train_elevation(
    sets: list[MultiViewSet],
    features: FeatureModel,
    directory: Path,
    *,
    batch: int = 128,
    settings: LoopSettings = LoopSettings(steps=3000, learning_rate=5e-4, ema=0.995),  # noqa: B008
    resume: bool = False,
    report: Report = silent,
    start: Mapping[str, Tensor] | None = None,
) -> ElevationHead:
    """Train on the mean features of 1 or all of 4 frames of a ring, smooth L1 on radians.

    The head begins with those of the tensors in `start` that fit, if they are given.
    """
    vectors, radians = ring_features(sets, features, lambda share: report(0.7 * share))
    head = ElevationHead(vectors.shape[-1])
    torch.manual_seed(settings.seed)  # Initial weights and dropout; torch layers take no generator.
    for layer in head.layers:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    flat = vectors.reshape(-1, vectors.shape[-1])
    head.feature_mean.copy_(flat.mean(dim=0))
    head.feature_std.copy_(flat.std(dim=0).clamp(min=1e-3))
    begin_with(head, start or {})

    def loss(module: nn.Module, rng: Generator) -> Tensor:
        row = torch.randint(len(vectors), (batch,), generator=rng)
        alone = torch.rand(batch, 1, generator=rng) < 0.6
        which = torch.randint(FRAMES, (batch,), generator=rng)
        mean = torch.where(alone, vectors[row, which], vectors[row].mean(dim=1))
        return nn.functional.smooth_l1_loss(module(mean), radians[row], beta=0.1)

    train(
        head,
        loss,
        directory,
        settings=settings,
        resume=resume,
        report=lambda share: report(0.7 + 0.3 * share),
    )
    return head.eval()


def ring_features(
    sets: list[MultiViewSet], features: FeatureModel, report: Report = silent
) -> tuple[Float[Tensor, "r 4 c"], Float[Tensor, " r"]]:
    """Give the features of 4 uniformly spaced frames of every ring, and the ring's elevation."""
    vectors, radians = [], []
    total = sum(len(part) for part in sets)
    for part in sets:
        made = part.settings
        for row in range(len(part)):
            for ring in range(made.rings):
                first = ring * made.ring_views
                index = first + np.arange(FRAMES) * made.ring_views // FRAMES
                frames = torch.from_numpy(part.rgba[row, index, ..., :3].astype(np.float32) / 255)
                with torch.no_grad():
                    vectors.append(frame_features(features, frames))
                radians.append(math.radians(float(part.elevation_deg[row, first])))
            report(len(radians) / made.rings / total)
    return torch.stack(vectors), torch.tensor(radians)
