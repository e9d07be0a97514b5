from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from roundview.data.objects import ObjectFile
from roundview.data.procedural import procedural_object
from roundview.data.shards import ShardSettings, render_shards
from roundview.diffusion.depth_head import DepthDecoder, DepthNetwork, DepthSize
from roundview.train.depth import (
    VIEWS,
    DepthBatch,
    DepthSet,
    EstimatorTraining,
    depth_cameras,
    depth_loss,
    draw,
    held_out,
    read_depth_set,
    rendered_depth_set,
    scale_free_loss,
    stretched,
    train_depth,
)
from roundview.train.loop import LoopSettings


class Halved:
    """Features that are the picture at a half and a quarter of its size."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        x = rgb.permute(0, 3, 1, 2)
        return [nn.functional.avg_pool2d(x, 2), nn.functional.avg_pool2d(x, 4)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


@pytest.fixture(scope="module")
def ball(tmp_path_factory: pytest.TempPathFactory) -> DepthSet:
    """One generated object, read from a shard."""
    made = ShardSettings(size_px=16, shard_objects=1, supersample=1, seed=4)
    folder = tmp_path_factory.mktemp("set")
    return read_depth_set(render_shards(1, folder, cameras=depth_cameras, settings=made))


def test_the_set_has_the_geometry_of_the_pictures(ball: DepthSet) -> None:
    assert ball.rgba.shape == (VIEWS, 16, 16, 4)
    inside = ball.inverse > 0
    assert ((ball.rgba[..., 3] > 0) == inside).all()
    # At distance 1.5 an object of longest side 1 lies between 1.5 - 0.87 and 1.5 + 0.87.
    assert 1.5 / 2.37 < ball.inverse[inside].min() < ball.inverse[inside].max() < 1.5 / 0.63
    length = np.linalg.norm(ball.normal[inside].astype(float) / 127, axis=-1)
    np.testing.assert_allclose(length, 1, atol=0.02)  # 8 bits
    assert (ball.normal[inside][:, 2].mean()) < 0  # Faces look at the camera, which looks along +z.
    assert (np.abs(ball.elevation_deg) < 75).all()


def test_a_stretched_object_is_centred_and_keeps_what_is_up() -> None:
    mesh = procedural_object(np.random.default_rng(0))
    first, second = stretched([ObjectFile("a", lambda: mesh)] * 2, seed=3)
    assert first.name == "a stretched"
    vertices = first.read().vertices
    high, low = vertices.amax(dim=0), vertices.amin(dim=0)
    torch.testing.assert_close(high + low, torch.zeros(3), rtol=0, atol=1e-5)
    assert float((high - low).max()) == pytest.approx(1.0, abs=1e-5)
    assert not torch.allclose(vertices, second.read().vertices)
    torch.testing.assert_close(vertices, first.read().vertices, rtol=0, atol=0)
    # Each coordinate is a multiple of the old one, and larger where that was larger.
    slope = [np.polyfit(mesh.vertices[:, k], vertices[:, k], 1) for k in range(3)]
    fitted = np.stack([np.polyval(s, mesh.vertices[:, k]) for k, s in enumerate(slope)], axis=1)
    np.testing.assert_allclose(vertices, fitted, atol=1e-4)
    assert all(s[0] > 0.4 for s in slope)


def test_scans_are_rendered_oftener_and_everything_stretched_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    meshes = {name: procedural_object(rng) for name in ("gso/cup", "kenney/tree")}
    objects = [ObjectFile(name, lambda mesh=mesh: mesh) for name, mesh in meshes.items()]
    data = rendered_depth_set(objects, tmp_path, size_px=8)
    scans, drawn, generated = 2 * 4, 2 * 1, 1
    assert len(data) == VIEWS * (scans + drawn + generated)


def test_a_tenth_is_held_out() -> None:
    share = np.mean([held_out(f"object/{k}") for k in range(2000)])
    assert abs(share - 26 / 256) < 0.02


def test_no_shards_are_refused() -> None:
    with pytest.raises(ValueError, match="no objects"):
        read_depth_set([])


def test_scale_and_shift_are_free() -> None:
    truth = torch.rand(2, 8, 8, generator=Generator().manual_seed(0))
    inside = torch.ones(2, 8, 8, dtype=torch.bool)
    assert float(scale_free_loss(5 * truth + 2, truth, inside, gradient=0.5)) < 1e-5
    assert float(scale_free_loss(-truth, truth, inside, gradient=0.5)) > 0.5


def test_scale_free_loss_is_worked_by_hand() -> None:
    truth = torch.tensor([[[0.0, 1.0, 2.0]]])  # median 1, deviation 2/3: -1.5, 0, 1.5
    predicted = torch.tensor([[[1.0, 0.0, 2.0]]])  # 0, -1.5, 1.5: off by 1.5, -1.5, 0
    inside = torch.ones(1, 1, 3, dtype=torch.bool)
    plain = (1.5 + 1.5) / (2 * 3)
    assert float(scale_free_loss(predicted, truth, inside, gradient=0.0)) == pytest.approx(plain)
    # Differences 3 and 1.5 over 3 pixels; at step 2 pixels 0 and 2 remain: 1.5 over 2.
    steep = plain + 4.5 / 3 + 1.5 / 2
    assert float(scale_free_loss(predicted, truth, inside, gradient=1.0)) == pytest.approx(steep)


def test_what_is_outside_does_not_count() -> None:
    truth, inside = torch.rand(1, 6, 6), torch.zeros(1, 6, 6, dtype=torch.bool)
    inside[:, 1:5, 1:5] = True
    other = torch.where(inside, truth, 100.0)
    assert float(scale_free_loss(other, truth, inside, gradient=0.5)) < 1e-5
    nothing = torch.zeros_like(inside)
    assert float(scale_free_loss(other, truth, nothing, gradient=0.5)) == 0


def test_the_truth_has_the_least_loss() -> None:
    inverse = torch.rand(1, 8, 8) + 0.5
    normal = nn.functional.normalize(torch.randn(1, 8, 8, 3), dim=-1)
    batch = DepthBatch(torch.rand(1, 8, 8, 3), inverse, normal, torch.zeros(1))
    right = torch.cat(
        [(inverse - 1)[:, None], normal.movedim(-1, 1), 20 * torch.ones(1, 1, 8, 8)], 1
    )
    assert float(depth_loss(right, batch)) < 1e-4
    wrong = right.clone()
    wrong[:, 1:4] *= -1
    weight = EstimatorTraining().normal
    assert float(depth_loss(wrong, batch)) == pytest.approx(2 * weight, abs=1e-3)


def test_drawn_pictures_keep_their_geometry(ball: DepthSet) -> None:
    plain = EstimatorTraining(batch=12, zoom=(1.0, 1.0), blurred=0.0)
    batch = draw(ball, plain, Generator().manual_seed(0))
    ink, inside = (batch.rgb < 1).any(dim=-1), batch.inverse > 0
    # Bilinear colour reaches a pixel further than nearest geometry.
    assert float((ink & inside).sum()) > 0.9 * float(inside.sum())
    assert float((ink & ~inside).sum()) < 0.8 * float(inside.sum())
    again = draw(ball, plain, Generator().manual_seed(0))
    torch.testing.assert_close(again.rgb, batch.rgb, rtol=0, atol=0)


def test_a_mirrored_picture_has_mirrored_normals() -> None:
    normal = np.zeros((1, 8, 8, 3), np.int8)
    normal[..., :4, 0], normal[..., 4:, 0] = -127, 127  # Left half looks left, right half right.
    data = DepthSet(
        np.zeros((1, 8, 8, 4), np.uint8), np.ones((1, 8, 8), np.float16), normal, np.zeros(1)
    )
    batch = draw(data, EstimatorTraining(batch=16, zoom=(1.0, 1.0)), Generator().manual_seed(1))
    left = batch.normal[:, 3:5, 2, 0]  # Also after the mirror the left half looks left.
    assert bool((left <= 0).all())
    assert bool((left < -0.9).any())


def test_the_loss_falls(ball: DepthSet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    decoder = DepthDecoder(DepthSize(maps=(3, 3), widths=(8, 16), blocks=(1, 1)))
    network = DepthNetwork(Halved(), decoder)
    training = EstimatorTraining(batch=4, zoom=(1.0, 1.0), blurred=0.0)
    batch = draw(ball, training, Generator().manual_seed(5))
    before = float(depth_loss(network(batch.rgb), batch, training).detach())
    settings = LoopSettings(steps=40, learning_rate=1e-2, warmup=2, ema=0.8)
    train_depth(network, ball, tmp_path, training=training, settings=settings)
    after = float(depth_loss(network(batch.rgb), batch, training).detach())
    assert after < 0.8 * before
