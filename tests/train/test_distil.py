from pathlib import Path

import torch
from families_tiny import WIDTH, losses_while_trained, seeded, squares
from render_tiny import tiny_set
from torch import Tensor

from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.edm import karras_sigmas
from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.diffusion.video_unet import VideoUNet
from roundview.diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from roundview.train.batch import ViewSampler
from roundview.train.distil import (
    Distillation,
    Walk,
    cosine_walk,
    distil_video_loss,
    distil_views_loss,
    karras_walk,
    noisy,
    taught,
)
from roundview.train.rings import RingBatch

SHAPE = UNetShape(8, 4, 32, (1,), 1, (True,), (2,), WIDTH, linear=True, vector=768)
SMALL = AutoencoderSize(8, 8, (1, 1, 1), (1, 1, 1))


def walk_of(*levels: tuple[float, float]) -> Walk:
    alpha, sigma = (torch.tensor([[float(level[k])] for level in levels]) for k in (0, 1))
    return Walk(sigma, alpha, sigma)


def test_two_euler_steps_by_hand() -> None:
    # From sigma 4 to 2 to 1, the teacher seeing 0 and then 1: x = 8 -> 4 -> 1 + (4 - 1) / 2 = 2.5.
    answers = iter([torch.zeros(1, 1), torch.ones(1, 1)])
    walk = walk_of((1, 4), (1, 2), (1, 1))
    wanted = taught(lambda *_: next(answers), torch.full((1, 1), 8.0), walk)
    # One step to sigma 1: D + (8 - D) / 4 = 2.5 gives D = 2 / 3.
    torch.testing.assert_close(wanted, torch.full((1, 1), 2 / 3))


def test_a_teacher_that_is_always_right_is_believed() -> None:
    clean = torch.randn(3, 2, 4, generator=seeded())
    noise = torch.randn(3, 2, 4, generator=seeded(1))
    for make in (cosine_walk, karras_walk):
        walk = make(3, Distillation(steps=3, teacher_steps=4), seeded(2))
        wanted = taught(lambda *_: clean, noisy(clean, noise, walk), walk)
        # Karras' first level is 700: differences of large numbers.
        torch.testing.assert_close(wanted, clean, atol=1e-3, rtol=1e-3)


def test_the_student_step_leads_where_the_teacher_went() -> None:
    walk = walk_of((0.0, 1.0), (0.6, 0.8), (0.8, 0.6))
    x = torch.randn(1, 5, generator=seeded())
    there = x
    for k in (0, 1):
        d = there.tanh()
        ratio = walk.sigma[k + 1] / walk.sigma[k]
        there = walk.alpha[k + 1] * d + ratio * (there - walk.alpha[k] * d)
    wanted = taught(lambda y, _: y.tanh(), x, walk)
    torch.testing.assert_close(0.8 * wanted + 0.6 * x, there)


def test_walks_go_from_one_level_of_the_student_to_the_next() -> None:
    settings = Distillation(steps=4, teacher_steps=2)
    walk = cosine_walk(100, settings, seeded())
    assert walk.level.shape == (3, 100)
    torch.testing.assert_close(walk.level[0] - walk.level[2], torch.full((100,), 0.25))
    torch.testing.assert_close(walk.alpha**2 + walk.sigma**2, torch.ones(3, 100))
    assert walk.level[0].unique().tolist() == [0.25, 0.5, 0.75, 1.0]
    sigma = karras_walk(100, settings, seeded()).sigma
    torch.testing.assert_close(
        sigma[0].unique(), karras_sigmas(4)[:4].flip(0), rtol=1e-4, atol=1e-6
    )
    assert bool((sigma[1:] < sigma[:-1]).all())
    assert float(sigma[2].min()) == 0.0


class Told(VideoUNet):
    """Predicts the mean of what is laid beside."""

    def forward(
        self, x: Tensor, c_noise: Tensor, context: Tensor, vector: Tensor, *, still: bool = False
    ) -> Tensor:
        assert not still
        return x[:, :, 4:].mean() * torch.ones_like(x[:, :, :4])


def test_guidance_is_folded_into_what_is_taught() -> None:
    torch.manual_seed(0)
    network, encoders = Told(SHAPE), squares()
    batch = RingBatch(torch.full((2, 2, 4, 16, 16), 0.9), torch.zeros(2))
    alone = Distillation(teacher_steps=1, guidance=(1.0, 1.0))
    # Without guidance, and a step for a step, a network is its own student.
    same = distil_video_loss(network, network, encoders, batch, seeded(), alone)
    assert float(same) < 1e-4
    strong = Distillation(teacher_steps=1, guidance=(3.0, 3.0))
    assert float(distil_video_loss(network, network, encoders, batch, seeded(), strong)) > 1e-3


def test_the_loss_of_the_video_student_falls() -> None:
    torch.manual_seed(0)
    teacher, student, encoders = VideoUNet(SHAPE), VideoUNet(SHAPE), squares()
    # Not 2 frames: there the gradients of torch 2.13's bfloat16 Conv3d on the CPU are NaN.
    batch = RingBatch(torch.rand(1, 3, 4, 16, 16, generator=seeded()), torch.zeros(1))
    found = losses_while_trained(
        student, lambda rng: distil_video_loss(student, teacher, encoders, batch, rng), steps=10
    )
    assert found[-1] < 0.7 * found[0]
    assert all(p.grad is None for p in teacher.parameters())


def test_the_loss_of_the_view_student_falls(tmp_path: Path) -> None:
    torch.manual_seed(0)
    size = ViewTransformerSize(8, latent_px=2, width=32, blocks=1, heads=2)
    teacher, student = ViewTransformer(size), ViewTransformer(size)
    torch.nn.init.normal_(teacher.to_velocity.weight, std=0.1)
    autoencoder = LatentAutoencoder(SMALL).requires_grad_(False)
    batch = ViewSampler([tiny_set(tmp_path, objects=1)]).views(2, 3, seeded())
    found = losses_while_trained(
        student,
        lambda rng: distil_views_loss(student, teacher, autoencoder, batch, rng),
        steps=20,
        rate=5e-3,
    )
    assert found[-1] < 0.7 * found[0]
