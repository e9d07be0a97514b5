import json
import math
from pathlib import Path

import pytest
import torch
from families_tiny import WIDTH, losses_while_trained, seeded, squares
from render_tiny import tiny_set
from torch import Tensor

from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.zero123 import Zero123Net, pose_from_degrees
from roundview.train.batch import ViewSampler
from roundview.train.cascade import (
    CascadePair,
    CascadeTraining,
    base_views,
    cascade_loss,
    kept_share,
    prompt_poses,
    train_cascade,
)
from roundview.train.loop import LoopSettings
from roundview.train.zero123 import PairBatch, Zero123Training, pair_batch

SHAPE = UNetShape(8, 4, 32, (1,), 1, (True,), (2,), WIDTH)
QUICK = CascadeTraining(batch=2, base_steps=2)


class Watched(Zero123Net):
    """Keeps what it was shown and predicts zeros."""

    def tokens(self, embedding: Tensor, pose: Tensor) -> Tensor:
        self.embedding, self.pose = embedding, pose
        return super().tokens(embedding, pose)

    def forward(self, x: Tensor, t: Tensor, beside: Tensor, tokens: Tensor) -> Tensor:
        self.beside, self.told = beside, tokens
        return torch.zeros_like(x)


def pair_of(kind: type[Zero123Net] = Zero123Net) -> CascadePair[Zero123Net]:
    torch.manual_seed(0)
    base, refiner = Zero123Net(SHAPE), kind(SHAPE)
    refiner.load_state_dict(base.state_dict())
    return CascadePair(base, refiner)


def pairs(count: int = 2) -> PairBatch:
    rgba = torch.rand(2, count, 4, 16, 16, generator=seeded())
    return PairBatch(
        rgba[0], rgba[1], pose_from_degrees(torch.tensor([[-10.0, 60.0, 0.1]] * count))
    )


def test_poses_of_the_table() -> None:
    target = pose_from_degrees(torch.tensor([[-10.0, 60.0, 0.1]]))
    from_input, to_target = prompt_poses(target, "code")
    ways = [[-10.0, 60.0, 0.1], [0.0, 45.0, 0.0], [0.0, -45.0, 0.0], [-30.0, 0.0, 0.0]]
    torch.testing.assert_close(from_input[0], pose_from_degrees(torch.tensor(ways)))
    # To the target: from 45 degrees round 15 are left, from -45 there are 105, from 30 up 20 down.
    left = [[-10.0, 60.0, 0.1], [-10.0, 15.0, 0.1], [-10.0, 105.0, 0.1], [20.0, 60.0, 0.1]]
    known = pose_from_degrees(torch.tensor(left))
    torch.testing.assert_close(to_target[0, [0, 2, 3, 4]], known)
    assert to_target[0, 1].tolist() == [0.0, 0.0, 0.0, 0.0]


def test_the_coarse_targets_pose_is_zeros_or_the_embedding_of_no_motion() -> None:
    target = pose_from_degrees(torch.tensor([[-10.0, 60.0, 0.0]] * 3))
    assert prompt_poses(target, "code")[1][2, 1].tolist() == [0.0, 0.0, 0.0, 0.0]
    assert prompt_poses(target, "paper")[1][2, 1].tolist() == [0.0, 0.0, 1.0, 0.0]


def test_a_turn_past_the_back_is_the_short_way() -> None:
    target = pose_from_degrees(torch.tensor([[0.0, 170.0, 0.0]]))
    # From -45 to 170 are 215 degrees: sine and cosine of -145.
    _, to_target = prompt_poses(target, "code")
    wanted = torch.tensor([math.sin(math.radians(215)), math.cos(math.radians(215))])
    torch.testing.assert_close(to_target[0, 3, 1:3], wanted)


def test_the_refiner_sees_five_tokens_in_order_and_the_inputs_latents_only() -> None:
    pair, encoders, batch = pair_of(Watched), squares(), pairs()
    told = CascadeTraining(base_steps=2, dropout=Zero123Training(32, (0.0, 0.0), (0.0, 0.0)))
    cascade_loss(pair, encoders, batch, seeded(), told)
    refiner = pair.refiner
    assert isinstance(refiner, Watched)
    assert refiner.told.shape == (2, 5, WIDTH)
    torch.testing.assert_close(refiner.pose, prompt_poses(batch.pose, "code")[1])
    torch.testing.assert_close(refiner.beside, encoders.encode(batch.source, None))
    torch.testing.assert_close(refiner.embedding[:, 0], encoders.embed(batch.source))
    # The other four are what the base draws: from [target, +45, -45, up] with the same noise.
    prompts = base_views(
        pair.base,
        encoders.encode(batch.source, None),
        encoders.embed(batch.source),
        prompt_poses(batch.pose, "code")[0],
        seeded(),
        told,
    )
    drawn = encoders.embed(encoders.decode(prompts.flatten(0, 1))).unflatten(0, (2, 4))
    torch.testing.assert_close(refiner.embedding[:, 1:], drawn, atol=1e-5, rtol=1e-4)


def test_the_nearby_views_are_never_left_out() -> None:
    pair = pair_of(Watched)
    nothing = CascadeTraining(base_steps=2, dropout=Zero123Training(32, (0.0, 1.0), (0.0, 1.0)))
    cascade_loss(pair, squares(), pairs(), seeded(), nothing)
    refiner = pair.refiner
    assert isinstance(refiner, Watched)
    assert not bool(refiner.embedding[:, :2].any())
    assert bool(refiner.embedding[:, 2:].flatten(1).any())
    assert not bool(refiner.beside.any())


def test_the_base_gets_no_gradient() -> None:
    pair = pair_of()
    cascade_loss(pair, squares(), pairs(), seeded(), QUICK).backward()
    assert all(p.grad is None for p in pair.base.parameters())
    assert any(p.grad is not None and bool(p.grad.any()) for p in pair.refiner.parameters())


def test_the_base_follows_by_the_formula_once_there_is_a_step() -> None:
    pair = pair_of()
    with torch.no_grad():
        for p in pair.refiner.parameters():
            p.add_(1.0)
    before = [p.clone() for p in pair.base.parameters()]
    settings = CascadeTraining(eta=0.75, early=False)
    pair.follow(settings)
    assert all(torch.equal(a, b) for a, b in zip(before, pair.base.parameters(), strict=True))
    pair.follow(settings)
    for old, new in zip(before, pair.base.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.25)


def test_the_base_keeps_little_at_first_and_eta_later() -> None:
    settings = CascadeTraining()
    assert kept_share(0, settings) == pytest.approx(0.1)
    assert kept_share(8, settings) == pytest.approx(0.5)
    assert kept_share(10**6, settings) == 0.9999


def test_the_loss_falls_on_one_object(tmp_path: Path) -> None:
    pair, encoders = pair_of(), squares()
    batch = pair_batch(ViewSampler([tiny_set(tmp_path, objects=1)]), 2, seeded())
    found = losses_while_trained(
        pair, lambda rng: cascade_loss(pair, encoders, batch, rng, QUICK), steps=12
    )
    assert found[-1] < 0.7 * found[0]


def test_training_counts_its_steps_and_leaves_a_log(tmp_path: Path) -> None:
    pair = pair_of()
    sampler = ViewSampler([tiny_set(tmp_path / "set", objects=1)])
    train_cascade(
        pair, sampler, squares(), tmp_path, training=QUICK, settings=LoopSettings(steps=3, warmup=1)
    )
    assert int(pair.steps) == 3
    rows = [json.loads(row) for row in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 3
