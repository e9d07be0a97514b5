from pathlib import Path

import torch
from render_tiny import tiny_set
from torch import Tensor

from roundview.train.elevation import ring_features, train_elevation
from roundview.train.loop import LoopSettings


class Thumbnail:
    """Features that are a 4 x 4 thumbnail of the picture."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.permute(0, 3, 1, 2)]

    def embedding(self, rgb: Tensor) -> Tensor:
        small = torch.nn.functional.adaptive_avg_pool2d(rgb.permute(0, 3, 1, 2), 4)
        return small.reshape(len(rgb), -1)


def test_the_head_learns_the_elevations_of_the_rings(tmp_path: Path) -> None:
    pictures = tiny_set(tmp_path / "set", objects=4)
    settings = LoopSettings(steps=400, learning_rate=3e-3, warmup=5, ema=0.9)
    head = train_elevation([pictures], Thumbnail(), tmp_path / "run", batch=16, settings=settings)
    vectors, radians = ring_features([pictures], Thumbnail())
    assert vectors.shape == (8, 4, 48)
    with torch.no_grad():
        error = (head(vectors.mean(dim=1)) - radians).abs().mean()
    assert float(error) < 0.5 * float((radians - radians.mean()).abs().mean())
