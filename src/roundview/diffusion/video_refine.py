"""Sharpen an orbit as one clip: the second stage of Hi3D, public or our own small one.

Yang et al., "Hi3D: Pursuing High-Resolution Image-to-3D Generation with Video Diffusion Models",
2024, section 3.3. Beside the noisy latents of each frame lie 9 channels of its coarse frame's depth
and the coarse frame's latents; the first steps of the sampler are pulled towards the coarse clip,
which the paper does not say but its code does.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..image import Foreground, resize
from ..models import DepthModel, FeatureModel, Report, silent
from ..views import Views
from .checkpoints.unet import UNetShape
from .clip import ClipTower, clip_input
from .edm import denoised, euler, guidance_ramp, guided, karras_sigmas
from .encoders import LatentAutoencoder
from .ldm_autoencoder import LATENT_SCALE, ClipDecoder, LdmAutoencoder
from .noise import randn
from .video_orbit import alpha_over_white, check_ring, decoded_clip
from .video_unet import VideoUNet, sinusoids

DepthMaps = Callable[[Float[Tensor, "n 4 h w"]], Float[Tensor, "n y x"]]
"""depth_maps(rgba) -> depth or disparity of each picture, at any size and scale."""


@dataclass(frozen=True, eq=False)
class RefinerParts:
    """The networks of a refiner. Pictures are RGBA over white, [0, 1].

    Attributes:
        network: Predicts velocities: a `VideoUNet` or a `SmallVideoRefiner`.
        encode: Pictures to latents that are not scaled.
        decode: Latents of a clip, not scaled, to pictures.
        embed: One picture to its embedding.
        depth_maps: Estimates depth; without it those channels are zero, as some are in training.
        scale: Latents times this have about unit variance.
    """

    network: nn.Module
    encode: Callable[[Float[Tensor, "n 4 h w"]], Float[Tensor, "n c y x"]]
    decode: Callable[[Float[Tensor, "n c y x"]], Float[Tensor, "n 4 h w"]]
    embed: Callable[[Float[Tensor, "1 4 h w"]], Float[Tensor, "1 d"]]
    depth_maps: DepthMaps | None
    scale: float


@dataclass(frozen=True)
class Refining:
    """How a refiner is used; the numbers are those of Hi3D's code.

    Attributes:
        frames: Views on the ring.
        size_px: Side of the pictures it gives.
        guidance: Of the first and the last frame.
        cond_aug: Noise on the coarse frames, told for pictures in [-1, 1].
        highest: Sigma that sampling begins at.
        mixing: Exponent of `mixing_weight`; None leaves the steps alone.
        residual: Add to the coarse pictures what the decoder makes of the refined latents more than
            of the coarse ones, so that what the autoencoder loses is not lost; the original shows
            what it decodes.
        believed: Share of that change that is added.
    """

    frames: int = 16
    size_px: int = 1024
    guidance: tuple[float, float] = (1.0, 2.0)
    cond_aug: float = 0.02
    highest: float = 700.0
    mixing: float | None = 40.0
    residual: bool = False
    believed: float = 1.0


class VideoRefiner:
    """Draws a ring of views again, sharper and larger. Networks run where they are."""

    def __init__(self, parts: RefinerParts, use: Refining = Refining()) -> None:
        self.parts, self.use = parts, use
        self.network = parts.network.eval().requires_grad_(False)
        self._at = next(parts.network.parameters())

    @torch.no_grad()
    def refine(
        self,
        views: Views,
        subject: Foreground,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        """Refine one ring of views.

        Args:
            views: Over white, evenly on one ring at the photograph's elevation from azimuth 0 on.
                The first one gives way to the photograph.
            subject: The photograph, square, framed as `frame_subject` does.
            rng: CPU generator of the noise.
            photo_elevation_deg: Elevation of the photograph and the ring.
            steps: Steps of Euler's method; each calls the network once, or twice with guidance.
            report: Called with the fraction done.

        Returns:
            The views at `use.size_px`, over white.

        Raises:
            ValueError: If the views do not stand on such a ring.
        """
        use = self.use
        check_ring(views.cameras, use.frames, photo_elevation_deg)
        coarse = self._coarse(views, subject)
        clean = self.parts.scale * self.parts.encode(coarse)[None].float()
        noise = randn(tuple(clean.shape), rng).to(clean)
        denoise = self._denoiser(coarse, photo_elevation_deg, rng)
        sigmas = karras_sigmas(steps, high=use.highest)

        def towards_coarse(step: int, x: Tensor) -> Tensor:
            share = 0.0 if use.mixing is None else mixing_weight(step / steps, use.mixing)
            return (1 - share) * x + share * (noise * float(sigmas[step]) + clean)

        latents = euler(denoise, noise, sigmas, before_step=towards_coarse, report=report)[0]
        rgba = self.parts.decode(latents / self.parts.scale).float().cpu()
        if use.residual:
            before = self.parts.decode(clean[0] / self.parts.scale).float().cpu()
            rgba = coarse + use.believed * (rgba - before)
        rgba = rgba.clamp(0, 1)
        side = (use.size_px, use.size_px)
        rgb = resize(rgba[:, :3].movedim(1, -1), side).clamp(0, 1).contiguous()
        alpha = resize(rgba[:, 3, :, :, None], side)[..., 0].clamp(0, 1).contiguous()
        return Views(rgb, alpha, views.cameras.resized(side))

    def _coarse(self, views: Views, subject: Foreground) -> Float[Tensor, "t 4 h w"]:
        side = (self.use.size_px, self.use.size_px)
        seen, photo = views.resized(side), subject.resized(side)
        first = torch.cat([photo.over(), photo.alpha[..., None]], dim=-1)
        frames = torch.cat([seen.rgb, seen.alpha[..., None]], dim=-1)
        return torch.cat([first[None], frames[1:]]).movedim(-1, 1).contiguous()

    def _denoiser(
        self, coarse: Float[Tensor, "t 4 h w"], elevation_deg: float, rng: Generator
    ) -> Callable[[Tensor, float], Tensor]:
        use, parts = self.use, self.parts
        noise = use.cond_aug / 2 * randn((len(coarse), 3, *coarse.shape[2:]), rng)
        seen = torch.cat([coarse[:, :3] + noise, coarse[:, 3:]], dim=1)
        beside = parts.encode(seen).to(self._at)
        depth = torch.zeros(len(coarse), 9, *beside.shape[2:])
        if parts.depth_maps is not None:
            side = (int(beside.shape[2]), int(beside.shape[3]))
            depth = depth_channels(parts.depth_maps(seen).float().cpu(), side)
        known = torch.cat([depth.to(beside), beside], dim=1)[None]
        tokens = parts.embed(coarse[:1])[:, None].to(self._at)
        vector = refiner_numbers(use.frames, elevation_deg, use.cond_aug)[None].to(self._at)
        scale = guidance_ramp(*use.guidance, use.frames)

        def estimate(x: Tensor, sigma: float, share: float) -> Tensor:
            def network(scaled: Tensor, c_noise: Tensor) -> Tensor:
                joined = torch.cat([scaled.to(known), share * known], dim=2)
                return self.network(joined, c_noise.to(known), share * tokens, vector).float()

            return denoised(network, x, torch.tensor([sigma]).to(x))

        def denoise(x: Tensor, sigma: float) -> Tensor:
            told = estimate(x, sigma, 1.0)
            if use.guidance == (1.0, 1.0):
                return told
            return guided(told, estimate(x, sigma, 0.0), scale)

        return denoise


def mixing_weight(done: float, exponent: float = 40.0) -> float:
    """Say how far a step's start is pulled to the coarse clip under the first noise.

    (cos^2(done / 2))^exponent, as in the authors' code, where `done` is the share of the steps
    taken and counts as radians.
    """
    return (0.5 * (1 + math.cos(done))) ** exponent


def depth_channels(
    depth: Float[Tensor, "n y x"], size_hw: tuple[int, int]
) -> Float[Tensor, "n 9 h w"]:
    """Bring depth to three times the latents' size and to [0, 1]; 3 x 3 squares become channels.

    Channel 3 i + j of a latent is row i, column j of its square. Least and greatest are each
    frame's own, before the change of size as in the authors' code; a flat map becomes 0.
    """
    low, high = depth.amin(dim=(1, 2), keepdim=True), depth.amax(dim=(1, 2), keepdim=True)
    level = (depth - low) / (high - low).clamp(min=1e-8)
    fine = torch.nn.functional.interpolate(
        level[:, None], (3 * size_hw[0], 3 * size_hw[1]), mode="bilinear"
    )
    return rearrange(fine, "n 1 (h i) (w j) -> n (i j) h w", i=3, j=3)


def subject_depth(
    inverse: Float[Tensor, "n h w"], alpha: Float[Tensor, "n h w"]
) -> Float[Tensor, "n h w"]:
    """Bring the subject's inverse depth to [0.25, 1], and set what is around it to 0.

    Estimates differ in what they say of an empty background; our small refiner is told so.
    """
    on = alpha > 0.5
    low = inverse.masked_fill(~on, math.inf).amin(dim=(1, 2), keepdim=True)
    high = inverse.masked_fill(~on, -math.inf).amax(dim=(1, 2), keepdim=True)
    level = ((inverse - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    return torch.where(on, 0.25 + 0.75 * level, torch.zeros_like(level))


def refiner_numbers(frames: int, elevation_deg: float, cond_aug: float) -> Float[Tensor, "t m"]:
    """Give the second stage's vector: whole degrees of elevation, and the noise."""
    told = sinusoids(torch.tensor([[float(int(elevation_deg)), cond_aug]]), 256)
    return told.expand(frames, -1)


class SmallVideoRefiner(nn.Module):
    """Our own refiner: a `VideoUNet`, and a linear way from all it is shown to what it predicts.

    That way begins as minus the coarse latents, which is the velocity of the coarse clip where the
    noise is high: so a training of minutes begins at the coarse clip and not at nothing. For the
    same reason the latents of frame 0, the photograph, may lie beside those of every frame. Where
    the original starts from Stable Video Diffusion it needs no such help.

    Args:
        shape: Of the `VideoUNet`; its inputs do not count those further latents.
        photo_beside: Whether there are such.
    """

    def __init__(self, shape: UNetShape, *, photo_beside: bool = True) -> None:
        super().__init__()
        self.photo_beside = photo_beside
        more = shape.out_channels if photo_beside else 0
        self.unet = VideoUNet(replace(shape, in_channels=shape.in_channels + more))
        self.shortcut = nn.Conv2d(shape.in_channels, shape.out_channels, 1, bias=False)
        last = self.unet.unet.conv_out
        for layer in (self.shortcut, last):
            nn.init.zeros_(layer.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        beside = self.shortcut.weight[:, -shape.out_channels :, 0, 0]
        beside.data.copy_(-torch.eye(shape.out_channels))

    def forward(
        self,
        x: Float[Tensor, "b t c h w"],
        c_noise: Float[Tensor, " b"],
        context: Float[Tensor, "b k d"],
        vector: Float[Tensor, "b m"] | Float[Tensor, "b t m"],
    ) -> Float[Tensor, "b t o h w"]:
        """Predict the velocity of every frame; arguments as for `VideoUNet`."""
        straight = self.shortcut(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        if self.photo_beside:
            x = torch.cat([x, x[:, :1, -straight.shape[2] :].expand_as(straight)], dim=2)
        return self.unet(x, c_noise, context, vector) + straight


def small_parts(
    network: nn.Module,
    autoencoder: LatentAutoencoder,
    features: FeatureModel,
    depth: DepthModel | None,
) -> RefinerParts:
    """Put our small refiner together: our autoencoder's latents, deep features as embedding."""
    at = next(autoencoder.parameters())
    autoencoder.requires_grad_(False).eval()

    def maps(rgba: Tensor) -> Tensor:
        assert depth is not None
        rgb = rgba[:, :3].movedim(1, -1).clamp(0, 1).contiguous()
        return subject_depth(depth(rgb)[0].to(rgba), rgba[:, 3])

    return RefinerParts(
        network,
        lambda rgba: autoencoder.encode(rgba.to(at)),
        lambda latents: autoencoder.decode(latents.to(at)),
        lambda rgba: features.embedding(rgba[:, :3].movedim(1, -1).contiguous()),
        None if depth is None else maps,
        1.0,
    )


def public_parts(
    unet: VideoUNet,
    encoder: LdmAutoencoder,
    decoder: LdmAutoencoder | ClipDecoder,
    tower: ClipTower,
    depth: DepthModel | None,
    *,
    decoded_at_once: int = 4,
) -> RefinerParts:
    """Put the published refiner together; alpha is what differs from white, holes filled."""
    at = next(unet.parameters())
    for part in (encoder, decoder, tower):
        part.requires_grad_(False).eval()

    def encode(rgba: Tensor) -> Tensor:
        pictures = (rgba[:, :3] * 2 - 1).to(
            at.device, torch.float32 if encoder.upcast else at.dtype
        )
        return torch.cat([encoder.encode(one[None]) for one in pictures]).float()

    def decode(latents: Tensor) -> Tensor:
        rgb = decoded_clip(decoder, latents.to(at), decoded_at_once).float().cpu() / 2 + 0.5
        alpha = [alpha_over_white(one.movedim(0, -1).clamp(0, 1)) for one in rgb]
        return torch.cat([rgb, torch.stack(alpha)[:, None]], dim=1)

    def embed(rgba: Tensor) -> Tensor:
        picture = clip_input(rgba[:, :3] * 2 - 1, side=tower.shape.side, antialias=True)
        return tower(picture.to(at))

    def maps(rgba: Tensor) -> Tensor:
        assert depth is not None
        return depth(rgba[:, :3].movedim(1, -1).contiguous())[0]

    return RefinerParts(unet, encode, decode, embed, None if depth is None else maps, LATENT_SCALE)
