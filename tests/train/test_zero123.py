import json
from pathlib import Path

import numpy as np
import torch
from families_tiny import WIDTH, losses_while_trained, seeded, squares
from render_tiny import tiny_set
from torch import Tensor

from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.zero123 import Zero123Net, pose_from_degrees
from roundview.train.batch import ViewSampler, pose_batch
from roundview.train.loop import LoopSettings
from roundview.train.zero123 import (
    PairBatch,
    Zero123Training,
    dropped,
    pair_batch,
    pair_from_views,
    start_projection,
    train_zero123,
    zero123_loss,
)

SHAPE = UNetShape(8, 4, 32, (1,), 1, (True,), (2,), WIDTH)


def pairs(count: int = 2) -> PairBatch:
    rgba = torch.rand(count, 2, 16, 16, 4, generator=seeded())
    turns = np.array([[0.0, 45.0]] * count)
    return pair_from_views(pose_batch(rgba, turns, np.array([[10.0, 40.0]] * count)))


def test_a_pair_tells_the_way_from_the_first_view_to_the_second() -> None:
    # 30 degrees up is a polar angle that falls by 30; 45 degrees round; no change of distance.
    wanted = pose_from_degrees(torch.tensor([[-30.0, 45.0, 0.0]]))
    torch.testing.assert_close(pairs().pose[:1], wanted, atol=1e-5, rtol=1e-5)


def test_five_in_a_hundred_lack_the_embedding_five_the_latents_and_five_both() -> None:
    no_embedding, no_latents = dropped(40000, seeded(), Zero123Training())
    both = no_embedding & no_latents
    counted = [both, no_embedding & ~no_latents, no_latents & ~no_embedding]
    # Standard deviation of each share: 0.0011.
    for part in counted:
        assert abs(float(part.float().mean()) - 0.05) < 0.004


class Watched(Zero123Net):
    """Keeps what it was shown and predicts zeros."""

    def tokens(self, embedding: Tensor, pose: Tensor) -> Tensor:
        self.embedding, self.pose = embedding, pose
        return super().tokens(embedding, pose)

    def forward(self, x: Tensor, t: Tensor, beside: Tensor, tokens: Tensor) -> Tensor:
        self.x, self.t, self.beside, self.told = x, t, beside, tokens
        return torch.zeros_like(x)


def test_what_is_dropped_is_zero_before_the_projection_and_the_pose_is_told_still() -> None:
    network, encoders, batch = Watched(SHAPE), squares(), pairs()
    nothing = Zero123Training(no_embedding=(0.0, 1.0), no_latents=(0.0, 1.0))
    zero123_loss(network, encoders, batch, seeded(), nothing)
    assert not bool(network.embedding.any())
    assert not bool(network.beside.any())
    torch.testing.assert_close(network.pose[:, 0], batch.pose)
    everything = Zero123Training(no_embedding=(0.0, 0.0), no_latents=(0.0, 0.0))
    zero123_loss(network, encoders, batch, seeded(), everything)
    torch.testing.assert_close(network.embedding[:, 0], encoders.embed(batch.source))
    torch.testing.assert_close(network.beside, encoders.encode(batch.source, None))
    assert network.told.shape == (2, 1, WIDTH)


def test_the_loss_of_predicting_nothing_is_the_power_of_the_noise() -> None:
    rng = torch.rand(64, 2, 16, 16, 4, generator=seeded())
    batch = pair_from_views(pose_batch(rng, np.zeros((64, 2)), np.zeros((64, 2))))
    # 16,384 unit normals: their mean square is 1 +- 0.011.
    assert abs(float(zero123_loss(Watched(SHAPE), squares(), batch, seeded())) - 1) < 0.05


def test_a_new_projection_gives_the_embedding_back() -> None:
    network = Zero123Net(SHAPE)
    start_projection(network)
    embedding = torch.randn(1, 1, WIDTH, generator=seeded())
    torch.testing.assert_close(network.tokens(embedding, torch.zeros(1, 1, 4)), embedding)
    assert bool(network.cc_projection.weight[:, WIDTH:].any())


def test_the_loss_falls_on_one_object(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, encoders = Zero123Net(SHAPE), squares()
    batch = pair_batch(ViewSampler([tiny_set(tmp_path, objects=1)]), 2, seeded())
    found = losses_while_trained(
        network, lambda rng: zero123_loss(network, encoders, batch, rng), steps=25
    )
    assert found[-1] < 0.7 * found[0]


def test_training_leaves_a_log(tmp_path: Path) -> None:
    sampler = ViewSampler([tiny_set(tmp_path / "set", objects=1)])
    settings = LoopSettings(steps=2, warmup=1)
    training = Zero123Training(batch=2)
    train_zero123(
        Zero123Net(SHAPE), sampler, squares(), tmp_path, training=training, settings=settings
    )
    rows = [json.loads(row) for row in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 2
