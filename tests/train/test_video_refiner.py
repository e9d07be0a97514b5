import json
from pathlib import Path

import torch
from fakes import KnowingOrbit, block
from families_tiny import WIDTH, losses_while_trained, seeded, squares
from render_tiny import tiny_set
from torch import Tensor

from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.video_refine import SmallVideoRefiner, depth_channels
from roundview.diffusion.video_unet import VideoUNet
from roundview.losses import perceptual_distance
from roundview.train.loop import LoopSettings
from roundview.train.rings import RingBatch, RingSampler
from roundview.train.video_refiner import (
    CoarseBatch,
    RefinerEncoders,
    RefinerTraining,
    coarse_batch,
    drawn_batch,
    train_video_refiner,
    video_refiner_loss,
)

SHAPE = UNetShape(17, 4, 32, (1,), 1, (True,), (2,), WIDTH, linear=True, vector=512)


def height(rgba: Tensor) -> Tensor:
    """A depth map that tells rows apart, and alpha from nothing."""
    rows = torch.linspace(0, 1, rgba.shape[2])[None, :, None]
    return rows + rgba[:, 3]


class Watched(VideoUNet):
    """Keeps what it was shown and predicts zeros."""

    def forward(
        self, x: Tensor, c_noise: Tensor, context: Tensor, vector: Tensor, *, still: bool = False
    ) -> Tensor:
        assert not still
        self.x, self.c_noise, self.context, self.vector = x, c_noise, context, vector
        return torch.zeros_like(x[:, :, :4])


def rings(clips: int, frames: int = 3, size: int = 16) -> RingBatch:
    rgba = torch.rand(clips, frames, 4, size, size, generator=seeded())
    rgba[:, :, 3] = (rgba[:, :, 3] > 0.5).float()
    return RingBatch(rgba, torch.full((clips,), 20.0))


def test_the_coarse_clip_begins_with_the_photo_and_lies_over_white() -> None:
    whole = rings(1)
    coarse = coarse_batch(whole, seeded()).coarse
    assert torch.equal(coarse[:, 0], whole.rgba[:, 0])
    assert not torch.equal(coarse[:, 1], whole.rgba[:, 1])
    nothing = (whole.rgba[:, 1:, 3:] == 0).expand(-1, -1, 3, -1, -1)
    assert bool((coarse[:, 1:, :3][nothing] == 1).all())


def test_depth_and_coarse_latents_lie_beside_in_that_order() -> None:
    network, encoders, batch = Watched(SHAPE), squares(), coarse_batch(rings(2), seeded())
    plain = RefinerTraining(log_augment=(-30.0, 0.0), no_embedding=0.0, no_coarse=0.0, no_depth=0.0)
    video_refiner_loss(network, RefinerEncoders(encoders, height), batch, seeded(), plain)
    assert network.x.shape == (2, 3, 17, 8, 8)
    frames = batch.coarse.flatten(0, 1)
    depth = depth_channels(height(frames), (8, 8)).unflatten(0, (2, 3))
    torch.testing.assert_close(network.x[:, :, 4:13], depth)
    latents = encoders.encode(frames, None).unflatten(0, (2, 3))
    torch.testing.assert_close(network.x[:, :, 13:], latents)
    torch.testing.assert_close(network.context[:, 0], encoders.embed(batch.rings.rgba[:, 0]))


def test_each_condition_is_left_out_once_in_ten() -> None:
    network, whole = Watched(SHAPE), rings(2000, 1, 8)
    batch = CoarseBatch(whole, whole.rgba)  # One frame a clip: the photo, which is not spoilt.
    video_refiner_loss(network, RefinerEncoders(squares(), height), batch, seeded())
    parts = (network.context, network.x[:, :, 4:13], network.x[:, :, 13:])
    for part in parts:
        # Standard deviation 0.0067.
        assert abs(float((~part.flatten(1).any(dim=1)).float().mean()) - 0.1) < 0.025


def test_the_loss_falls_on_one_object(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, encoders = VideoUNet(SHAPE), squares()
    batch = coarse_batch(
        RingSampler([tiny_set(tmp_path, objects=1)]).rings(1, 4, seeded()), seeded()
    )
    found = losses_while_trained(
        network,
        lambda rng: video_refiner_loss(network, RefinerEncoders(encoders, height), batch, rng),
        steps=15,
    )
    assert found[-1] < 0.7 * found[0]


def test_training_leaves_a_log(tmp_path: Path) -> None:
    sampler = RingSampler([tiny_set(tmp_path / "set", objects=1)])
    train_video_refiner(
        VideoUNet(SHAPE),
        sampler,
        RefinerEncoders(squares(), height),
        tmp_path,
        training=RefinerTraining(frames=4),
        settings=LoopSettings(steps=1, warmup=1),
    )
    rows = [json.loads(row) for row in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 1


def test_what_a_first_stage_draws_becomes_the_coarse_clip() -> None:
    whole, orbit = rings(1, 4, 32), KnowingOrbit(block())
    coarse = drawn_batch(whole, orbit, seeded(), draw_px=16, steps=1).coarse
    assert orbit.calls == [("draw", 4)]
    assert coarse.shape == whole.rgba.shape
    assert torch.equal(coarse[:, 0], whole.rgba[:, 0])
    # From behind, the block is blue.
    assert int(coarse[0, 2, :3, 16, 16].argmax()) == 2


def test_training_takes_what_makes_its_coarse_clips(tmp_path: Path) -> None:
    seen: list[int] = []

    def as_they_are(whole: RingBatch, rng: torch.Generator) -> CoarseBatch:
        del rng
        seen.append(len(whole.rgba))
        return CoarseBatch(whole, whole.rgba)

    train_video_refiner(
        SmallVideoRefiner(SHAPE),
        RingSampler([tiny_set(tmp_path / "set", objects=1)]),
        RefinerEncoders(squares(), height, as_they_are),
        tmp_path,
        training=RefinerTraining(frames=4, batch=2),
        settings=LoopSettings(steps=1, warmup=1),
    )
    assert seen == [2]


PICTURES = RefinerTraining(
    log_sigma=(9.0, 0.0),
    log_augment=(-30.0, 0.0),
    no_embedding=0.0,
    no_coarse=0.0,
    no_depth=0.0,
    latents=0.0,
    pictures=1.0,
    likeness=0.5,
    shown=2,
)


def shown_parts() -> RefinerEncoders:
    return RefinerEncoders(squares(), height, show=squares().decode, features=Colours())


class Colours:
    """Features that are the colours and one more, so that brightness counts."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [torch.cat([rgb.movedim(-1, 1), torch.ones_like(rgb[..., :1].movedim(-1, 1))], 1)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


def test_no_change_costs_as_much_as_the_enlarged_pictures_are_off() -> None:
    network, whole = SmallVideoRefiner(SHAPE), rings(1)
    coarse = whole.rgba.flip(-1)
    loss = video_refiner_loss(
        network, shown_parts(), CoarseBatch(whole, coarse), seeded(), PICTURES
    )
    shown, true = coarse[0, 1:], whole.rgba[0, 1:]
    off = (shown - true).square().mean(dim=(1, 2, 3))
    old, new = (x[:, :3].movedim(1, -1).contiguous() for x in (shown, true))
    unlike = perceptual_distance(Colours(), old, new)
    wanted = (off / (off + 1e-3)).mean() + 0.5 * (unlike / (unlike + 0.1)).mean()
    torch.testing.assert_close(loss.detach(), wanted, atol=2e-3, rtol=0)


def test_the_errors_of_pictures_reach_the_network_and_fall() -> None:
    torch.manual_seed(0)
    network, batch = SmallVideoRefiner(SHAPE), coarse_batch(rings(1), seeded())
    found = losses_while_trained(
        network,
        lambda rng: video_refiner_loss(network, shown_parts(), batch, rng, PICTURES),
        steps=20,
    )
    assert found[-1] < 0.98 * found[0]


def test_only_the_novel_frames_are_shown() -> None:
    network, whole = SmallVideoRefiner(SHAPE), rings(1)
    coarse = whole.rgba.clone()
    coarse[:, 0] = 1 - coarse[:, 0]  # The photo is wrong, and is not asked for.
    loss = video_refiner_loss(
        network, shown_parts(), CoarseBatch(whole, coarse), seeded(), PICTURES
    )
    assert float(loss.detach()) < 0.05  # The network works in half precision.


def test_depth_that_was_estimated_before_is_not_estimated_again() -> None:
    def refuse(rgba: Tensor) -> Tensor:
        raise AssertionError(f"asked for {len(rgba)}")

    network, whole = Watched(SHAPE), rings(1)
    depth = torch.rand(1, 3, 24, 24, generator=seeded())
    plain = RefinerTraining(no_depth=0.0)
    batch = CoarseBatch(whole, whole.rgba, depth)
    video_refiner_loss(network, RefinerEncoders(squares(), refuse), batch, seeded(), plain)
    torch.testing.assert_close(network.x[0, :, 4:13], depth_channels(depth[0], (8, 8)))


def test_training_takes_clips_that_were_made_before(tmp_path: Path) -> None:
    class Made:
        asked = 0

        def take(self, clips: int, rng: torch.Generator) -> CoarseBatch:
            self.asked += 1
            return coarse_batch(rings(clips, 4), rng)

    made = Made()
    train_video_refiner(
        SmallVideoRefiner(SHAPE),
        made,
        RefinerEncoders(squares(), height),
        tmp_path,
        training=RefinerTraining(frames=4),
        settings=LoopSettings(steps=2, warmup=1),
    )
    assert made.asked == 2
