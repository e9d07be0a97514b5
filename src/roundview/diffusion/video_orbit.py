"""Orbits by public video models: Stable Video Diffusion's family behind the `OrbitModel` protocol.

Hi3D's first stage (Yang et al., "Hi3D: Pursuing High-Resolution Image-to-3D Generation with Video
Diffusion Models", 2024) and SV3D (Voleti et al., "SV3D: Novel Multi-view Synthesis and 3D
Generation from a Single Image", 2024) draw one ring of views at the photograph's elevation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..camera import Cameras
from ..image import Foreground, resize
from ..models import Report, silent
from ..views import Views
from .clip import ClipTower, clip_input
from .edm import denoised, euler, guided, karras_sigmas
from .ldm_autoencoder import LATENT_SCALE, ClipDecoder, LdmAutoencoder
from .noise import randn
from .video_unet import VideoUNet, sinusoids

Numbers = Callable[[int, float, float], Float[Tensor, "t m"]]
"""numbers(frames, elevation_deg, cond_aug) -> the vector beside the time embedding, per frame."""
_WHITE, _SOFT = 0.03, 0.12


@dataclass(frozen=True, eq=False)
class VideoNetworks:
    """The parts of a video checkpoint.

    Attributes:
        unet: Predicts velocities.
        encode: Pictures in [-1, 1] to latents, not scaled.
        decode: Latents of a clip, not scaled, to pictures.
        tower: Embeds the picture.
    """

    unet: VideoUNet
    encode: LdmAutoencoder
    decode: LdmAutoencoder | ClipDecoder
    tower: ClipTower


@dataclass(frozen=True)
class VideoRing:
    """How a checkpoint is used.

    Attributes:
        frames: Views on the ring.
        size_px: Side of the pictures.
        steps: Sampler steps, as published.
        guidance: Least and highest guidance.
        triangle: Whether guidance is highest in the middle (SV3D), or at the end.
        photo_last: Whether the last frame is the photograph's (SV3D), or the first.
        cond_aug: Noise on the photograph's latents.
        decoded_at_once: Frames decoded together; fewer need less memory.
        aesthetic: Score that Hi3D is told, of 1 to 10. Its released code scores the photograph with
            a network that is not part of the checkpoint; 5.5 is near the mean of that scale's
            training pictures (chosen by us, not tried).
    """

    frames: int = 16
    size_px: int = 512
    steps: int = 25
    guidance: tuple[float, float] = (1.0, 2.5)
    triangle: bool = False
    photo_last: bool = False
    cond_aug: float = 0.02
    decoded_at_once: int = 4
    aesthetic: float = 5.5


HI3D = VideoRing()
SV3D = VideoRing(frames=21, size_px=576, steps=50, triangle=True, photo_last=True, cond_aug=1e-5)


class VideoOrbit:
    """Draws one ring of views with a video model.

    Cameras must stand evenly on one ring at the photograph's elevation, from azimuth 0 on. The
    pictures come over white; alpha is what differs from white, holes filled.
    """

    def __init__(self, networks: VideoNetworks, ring: VideoRing, numbers: Numbers) -> None:
        self.ring, self._numbers, self._networks = ring, numbers, networks
        parts: list[nn.Module] = [networks.unet, networks.encode, networks.decode, networks.tower]
        for part in parts:
            part.eval().requires_grad_(False)
        self.network = networks.unet
        self._at = next(networks.unet.parameters())

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
        """Draw the ring from noise by Euler's method, with guidance that changes along it."""
        check_ring(cameras, self.ring.frames, photo_elevation_deg)
        start = randn(self._shape(), rng)
        sigmas = karras_sigmas(steps)
        return self._drawn(subject, cameras, start, sigmas, photo_elevation_deg, rng, report)

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
        """Add noise to views, and denoise them; level s is sigma = s / sqrt(1 - s^2) of EDM."""
        if not 0 < noise_level <= 1:
            raise ValueError(f"noise_level must lie in (0, 1], got {noise_level}")
        check_ring(views.cameras, self.ring.frames, photo_elevation_deg)
        side = self.ring.size_px
        pictures = resize(views.rgb, (side, side)).movedim(-1, 1)
        clean = self._in_order(self._encoded(pictures * 2 - 1)) * LATENT_SCALE
        high = noise_level / math.sqrt(max(1 - noise_level**2, 1 / (1 + 700.0**2)))
        sigmas = karras_sigmas(steps, high=high)
        noise = randn(self._shape(), rng)
        # `euler` scales its start as if it were noise alone.
        start = (clean[None] + high * noise) / math.sqrt(1 + high**2)
        return self._drawn(subject, views.cameras, start, sigmas, photo_elevation_deg, rng, report)

    @torch.no_grad()
    def _drawn(
        self,
        subject: Foreground,
        cameras: Cameras,
        start: Tensor,
        sigmas: Tensor,
        elevation_deg: float,
        rng: Generator,
        report: Report,
    ) -> Views:
        denoise = self._denoiser(subject, elevation_deg, rng)
        latents = euler(denoise, start.to(self._at), sigmas, report=report)[0] / LATENT_SCALE
        decoded = decoded_clip(self._networks.decode, latents, self.ring.decoded_at_once)
        pictures = self._in_order(decoded).float().cpu()
        rgb = resize(((pictures + 1) / 2).movedim(1, -1).contiguous(), cameras.size_hw).clamp(0, 1)
        alpha = torch.stack([alpha_over_white(picture) for picture in rgb])
        return Views(rgb, alpha, cameras)

    def _denoiser(
        self, subject: Foreground, elevation_deg: float, rng: Generator
    ) -> Callable[[Tensor, float], Tensor]:
        ring, networks = self.ring, self._networks
        side = (ring.size_px, ring.size_px)
        photo = subject.resized(side).over().movedim(-1, 0)[None] * 2 - 1
        clip = clip_input(photo, side=networks.tower.shape.side, antialias=True)
        tokens = networks.tower(clip.to(self._at))[:, None]
        noised = photo + ring.cond_aug * randn(tuple(photo.shape), rng)
        beside = self._encoded(noised).to(self._at).expand(ring.frames, -1, -1, -1)[None]
        vector = self._numbers(ring.frames, elevation_deg, ring.cond_aug)[None].to(self._at)
        low, high = ring.guidance
        ramp = torch.linspace(0, 1, ring.frames)
        place = 2 * torch.minimum(ramp, 1 - ramp) if ring.triangle else ramp
        scale = low + (high - low) * place

        def network(x: Tensor, c_noise: Tensor, share: float) -> Tensor:
            joined = torch.cat([x, share * beside], dim=2)
            return networks.unet(joined, c_noise, share * tokens, vector)

        def denoise(x: Tensor, sigma: float) -> Tensor:
            level = torch.tensor([sigma]).to(x)
            known, unknown = (
                denoised(lambda y, c, share=share: network(y, c, share), x, level)
                for share in (1.0, 0.0)
            )
            return guided(known, unknown, scale)

        return denoise

    @torch.no_grad()
    def _encoded(self, pictures: Float[Tensor, "n c h w"]) -> Float[Tensor, "n l x y"]:
        encoder = self._networks.encode
        # Half precision would round the pictures before an encoder that needs all of it.
        precision = torch.float32 if encoder.upcast else self._at.dtype
        seen = pictures.to(self._at.device, precision)
        return torch.cat([encoder.encode(one[None]) for one in seen]).float().cpu()

    def _in_order(self, frames: Float[Tensor, "t c h w"]) -> Float[Tensor, "t c h w"]:
        """Turn the model's order of frames into ours and ours into the model's."""
        if not self.ring.photo_last:
            return frames
        # SV3D's frame k stands at (k + 1) steps of azimuth, so its last one is the photograph.
        return frames.roll(1, dims=0)

    def _shape(self) -> tuple[int, ...]:
        side = self.ring.size_px // 8
        return (1, self.ring.frames, self._networks.unet.shape.out_channels, side, side)


def check_ring(cameras: Cameras, frames: int, elevation_deg: float) -> None:
    """Refuse cameras that do not stand on the one ring that a video model knows.

    Raises:
        ValueError: If they are not `frames` in number, evenly on one ring at this elevation from
            azimuth 0 on.
    """
    origin = torch.nn.functional.normalize(cameras.origin, dim=-1)
    azimuth = torch.rad2deg(torch.atan2(origin[:, 0], origin[:, 2])) % 360
    wanted = torch.arange(len(cameras)) * 360 / frames
    off = ((azimuth - wanted + 180) % 360 - 180).abs()
    tilt = (torch.rad2deg(origin[:, 1].clamp(-1, 1).asin()) - elevation_deg).abs()
    if len(cameras) != frames or float(off.max()) > 0.5 or float(tilt.max()) > 0.5:
        raise ValueError(
            f"this video model draws one ring of {frames} views at the photograph's elevation, "
            "evenly from azimuth 0 on; it cannot draw others"
        )


def decoded_clip(
    decoder: LdmAutoencoder | ClipDecoder, latents: Float[Tensor, "t l x y"], at_once: int
) -> Float[Tensor, "t c h w"]:
    """Decode the frames of a clip a few at a time, for memory."""
    parts = latents.split(at_once)
    if isinstance(decoder, ClipDecoder):
        return torch.cat([decoder.decode(part[None])[0] for part in parts])
    return torch.cat([decoder.decode(part) for part in parts])


def hi3d_numbers(
    frames: int, elevation_deg: float, cond_aug: float, *, aesthetic: float = HI3D.aesthetic
) -> Float[Tensor, "t m"]:
    """Give Hi3D's first vector as released: an aesthetic score, then as in its paper."""
    score = torch.tensor([[aesthetic]])
    told = torch.cat([score, sinusoids(100 * score, 255)], dim=1).expand(frames, -1)
    return torch.cat([told, hi3d_paper_numbers(frames, elevation_deg, cond_aug)], dim=1)


def hi3d_paper_numbers(frames: int, elevation_deg: float, cond_aug: float) -> Float[Tensor, "t m"]:
    """Give Hi3D's vector as its paper has it: whole degrees of elevation, and the noise."""
    elevation = sinusoids(torch.tensor([[float(int(elevation_deg))]]), 256)
    vector = torch.cat([elevation, sinusoids(torch.tensor([[cond_aug]]), 256)], dim=1)
    return vector.expand(frames, -1)


def svd_numbers(frames: int, elevation_deg: float, cond_aug: float) -> Float[Tensor, "t m"]:
    """Give Stable Video Diffusion's vector: frames a second, motion, noise; it has no elevation."""
    del elevation_deg
    return sinusoids(torch.tensor([[6.0, 127.0, cond_aug]]), 256).expand(frames, -1)


def sv3d_u_numbers(frames: int, elevation_deg: float, cond_aug: float) -> Float[Tensor, "t m"]:
    """Give the vector of SV3D without poses: the noise alone."""
    del elevation_deg
    return sinusoids(torch.tensor([[cond_aug]]), 256).expand(frames, -1)


def sv3d_p_numbers(frames: int, elevation_deg: float, cond_aug: float) -> Float[Tensor, "t m"]:
    """Give the vectors of SV3D with poses: noise, polar angle and azimuth of each frame."""
    azimuth = torch.deg2rad(torch.arange(1, frames + 1) * 360 / frames % 360)[:, None]
    polar = torch.full_like(azimuth, math.radians(90 - elevation_deg))
    noise = sinusoids(torch.full_like(azimuth, cond_aug), 256)
    return torch.cat([noise, sinusoids(polar, 512), sinusoids(azimuth, 512)], dim=1)


def alpha_over_white(rgb: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w"]:
    """Take for the subject what is not white, with what it encloses.

    The limits were chosen by us: 8-bit JPEG noise on white stays below the first, and a
    half-covered pixel of most colours is above the second.
    """
    from scipy.ndimage import binary_erosion, binary_fill_holes  # noqa: PLC0415  slow to import

    away = (1 - rgb.amin(dim=-1)).clamp(0, 1)
    solid = np.asarray(binary_fill_holes(away.numpy() > _WHITE))
    inner = torch.from_numpy(np.asarray(binary_erosion(solid)).astype(np.float32))
    soft = (away / _SOFT).clamp(0, 1) * torch.from_numpy(solid.astype(np.float32))
    return torch.maximum(inner, soft)
