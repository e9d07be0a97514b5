"""Orbit models: all views of a subject at once, from one framed picture of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..camera import Cameras, concatenate_cameras
from ..image import Foreground, resize
from ..models import Report, silent
from ..views import Views
from .encoders import LatentAutoencoder
from .noise import CosineSchedule, clean_from_v, randn
from .sample import dpmpp_2m, noise_part_way
from .view_transformer import ViewTransformer

DISTANCE = 1.5
"""Distance the model is trained at, for subjects of longest side 1; near the inner end of Zero123's
range (1.5 to 2.2)."""
FOV_DEG = 49.13
"""Vertical field of view it is trained at, degrees: 35 mm lens, 32 mm sensor (Zero-1-to-3)."""
REFINE_FROM = 0.3
"""Time of the second sampling step; the first one is taken from pure noise.

From t = 1 a small network gives a blurred mean over all the sides the photo allows, the same in
every view. Walking evenly down from there, its errors at middle times tear the views apart: on
held-out training objects 6 even steps came out 1.0 dB below that mean, 3 steps of which two from
0.25 down 0.4 dB below it and as sharp. Chosen by us.
"""


class LatentOrbitModel:
    """Our own orbit model: a `ViewTransformer` over the latents of a `LatentAutoencoder`.

    Draws any views at its distance and field of view, not rings only. Pictures are made at the
    network's own size (64 px for the shipped model) and resampled to that of the cameras. Networks
    run where they are; everything else, and the views that come back, is on the CPU.
    """

    def __init__(self, network: ViewTransformer, autoencoder: LatentAutoencoder) -> None:
        self.network = network.eval().requires_grad_(False)
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.device = next(network.parameters()).device
        self.size_px = network.size.latent_px * LatentAutoencoder.FACTOR

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
        """Draw the views from noise with DPM-Solver++.

        Args:
            subject: Square picture, framed as `frame_subject` does, seen from azimuth 0.
            cameras: Where to look from; distance and field of view must be the model's.
            rng: CPU generator of the noise.
            photo_elevation_deg: Elevation the subject was seen from.
            steps: Network calls.
            report: Called with the fraction done.

        Raises:
            ValueError: If the cameras do not stand where the model was trained.
        """
        shape = (
            1,
            len(cameras),
            self.network.size.latent_channels,
            *[self.network.size.latent_px] * 2,
        )
        start = randn(shape, rng)
        return self._denoised(
            subject, cameras, start, drawing_times(steps), photo_elevation_deg, report
        )

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
        """Add noise to views up to `noise_level` in (0, 1] of the time range, and denoise them.

        The "noise-renoise" of Melas-Kyriazi et al., "IM-3D", 2024, section 3.4.
        """
        if not 0 < noise_level <= 1:
            raise ValueError(f"noise_level must lie in (0, 1], got {noise_level}")
        rgba = torch.cat([views.rgb, views.alpha[..., None]], dim=-1)
        latent = self._encoded(
            rearrange(resize(rgba, (self.size_px, self.size_px)), "n h w c -> n c h w")
        )
        start = noise_part_way(latent[None], noise_level, rng)
        times = _times(noise_level, steps)
        return self._denoised(subject, views.cameras, start, times, photo_elevation_deg, report)

    @torch.no_grad()
    def _denoised(
        self,
        subject: Foreground,
        cameras: Cameras,
        start: Tensor,
        times: Tensor,
        photo_elevation_deg: float,
        report: Report,
    ) -> Views:
        denoise = self._denoiser(subject, cameras, photo_elevation_deg)
        latent = dpmpp_2m(denoise, start, times, report=report)
        decoded = self.autoencoder.decode(latent[0].to(self.device)).cpu()
        rgba = rearrange(decoded, "n c h w -> n h w c").clamp(0, 1)
        rgba = resize(rgba, cameras.size_hw).clamp(0, 1)
        return Views(rgba[..., :3].contiguous(), rgba[..., 3].contiguous(), cameras)

    def _denoiser(
        self, subject: Foreground, cameras: Cameras, photo_elevation_deg: float
    ) -> Callable[[Tensor, Tensor], Tensor]:
        check_cameras(cameras)
        told = tell_orbit(self, subject, cameras, photo_elevation_deg=photo_elevation_deg)
        schedule = CosineSchedule()
        known = (told.photo_latent, told.photo_rgba, told.world_from_camera, told.focal_ratio)

        def denoise(noisy: Tensor, t: Tensor) -> Tensor:
            v = self.network(noisy.to(self.device), t.to(self.device), *known)
            return clean_from_v(schedule, noisy, v.to(noisy), t)

        return denoise

    @torch.no_grad()
    def _encoded(self, rgba: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n c hl wl"]:
        return self.autoencoder.encode(rgba.to(self.device)).to(rgba)


@dataclass(frozen=True, eq=False)
class OrbitTold:
    """What our orbit model is told of the views of one object; the photograph comes first.

    Attributes:
        photo_latent: Clean latents of the photograph.
        photo_rgba: The photograph, colour over white and alpha.
        world_from_camera: Poses.
        focal_ratio: Focal lengths as shares of the picture's height.
    """

    photo_latent: Float[Tensor, "1 c p p"]
    photo_rgba: Float[Tensor, "1 4 h h"]
    world_from_camera: Float[Tensor, "1 n 4 4"]
    focal_ratio: Float[Tensor, "1 n"]


@torch.no_grad()
def tell_orbit(
    model: LatentOrbitModel, subject: Foreground, cameras: Cameras, *, photo_elevation_deg: float
) -> OrbitTold:
    """Tell our orbit model which views of what it is to guide.

    Args:
        model: Its latents are `model.autoencoder.encode` of colour over white with alpha.
        subject: Square, framed as `frame_subject` does.
        cameras: At the model's distance and field of view.
        photo_elevation_deg: Elevation the subject was seen from, at azimuth 0.
    """
    small = subject.resized((model.size_px, model.size_px))
    rgba = torch.cat([small.over(), small.alpha[..., None]], dim=-1)
    rgba = rearrange(rgba, "h w c -> 1 c h w").to(model.device)
    photo_camera = Cameras.orbit(
        [0.0],
        elevation_deg=photo_elevation_deg,
        radius=DISTANCE,
        fov_deg=FOV_DEG,
        size_hw=cameras.size_hw,
    )
    every = concatenate_cameras([photo_camera, cameras]).to(model.device)
    return OrbitTold(
        model.autoencoder.encode(rgba),
        rgba,
        every.world_from_camera[None],
        every.focal_px[None] / cameras.size_hw[0],
    )


def load_orbit_network(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Fill a network, strictly; weights kept in half precision are widened."""
    network.load_state_dict({name: t.float() for name, t in tensors.items()}, strict=True)


def drawing_times(steps: int) -> Float[Tensor, " steps"]:
    """Begin at pure noise and go on from `REFINE_FROM`."""
    first = torch.ones(1, dtype=torch.float64)
    return first if steps == 1 else torch.cat([first, _times(REFINE_FROM, steps - 1)])


def _times(first: float, steps: int) -> Float[Tensor, " steps"]:
    """Space times evenly from `first` down, the last step ending at 0."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    return torch.linspace(first, 0, steps + 1, dtype=torch.float64)[:-1]


def check_cameras(cameras: Cameras) -> None:
    """Refuse cameras that do not stand where our models were trained.

    Raises:
        ValueError: If the distance or the field of view is another.
    """
    distance = cameras.origin.norm(dim=-1)
    tan_half = 0.5 * cameras.size_hw[0] / cameras.focal_px
    fov_deg = 2 * torch.rad2deg(tan_half.atan())
    if (
        float((distance - DISTANCE).abs().max()) > 1e-3
        or float((fov_deg - FOV_DEG).abs().max()) > 0.01
    ):
        raise ValueError(
            f"this model draws from distance {DISTANCE} with a field of view of {FOV_DEG} deg; got "
            f"distance {float(distance[0]):.4g} and {float(fov_deg[0]):.4g} deg. Make an asset and "
            "render that from other cameras"
        )
