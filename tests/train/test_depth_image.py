import json
from pathlib import Path

import torch
from families_tiny import WIDTH, losses_while_trained, seeded, squares
from render_tiny import tiny_set
from torch import Tensor

from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.depth2image import depth_map
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.rgnv_views import spread_depth
from roundview.train.batch import ViewSampler
from roundview.train.depth_image import (
    DepthBatch,
    DepthTraining,
    depth_image_loss,
    train_depth_image,
)
from roundview.train.loop import LoopSettings
from roundview.train.video_refiner import RefinerEncoders

TOLD = DepthTraining(no_embedding=0.0, no_depth=0.0)
SHAPE = UNetShape(5, 4, 32, (1,), 1, (True,), (2,), WIDTH, linear=True)


class Watched(LdmUNet):
    """Keeps what it was shown and predicts zeros."""

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
        assert (vector, frames, image_weight) == (None, 1, 1.0)
        self.x, self.context = x, context
        return torch.zeros_like(x[:, :4])


def batch_of(count: int = 2, size: int = 16) -> DepthBatch:
    rgba = torch.rand(2, count, 4, size, size, generator=seeded())
    return DepthBatch(rgba[0], rgba[1], torch.rand(count, size, size, generator=seeded(1)))


def test_depth_is_the_fifth_channel_and_the_other_view_the_token() -> None:
    network, encoders, batch = Watched(SHAPE), squares(), batch_of()
    loss = depth_image_loss(network, encoders, batch, seeded(), TOLD)
    spread = spread_depth(batch.depth, batch.picture[:, 3])
    torch.testing.assert_close(network.x[:, 4:], depth_map(spread, (8, 8)))
    torch.testing.assert_close(network.context[:, 0], encoders.embed(batch.shown))
    # 512 unit normals: their mean square is 1 +- 0.06.
    assert abs(float(loss) - 1) < 0.25


def test_one_in_ten_is_not_told_what_the_object_is_or_its_depth() -> None:
    network = Watched(SHAPE)
    depth_image_loss(network, squares(), batch_of(2000, 8), seeded())
    untold = ~network.context.flatten(1).any(dim=1)
    # Standard deviation 0.0067.
    assert abs(float(untold.float().mean()) - 0.1) < 0.025
    flat = (network.x[:, 4:] == -1).flatten(1).all(dim=1)
    assert abs(float(flat.float().mean()) - 0.1) < 0.025


def test_the_loss_falls_on_one_picture() -> None:
    torch.manual_seed(0)
    network, encoders, batch = LdmUNet(SHAPE), squares(), batch_of()
    found = losses_while_trained(
        network, lambda rng: depth_image_loss(network, encoders, batch, rng), steps=20
    )
    assert found[-1] < 0.7 * found[0]


def test_training_leaves_a_log(tmp_path: Path) -> None:
    train_depth_image(
        LdmUNet(SHAPE),
        ViewSampler([tiny_set(tmp_path / "set", objects=1)]),
        RefinerEncoders(squares(), lambda rgba: rgba[:, 3]),
        tmp_path,
        training=DepthTraining(batch=1),
        settings=LoopSettings(steps=1, warmup=1),
    )
    rows = [json.loads(row) for row in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 1
