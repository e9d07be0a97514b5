"""Zero123++: six views of a subject in one picture.

Shi et al., "Zero123++: a Single Image to Consistent Multi-view Diffusion Base Model", 2023. Stable
Diffusion 2 is tuned to draw a sheet of three rows and two columns. The photograph reaches it in two
ways: its latents, noised like the sheet, go through the same network, and what each self-attention
is shown of them is shown to the sheet's as well ("reference attention"); and its CLIP embedding,
times a learned number for each token, is added to the empty prompt's tokens.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..camera import Cameras
from ..image import Foreground, resize
from ..models import Report, silent
from ..views import Views
from .ancestral import SigmaPlan, euler_ancestral, linear_sigmas, trailing_plan
from .attention import AttentionLayers, attend, self_attentions
from .clip import MEAN, STD, ClipTower
from .ldm_autoencoder import LATENT_SCALE, LdmAutoencoder
from .ldm_unet import LdmUNet
from .noise import randn
from .video_orbit import alpha_over_white

GREY = 0.5
"""Background that the model draws: what latents of zero stand for."""
_ROWS, _COLUMNS = 3, 2
_AZIMUTH_DEG = (30.0, 90.0, 150.0, 210.0, 270.0, 330.0)
_SAME_DEG = 0.5
_SHIFT, _SPREAD = 0.22, 0.75
"""Of the sheet's latents, on top of Stable Diffusion's scale, so that zero is the background."""
_CONTRAST = 0.5 / 0.8
"""Of the sheet's pictures before they are encoded."""


@dataclass(frozen=True)
class SheetOptions:
    """How a checkpoint is used; the defaults are those of version 1.2.

    Attributes:
        elevation_deg: Of the views, by turns; 30 and -20 in version 1.1.
        fov_deg: Vertical; the photograph's own in version 1.1, which is 49.13 in its training.
        radius: Distance of the cameras; the subject fits into a ball of radius 0.5 (the authors'
            `0.5 / tan(15 deg)`).
        tile_px: Side of a view on the sheet.
        photo_px: Side of the photograph.
        photo_std: Colours are told as (c - 0.5) / photo_std; of the checkpoint's preprocessor.
        guidance: Scale of classifier-free guidance.
    """

    elevation_deg: tuple[float, float] = (20.0, -10.0)
    fov_deg: float = 30.0
    radius: float = 1.8660254
    tile_px: int = 320
    photo_px: int = 320
    photo_std: float = 0.8
    guidance: float = 4.0

    def cameras(self) -> Cameras:
        """Place the six cameras in the order of the sheet, row by row."""
        return Cameras.orbit(
            _AZIMUTH_DEG,
            elevation_deg=[*self.elevation_deg] * 3,
            radius=self.radius,
            fov_deg=self.fov_deg,
            size_hw=(self.tile_px, self.tile_px),
        )


class Ramp(nn.Module):
    """How much of the picture's embedding is added to each token of the prompt."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.zeros(length))

    def forward(
        self, tokens: Float[Tensor, "b k d"], embedding: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b k d"]:
        """Add it."""
        return tokens + self.coefficients[:, None] * embedding[:, None]


class ReferenceUNet:
    """A UNet whose self-attention sees, beside its own picture, what it was shown of another.

    Args:
        network: Its self-attention is exchanged; weights and all else stay as they are.
    """

    def __init__(self, network: LdmUNet) -> None:
        self.network = network
        self._turn = _Turn()
        for layer, attention in enumerate(self_attentions(network.unet)):
            attention.set_processor(_ReferenceAttention(layer, self._turn))  # pyright: ignore[reportArgumentType]  any callable

    def __call__(
        self,
        x: Float[Tensor, "b c h w"],
        time: int,
        reference: Float[Tensor, "b c y x"],
        tokens: Float[Tensor, "b k d"],
    ) -> Float[Tensor, "b c h w"]:
        """Predict the sheet's velocity.

        Args:
            x: Noisy latents of sheets.
            time: Training step of both.
            reference: Noisy latents of the picture that each is drawn from, of any size.
            tokens: To attend to, in both.
        """
        t = torch.full((len(x),), time, device=x.device)
        self._turn.shown = {}
        try:
            self._turn.reading = False
            self.network(reference, t, tokens)
            self._turn.reading = True
            return self.network(x, t, tokens)
        finally:
            self._turn.shown = {}


@dataclass
class _Turn:
    """What was shown in the present call, by layer, and whether it is read or written."""

    shown: dict[int, Tensor] | None = None
    reading: bool = False


class _ReferenceAttention:
    def __init__(self, layer: int, turn: _Turn) -> None:
        self.layer, self.turn = layer, turn

    def __call__(
        self,
        attn: AttentionLayers,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *,
        frames: int = 1,
        image_weight: float = 1.0,
    ) -> Tensor:
        """Attend; called by diffusers with (samples, pixels, channels)."""
        del encoder_hidden_states, attention_mask, temb, frames, image_weight
        seen, shown = hidden_states, self.turn.shown
        assert shown is not None
        if self.turn.reading:
            seen = torch.cat([hidden_states, shown.pop(self.layer)], dim=1)
        else:
            shown[self.layer] = hidden_states
        out = attend(attn, hidden_states, attn.to_k(seen), attn.to_v(seen))
        return attn.to_out[0](out)


@dataclass(frozen=True, eq=False)
class SheetNetworks:
    """The parts of a checkpoint.

    Attributes:
        unet: Stable Diffusion 2's, of velocity.
        autoencoder: Stable Diffusion's.
        tower: OpenCLIP's ViT-H/14 for pictures.
        ramp: How its embedding is added.
        empty_prompt: Tokens of the empty prompt.
    """

    unet: LdmUNet
    autoencoder: LdmAutoencoder
    tower: ClipTower
    ramp: Ramp
    empty_prompt: Float[Tensor, "1 k d"]


class Zero123Plus:
    """An `OrbitModel` of six views that always stand in the same places.

    Azimuths 30, 90, ... 330 from the photograph, elevations by turns, see `SheetOptions`: cameras
    that are asked for must be among them, at its distance and lens. Elevations do not depend on the
    photograph's, which is not asked. Pictures come over white; alpha is what differs from the grey
    that the model draws behind the subject, holes filled.

    Differs from the authors' program: the photograph's latents are the mean, not a sample; the
    photograph is brought to the tower's size with its own antialiasing.
    """

    def __init__(self, networks: SheetNetworks, use: SheetOptions = SheetOptions()) -> None:
        parts: tuple[nn.Module, ...] = (
            networks.unet, networks.autoencoder, networks.tower, networks.ramp,
        )  # fmt: skip
        for part in parts:
            part.eval().requires_grad_(False)
        self.use, self.network, self._networks = use, networks.unet, networks
        self._unet = ReferenceUNet(networks.unet)
        self._at = next(networks.unet.parameters())

    @torch.no_grad()
    def draw(
        self,
        subject: Foreground,
        cameras: Cameras,
        rng: Generator,
        *,
        photo_elevation_deg: float = 0.0,
        steps: int = 28,
        report: Report = silent,
    ) -> Views:
        """Draw the sheet from noise, and give the views that are asked for.

        Args:
            subject: Square picture.
            cameras: See `SheetOptions.cameras`; any of them, at any size.
            rng: CPU generator of the noise.
            photo_elevation_deg: Not asked by this model.
            steps: Of the sampler; the authors say 28, and 75 for faces. Each calls the network four
                times: sheet and photograph, with and without the condition.
            report: Called with the fraction done.

        Raises:
            ValueError: If the model cannot see from one of the cameras.
        """
        del photo_elevation_deg
        wanted = self._places(cameras)
        plan = trailing_plan(linear_sigmas(), steps)
        noise = randn(self._sheet_shape(), rng).to(self._at)
        latents = self._denoised(subject, noise * float(plan.sigmas[0]), plan, rng, report)
        return self._views(latents, wanted, cameras)

    @torch.no_grad()
    def redraw(
        self,
        subject: Foreground,
        views: Views,
        rng: Generator,
        *,
        photo_elevation_deg: float = 0.0,
        noise_level: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        """Add noise to all six views up to `noise_level` in (0, 1] of the steps; draw them again.

        Raises:
            ValueError: If they are not the six, or the level is out of the question.
        """
        del photo_elevation_deg
        if not 0 < noise_level <= 1:
            raise ValueError(f"noise_level must lie in (0, 1], got {noise_level}")
        wanted = self._places(views.cameras)
        if sorted(wanted) != list(range(len(_AZIMUTH_DEG))):
            raise ValueError("this model draws its six views again together; give all of them")
        whole = trailing_plan(linear_sigmas(), min(round(steps / noise_level), 1000))
        last = SigmaPlan(whole.times[-steps:], whole.sigmas[-steps - 1 :])
        clean = self._sheet_latents(views[[wanted.index(k) for k in range(len(wanted))]])
        noise = randn(self._sheet_shape(), rng).to(clean)
        start = clean + float(last.sigmas[0]) * noise
        return self._views(self._denoised(subject, start, last, rng, report), wanted, views.cameras)

    def _denoised(
        self, subject: Foreground, start: Tensor, plan: SigmaPlan, rng: Generator, report: Report
    ) -> Tensor:
        tokens, reference = self._told(subject)

        def velocity(x: Tensor, time: int, sigma: float) -> Tensor:
            # The photograph is noised like the sheet, anew at each step, without and with it alike.
            noise = randn(tuple(reference.shape), rng).to(reference)
            noisy = (reference + sigma * noise) * (sigma**2 + 1) ** -0.5
            without, given = self._unet(torch.cat([x, x]), time, noisy, tokens).chunk(2)
            return without + self.use.guidance * (given - without)

        return euler_ancestral(velocity, start, plan, rng, report=report)

    def _told(self, subject: Foreground) -> tuple[Tensor, Tensor]:
        """Say what is told without and with the photograph: tokens, and latents, not scaled."""
        networks, use = self._networks, self.use
        rgb = subject.over((GREY, GREY, GREY)).movedim(-1, 0)[None]
        side = use.photo_px
        photo = ((_shrunk(rgb, side) - GREY) / use.photo_std).to(self._at)
        latents = networks.autoencoder.encode(torch.cat([torch.zeros_like(photo), photo]))
        seen = _shrunk(rgb, networks.tower.shape.side)
        mean, std = (torch.tensor(v).to(rgb)[:, None, None] for v in (MEAN, STD))
        embedding = networks.tower(((seen - mean) / std).to(self._at))
        nothing = networks.empty_prompt.to(self._at)
        return torch.cat([nothing, networks.ramp(nothing, embedding)]), latents

    def _sheet_shape(self) -> tuple[int, ...]:
        shape = self._networks.autoencoder.shape
        side = self.use.tile_px // 2 ** (len(shape.widths) - 1)
        return (1, shape.latent, _ROWS * side, _COLUMNS * side)

    def _sheet_latents(self, views: Views) -> Tensor:
        side = self.use.tile_px
        small = views.resized((side, side))
        grey = small.rgb - (1 - small.alpha[..., None]) * (1 - GREY)
        sheet = rearrange(grey, "(r k) h w c -> 1 c (r h) (k w)", r=_ROWS)
        picture = ((sheet * 2 - 1) * _CONTRAST).to(self._at)
        latents = self._networks.autoencoder.encode(picture) * LATENT_SCALE
        return (latents - _SHIFT) * _SPREAD

    def _views(self, latents: Tensor, wanted: list[int], cameras: Cameras) -> Views:
        whole = (latents / _SPREAD + _SHIFT) / LATENT_SCALE
        picture = self._networks.autoencoder.decode(whole).float().cpu() / _CONTRAST
        tiles = rearrange(picture[0], "c (r h) (k w) -> (r k) h w c", r=_ROWS, k=_COLUMNS)
        rgb, alpha = over_white(((tiles + 1) / 2).clamp(0, 1)[wanted].contiguous())
        rgba = resize(torch.cat([rgb, alpha[..., None]], dim=-1), cameras.size_hw).clamp(0, 1)
        return Views(rgba[..., :3].contiguous(), rgba[..., 3].contiguous(), cameras)

    def _places(self, cameras: Cameras) -> list[int]:
        """Find each camera on the sheet."""
        own, places = self.use.cameras(), []
        around = (cameras.azimuth_deg[:, None] - own.azimuth_deg + 180) % 360 - 180
        above = cameras.elevation_deg[:, None] - own.elevation_deg
        near = (around.abs() < _SAME_DEG) & (above.abs() < _SAME_DEG)
        places = near.float().argmax(dim=1).tolist()
        far = (cameras.origin.norm(dim=-1) / self.use.radius - 1).abs() > 0.01
        ratio = cameras.focal_px / cameras.size_hw[0]
        lens = (ratio / (own.focal_px[0] / own.size_hw[0]) - 1).abs() > 0.01
        if not bool(near.any(dim=1).all()) or bool(far.any()) or bool(lens.any()):
            low, high = sorted(self.use.elevation_deg)
            raise ValueError(
                f"this model sees from azimuths 30, 150, 270 at elevation {high:g} and 90, 210, "
                f"330 at {low:g}, distance {self.use.radius:.4g}, field of view "
                f"{self.use.fov_deg:g}, and from nowhere else"
            )
        return places


def over_white(
    rgb: Float[Tensor, "n h w 3"],
) -> tuple[Float[Tensor, "n h w 3"], Float[Tensor, "n h w"]]:
    """Take for the subject what is not grey, with what it encloses; put it over white.

    Returns:
        Colour over white, and alpha.
    """
    away = (rgb - GREY).abs().amax(dim=-1, keepdim=True)
    alpha = torch.stack([alpha_over_white((1 - each).expand(-1, -1, 3)) for each in away])
    return (rgb + (1 - alpha[..., None]) * (1 - GREY)).clamp(0, 1), alpha


def _shrunk(rgb: Float[Tensor, "1 3 h w"], side: int) -> Float[Tensor, "1 3 s s"]:
    """Resize by cubic interpolation with antialiasing, as the authors' preprocessors do."""
    if rgb.shape[2:] == (side, side):
        return rgb
    size = (side, side)
    small = torch.nn.functional.interpolate(rgb, size, mode="bicubic", antialias=True)
    return small.clamp(0, 1)
