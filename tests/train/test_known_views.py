from pathlib import Path

import pytest
import torch
from render_tiny import tiny_set
from torch import Tensor

from roundview.camera import Cameras
from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.diffusion.known_views import SmallViewModel, nearby_cameras
from roundview.diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from roundview.train.batch import ViewSampler
from roundview.train.cascade import CascadePair
from roundview.train.known_views import KnownViewsTraining, known_views_loss, train_known_views
from roundview.train.loop import LoopSettings
from roundview.views import Views

CASCADE = KnownViewsTraining(batch=2, alone_share=0.0, no_coarse_share=0.0)


def told_to(network: ViewTransformer) -> list[tuple[Tensor, ...]]:
    """Give a list in which each call's inputs will be."""
    told: list[tuple[Tensor, ...]] = []
    network.register_forward_pre_hook(lambda _, given: told.append(given))
    return told


def network() -> ViewTransformer:
    torch.manual_seed(0)
    made = ViewTransformer(ViewTransformerSize(8, latent_px=2, width=16, blocks=1, heads=1))
    torch.nn.init.normal_(made.to_velocity.weight, std=0.2)
    return made


def pair_of() -> CascadePair[ViewTransformer]:
    return CascadePair(network(), network())


def autoencoder() -> LatentAutoencoder:
    torch.manual_seed(0)
    made = LatentAutoencoder(AutoencoderSize(8, 8, (1, 1, 1), (1, 1, 1)))
    made.start_from_components(torch.rand(4, 4, 16, 16))
    return made.requires_grad_(False).eval()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def sampler(tmp_path: Path) -> ViewSampler:
    return ViewSampler([tiny_set(tmp_path / "set", objects=1)])


def test_the_refiner_is_told_the_drafts_clean_and_the_target_noisy(sampler: ViewSampler) -> None:
    pair = pair_of()
    told = told_to(pair.refiner)
    known_views_loss(pair, sampler, autoencoder(), seeded(), CASCADE)
    views, t, _, _, poses, focal = told[0]
    assert views.shape == (2, 5, 8, 2, 2)
    assert not bool(t[:, :4].any())
    assert bool((t[:, 4] > 0).all())
    assert poses.shape == (2, 6, 4, 4)
    assert focal.shape == (2, 6)
    # Photo, coarse target, three nearby, target: the draft stands where the target does.
    torch.testing.assert_close(poses[:, 1], poses[:, 5])


def test_prompts_are_what_the_small_model_draws_in_one_step(sampler: ViewSampler) -> None:
    pair, codec = pair_of(), autoencoder()
    told = told_to(pair.refiner)
    known_views_loss(pair, sampler, codec, seeded(), CASCADE)
    views, _, _, photo_rgba, poses, focal = told[0]
    base = SmallViewModel(pair.base, codec)
    batch = photo_rgba[:1].movedim(1, -1)
    at = Cameras(poses[0], focal[0] * 16, (16, 16))
    photo = Views(batch[..., :3].contiguous(), batch[..., 3].contiguous(), at[0])
    torch.testing.assert_close(nearby_cameras(at[0]).world_from_camera, poses[0, 2:5])
    asked = base.tell(base.look_at(photo), at[[1, 2, 3, 4]])
    nothing, ones = torch.zeros(4, 1, 8, 2, 2), torch.ones(4, 1)
    v = pair.base(
        nothing,
        ones,
        asked.photo_latent,
        asked.photo_rgba,
        asked.world_from_camera,
        asked.focal_ratio,
    )
    # bfloat16 products in the training, where the processor has them.
    torch.testing.assert_close(views[0, :4], -v[:, 0], rtol=2e-2, atol=2e-2)


def test_a_left_out_draft_is_at_time_one_and_nearby_views_never_are(sampler: ViewSampler) -> None:
    pair = pair_of()
    told = told_to(pair.refiner)
    without = KnownViewsTraining(batch=2, alone_share=0.0, no_coarse_share=1.0)
    known_views_loss(pair, sampler, autoencoder(), seeded(), without)
    times = told[0][1]
    assert bool((times[:, 0] == 1).all())
    assert not bool(times[:, 1:4].any())


def test_alone_it_is_told_the_photo_only(sampler: ViewSampler) -> None:
    pair = pair_of()
    told = told_to(pair.refiner)
    alone = KnownViewsTraining(batch=2, alone_share=1.0)
    known_views_loss(pair, sampler, autoencoder(), seeded(), alone)
    assert told[0][0].shape == (6, 1, 8, 2, 2)


def test_the_base_gets_no_gradient(sampler: ViewSampler) -> None:
    pair = pair_of()
    known_views_loss(pair, sampler, autoencoder(), seeded(), CASCADE).backward()
    assert all(p.grad is None for p in pair.base.parameters())
    assert any(p.grad is not None and bool(p.grad.any()) for p in pair.refiner.parameters())


def test_training_lowers_the_loss_and_moves_the_base(sampler: ViewSampler, tmp_path: Path) -> None:
    pair, codec = pair_of(), autoencoder()
    before = [p.clone() for p in pair.base.parameters()]

    def mean_loss() -> float:
        with torch.no_grad():
            found = [known_views_loss(pair, sampler, codec, seeded(k), CASCADE) for k in range(20)]
        return float(torch.stack(found).mean())

    untrained = mean_loss()
    loop = LoopSettings(steps=40, learning_rate=1e-2, warmup=5, ema=0.9)
    train_known_views(pair, sampler, codec, tmp_path, training=CASCADE, settings=loop)
    assert mean_loss() < 0.8 * untrained
    assert any(not torch.equal(a, b) for a, b in zip(before, pair.base.parameters(), strict=True))


def test_a_frozen_base_stays(sampler: ViewSampler, tmp_path: Path) -> None:
    pair = pair_of()
    before = [p.clone() for p in pair.base.parameters()]
    frozen = KnownViewsTraining(batch=2, eta=1.0, early=False)
    train_known_views(
        pair, sampler, autoencoder(), tmp_path, training=frozen, settings=LoopSettings(steps=3)
    )
    assert all(torch.equal(a, b) for a, b in zip(before, pair.base.parameters(), strict=True))
