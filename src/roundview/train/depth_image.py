"""Train an image model that is told its picture's depth.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", 2022, as Stability
AI's `stable-diffusion-2-depth` has it: a fifth input channel holds the depth, each picture's in
[-1, 1]. That one reads text; ours reads the embedding of another view of the object, left out for a
tenth of the pictures, as is the depth. Depth comes from any estimator, or from the renderer.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..diffusion.depth2image import depth_map
from ..diffusion.ldm_unet import LdmUNet
from ..diffusion.noise import randn
from ..diffusion.rgnv_views import spread_depth
from ..diffusion.small_depth_image import no_depth
from ..models import Report, silent
from .batch import ViewSampler
from .encoding import Encoders, coin, device_of, noisy_latents, random_steps, without
from .loop import LoopSettings, half_precision, train
from .video_refiner import RefinerEncoders


@dataclass(frozen=True)
class DepthTraining:
    """How the model is trained.

    Attributes:
        batch: Pictures a step.
        no_embedding: Share of the pictures whose embedding is zero.
        no_depth: Share of the pictures whose depth is left out: -1 everywhere. Ours, so that the
            model can also be asked without depth.
    """

    batch: int = 32
    no_embedding: float = 0.1
    no_depth: float = 0.1


@dataclass(frozen=True, eq=False)
class DepthBatch:
    """Pictures, their depth, and another view of each object.

    Attributes:
        shown: The view that tells what the object is: colour over white and alpha, [0, 1].
        picture: The view to draw, alike.
        depth: Inverse depth of the picture, near is large, of any scale and shift; what it is
            outside the subject does not count.
    """

    shown: Float[Tensor, "b 4 h w"]
    picture: Float[Tensor, "b 4 h w"]
    depth: Float[Tensor, "b h w"]


def train_depth_image(
    network: LdmUNet,
    sampler: ViewSampler,
    encoders: RefinerEncoders,
    directory: Path,
    *,
    training: DepthTraining = DepthTraining(),
    settings: LoopSettings = LoopSettings(steps=10000, learning_rate=1e-4),  # noqa: B008  frozen
    resume: bool = False,
    report: Report = silent,
) -> LdmUNet:
    """Train on pairs of views; `surgery.widened` makes the fifth channel of a plain UNet."""

    def loss(module: nn.Module, rng: Generator) -> Tensor:
        assert isinstance(module, LdmUNet)
        views = sampler.views(training.batch, 2, rng)
        shown, picture = rearrange(views.rgba, "b v h w c -> v b c h w").unbind(0)
        batch = DepthBatch(shown, picture, encoders.depth_maps(picture))
        return depth_image_loss(module, encoders.pictures, batch, rng, training)

    train(network, loss, directory, settings=settings, resume=resume, report=report)
    return network


def depth_image_loss(
    network: LdmUNet,
    encoders: Encoders,
    batch: DepthBatch,
    rng: Generator,
    training: DepthTraining = DepthTraining(),
) -> Float[Tensor, ""]:
    """Give the mean squared error of the predicted noise at random steps."""
    device, count = device_of(network), len(batch.depth)
    clean = encoders.scale * encoders.encode(batch.picture, rng).to(device)
    tokens = without(coin(count, training.no_embedding, rng), encoders.embed(batch.shown).cpu())
    side = (int(clean.shape[-2]), int(clean.shape[-1]))
    spread = spread_depth(batch.depth.to(batch.picture), batch.picture[:, 3])
    depth = depth_map(spread, side).to(device)
    untold = coin(count, training.no_depth, rng).to(device)[:, None, None, None]
    depth = torch.where(untold, no_depth(depth), depth)
    noise = randn(tuple(clean.shape), rng).to(device)
    step = random_steps(count, rng).to(device)
    x = torch.cat([noisy_latents(clean, noise, step), depth], dim=1)
    with half_precision(device.type):
        predicted = network(x, step, tokens.to(device)[:, None])
    return encoders.distance(predicted, noise).mean()
