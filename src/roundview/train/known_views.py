"""Train our small cascade: a view transformer that prompts itself with views it draws itself.

Chen et al., "Cascade-Zero123: One Image to Highly Consistent 3D with Self-Prompted Nearby Views",
2024, sections 3.2 and 3.3, as `cascade` has it for Zero123's own network. Differs from the paper:
views are told by their latents and poses instead of one embedding each; the base draws in one step
from pure noise, which a small network is best at; some steps go without prompts, so that the
network that the base follows still knows how to draw from the photo alone.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..camera import Cameras
from ..diffusion.encoders import LatentAutoencoder
from ..diffusion.known_views import nearby_cameras
from ..diffusion.noise import CosineSchedule, v_from_clean
from ..diffusion.view_transformer import ViewTransformer
from ..models import Report, silent
from .batch import ViewBatch, ViewSampler
from .cascade import CascadePair
from .encoding import coin, device_of
from .loop import LoopSettings, half_precision, train


@dataclass(frozen=True)
class KnownViewsTraining:
    """How the small refiner is trained; the defaults are ours unless a line says otherwise.

    Attributes:
        batch: Objects a step.
        pure_noise_share: Share of the samples at t = 1, as the base was trained at last.
        alone_share: Share of the steps that draw from the photo alone.
        no_coarse_share: Share of the samples without the coarse target; nearby views are never left
            out (the released trainer's, whose embeddings are dropped so).
        eta: Share of itself that the base keeps at each step, at most (equation 13; the released
            trainer's); 1 with `early` off leaves the base frozen.
        early: Let the base follow faster at first, as in `CascadeTraining`.
    """

    batch: int = 6
    pure_noise_share: float = 0.65
    alone_share: float = 0.2
    no_coarse_share: float = 0.10
    eta: float = 0.9999
    early: bool = True


@dataclass(frozen=True, eq=False)
class _Scene:
    """The photo, the target and where the prompts stand; the photo comes first in the poses."""

    photo_latent: Float[Tensor, "b c p p"]
    photo_rgba: Float[Tensor, "b 4 h h"]
    target: Float[Tensor, "b 1 c p p"]
    target_pose: Float[Tensor, "b 2 4 4"]
    every_pose: Float[Tensor, "b 6 4 4"]
    focal_ratio: Float[Tensor, "b 1"]


def train_known_views(
    pair: CascadePair[ViewTransformer],
    sampler: ViewSampler,
    autoencoder: LatentAutoencoder,
    directory: Path,
    *,
    training: KnownViewsTraining = KnownViewsTraining(),
    settings: LoopSettings = LoopSettings(steps=6000, learning_rate=3e-4),  # noqa: B008  frozen
    resume: bool = False,
    report: Report = silent,
) -> CascadePair[ViewTransformer]:
    """Train the refiner of a pair whose networks begin with the orbit model's weights."""
    autoencoder.requires_grad_(False).eval()

    def loss(module: nn.Module, rng: Generator) -> Tensor:
        assert isinstance(module, CascadePair)
        module.follow(training)
        return known_views_loss(module, sampler, autoencoder, rng, training)

    train(pair, loss, directory, settings=settings, resume=resume, report=report)
    return pair


def known_views_loss(
    pair: CascadePair[ViewTransformer],
    sampler: ViewSampler,
    autoencoder: LatentAutoencoder,
    rng: Generator,
    training: KnownViewsTraining = KnownViewsTraining(),
) -> Float[Tensor, ""]:
    """Give the mean squared error of the target's velocity, channels weighted as the orbit's."""
    alone = float(torch.rand((), generator=rng)) < training.alone_share
    # A third of the tokens, so three times the objects for the same work.
    scene = _scene(
        sampler.views((3 if alone else 1) * training.batch, 2, rng), autoencoder, device_of(pair)
    )
    b, device = len(scene.target), scene.target.device
    t = torch.where(coin(b, training.pure_noise_share, rng), 1.0, torch.rand(b, generator=rng))
    noise = torch.randn(scene.target.shape, generator=rng).to(device)
    noisy = CosineSchedule().noised(scene.target, noise, t.to(device))
    wanted = v_from_clean(CosineSchedule(), scene.target, noise, t.to(device))
    with half_precision(device.type):
        if alone:
            v = _asked(pair.refiner, scene, noisy, t[:, None], scene.target_pose)
        else:
            prompts = _prompts(pair.base, scene)
            times = torch.zeros(b, 5)
            times[:, 0] = coin(b, training.no_coarse_share, rng).float()  # At 1 a view is unknown.
            times[:, 4] = t
            v = _asked(pair.refiner, scene, torch.cat([prompts, noisy], 1), times, scene.every_pose)
    weight = autoencoder.channel_weight()[:, None, None]
    return (weight * (v[:, -1:] - wanted).square()).mean()


@torch.no_grad()
def _prompts(base: ViewTransformer, scene: _Scene) -> Float[Tensor, "b 4 c p p"]:
    """Draw the prompts with one call: every view of every object on its own, from no signal.

    At pure noise the velocity is minus the clean latent, and no noise enters the network.
    """
    b = len(scene.target)
    poses = scene.every_pose
    each = torch.stack([poses[:, :1].expand(-1, 4, -1, -1), poses[:, 1:5]], dim=2)
    v = base(
        torch.zeros_like(scene.target).repeat_interleave(4, dim=0),
        torch.ones(4 * b, device=poses.device),
        scene.photo_latent.repeat_interleave(4, dim=0),
        scene.photo_rgba.repeat_interleave(4, dim=0),
        rearrange(each, "b p v i j -> (b p) v i j"),
        scene.focal_ratio.repeat_interleave(4, dim=0).expand(-1, 2),
    )
    return rearrange(-v, "(b p) 1 c y x -> b p c y x", b=b)


def _asked(
    network: ViewTransformer,
    scene: _Scene,
    views: Float[Tensor, "b v c p p"],
    times: Float[Tensor, "b v"],
    poses: Float[Tensor, "b v+1 4 4"],
) -> Float[Tensor, "b v c p p"]:
    return network(
        views,
        times.to(views.device),
        scene.photo_latent,
        scene.photo_rgba,
        poses,
        scene.focal_ratio.expand(-1, poses.shape[1]),
    )


@torch.no_grad()
def _scene(batch: ViewBatch, autoencoder: LatentAutoencoder, device: torch.device) -> _Scene:
    """Encode photo and target, and place the prompts: [photo, coarse target, nearby, target]."""
    b, size_px = len(batch.rgba), batch.rgba.shape[2]
    pictures = rearrange(batch.rgba, "b v h w c -> (b v) c h w").to(device)
    with half_precision(device.type):
        latents = autoencoder.encode(pictures.contiguous(memory_format=torch.channels_last))
    latents = rearrange(latents.float(), "(b v) c y x -> b v c y x", b=b)
    photo = Cameras(
        batch.world_from_camera[:, 0], batch.focal_ratio[:, 0] * size_px, (size_px, size_px)
    )
    nearby = nearby_cameras(photo).world_from_camera
    input_pose, target_pose = batch.world_from_camera.split(1, dim=1)
    every = [input_pose, target_pose, rearrange(nearby, "(b p) i j -> b p i j", b=b), target_pose]
    return _Scene(
        latents[:, 0],
        rearrange(batch.rgba[:, 0], "b h w c -> b c h w").to(device),
        latents[:, 1:].contiguous(),
        batch.world_from_camera.to(device),
        torch.cat(every, dim=1).to(device),
        batch.focal_ratio[:, :1].to(device),
    )
