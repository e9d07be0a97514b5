"""ImageDream's UNet: several views at once from text and a picture.

Wang and Shi, "ImageDream: Image-Prompt Multi-view Diffusion for 3D Generation", 2023.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .checkpoints.layout import Layout
from .checkpoints.unet import UNetShape
from .ldm_unet import LdmUNet


@dataclass(frozen=True)
class ResamplerShape:
    """Sizes of the network that turns image features into tokens; ImageDream's by default.

    Attributes:
        features: Length of one feature vector (ViT-H's hidden states).
        width: Inside.
        depth: Layers.
        heads: Of the attention.
        head_width: Channels of a head.
        tokens: How many come out.
        context: Length of one.
        widening: Of the feed-forward parts.
    """

    features: int = 1280
    width: int = 1024
    depth: int = 4
    heads: int = 12
    head_width: int = 64
    tokens: int = 16
    context: int = 1024
    widening: int = 4


class Resampler(nn.Module):
    """Asks any number of feature vectors with a fixed number of learned queries.

    Jaegle et al., "Perceiver: General Perception with Iterative Attention", 2021, in the form of Ye
    et al., "IP-Adapter: Text Compatible Image Prompt Adapter", 2023.
    """

    def __init__(self, shape: ResamplerShape = ResamplerShape()) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, shape.tokens, shape.width) / shape.width**0.5)
        self.proj_in = nn.Linear(shape.features, shape.width)
        self.proj_out = nn.Linear(shape.width, shape.context)
        self.norm_out = nn.LayerNorm(shape.context)
        self.layers = nn.ModuleList(
            nn.ModuleList([_Asking(shape), _feed_forward(shape)]) for _ in range(shape.depth)
        )

    def forward(self, features: Float[Tensor, "b k f"]) -> Float[Tensor, "b q d"]:
        """Turn feature vectors into tokens."""
        known = self.proj_in(features)
        asked = self.latents.expand(len(features), -1, -1)
        for layer in self.layers:
            ask, think = layer  # pyright: ignore[reportGeneralTypeIssues]  a list of two
            asked = ask(known, asked) + asked
            asked = think(asked) + asked
        return self.norm_out(self.proj_out(asked))


class ImageDreamUNet(nn.Module):
    """`LdmUNet` over views with a picture's tokens; in pixel mode the picture is a view too."""

    def __init__(self, shape: UNetShape, resampler: ResamplerShape = ResamplerShape()) -> None:
        super().__init__()
        self.views = LdmUNet(shape, image_tokens=resampler.tokens)
        self.image_embed = Resampler(resampler)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        t: Float[Tensor, " b"] | Int[Tensor, " b"],
        context: Float[Tensor, "b k d"],
        camera: Float[Tensor, "b m"],
        features: Float[Tensor, "b q f"],
        *,
        frames: int,
        picture: Float[Tensor, "p c h w"] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Predict the noise of every view.

        Args:
            x: Noisy latents; in pixel mode the last view of each object is overwritten.
            t: Time step of each view.
            context: Text tokens of each view.
            camera: Camera matrix of each view; zeros for the picture's.
            features: Hidden states of the picture in the image tower, for each view.
            frames: Views an object: 4, or 5 in pixel mode.
            picture: Scaled latents of the picture, one an object or one in all: pixel mode. None is
                local mode.
        """
        if picture is not None:
            x = x.clone()
            x[frames - 1 :: frames] = picture
        tokens = self.image_embed(features)
        return self.views(x, t, torch.cat([context, tokens], dim=1), vector=camera, frames=frames)

    def layout(self) -> Layout:
        """Give the original's name of each tensor, from `input_blocks` on."""
        inner = self.views.layout()
        names = {f"views.{ours}": original for ours, original in inner.names.items()}
        names |= {name: name for name in self.state_dict() if name.startswith("image_embed.")}
        return Layout(names, frozenset(f"views.{ours}" for ours in inner.flat))


def resampler_shape_from_state(
    state: Mapping[str, Tensor], *, head_width: int = 64
) -> ResamplerShape:
    """Read a resampler's sizes off its tensors.

    Args:
        state: Names from `latents` on.
        head_width: Channels of a head, which the tensors do not tell.

    Raises:
        ValueError: If this is no resampler.
    """
    try:
        inner = int(state["layers.0.0.to_q.weight"].shape[0])
        width = int(state["latents"].shape[2])
        shape = ResamplerShape(
            features=int(state["proj_in.weight"].shape[1]),
            width=width,
            depth=1 + max(int(n.split(".")[1]) for n in state if n.startswith("layers.")),
            heads=max(inner // head_width, 1),
            head_width=min(head_width, inner),
            tokens=int(state["latents"].shape[1]),
            context=int(state["proj_out.weight"].shape[0]),
            widening=int(state["layers.0.1.1.weight"].shape[0]) // width,
        )
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"this is no image resampler: it lacks {error}") from error
    return shape


class _Asking(nn.Module):
    """Queries attend to what is known and to each other."""

    def __init__(self, shape: ResamplerShape) -> None:
        super().__init__()
        inner = shape.heads * shape.head_width
        self.heads = shape.heads
        self.norm1, self.norm2 = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.to_q = nn.Linear(shape.width, inner, bias=False)
        self.to_kv = nn.Linear(shape.width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, shape.width, bias=False)

    def forward(
        self, known: Float[Tensor, "b k w"], asked: Float[Tensor, "b q w"]
    ) -> Float[Tensor, "b q w"]:
        known, asked = self.norm1(known), self.norm2(asked)
        keys, values = self.to_kv(torch.cat([known, asked], dim=1)).chunk(2, dim=-1)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.to_q(asked), keys, values)
        )
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.to_out(out.transpose(1, 2).flatten(2))


def _feed_forward(shape: ResamplerShape) -> nn.Sequential:
    inner = shape.widening * shape.width
    return nn.Sequential(
        nn.LayerNorm(shape.width),
        nn.Linear(shape.width, inner, bias=False),
        nn.GELU(),
        nn.Linear(inner, shape.width, bias=False),
    )
