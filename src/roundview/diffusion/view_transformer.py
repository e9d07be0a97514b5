"""A transformer over the tokens of all views of an orbit and of the photograph at once.

Peebles and Xie, "Scalable Diffusion Models with Transformers", 2023 (adaptive layer norm), with one
shared modulation network as in Chen et al., "PixArt-alpha", 2024. Every token knows the ray through
its middle in Pluecker coordinates (Sitzmann et al., "Light Field Networks", 2021), so attention can
look up where a point of one view would lie in another.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class ViewTransformerSize:
    """Size of a `ViewTransformer`; the defaults are the small model that we ship.

    Attributes:
        latent_channels: Channels of the autoencoder's latents.
        latent_px: Latents along a view's side.
        width: Numbers a token.
        blocks: Transformer blocks.
        heads: Attention heads.
    """

    latent_channels: int = 24
    latent_px: int = 8
    width: int = 256
    blocks: int = 8
    heads: int = 4


class ViewTransformer(nn.Module):
    """Predicts the velocity of noisy latents of v views, given the photo and all poses.

    The photo takes part as view 0 with clean tokens and its own input layer, which also sees the
    photo's pixels, since latents lose fine detail.
    """

    def __init__(self, size: ViewTransformerSize = ViewTransformerSize()) -> None:
        super().__init__()
        self.size = size
        width = size.width
        self.from_latent = nn.Linear(size.latent_channels, width)
        self.from_photo = nn.Linear(size.latent_channels + 4 * 8 * 8, width)
        self.from_ray = nn.Linear(6 * _RAY_BANDS, width)
        self.position = nn.Parameter(torch.zeros(size.latent_px**2, width))
        self.is_photo = nn.Parameter(torch.zeros(width))
        self.time = nn.Sequential(nn.Linear(_TIME_BANDS, width), nn.SiLU(), nn.Linear(width, width))
        self.pose = nn.Sequential(
            nn.Linear(_POSE_NUMBERS, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(_Block(width, size.heads) for _ in range(size.blocks))
        self.last_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.last_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.to_velocity = nn.Linear(width, size.latent_channels)
        nn.init.normal_(self.position, std=0.02)
        for layer in (self.to_velocity, self.modulation[1], self.last_modulation[1]):
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        noisy: Float[Tensor, "b v c p p"],
        t: Float[Tensor, " b"] | Float[Tensor, "b v"],
        photo_latent: Float[Tensor, "b c p p"],
        photo_rgba: Float[Tensor, "b 4 h h"],
        world_from_camera: Float[Tensor, "b v+1 4 4"],
        focal_ratio: Float[Tensor, "b v+1"],
    ) -> Float[Tensor, "b v c p p"]:
        """Predict the velocity.

        Args:
            noisy: Latents of the v views at time t.
            t: Time of each set of views, 0 clean to 1 noise; or of each view, 0 for those that are
                known and 1 for those that tell nothing. The photo goes by the noisiest.
            photo_latent: Clean latents of the photo.
            photo_rgba: The photo itself, colour over white and alpha, [0, 1].
            world_from_camera: Poses, the photo's first; the photo stands at azimuth 0.
            focal_ratio: Focal lengths as shares of the image height.
        """
        p = self.size.latent_px
        squares = rearrange(photo_rgba * 2 - 1, "b c (y i) (x j) -> b 1 (y x) (c i j)", i=8, j=8)
        clean = rearrange(photo_latent, "b c y x -> b 1 (y x) c")
        photo = self.from_photo(torch.cat([clean, squares.to(clean)], dim=-1)) + self.is_photo
        # Scaled by the share of the signal, so that pure noise, which tells nothing, does not drown
        # the poses in the residual stream. Nothing is lost: t is known.
        of_views = t.reshape(len(t), -1)
        signal = (of_views * math.pi / 2).cos()[..., None, None]
        views = self.from_latent(rearrange(noisy, "b v c y x -> b v (y x) c") * signal)
        rays = self.from_ray(_ray_features(world_from_camera, focal_ratio, p))
        tokens = torch.cat([photo, views], dim=1) + rays + self.position
        of_all = (
            torch.cat([of_views.amax(1, keepdim=True), of_views], 1) if t.ndim == 2 else of_views
        )
        condition = self.time(_bands(of_all, _TIME_BANDS)) + self.pose(_poses(world_from_camera))
        modulation = rearrange(self.modulation(condition), "b v (six w) -> six b v 1 w", six=6)
        for block in self.blocks:
            tokens = block(tokens, modulation)
        shift, scale = self.last_modulation(condition)[:, 1:, None].chunk(2, dim=-1)
        out = self.to_velocity(self.last_norm(tokens[:, 1:]) * (1 + scale) + shift)
        return rearrange(out, "b v (y x) c -> b v c y x", y=p).float()


class _Block(nn.Module):
    """Attention over all tokens of all views, then a feed-forward layer; both modulated."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.table = nn.Parameter(torch.randn(6, 1, 1, 1, width) / width**0.5)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.query_gain = nn.Parameter(torch.ones(width // heads))
        self.key_gain = nn.Parameter(torch.ones(width // heads))
        self.to_out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(
        self, tokens: Float[Tensor, "b v s w"], modulation: Float[Tensor, "6 b v 1 w"]
    ) -> Float[Tensor, "b v s w"]:
        shift, scale, gate, shift_2, scale_2, gate_2 = (modulation + self.table).unbind(0)
        tokens = tokens + gate * self._attend(self.norm(tokens) * (1 + scale) + shift)
        return tokens + gate_2 * self.feed_forward(self.norm(tokens) * (1 + scale_2) + shift_2)

    def _attend(self, tokens: Float[Tensor, "b v s w"]) -> Float[Tensor, "b v s w"]:
        views = tokens.shape[1]
        q, k, v = rearrange(
            self.to_qkv(tokens), "b v s (three h d) -> three b h (v s) d", three=3, h=self.heads
        )
        # Normed queries and keys keep bfloat16 attention stable (Dehghani et al., "ViT-22B", 2023).
        q = functional.rms_norm(q, q.shape[-1:]) * self.query_gain.to(q)
        k = functional.rms_norm(k, k.shape[-1:]) * self.key_gain.to(k)
        out = _attention(q, k, v)
        return self.to_out(rearrange(out, "b h (v s) d -> b v s (h d)", v=views))


def _attention(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h n d"], v: Float[Tensor, "b h n d"]
) -> Float[Tensor, "b h n d"]:
    """Attend; on a CPU by plain matrix products.

    There torch's fused kernel took 2.3 times as long, forward and backward, at the 384 tokens of a
    training sample in bfloat16, and 1.2 times at the 1,088 of an orbit.
    """
    if q.device.type != "cpu":
        return functional.scaled_dot_product_attention(q, k, v)
    return (q * q.shape[-1] ** -0.5 @ k.mT).softmax(dim=-1).to(v) @ v


_RAY_BANDS = 5
_TIME_BANDS = 64
_POSE_NUMBERS = 8


def _ray_features(
    world_from_camera: Float[Tensor, "b v 4 4"], focal_ratio: Float[Tensor, "b v"], p: int
) -> Float[Tensor, "b v s k"]:
    """Give Pluecker coordinates of the rays through the token middles, and two octaves of them."""
    middle = (torch.arange(p).to(focal_ratio) + 0.5) / p - 0.5
    v, u = torch.meshgrid(middle, middle, indexing="ij")
    flat = torch.stack([u, v, torch.ones_like(u)], dim=-1).reshape(-1, 3)
    scale = torch.stack([1 / focal_ratio, 1 / focal_ratio, torch.ones_like(focal_ratio)], dim=-1)
    in_camera = functional.normalize(flat * scale[:, :, None], dim=-1)
    # Products and a sum, not a matrix product, which autocast would round to bfloat16.
    rotation = world_from_camera[..., None, :3, :3]
    direction = (rotation * in_camera[..., None, :]).sum(dim=-1)
    origin = world_from_camera[..., None, :3, 3].expand_as(direction)
    line = torch.cat([direction, torch.linalg.cross(origin, direction)], dim=-1)
    octaves = [line]
    for octave in (1, 2):
        angle = line * (math.pi * octave)
        octaves += [angle.sin(), angle.cos()]
    return torch.cat(octaves, dim=-1)


def _poses(world_from_camera: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b v 8"]:
    """Give sines and cosines of the cameras' azimuth and elevation, seen from the origin."""
    centre = world_from_camera[..., :3, 3]
    outward = functional.normalize(centre, dim=-1)
    azimuth = torch.atan2(outward[..., 0], outward[..., 2])
    elevation = outward[..., 1].clamp(-1, 1).asin()
    numbers = [azimuth.sin(), azimuth.cos(), (2 * azimuth).sin(), (2 * azimuth).cos()]
    numbers += [elevation.sin(), elevation.cos(), (3 * elevation).sin(), (3 * elevation).cos()]
    return torch.stack(numbers, dim=-1)


def _bands(value: Float[Tensor, "b v"], count: int) -> Float[Tensor, "b v k"]:
    """Embed a number in [0, 1] in sinusoids (Vaswani et al. 2017) of frequency 1 to 1000."""
    frequency = torch.exp(torch.linspace(0, math.log(1000.0), count // 2)).to(value)
    angle = value[..., None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
