import json
from pathlib import Path

import pytest
import torch
from families_tiny import WIDTH, losses_while_trained, seeded, squares
from render_tiny import tiny_set
from torch import Tensor

from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.frames import isotropic3d_from_angles
from roundview.train.loop import LoopSettings
from roundview.train.multiview import (
    MultiViewTraining,
    ReferenceBatch,
    multiview_loss,
    mvdream_from_angles,
    reference_batch,
    train_multiview,
)
from roundview.train.rings import RingSampler

SHAPE = UNetShape(4, 4, 32, (1,), 1, (True,), (2,), WIDTH, linear=True, camera=16)
SECOND = MultiViewTraining(reference_view=True, no_embedding=0.0)


class Watched(LdmUNet):
    """Keeps what it was shown; predicts `answer`, zeros by default."""

    answer: Tensor | None = None

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        *,
        vector: Tensor | None = None,
        frames: int = 1,
        image_weight: float = 1.0,
    ) -> Tensor:
        assert image_weight == 1.0
        self.x, self.t, self.context, self.vector, self.frames = x, t, context, vector, frames
        return torch.zeros_like(x) if self.answer is None else self.answer


def batch_of(objects: int = 2, views: int = 4) -> ReferenceBatch:
    rng = seeded()
    azimuth = torch.arange(views) * 90.0 + 30
    return ReferenceBatch(
        torch.rand(objects, 4, 16, 16, generator=rng),
        torch.rand(objects, views, 4, 16, 16, generator=rng),
        azimuth.expand(objects, -1),
        torch.full((objects, views), 20.0),
    )


def test_the_first_stage_sees_the_targets_alone() -> None:
    network, encoders, batch = Watched(SHAPE), squares(), batch_of()
    multiview_loss(network, encoders, batch, seeded(), MultiViewTraining(no_embedding=0.0))
    assert network.frames == 4
    assert network.x.shape == (8, 4, 8, 8)
    told = network.context.unflatten(0, (2, 4))
    torch.testing.assert_close(told[:, 3, 0], encoders.embed(batch.reference))
    # One step an object, the same in all its views.
    assert bool((network.t.reshape(2, 4) == network.t.reshape(2, 4)[:, :1]).all())
    wanted = isotropic3d_from_angles(batch.azimuth_deg[0], batch.elevation_deg[0])
    torch.testing.assert_close(network.vector, wanted.repeat(2, 1))


def test_the_second_stage_adds_the_clean_reference_at_step_0_and_camera_0() -> None:
    network, encoders, batch = Watched(SHAPE), squares(), batch_of()
    multiview_loss(network, encoders, batch, seeded(), SECOND)
    assert network.frames == 5
    x, t = network.x.unflatten(0, (2, 5)), network.t.reshape(2, 5)
    torch.testing.assert_close(x[:, 4], encoders.encode(batch.reference, None))
    assert t[:, 4].tolist() == [0, 0]
    assert bool((t[:, :4] > 0).all())
    assert network.vector is not None
    front = isotropic3d_from_angles(torch.zeros(2), torch.zeros(2))
    torch.testing.assert_close(network.vector.unflatten(0, (2, 5))[:, 4], front)


def test_what_is_predicted_for_the_reference_costs_nothing() -> None:
    network = Watched(SHAPE)
    plain = multiview_loss(network, squares(), batch_of(), seeded(), SECOND)
    answer = torch.zeros(2, 5, 4, 8, 8)
    answer[:, 4] = 100.0
    network.answer = answer.flatten(0, 1)
    changed = multiview_loss(network, squares(), batch_of(), seeded(), SECOND)
    torch.testing.assert_close(changed, plain)
    answer[:, 3] = 100.0
    network.answer = answer.flatten(0, 1)
    assert float(multiview_loss(network, squares(), batch_of(), seeded(), SECOND)) > 1000


def test_one_in_ten_is_not_told_what_the_object_is() -> None:
    network = Watched(SHAPE)
    batch = batch_of(3000, 1)
    small = ReferenceBatch(
        batch.reference[..., :2, :8],
        batch.targets[..., :2, :8],
        batch.azimuth_deg,
        batch.elevation_deg,
    )
    multiview_loss(network, squares(), small, seeded())
    untold = ~network.context.flatten(1).any(dim=1)
    # Standard deviation 0.0055.
    assert abs(float(untold.float().mean()) - 0.1) < 0.02


def test_three_in_ten_batches_have_one_target_and_the_others_four_a_quarter_turn_apart(
    tmp_path: Path,
) -> None:
    sampler, rng = RingSampler([tiny_set(tmp_path, size_px=4)]), seeded()
    training = MultiViewTraining(batch=2)
    batches = [reference_batch(sampler, training, rng) for _ in range(300)]
    single = [b for b in batches if b.targets.shape[1] == 1]
    # Standard deviation 0.026.
    assert abs(len(single) / 300 - 0.3) < 0.1
    for batch in batches:
        if batch.targets.shape[1] == 4:
            turn = batch.azimuth_deg.diff(dim=1) % 360
            quarter = torch.minimum((turn - 90).abs(), (turn - 270).abs())  # Mirrored: backwards.
            assert float(quarter.max()) < 0.01
            assert bool((batch.elevation_deg == batch.elevation_deg[:, :1]).all())


def test_a_target_is_the_view_its_azimuth_tells(tmp_path: Path) -> None:
    pictures = tiny_set(tmp_path, objects=1)
    sampler = RingSampler([pictures], augment=False)
    batch = reference_batch(sampler, MultiViewTraining(batch=1), seeded(1))
    seen = torch.from_numpy(pictures.rgba[0].astype("float32") / 255).movedim(-1, 1)
    index = [int((seen - x).abs().flatten(1).sum(1).argmin()) for x in batch.targets[0]]
    reference = int((seen - batch.reference[0]).abs().flatten(1).sum(1).argmin())
    azimuth = pictures.azimuth_deg[0]
    for k, view in enumerate(index):
        turn = float(azimuth[view] - azimuth[reference]) % 360
        assert float(batch.azimuth_deg[0, k]) == pytest.approx(turn, abs=1e-3)
        assert float(batch.elevation_deg[0, k]) == float(pictures.elevation_deg[0, view])


def test_a_quarter_turn_is_one_for_mvdream_and_hardly_any_for_the_published_weights() -> None:
    azimuth, elevation = torch.tensor([90.0]), torch.tensor([0.0])
    right = mvdream_from_angles(azimuth, elevation).reshape(4, 4)
    torch.testing.assert_close(right[:3, 3], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0)
    quirk = isotropic3d_from_angles(azimuth, elevation).reshape(4, 4)
    # 90 degrees are 1.5708, which are taken for degrees: sin = 0.0274.
    assert float(quirk[0, 3]) == pytest.approx(0.0274, abs=1e-4)


@pytest.mark.parametrize("reference_view", [False, True])
def test_the_loss_falls_on_one_object(reference_view: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, encoders = LdmUNet(SHAPE), squares()
    training = MultiViewTraining(batch=1, single_share=0.0, reference_view=reference_view)
    batch = reference_batch(RingSampler([tiny_set(tmp_path, objects=1)]), training, seeded())
    found = losses_while_trained(
        network, lambda rng: multiview_loss(network, encoders, batch, rng, training), steps=20
    )
    assert found[-1] < 0.7 * found[0]


def test_training_leaves_a_log(tmp_path: Path) -> None:
    sampler = RingSampler([tiny_set(tmp_path / "set", objects=1)])
    train_multiview(
        LdmUNet(SHAPE),
        sampler,
        squares(),
        tmp_path,
        training=MultiViewTraining(batch=1),
        settings=LoopSettings(steps=1, warmup=1),
    )
    rows = [json.loads(row) for row in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 1
