"""Zero123, its cascade and our own networks as guides: `NoiseModel`s with what they must be told.

`SmallViewGuide` and `Zero123Guide` are `ViewGuide`s, told of the photograph when they are made.
`multiview` does the same for MVDream, ImageDream and Isotropic3D.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..camera import Cameras
from ..views import Views
from .ddim import ScaledLinear
from .guide import Guided, NoiseModel, shares_at
from .guide_vsd import noise_from_velocity
from .known_views import KnownTold, SmallViewModel, target_velocity
from .orbit import OrbitTold
from .view_transformer import ViewTransformer
from .zero123 import Zero123Net
from .zero123_views import Zero123Told, Zero123Views


def zero123_noise(net: Zero123Net) -> NoiseModel[Zero123Told]:
    """Let Zero123 predict the noise of views."""

    def predict(x: Tensor, t: Int[Tensor, " b"], told: Zero123Told) -> Tensor:
        return net(x, t, told.beside, told.tokens)

    return predict


class Zero123Guide:
    """A `ViewGuide` that judges each view on its own: Zero123, or the refiner of a cascade.

    Args:
        model: A public checkpoint.
        known: Views of the subject, the photograph first; see `SmallViewGuide`.
        scale: Of guidance; 3 is threestudio's for Zero123, 5 HiFi-123's.
    """

    together = 1

    def __init__(self, model: Zero123Views, known: Views, *, scale: float = 3.0) -> None:
        self.model, self.scale = model, scale
        self.known = model.look_at(known)
        self.shares = ScaledLinear().alphas_cumprod()
        self.size_px = model.options.size_px

    def encode(self, rgba: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n c y x"]:
        """Turn renderings into latents; differentiable."""
        return self.model.encode(rgba)

    def told(self, cameras: Cameras) -> Guided[Zero123Told]:
        """Tell the network the ways from the known views to these cameras."""
        given = self.model.tell(self.known, cameras)
        return Guided(zero123_noise(self.model.net), given, given.nothing(), self.scale)


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


class SmallViewGuide:
    """A `ViewGuide` that judges each view on its own: our network in Zero123's place.

    Args:
        model: The shipped orbit network, or the refiner of a cascade.
        known: Views of the subject, the photograph first: it alone, or (for the refiner) with the
            nearby views that the base drew. A cascade in distillation has no draft of the target,
            whose camera is another at each step.
    """

    together = 1

    def __init__(self, model: SmallViewModel, known: Views) -> None:
        self.model = model
        self.known = model.look_at(known)
        self.shares = cosine_shares()
        self.size_px = model.size_px

    def encode(self, rgba: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n c y x"]:
        """Turn renderings into latents; differentiable."""
        return self.model.autoencoder.encode(rgba.to(self.model.device))

    def told(self, cameras: Cameras) -> Guided[KnownTold | None]:
        """Tell the network where views are seen from.

        It was never trained without a photograph, so there is no guidance: the scale is 1, at which
        what it would say without one cancels out, and is taken to be 0 to spare the call.
        """
        return Guided(
            known_views_noise(self.model.network), self.model.tell(self.known, cameras), None, 1.0
        )


def known_views_noise(
    network: ViewTransformer, *, steps: int = 1000
) -> NoiseModel[KnownTold | None]:
    """Let our network predict the noise of views, each at its own step of `cosine_shares`."""
    shares = cosine_shares(steps)

    def predict(x: Tensor, t: Int[Tensor, " b"], told: KnownTold | None) -> Tensor:
        if told is None:
            return torch.zeros_like(x)
        velocity = target_velocity(network, x, ((t + 0.5) / steps).to(x), told)
        return noise_from_velocity(x, velocity, shares_at(shares, t, x))

    return predict
