"""CLIP's image towers: a picture becomes one vector, or a row of hidden states.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021;
Cherti et al., "Reproducible Scaling Laws for Contrastive Language-Image Learning", 2023 (OpenCLIP).
The tower is written out here, in the names that both checkpoints have, because the package needs
nothing else of `transformers`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures' colours; the same for OpenAI's and OpenCLIP's towers."""


@dataclass(frozen=True)
class ClipShape:
    """Sizes of an image tower; OpenAI's ViT-L/14 by default, `VIT_H_14` is OpenCLIP's.

    Attributes:
        width: Of a token.
        layers: Blocks.
        heads: Of the attention.
        patch: Side of a patch, pixels.
        side: Side of the picture, pixels.
        out: Length of the embedding.
        widening: Of the feed-forward parts.
        quick: Whether the activation is x sigmoid(1.702 x) (OpenAI) or the exact GELU (OpenCLIP).
    """

    width: int = 1024
    layers: int = 24
    heads: int = 16
    patch: int = 14
    side: int = 224
    out: int = 768
    widening: float = 4.0
    quick: bool = True


VIT_L_14 = ClipShape()
VIT_H_14 = ClipShape(width=1280, layers=32, heads=16, out=1024, quick=False)


class ClipTower(nn.Module):
    """An image tower, its tensors named as in the original (`visual.*`)."""

    def __init__(self, shape: ClipShape = VIT_L_14) -> None:
        super().__init__()
        self.shape = shape
        tokens = (shape.side // shape.patch) ** 2 + 1
        self.conv1 = nn.Conv2d(3, shape.width, shape.patch, stride=shape.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(shape.width))
        self.positional_embedding = nn.Parameter(torch.zeros(tokens, shape.width))
        self.ln_pre, self.ln_post = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(
            ClipBlock(shape.width, shape.heads, shape.widening, quick=shape.quick)
            for _ in range(shape.layers)
        )
        self.proj = nn.Parameter(torch.zeros(shape.width, shape.out))

    def forward(self, picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Embed pictures as `clip_input` prepares them; the embedding is not normalised."""
        hidden = self.hidden_states(picture)[-1]
        return self.ln_post(hidden[:, 0]) @ self.proj

    def hidden_states(self, picture: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b k c"]]:
        """Give the tokens before the first block and after each; the first token is the class."""
        patches = self.conv1(picture).flatten(2).mT
        first = self.class_embedding.to(patches).expand(len(patches), 1, -1)
        hidden = [self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)]
        for block in self.transformer.resblocks:  # pyright: ignore[reportGeneralTypeIssues]  a list
            hidden.append(block(hidden[-1]))
        return hidden


def clip_input(
    rgb: Float[Tensor, "b 3 h w"], *, side: int = 224, antialias: bool
) -> Float[Tensor, "b 3 s s"]:
    """Prepare pictures in [-1, 1] for a tower as the original pipelines do.

    They enlarge or shrink by cubic interpolation with the corners of both grids in one place.

    Args:
        rgb: Channels first.
        side: What the tower takes.
        antialias: Blur before shrinking, with a deviation of half the factor less one: Stable Video
            Diffusion, Hi3D and Isotropic3D do, Zero123 does not.
    """
    small = _blurred(rgb, side) if antialias else rgb
    small = torch.nn.functional.interpolate(small, (side, side), mode="bicubic", align_corners=True)
    mean, std = (torch.tensor(v).to(rgb)[:, None, None] for v in (MEAN, STD))
    return ((small + 1) / 2 - mean) / std


def clip_shape_from_state(state: Mapping[str, Tensor], *, heads: int = 0) -> ClipShape:
    """Read a tower's shape off its tensors.

    Args:
        state: Names from `conv1` on.
        heads: Of the attention; 0 takes 64 channels a head, and 80 where the width is 1280.

    Raises:
        ValueError: If this is no image tower.
    """
    try:
        width, _, patch, _ = state["conv1.weight"].shape
        tokens = state["positional_embedding"].shape[0]
        blocks = [name for name in state if name.startswith("transformer.resblocks.")]
        layers = 1 + max(int(name.split(".")[2]) for name in blocks)
        inner = state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
        out = int(state["proj"].shape[1])
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"this is no CLIP image tower: it lacks {error}") from error
    side = round((tokens - 1) ** 0.5) * patch
    per_head = 80 if width == 1280 else 64
    known = heads or max(width // per_head, 1)
    # Only OpenAI's towers have the quick activation; of theirs, the widths are 768 and 1024.
    quick = (width, out) in ((768, 512), (1024, 768))
    return ClipShape(width, layers, known, patch, side, out, inner / width, quick)


def clip_shape_from_config(config: Mapping[str, Any]) -> ClipShape:
    """Read the configuration of an OpenCLIP model, or its `vision_cfg`.

    Raises:
        ValueError: If a value is missing.
    """
    vision = config.get("vision_cfg", config)
    try:
        width = int(vision["width"])
        return ClipShape(
            width=width,
            layers=int(vision["layers"]),
            heads=width // int(vision.get("head_width", 64)),
            patch=int(vision["patch_size"]),
            side=int(vision.get("image_size", 224)),
            out=int(config.get("embed_dim", vision.get("embed_dim", 0))),
            widening=float(vision.get("mlp_ratio", 4.0)),
            quick=bool(config.get("quick_gelu", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the tower's configuration lacks {error}") from error


class ClipBlock(nn.Module):
    """Attention and a feed-forward part, as both towers have them."""

    def __init__(self, width: int, heads: int, widening: float, *, quick: bool) -> None:
        super().__init__()
        inner = round(width * widening)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Module()
        self.mlp.c_fc = nn.Linear(width, inner)
        self.mlp.c_proj = nn.Linear(inner, width)
        self.quick = quick

    def forward(
        self, x: Float[Tensor, "b k c"], mask: Float[Tensor, "k k"] | None = None
    ) -> Float[Tensor, "b k c"]:
        """Go on from tokens; `mask` is added to what each (row) sees of each (column)."""
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        y = self.mlp.c_fc(self.ln_2(x))  # pyright: ignore[reportCallIssue]  a linear layer
        y = y * torch.sigmoid(1.702 * y) if self.quick else torch.nn.functional.gelu(y)
        return x + self.mlp.c_proj(y)  # pyright: ignore[reportCallIssue]  a linear layer


def _blurred(rgb: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b c h w"]:
    """Blur by a Gaussian of deviation (factor - 1) / 2 along each axis, mirrored at the rim."""
    for axis in (2, 3):
        factor = rgb.shape[axis] / side
        if factor <= 1:
            continue
        sigma = max((factor - 1) / 2, 0.001)
        taps = max(int(4 * sigma), 3) | 1
        place = torch.arange(taps).to(rgb) - taps // 2
        weight = torch.exp(-(place**2) / (2 * sigma**2))
        weight = weight / weight.sum()
        moved = rgb.movedim(axis, -1)
        flat = moved.reshape(-1, 1, moved.shape[-1])
        padded = torch.nn.functional.pad(flat, (taps // 2, taps // 2), mode="reflect")
        out = torch.nn.functional.conv1d(padded, weight[None, None])
        rgb = out.reshape(moved.shape).movedim(-1, axis)
    return rgb
