"""Zero123 and our own orbit model as guides: `NoiseModel`s with what they must be told.

`multiview` does the same for MVDream, ImageDream and Isotropic3D.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from ..camera import Cameras
from ..frames import zero123_from_cameras
from ..image import Foreground
from .clip import ClipTower, clip_input
from .guide import Guided, NoiseModel, shares_at
from .guide_vsd import noise_from_velocity
from .ldm_autoencoder import LdmAutoencoder
from .orbit import OrbitTold
from .view_transformer import ViewTransformer
from .zero123 import Zero123Net


@dataclass(frozen=True, eq=False)
class Zero123Told:
    """What Zero123 is told of each view.

    Attributes:
        beside: Latents of the photograph, not scaled.
        tokens: Its embedding and the way from its camera.
    """

    beside: Float[Tensor, "v c h w"]
    tokens: Float[Tensor, "v k d"]


def zero123_noise(net: Zero123Net) -> NoiseModel[Zero123Told]:
    """Let Zero123 predict the noise of views."""

    def predict(x: Tensor, t: Int[Tensor, " b"], told: Zero123Told) -> Tensor:
        return net(x, t, told.beside, told.tokens)

    return predict


@torch.no_grad()
def zero123_guide(
    net: Zero123Net,
    autoencoder: LdmAutoencoder,
    tower: ClipTower,
    subject: Foreground,
    cameras: Cameras,
    photo_camera: Cameras,
    *,
    scale: float = 5.0,
    size_px: int = 256,
) -> Guided[Zero123Told]:
    """Give Zero123 as a guide of views from some cameras.

    Args:
        net: The UNet with its projection.
        autoencoder: Stable Diffusion's.
        tower: CLIP's ViT-L/14.
        subject: Square; seen from `photo_camera`.
        cameras: Of the views.
        photo_camera: One.
        scale: Of guidance; 5 is HiFi-123's, 3 threestudio's.
        size_px: Side of the pictures that the model was trained with.
    """
    at = net.cc_projection.weight
    photo = rearrange(subject.resized((size_px, size_px)).over(), "h w c -> 1 c h w") * 2 - 1
    prepared = clip_input(photo, side=tower.shape.side, antialias=False)
    embedding = tower(prepared.to(at))[:, None].expand(len(cameras), -1, -1)
    pose = zero123_from_cameras(cameras, photo_camera)[:, None].to(at)
    beside = autoencoder.encode(photo.to(at)).expand(len(cameras), -1, -1, -1)
    given = Zero123Told(beside, net.tokens(embedding, pose))
    without = Zero123Told(torch.zeros_like(beside), torch.zeros_like(given.tokens))
    return Guided(zero123_noise(net), given, without, scale)


def cosine_shares(steps: int = 1000) -> Float[Tensor, " steps"]:
    """Give the orbit model's noise as `alphas_cumprod`: cos^2(pi t / 2) at the steps' middles."""
    middle = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    return (middle * math.pi / 2).cos().square()


def orbit_noise(network: ViewTransformer, *, steps: int = 1000) -> NoiseModel[OrbitTold]:
    """Let our orbit model, which predicts velocities, predict the noise of an object's views.

    All views must be at the same step of `cosine_shares`.
    """
    shares = cosine_shares(steps)

    def predict(x: Tensor, t: Int[Tensor, " b"], told: OrbitTold) -> Tensor:
        if not bool((t == t[0]).all()):
            raise ValueError("views of an object are drawn at one noise level: draw t together")
        time = ((t[:1] + 0.5) / steps).to(x)
        velocity = network(
            x[None],
            time,
            told.photo_latent,
            told.photo_rgba,
            told.world_from_camera,
            told.focal_ratio,
        )[0]
        return noise_from_velocity(x, velocity, shares_at(shares, t, x))

    return predict
