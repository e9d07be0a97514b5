"""Four views at once: MVDream, ImageDream and Isotropic3D as models that draw and that guide.

Shi et al., "MVDream: Multi-view Diffusion for 3D Generation", 2023; Wang and Shi, "ImageDream:
Image-Prompt Multi-view Diffusion for 3D Generation", 2023; Liu et al., "Isotropic3D: Image-to-3D
Generation Based on a Single CLIP Embedding", 2024.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Generator, Tensor

from ..camera import Cameras
from ..frames import isotropic3d_from_angles, mvdream_from_cameras
from ..image import Foreground, resize
from ..models import FeatureModel, Report, silent
from ..views import Views
from .clip import ClipTower, clip_input
from .ddim import DdimPlan, ddim, ddim_plan
from .encoders import LatentAutoencoder
from .guide import Guided, NoiseModel, noised
from .imagedream import ImageDreamUNet
from .invert import steps_of
from .ldm_autoencoder import LATENT_SCALE, LdmAutoencoder
from .ldm_unet import LdmUNet
from .noise import randn
from .video_orbit import alpha_over_white
from .view_groups import equal_turns, in_groups

Angles: TypeAlias = Literal["once", "twice", "in_a_loop"]
"""How often a model's cameras had their degrees turned into radians.

once: MVDream, ImageDream. twice: Isotropic3D's weights, in training and in its guidance. in_a_loop:
Isotropic3D's 2D demo, where view k has its elevation turned k times more.
"""


@dataclass(frozen=True, eq=False)
class ViewsTold:
    """What a model is told of the views of one object or more.

    Attributes:
        tokens: Of a prompt or a picture, for each view.
        camera: Of each view, see `camera_vectors`.
        features: ImageDream only: hidden states of the picture in the image tower, for each view.
        picture: ImageDream's pixel mode only: scaled latents of the picture, for each object.
    """

    tokens: Float[Tensor, "v k d"]
    camera: Float[Tensor, "v 16"]
    features: Float[Tensor, "v q f"] | None = None
    picture: Float[Tensor, "o c h w"] | None = None

    def without_picture(self) -> "ViewsTold":
        """Say nothing of the picture, as guidance needs it: zeros. Cameras stay."""
        return replace(
            self,
            tokens=torch.zeros_like(self.tokens),
            features=None if self.features is None else torch.zeros_like(self.features),
            picture=None if self.picture is None else torch.zeros_like(self.picture),
        )


def camera_vectors(cameras: Cameras, angles: Angles) -> Float[Tensor, "n 16"]:
    """Give the camera vectors that a model was trained with.

    Args:
        cameras: Of any distance and lens; both are lost.
        angles: See `Angles`. Unlike true angles, those turned twice depend on the turn they are
            counted from: azimuths are taken from [0, 360).
    """
    if angles == "once":
        return mvdream_from_cameras(cameras)
    elevation = cameras.elevation_deg
    if angles == "in_a_loop":
        once_more = torch.arange(len(elevation)).to(elevation)
        elevation = elevation * (math.pi / 180) ** once_more
    return isotropic3d_from_angles(cameras.azimuth_deg, elevation)


def ldm_views(unet: LdmUNet, *, frames: int = 4) -> NoiseModel[ViewsTold]:
    """Let MVDream's or Isotropic3D's UNet predict the noise of all views of an object together."""
    at = next(unet.parameters())

    def predict(x: Tensor, t: Int[Tensor, " b"], told: ViewsTold) -> Tensor:
        noise = unet(
            x.to(at), t.to(at.device), told.tokens.to(at), vector=told.camera.to(at), frames=frames
        )
        return noise.to(x)

    return predict


def imagedream_views(unet: ImageDreamUNet, *, frames: int = 4) -> NoiseModel[ViewsTold]:
    """Let ImageDream's UNet predict the noise of all views; with a picture, in pixel mode.

    The picture is one view more, with a camera of zeros; its own noise is dropped.
    """

    def with_picture(values: Tensor, fill: float | None = None) -> Tensor:
        each = values.unflatten(0, (-1, frames))
        last = each[:, -1:] if fill is None else torch.full_like(each[:, -1:], fill)
        return torch.cat([each, last], dim=1).flatten(0, 1)

    def predict(x: Tensor, t: Int[Tensor, " b"], told: ViewsTold) -> Tensor:
        if told.features is None:
            raise ValueError("ImageDream wants features of the picture")
        if told.picture is None:
            return unet(x, t, told.tokens, told.camera, told.features, frames=frames)
        noise = unet(
            with_picture(x),
            with_picture(t),
            with_picture(told.tokens),
            with_picture(told.camera, 0.0),
            with_picture(told.features),
            frames=frames + 1,
            picture=told.picture,
        )
        return noise.unflatten(0, (-1, frames + 1))[:, :-1].flatten(0, 1)

    return predict


Told: TypeAlias = Callable[[Cameras], tuple[ViewsTold, ViewsTold]]
"""told(cameras) -> what the model is told, and what for guidance it is told instead."""
Tell: TypeAlias = Callable[[Foreground], Told]
"""tell(subject) looks at the picture, once for all cameras."""


def tell_isotropic3d(tower: ClipTower, *, angles: Angles = "twice") -> Tell:
    """Tell Isotropic3D: one embedding of the picture over white, and the cameras.

    Args:
        tower: OpenCLIP's ViT-H/14; its embedding is not normalised.
        angles: See `Angles`.
    """
    at = next(tower.parameters())

    @torch.no_grad()
    def tell(subject: Foreground) -> Told:
        # The original's pictures have 256 px before they are brought to the tower's size.
        rgb = rearrange(subject.resized((256, 256)).over(), "h w c -> 1 c h w") * 2 - 1
        prepared = clip_input(rgb, side=tower.shape.side, antialias=True)
        token = tower(prepared.to(at))[:, None]
        return lambda cameras: _told(token, camera_vectors(cameras, angles).to(at))

    return tell


def tell_embedding(features: FeatureModel) -> Tell:
    """Tell our small model: one embedding of the picture over white, and the cameras as they are.

    Args:
        features: Its embedding is the token.
    """

    @torch.no_grad()
    def tell(subject: Foreground) -> Told:
        # As in its training, which saw pictures of 64 px.
        rgb = subject.resized((SMALL.size_px, SMALL.size_px)).over()[None]
        token = features.embedding(rgb)[:, None]
        return lambda cameras: _told(token, camera_vectors(cameras, "once"))

    return tell


def _told(
    token: Float[Tensor, "1 1 d"], camera: Float[Tensor, "v 16"]
) -> tuple[ViewsTold, ViewsTold]:
    told = ViewsTold(token.expand(len(camera), -1, -1), camera)
    return told, told.without_picture()


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """Turns pictures in [-1, 1] (channels first) into the model's latents, and back.

    Attributes:
        encode: Differentiable.
        decode: Undoes it.
        alpha: Whether pictures have alpha as a fourth channel; they are over white in any case.
    """

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    alpha: bool = False


def scaled_autoencoder(net: LdmAutoencoder) -> Autoencoder:
    """Let Stable Diffusion's autoencoder serve, with the factor on its latents."""
    at = next(net.parameters())
    return Autoencoder(
        lambda picture: (net.encode(picture.to(at)) * LATENT_SCALE).float(),
        lambda latents: net.decode(latents.to(at) / LATENT_SCALE).float(),
    )


def small_autoencoder(net: LatentAutoencoder) -> Autoencoder:
    """Let our own autoencoder serve, whose latents have unit variance and which keeps alpha."""
    at = next(net.parameters())
    return Autoencoder(
        lambda picture: net.encode(picture.to(at) / 2 + 0.5),
        lambda latents: net.decode(latents.to(at)) * 2 - 1,
        alpha=True,
    )


@dataclass(frozen=True)
class KnownLevels:
    """Where a model is a guide, as lowest and highest shares of the training steps.

    A model that was trained briefly follows, at the levels in between, what it is shown.

    Attributes:
        shape: Its condition tells it of shape here.
        detail: It leaves the shape alone here, and draws it finer.
    """

    shape: tuple[float, float]
    detail: tuple[float, float]


@dataclass(frozen=True)
class MultiviewSettings:
    """How views are drawn; Isotropic3D's defaults.

    Attributes:
        frames: Views an object.
        size_px: Side of the pictures.
        latent_px: Side of the latents.
        channels: Of the latents.
        guidance: Scale.
        eta: Share of DDPM's fresh noise.
        guiding: Scale when the model guides a distillation; None takes `guidance`.
        levels: The noise levels at which the model should be asked to guide; None for any.
    """

    frames: int = 4
    size_px: int = 256
    latent_px: int = 32
    channels: int = 4
    guidance: float = 10.0
    eta: float = 1.0
    guiding: float | None = None
    levels: KnownLevels | None = None


SMALL = MultiviewSettings(
    size_px=64,
    latent_px=8,
    channels=24,
    guidance=3.0,
    eta=0.0,
    guiding=1.0,
    levels=KnownLevels(shape=(0.85, 0.98), detail=(0.02, 0.15)),
)
"""Our small model's. Guidance of 3 against 1, on six training objects left out, 30 steps, at step
1,753 of its 2,518: 13.6 dB against 12.1.

As a guide it was shown a ball of about their size through noise, and told of four views of eight
training objects left out. Of the ball's area it gave back 0.99 at level 0.15, 0.82 at 0.45, 0.81 at
0.6 and 0.83 at 0.75 (with guidance of 3 0.96, 0.74, 0.66 and 0.73), no more like the truth than the
ball was (13.9 dB); at 0.9 14.2 dB. A distillation that sinks through those levels wears its field
away: of a dinosaur 400 steps left an opacity of 0.06, where 200 at the levels of shape left 0.97.
"""


class MultiviewModel:
    """Draws views in groups: as many as the model was trained for, at equal turns, one elevation.

    An `OrbitModel` for cameras that look at the origin. Pictures come over white; alpha is what
    differs from it, unless the autoencoder keeps it.
    """

    def __init__(
        self,
        model: NoiseModel[ViewsTold],
        autoencoder: Autoencoder,
        tell: Tell,
        settings: MultiviewSettings = MultiviewSettings(),
    ) -> None:
        self.model, self.autoencoder, self.tell, self.settings = model, autoencoder, tell, settings

    def guided(self, told: Told, cameras: Cameras) -> Guided[ViewsTold]:
        """Give the model with its condition: a sampler's predictor, or a guide's.

        Args:
            told: What `tell` gave for the subject.
            cameras: Whole groups.

        Raises:
            ValueError: If they are not.
        """
        self._check(cameras)
        return Guided(self.model, *told(cameras), self.settings.guidance)

    def draw(
        self,
        subject: Foreground,
        cameras: Cameras,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        """Draw the views from noise by DDIM.

        Args:
            subject: Square picture; its own camera is azimuth 0.
            cameras: Any; what a camera's group lacks is drawn as well and dropped.
            rng: CPU generator of the noise.
            photo_elevation_deg: Not asked by these models.
            steps: Network calls.
            report: Called with the fraction done.
        """
        del photo_elevation_deg
        plan = ddim_plan(steps, eta=self.settings.eta)
        whole, wanted = in_groups(cameras, self.settings.frames)
        start = randn(self._shape(whole), rng)
        drawn = self._drawn(subject, whole, start, plan, rng, report)[wanted]
        return Views(drawn.rgb, drawn.alpha, cameras)

    def redraw(
        self,
        subject: Foreground,
        views: Views,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        noise_level: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        """Add noise to views up to `noise_level` in (0, 1] of the training steps; draw them again.

        Raises:
            ValueError: If the level or the cameras are out of the question.
        """
        del photo_elevation_deg
        if not 0 < noise_level <= 1:
            raise ValueError(f"noise_level must lie in (0, 1], got {noise_level}")
        side = self.settings.size_px
        rgba = torch.cat([views.rgb, views.alpha[..., None]], dim=-1)
        picture = rearrange(resize(rgba, (side, side)), "n h w c -> n c h w") * 2 - 1
        with torch.no_grad():
            clean = self.autoencoder.encode(picture[:, : 4 if self.autoencoder.alpha else 3])
        whole = ddim_plan(min(math.ceil(steps / noise_level), 1000), eta=self.settings.eta)
        plan = steps_of(whole, len(whole.times) - min(steps, len(whole.times)))
        noise = randn(self._shape(views.cameras), rng).to(clean)
        start = noised(clean, noise, plan.alpha[0].to(clean))
        return self._drawn(subject, views.cameras, start, plan, rng, report)

    @torch.no_grad()
    def _drawn(
        self,
        subject: Foreground,
        cameras: Cameras,
        start: Tensor,
        plan: DdimPlan,
        rng: Generator,
        report: Report,
    ) -> Views:
        guided = self.guided(self.tell(subject), cameras)
        latents = ddim(guided, start.to(guided.given.tokens), plan, rng=rng, report=report)
        pictures = self.autoencoder.decode(latents).float().cpu()
        drawn = rearrange((pictures + 1) / 2, "n c h w -> n h w c").contiguous()
        drawn = resize(drawn.clamp(0, 1), cameras.size_hw).clamp(0, 1)
        rgb = drawn[..., :3].contiguous()
        if self.autoencoder.alpha:
            return Views(rgb, drawn[..., 3].contiguous(), cameras)
        return Views(rgb, torch.stack([alpha_over_white(each) for each in rgb]), cameras)

    def _shape(self, cameras: Cameras) -> tuple[int, ...]:
        return (len(cameras), self.settings.channels, *[self.settings.latent_px] * 2)

    def _check(self, cameras: Cameras) -> None:
        frames = self.settings.frames
        if len(cameras) == 0 or len(cameras) % frames:
            raise ValueError(f"this model draws {frames} views at a time, got {len(cameras)}")
        if not equal_turns(cameras, frames):
            raise ValueError(
                f"this model draws {frames} views at equal turns and one elevation; got azimuths "
                f"{[round(a) for a in cameras.azimuth_deg.tolist()]}"
            )
