"""The UNets of Stable Diffusion's family in the layout of CompVis' code ("LDM" layout).

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", 2022; the video kind
is Blattmann et al., "Stable Video Diffusion", 2023. Zero123, MVDream, ImageDream, Isotropic3D, SV3D
and Hi3D keep the layout and add to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .layout import Part

_RES = (
    ("norm1.", "in_layers.0."),
    ("conv1.", "in_layers.2."),
    ("time_emb_proj.", "emb_layers.1."),
    ("norm2.", "out_layers.0."),
    ("conv2.", "out_layers.3."),
    ("conv_shortcut.", "skip_connection."),
)
_VIDEO_RES = (
    *((f"spatial_res_block.{ours}", there) for ours, there in _RES),
    *((f"temporal_res_block.{ours}", f"time_stack.{there}") for ours, there in _RES),
)
_VIDEO_ATTENTION = (
    ("temporal_transformer_blocks.", "time_stack."),
    ("time_pos_embed.linear_1.", "time_pos_embed.0."),
    ("time_pos_embed.linear_2.", "time_pos_embed.2."),
)


@dataclass(frozen=True)
class UNetShape:
    """What the original's configuration says of a UNet.

    Attributes:
        in_channels: Of the input: latents, and what is laid beside them.
        out_channels: Of the output.
        width: Channels of the first level.
        widths: Factor of each level.
        res_blocks: Residual blocks a level on the way down; one more on the way up.
        attends: Whether each level has transformers.
        heads: Attention heads of each level.
        context: Length of the tokens that it attends to.
        linear: Whether transformers begin and end with linear layers instead of 1x1 convolutions.
        depth: Transformer blocks a transformer.
        vector: Length of the vector that is added to the time embedding; 0 for none.
        camera: Length of the camera matrix that is added to the time embedding; 0 for none.
    """

    in_channels: int
    out_channels: int
    width: int
    widths: tuple[int, ...]
    res_blocks: int
    attends: tuple[bool, ...]
    heads: tuple[int, ...]
    context: int
    linear: bool = False
    depth: int = 1
    vector: int = 0
    camera: int = 0

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.width * factor for factor in self.widths)


def shape_from_config(config: Mapping[str, Any]) -> UNetShape:
    """Read the keyword arguments of an original UNet class.

    Raises:
        ValueError: If one is missing or out of the question.
    """
    try:
        width, widths = int(config["model_channels"]), tuple(config["channel_mult"])
        head_channels = int(config.get("num_head_channels", -1))
        heads = int(config.get("num_heads", -1))
        attends = tuple(2**level in config["attention_resolutions"] for level in range(len(widths)))
        shape = UNetShape(
            in_channels=int(config["in_channels"]),
            out_channels=int(config["out_channels"]),
            width=width,
            widths=widths,
            res_blocks=_one_number(config["num_res_blocks"]),
            attends=attends,
            heads=tuple(
                width * factor // head_channels if head_channels > 0 else heads for factor in widths
            ),
            context=_one_number(config["context_dim"]),
            linear=bool(config.get("use_linear_in_transformer", False)),
            depth=_one_number(config.get("transformer_depth", 1)),
            vector=int(config.get("adm_in_channels") or 0),
            camera=int(config.get("camera_dim") or 0),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the UNet's configuration is not as the original's: {error}") from error
    if width % 32 or min(shape.heads) < 1 or not 1 <= len(widths) <= 8:
        raise ValueError(f"no UNet has {width} channels, {shape.heads} heads, {widths} levels")
    return shape


def shape_from_state(state: Mapping[str, Tensor], *, heads: int = 0) -> UNetShape:
    """Read a UNet's shape off its tensors.

    Args:
        state: With names as the original has them, from `input_blocks` on.
        heads: Attention heads at every level, as Zero123 and SD 1.5 have 8; 0 for heads of 64
            channels, as the SD 2 family has. The tensors do not tell.

    Raises:
        ValueError: If this is no such UNet.
    """
    try:
        first = state["input_blocks.0.0.weight"]
        last = state["out.2.weight"]
        blocks = 1 + max(int(n.split(".")[1]) for n in state if n.startswith("input_blocks."))
        downs = [k for k in range(1, blocks) if f"input_blocks.{k}.0.op.weight" in state]
        levels = len(downs) + 1
        res_blocks = (blocks - 1 - len(downs)) // levels
        starts = [1 + level * (res_blocks + 1) for level in range(levels)]
        channels = [state[f"input_blocks.{k}.0.out_layers.3.weight"].shape[0] for k in starts]
        middle = state["middle_block.1.proj_in.weight"]
        context = state["middle_block.1.transformer_blocks.0.attn2.to_k.weight"].shape[1]
        attends = tuple(f"input_blocks.{k}.1.norm.weight" in state for k in starts)
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"this is no UNet in the LDM layout: it lacks {error}") from error
    vector = state.get("label_emb.0.0.weight")
    camera = state.get("camera_embed.0.weight")
    width = int(first.shape[0])
    return UNetShape(
        in_channels=int(first.shape[1]),
        out_channels=int(last.shape[0]),
        width=width,
        widths=tuple(c // width for c in channels),
        res_blocks=res_blocks,
        attends=attends,
        heads=tuple(heads or c // 64 for c in channels),
        context=int(context),
        linear=middle.ndim == 2,
        depth=_count(state, "middle_block.1.transformer_blocks."),
        vector=0 if vector is None else int(vector.shape[1]),
        camera=0 if camera is None else int(camera.shape[1]),
    )


def unet_parts(shape: UNetShape, *, video: bool = False) -> list[Part]:
    """Say where each module of a diffusers UNet is in the original."""
    res = _VIDEO_RES if video else _RES
    attention = _VIDEO_ATTENTION if video else ()
    vector = "add_embedding" if video else "class_embedding"
    added = "camera_embed" if shape.camera else "label_emb.0"
    parts = [
        *_linear_pair("time_embedding", "time_embed"),
        *_linear_pair(vector, added),
        Part("conv_in.", "input_blocks.0.0."),
        Part("conv_norm_out.", "out.0."),
        Part("conv_out.", "out.2."),
        Part("mid_block.resnets.0.", "middle_block.0.", res),
        Part("mid_block.attentions.0.", "middle_block.1.", attention),
        Part("mid_block.resnets.1.", "middle_block.2.", res),
    ]
    levels, block = len(shape.widths), 1
    for level in range(levels):
        here = f"down_blocks.{level}."
        for k in range(shape.res_blocks):
            parts.append(Part(f"{here}resnets.{k}.", f"input_blocks.{block}.0.", res))
            parts.append(Part(f"{here}attentions.{k}.", f"input_blocks.{block}.1.", attention))
            block += 1
        if level < levels - 1:
            parts.append(Part(f"{here}downsamplers.0.conv.", f"input_blocks.{block}.0.op."))
            block += 1
    block = 0
    for up in range(levels):
        here, attends = f"up_blocks.{up}.", shape.attends[levels - 1 - up]
        for k in range(shape.res_blocks + 1):
            parts.append(Part(f"{here}resnets.{k}.", f"output_blocks.{block}.0.", res))
            parts.append(Part(f"{here}attentions.{k}.", f"output_blocks.{block}.1.", attention))
            block += 1
        # The last block of a level enlarges, too: after its transformer, if it has one.
        at = f"output_blocks.{block - 1}.{2 if attends else 1}.conv."
        parts.append(Part(f"{here}upsamplers.0.conv.", at))
    return parts


def _linear_pair(ours: str, original: str) -> list[Part]:
    return [
        Part(f"{ours}.linear_1.", f"{original}.0."),
        Part(f"{ours}.linear_2.", f"{original}.2."),
    ]


def _one_number(value: Any) -> int:  # noqa: ANN401  configurations hold numbers or lists of them
    numbers = set(value) if isinstance(value, list | tuple) else {value}
    if len(numbers) != 1:
        raise ValueError(f"levels of different kinds: {value}")
    return int(numbers.pop())


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return 1 + max(int(n.removeprefix(prefix).split(".")[0]) for n in state if n.startswith(prefix))
