"""Stable Diffusion as a guide: a model of single pictures that is told what they show in words.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", 2022 (versions 1.5,
2.1-base and 2.1), as Poole et al., "DreamFusion: Text-to-3D using 2D Diffusion", 2023, ask a model
of their own: the prompt says from which side the subject is seen. Where something is not in the
papers it is threestudio's (Guo et al., 2023).
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..camera import Cameras
from .ddim import ScaledLinear
from .guide import Guided, NoiseModel, shares_at
from .guide_perpneg import Side, side_of
from .guide_vsd import noise_from_velocity
from .ldm_autoencoder import LATENT_SCALE, LdmAutoencoder
from .ldm_unet import LdmUNet

SIDES: tuple[Side, ...] = ("front", "side", "back", "overhead")
GUIDANCE = 100.0
"""Scale of DreamFusion (section 3.2) and Magic123 for models of text."""


class TextGuide:
    """A `ViewGuide` that sees each rendering by itself, and is told its side in words.

    Args:
        unet: Of four channels.
        autoencoder: Stable Diffusion's.
        tell: Texts to tokens, see `clip_text.text_tokens`.
        prompt: What the pictures show; ", front view" and the like are added.
        size_px: Side of the pictures that the network was trained with.
        velocity: Whether it predicts velocities (2.1) or noise (1.5, 2.1-base).
        scale: Of guidance, from the prediction with the prompt on.
    """

    together = 1

    def __init__(
        self,
        unet: LdmUNet,
        autoencoder: LdmAutoencoder,
        tell: Callable[[Sequence[str]], Tensor],
        prompt: str,
        *,
        size_px: int = 512,
        velocity: bool = False,
        scale: float = GUIDANCE,
    ) -> None:
        self.unet = unet.eval().requires_grad_(False)
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.size_px, self.velocity, self.scale = size_px, velocity, scale
        self.shares: Float[Tensor, " steps"] = ScaledLinear().alphas_cumprod()
        texts = ["", *(f"{prompt}, {side} view" for side in SIDES)]
        # One by one: a narrow device need not hold all.
        self.nothing, *each = (tell([text]).float() for text in texts)
        self.of_side: dict[Side, Tensor] = dict(zip(SIDES, each, strict=True))

    def encode(self, rgba: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n c y x"]:
        """Turn renderings over white into scaled latents; differentiable."""
        at = next(self.autoencoder.parameters())
        return self.autoencoder.encode(rgba[:, :3].to(at) * 2 - 1).float() * LATENT_SCALE

    def told(self, cameras: Cameras) -> Guided[Tensor]:
        """Tell the model which side each camera sees; azimuth 0 is the front."""
        azimuth, elevation = cameras.azimuth_deg.tolist(), cameras.elevation_deg.tolist()
        seen = zip(azimuth, elevation, strict=True)
        given = torch.cat([self.of_side[side_of(a, e)] for a, e in seen])
        model = picture_noise(self.unet, velocity=self.velocity)
        without = self.nothing.expand_as(given)
        return Guided(model, given, without, self.scale, form="from_conditional")


def picture_noise(unet: LdmUNet, *, velocity: bool = False) -> NoiseModel[Tensor]:
    """Let Stable Diffusion predict the noise of pictures from tokens, in its own precision.

    Args:
        unet: Of four channels.
        velocity: Whether it predicts velocities.
    """
    at, shares = next(unet.parameters()), ScaledLinear().alphas_cumprod()

    def predict(x: Tensor, t: Int[Tensor, " b"], tokens: Tensor) -> Tensor:
        told = unet(x.to(at), t.to(at.device), tokens.to(at)).to(x)
        return noise_from_velocity(x, told, shares_at(shares, t, x)) if velocity else told

    return predict
